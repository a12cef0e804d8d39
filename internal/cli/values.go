package cli

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/redact"
)

// Values of flags are checked as they are set, in one place for the command line, the environment and the
// configuration file: what cannot be is refused before anything is done.

// value is a flag's value of a type that parse reads.
type value[T any] struct {
	to    *T
	text  string // as it was given
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

// between reads a whole number.
func between(least, most int) parser[int] {
	return func(text string) (int, error) {
		if n, err := strconv.Atoi(text); err == nil && n >= least && n <= most {
			return n, nil
		}
		if most < maxCount {
			return 0, fmt.Errorf("not a whole number from %d to %d", least, most)
		}
		return 0, fmt.Errorf("not a whole number from %d up", least)
	}
}

const maxCount = 1<<31 - 1

// count reads how many of something there are to be.
var count = between(1, maxCount)

// longer reads a duration that is longer than nothing.
func longer(text string) (time.Duration, error) {
	d, err := parseDuration(text)
	if err != nil || d == 0 {
		return 0, errors.New("not a duration longer than nothing (500ms, 5s, 2m, 1h)")
	}
	return d, nil
}

// atLeast0 reads a duration, which may be nothing.
func atLeast0(text string) (time.Duration, error) {
	d, err := parseDuration(text)
	if err != nil {
		return 0, errors.New("not a duration (500ms, 5s, 2m, 1h)")
	}
	return d, nil
}

// oneOf reads one of some words.
func oneOf(words ...string) parser[string] {
	return func(text string) (string, error) {
		if !slices.Contains(words, text) {
			if len(words) == 2 {
				return "", fmt.Errorf("neither %s nor %s", words[0], words[1])
			}
			return "", errors.New("none of " + strings.Join(words, ", "))
		}
		return text, nil
	}
}

// byteSize reads a size; 0 is no limit.
func byteSize(text string) (uint64, error) {
	n, err := humanize.ParseBytes(text)
	if err != nil || n > 1<<53-1 || n > 0 && n < 4<<10 { // half of it has to hold a message
		return 0, errors.New("not a size of at least 4KiB (100MB, 1GiB), or 0 for no limit")
	}
	return n, nil
}

// syncing reads how often something is synced to disk.
func syncing(text string) (string, error) {
	if _, err := longer(text); text != "always" && err != nil {
		return "", errors.New("neither always nor an interval (10s)")
	}
	return text, nil
}

// listenAddress reads where to listen.
func listenAddress(text string) (string, error) {
	_, port, err := net.SplitHostPort(text)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n > 65535 {
		return "", errors.New("not an address and a port (127.0.0.1:4222; port 0 takes a free one)")
	}
	return text, nil
}

// routes reads a list of addresses of other servers.
func routes(text string) ([]string, error) {
	list := strings.Split(text, ",")
	for _, r := range list {
		_, host, found := strings.Cut(r, "://")
		if !found {
			host = r
		}
		if _, err := listenAddress(host[strings.LastIndexByte(host, '@')+1:]); err != nil {
			return nil, errors.New("not addresses and ports of the other servers, with commas between them (10.0.0.2:6222,10.0.0.3:6222)")
		}
	}
	return list, nil
}

// serverList reads where NATS servers are.
func serverList(text string) (string, error) {
	if err := bus.CheckServers(text); err != nil {
		return "", hinted(err, serverHint)
	}
	return text, nil
}

const serverHint = "unibus serve prints where its clients connect: nats://HOST:PORT#BUSID, for unibus join; --server takes what is before the #"

// busID reads a bus id.
func busID(text string) (unibus.ID, error) {
	id, err := crypto.ParseID(text)
	if err != nil || id.IsZero() { // which would be taken for none given
		err = errors.New("not the id of a bus: 32 letters and digits, as unibus serve and unibus whoami show it")
	}
	return id, err
}

// flagError says in our own words what is wrong with a flag.
func flagError(cmd *cobra.Command, err error) error {
	var bad *pflag.InvalidValueError
	var unknown *pflag.NotExistError
	var lacking *pflag.ValueRequiredError
	hint := cmd.CommandPath() + " --help shows the flags"
	switch {
	case errors.As(err, &bad):
		return refused("", bad.GetFlag(), bad.GetValue(), bad.Unwrap())
	case errors.As(err, &unknown):
		name := "--" + unknown.GetSpecifiedName()
		if unknown.GetSpecifiedShortnames() != "" {
			name = name[1:]
		}
		if name == "--version" {
			hint = "unibus version"
		}
		return hinted(usage("%s: unknown flag", name), hint)
	case errors.As(err, &lacking):
		return hinted(usage("--%s: it needs a value", lacking.GetFlag().Name), hint)
	}
	return hinted(usage("%w", err), hint)
}

// refused says that a flag cannot have a value, and where that was given: in place, or on the command line.
func refused(place string, f *pflag.Flag, text string, why error) error {
	if f.Value.Type() == "bool" {
		why = errors.New("neither true nor false")
	}
	if strings.ContainsAny(text, "@") { // there may be a password before it
		text = redact.URL(text)
	}
	what := fmt.Sprintf("--%s %s", f.Name, text)
	if place != "" {
		what = fmt.Sprintf("%s: %s", place, text)
	}
	var own hintError
	if errors.As(why, &own) {
		return hinted(usage("%s: %w", what, why), own.hint)
	}
	_, does := pflag.UnquoteUsage(f)
	return hinted(usage("%s: %w", what, why), fmt.Sprintf("--%s: %s", f.Name, does))
}
