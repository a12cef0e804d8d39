package crypto

import "time"

// last is the end of the year 9999. Who signs a time may sign any, and a later one cannot be written as JSON and most
// others write times: it would end whoever shows it.
var last = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).Add(-time.Microsecond)

// Millis is a signed time in Unix ms; the last there is for one beyond that.
func Millis(ms uint64) time.Time {
	return time.UnixMilli(int64(min(ms, uint64(last.UnixMilli())))).UTC()
}

// Micros is one in Unix µs.
func Micros(us uint64) time.Time {
	return time.UnixMicro(int64(min(us, uint64(last.UnixMicro())))).UTC()
}
