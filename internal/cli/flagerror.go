package cli

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/unibus/unibus/internal/redact"
)

// What is wrong with a flag, told in one way whether the command line gives it, a variable or the configuration file.

// flagError says in our own words what is wrong with a flag.
func flagError(cmd *cobra.Command, err error) error {
	// pflag's errors carry what they are about; its texts, which would name the Go type, are not used.
	var bad *pflag.InvalidValueError
	var unknown *pflag.NotExistError
	var lacking *pflag.ValueRequiredError
	hint := hintFlags(cmd)
	switch {
	case errors.As(err, &bad):
		return refused("", bad.GetFlag(), bad.GetValue(), bad.Unwrap())
	case errors.As(err, &unknown):
		name := "--" + unknown.GetSpecifiedName()
		if unknown.GetSpecifiedShortnames() != "" {
			name = name[1:]
		}
		if near := nearFlag(cmd, strings.TrimLeft(name, "-")); near != "" {
			hint = hintNear([]string{"--" + near})
		}
		return hinted(usage("%s: unknown flag", name), hint)
	case errors.As(err, &lacking):
		return hinted(usage("--%s: it needs a value", lacking.GetFlag().Name), hint)
	}
	return hinted(usage("%w", err), hint)
}

// otherFlags are what others call flags, and what they are called here.
var otherFlags = map[string]string{
	"tail": "last", "n": "last", "lines": "last", "from": "since", "from-beginning": "all", "limit": "count", "c": "count",
	"exit": "end", "e": "end", "json": "output", "format": "template", "expiry": "expires", "ttl": "expires", "retention": "retain",
	"i": "identity", "s": "server", "y": "yes", "f": "file",
}

// nearFlag is the flag of a command that is spelled most nearly like a name, if any is near enough to have been meant.
func nearFlag(cmd *cobra.Command, name string) (near string) {
	if other := otherFlags[name]; other != "" && cmd.Flags().Lookup(other) != nil {
		return other
	}
	best := max(1, len(name)/3) + 1
	look := func(f *pflag.Flag) {
		if d := distance(name, f.Name); d < best && !f.Hidden {
			best, near = d, f.Name
		}
	}
	cmd.InheritedFlags().VisitAll(look)
	cmd.NonInheritedFlags().VisitAll(look)
	return near
}

// refused says that a flag cannot have a value, and where that was given: in place, or on the command line.
func refused(place string, f *pflag.Flag, text string, why error) error {
	if f.Value.Type() == "bool" {
		why = errors.New("neither true nor false")
		if place != "" { // on the command line its name is enough
			why = instead("true", why.Error())
		}
	}
	// What was given is repeated, so that one sees the mistake, but no password in it.
	if strings.ContainsAny(text, "@") { // there may be a password before it
		text = redact.URL(text)
	}
	what := toldAt(place, f.Name, text)
	var own hintError
	if errors.As(why, &own) {
		return hinted(usage("%s: %w", what, why), own.hint)
	}
	var other insteadError
	if errors.As(why, &other) {
		if other.any && f.DefValue != "" {
			other.value = f.DefValue
		}
		return hinted(usage("%s: %w", what, why), hintInstead(place, f.Name, other.value))
	}
	return hinted(usage("%s: %w", what, why), hintFlag(f))
}
