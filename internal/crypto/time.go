package crypto

import "time"

// lastTime is the end of the year 9999. Whoever signs a time may sign any number, and a later time cannot be written in JSON:
// it would be an error for everyone who shows it.
var lastTime = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).Add(-time.Microsecond)

// Millis is the time that a signed number of milliseconds since 1970 means; one beyond the year 9999 means its end.
func Millis(ms uint64) time.Time {
	return time.UnixMilli(int64(min(ms, uint64(lastTime.UnixMilli())))).UTC()
}

// Micros is Millis for microseconds.
func Micros(us uint64) time.Time {
	return time.UnixMicro(int64(min(us, uint64(lastTime.UnixMicro())))).UTC()
}
