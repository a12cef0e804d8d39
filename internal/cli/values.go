package cli

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/servers"
)

// Values of flags are checked as they are set, in one place for the command line, the environment and the
// configuration file: what cannot be is refused before anything is done. A flag's value is a value[T] with a parser;
// what is said of one that cannot be is in flagerror.go.

// value is a flag's value of a type that parse reads.
type value[T any] struct {
	// to is where a command finds the value; text is how it was given.
	to   *T
	text string
	// parse reads it.
	parse parser[T]
}

// parser reads a value. Its error says what would be right.
type parser[T any] func(text string) (T, error)

// newValue is a value that is *to until it is given.
func newValue[T any](to *T, parse parser[T]) *value[T] { return &value[T]{to: to, parse: parse} }

// newDefault is a value with a default, written as one would give it.
func newDefault[T any](to *T, otherwise string, parse parser[T]) *value[T] {
	v := newValue(to, parse)
	if err := v.Set(otherwise); err != nil {
		panic("default " + otherwise + ": " + err.Error()) // the program is wrong
	}
	return v
}

// Set is called with what was given.
func (v *value[T]) Set(text string) error {
	parsed, err := v.parse(text)
	if err == nil {
		*v.to, v.text = parsed, text
	}
	return err
}

// String is the value as it was given, or as its default is written; help shows it.
func (v *value[T]) String() string { return v.text }

// Type is what help calls the value.
func (v *value[T]) Type() string {
	switch any(v.to).(type) {
	case *int:
		return "int"
	case *time.Duration:
		return "duration"
	}
	return "string"
}

// insteadError is a value that cannot be, with one that can and that may have been meant.
type insteadError struct {
	error
	value string
	// any says that it has nothing of what was given, so that a default is as good.
	any bool
}

// instead says why a value cannot be, and what can.
func instead(value, why string) error { return insteadError{error: errors.New(why), value: value} }

// insteadUnit is instead with withUnit's value.
func insteadUnit(text, unit, otherwise, why string) error {
	return insteadError{errors.New(why), withUnit(text, unit, otherwise), withUnit(text, unit, "") == ""}
}

// withUnit is a number that lacks its unit with it; of what is no number, or nothing, another value.
func withUnit(text, unit, otherwise string) string {
	if n, err := strconv.ParseUint(text, 10, 16); err != nil || n == 0 {
		return otherwise
	}
	return text + unit
}

// parseBetween reads a whole number within bounds.
func parseBetween(least, most int) parser[int] {
	return func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err == nil && n >= least && n <= most {
			return n, nil
		}
		if err != nil {
			n = min(10, (least+most)/2)
		}
		other := strconv.Itoa(min(max(n, least), most))
		if most < maxCount {
			return 0, instead(other, fmt.Sprintf("not a whole number from %d to %d", least, most))
		}
		return 0, instead(other, fmt.Sprintf("not a whole number from %d up", least))
	}
}

// maxCount is the largest number that a flag takes: what an int holds on every system.
const maxCount = 1<<31 - 1

// parseCount reads how many of something there are to be.
func parseCount(text string) (int, error) { return parseBetween(1, maxCount)(text) }

// parsePositive reads a duration that is longer than nothing.
func parsePositive(text string) (time.Duration, error) {
	d, err := parseDuration(text)
	if err != nil || d == 0 {
		return 0, insteadUnit(text, "s", "5s", "not a duration longer than nothing (500ms, 5s, 2m, 1h)")
	}
	return d, nil
}

// parseWait reads a duration, which may be nothing.
func parseWait(text string) (time.Duration, error) {
	d, err := parseDuration(text)
	if err != nil {
		return 0, insteadUnit(text, "s", "5s", "not a duration (500ms, 5s, 2m, 1h)")
	}
	return d, nil
}

// parseOneOf reads one of some words.
func parseOneOf(words ...string) parser[string] {
	return func(text string) (string, error) {
		if !slices.Contains(words, text) {
			other, why := nearest(text, words), "none of "+strings.Join(words, ", ")
			if len(words) == 2 {
				why = fmt.Sprintf("neither %s nor %s", words[0], words[1])
			}
			return "", insteadError{errors.New(why), other, !mistaken(text, other)}
		}
		return text, nil
	}
}

// parseSize reads a number of bytes; 0 is no limit.
func parseSize(text string) (uint64, error) {
	n, err := humanize.ParseBytes(text)
	if err != nil || n > 1<<53-1 || n > 0 && n < 4<<10 { // half of it has to hold a message
		return 0, insteadUnit(text, "MB", "1GiB", "not a size of at least 4KiB (100MB, 1GiB), or 0 for no limit")
	}
	return n, nil
}

// parseSync reads how often something is synced to disk.
func parseSync(text string) (string, error) {
	if _, err := parsePositive(text); text != "always" && err != nil {
		return "", insteadUnit(text, "s", "10s", "neither always nor an interval (10s)")
	}
	return text, nil
}

// parseWord reads a name that servers call each other.
func parseWord(text string) (string, error) {
	if strings.ContainsFunc(text, unicode.IsSpace) {
		return "", instead(strings.Join(strings.Fields(text), "-"), "not a name without spaces")
	}
	return text, nil
}

// parseAddress reads where to listen.
func parseAddress(text string) (string, error) {
	_, port, err := net.SplitHostPort(text)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n > 65535 {
		return "", instead(addressLike(text), "not an address and a port (127.0.0.1:4222; port 0 takes a free one)")
	}
	return text, nil
}

// addressLike is an address like what was given for one: a port alone, or a host alone.
func addressLike(text string) string {
	if _, err := strconv.ParseUint(text, 10, 16); err == nil {
		return net.JoinHostPort("127.0.0.1", text)
	}
	if ip := net.ParseIP(text); ip != nil || strings.Contains(text, ".") || text == "localhost" {
		if _, _, err := net.SplitHostPort(text); err != nil {
			return net.JoinHostPort(text, "0")
		}
	}
	return "127.0.0.1:0"
}

// parseRoutes reads a list of addresses of other servers.
func parseRoutes(text string) ([]string, error) {
	list := strings.Split(text, ",")
	for _, r := range list {
		_, host, found := strings.Cut(r, "://")
		if !found {
			host = r
		}
		if _, err := parseAddress(host[strings.LastIndexByte(host, '@')+1:]); err != nil {
			return nil, errors.New("not addresses and ports of the other servers, with commas between them (10.0.0.2:6222,10.0.0.3:6222)")
		}
	}
	return list, nil
}

// parseServers reads where NATS servers are.
func parseServers(text string) (string, error) {
	list, err := servers.Parse(text)
	if err != nil {
		return "", hinted(fmt.Errorf("%w: %w", unibus.ErrInvalid, err), hintServer)
	}
	return list, nil
}

// parseCA reads the name of a file of certificates.
func parseCA(text string) (string, error) {
	pem, err := os.ReadFile(text)
	if err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
		err = errors.New("no certificate in PEM is in it")
	}
	return text, err
}

// parseBus reads the id of a bus, or the name of one.
func parseBus(text string) (string, error) {
	if id, err := crypto.ParseID(text); err == nil && !id.IsZero() { // which would be taken for none given
		return id.String(), nil
	}
	if unibus.CheckBusName(text) != nil {
		return "", errors.New("neither the id of a bus, 32 letters and digits as unibus serve shows it, nor a name that unibus bus ls shows")
	}
	return text, nil
}

// parseBusName reads a name for a bus.
func parseBusName(text string) (string, error) {
	if unibus.CheckBusName(text) != nil {
		return "", errors.New("1 to 64 letters, digits, dots, underscores and dashes, with no dash first, and nothing that could be an id")
	}
	return text, nil
}

// parseExpiry reads a duration from now, in days too, or a date.
func parseExpiry(text string) (time.Time, error) {
	t, err := parseWhen(text, time.Now(), 1)
	if err == nil && t.Before(time.Now()) {
		err = instead("30d", "that is past")
	}
	return t, err
}

// Which times a flag takes, for the help of a command that has it.
const (
	sinceHelp  = "\n\nA TIME since when is how long ago (90m, 24h, 7d), or when: 14:00 (where that is still to come today, yesterday's), today,\nyesterday, 2026-11-27, '2026-11-27 17:51', all of them in local time, or 2026-11-27T16:51:00Z (RFC 3339)."
	expiryHelp = "\n\nA DATE is from when on it is over: in how long (12h, 30d), or when: 18:00 (where that has passed today, tomorrow's),\ntomorrow, 2026-12-31, '2026-12-31 18:00', all of them in local time, or 2026-12-31T17:00:00Z (RFC 3339)."
)

// defineSince adds --since to a command, and to its help which times it takes.
func defineSince(c *cobra.Command, to *time.Time, does string) {
	c.Flags().Var(newValue(to, parseSince), "since", does)
	completeValues(c, "since", "1h", "24h", "7d", "today", "yesterday")
	c.Long += sinceHelp
}

// defineExpires adds --expires to a command, read by parse, and to its help which times it takes.
func defineExpires(c *cobra.Command, to *time.Time, parse parser[time.Time], does string, values ...string) {
	c.Flags().Var(newValue(to, parse), "expires", does)
	completeValues(c, "expires", values...)
	c.Long += expiryHelp
}

// clocksDiffer is how far a time may be ahead of this machine's that another one's clock has given.
const clocksDiffer = time.Hour

// parseSince reads how long ago, or when.
func parseSince(text string) (time.Time, error) {
	t, err := parseWhen(text, time.Now(), -1)
	if err == nil && t.After(time.Now().Add(clocksDiffer)) {
		err = instead("today", "that is still to come")
	}
	return t, err
}

// parseWhen reads a duration before (sign -1) or after now, or a time.
func parseWhen(s string, now time.Time, sign time.Duration) (time.Time, error) {
	if d, err := parseDuration(s); err == nil {
		return now.Add(sign * d), nil
	}
	if t, ok := clockTime(s, now, sign); ok {
		return t, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	if sign > 0 {
		return time.Time{}, insteadUnit(s, "d", "30d", "neither a duration (24h, 30d) nor a time (18:00, tomorrow, 2006-01-02, 2006-01-02T15:04:05Z)")
	}
	return time.Time{}, insteadUnit(s, "h", "24h", "neither a duration (90m, 24h, 30d) nor a time (15:04, yesterday, 2006-01-02, 2006-01-02T15:04:05Z)")
}

// clockTime reads a time of the day, the last before now (sign -1) or the next after it, and the days on either side.
func clockTime(s string, now time.Time, sign time.Duration) (time.Time, bool) {
	midnight := func(days int) time.Time {
		y, m, d := now.Date()
		return time.Date(y, m, d+days, 0, 0, 0, 0, now.Location())
	}
	switch s {
	case "yesterday":
		return midnight(-1), true
	case "today":
		return midnight(0), true
	case "tomorrow":
		return midnight(1), true
	}
	for _, layout := range []string{"15:04", time.TimeOnly} {
		t, err := time.ParseInLocation(layout, s, now.Location())
		if err != nil {
			continue
		}
		y, m, d := now.Date()
		at := time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), 0, now.Location())
		switch {
		case sign < 0 && at.After(now):
			at = at.AddDate(0, 0, -1)
		case sign > 0 && at.Before(now):
			at = at.AddDate(0, 0, 1)
		}
		return at, true
	}
	return time.Time{}, false
}

// parseDuration reads Go's durations and whole days.
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	d, err := time.ParseDuration(s)
	if err == nil && d < 0 {
		err = errors.New("negative")
	}
	return d, err
}
