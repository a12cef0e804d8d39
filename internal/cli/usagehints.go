package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/redact"
)

// What helps with a command line, made of the command line itself: the same with what it lacks, or without what is too much.
// All other hints are in hints.go.

// superfluousError is a usage error of flags that contradict others, and may be left out.
type superfluousError struct {
	error
	flags []string
}

// Unwrap keeps it the usage error that it is.
func (s superfluousError) Unwrap() error { return s.error }

// superfluous makes a superfluousError; flags have commas between them.
func superfluous(flags, format string, args ...any) error {
	return superfluousError{usage(format, args...), strings.Split(flags, ",")}
}

// commandLine is a command line as a shell takes it; empty for one with a password in it, which is not repeated.
func commandLine(words []string) string {
	line := []string{"unibus"}
	for _, word := range words {
		if redact.Text(word) != word {
			return ""
		}
		flag := strings.TrimLeft(word, "-") // a shell makes nothing of dashes, nor of a = within a word
		if word != "--" && !inert.MatchString(strings.Replace(flag, "=", "", 1)) {
			word = shellQuoted(word)
		}
		line = append(line, word)
	}
	return strings.Join(line, " ")
}

// hintYes is a command line with the answer to what it asks, before what comes after --.
func hintYes(words []string) string {
	end := slices.Index(words, "--")
	if end < 0 {
		end = len(words)
	}
	if line := commandLine(slices.Insert(slices.Clone(words), end, "--yes")); line != "" {
		return line
	}
	return "the same with --yes"
}

// hintWithout is a command line without some flags, and their values.
func hintWithout(cmd *cobra.Command, words, flags []string) string {
	var left []string
	for i := 0; i < len(words); i++ {
		if words[i] == "--" {
			left = append(left, words[i:]...)
			break
		}
		name, joined := flagIn(cmd, words[i])
		end := i + 1
		if f := cmd.Flags().Lookup(name); f != nil && f.NoOptDefVal == "" && !joined {
			end = min(end+1, len(words)) // its value is the next word
		}
		if name == "" || !slices.Contains(flags, name) {
			left = append(left, words[i:end]...)
		}
		i = end - 1
	}
	if line := commandLine(left); line != "" && len(left) < len(words) {
		return line
	}
	return "leave out --" + strings.Join(flags, ", --")
}

// flagIn is the flag that a word names, empty for none, and whether its value is in the same word.
func flagIn(cmd *cobra.Command, word string) (name string, joined bool) {
	if long, ok := strings.CutPrefix(word, "--"); ok {
		name, _, joined = strings.Cut(long, "=")
		return name, joined
	}
	if len(word) > 1 && word[0] == '-' {
		if f := cmd.Flags().ShorthandLookup(word[1:2]); f != nil {
			return f.Name, len(word) > 2
		}
	}
	return "", false
}

// hintSwapped is a command line whose first two arguments stand in the wrong order.
func hintSwapped(cmd *cobra.Command, words, args []string) string {
	for i := range len(words) - 1 {
		if words[i] == args[0] && words[i+1] == args[1] {
			words = slices.Clone(words)
			words[i], words[i+1] = words[i+1], words[i]
			if line := commandLine(words); line != "" {
				return line
			}
		}
	}
	return hintUseLine(cmd)
}

// hintSubject is the command that makes a room, with a subject like one that cannot be.
func hintSubject(subject string) string {
	tokens := strings.FieldsFunc(strings.ToLower(subject), func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(".*>/", c) })
	like := strings.TrimLeft(strings.Join(tokens, "."), "$_-")
	if ledger.ValidSubject(like) != nil {
		like = "ops.alerts"
	}
	return "unibus room create " + shellQuoted(like)
}

// likePattern is a pattern like one that cannot be: wildcards are whole tokens, and > is the last one.
func likePattern(pattern string) string {
	var out []string
	for token := range strings.SplitSeq(pattern, ".") {
		switch {
		case token == "":
			continue
		case strings.Contains(token, ">"):
			return strings.Join(append(out, ">"), ".")
		case strings.Contains(token, "*"):
			token = "*"
		}
		out = append(out, token)
	}
	return strings.Join(out, ".")
}

// hintPattern is for a pattern that cannot be.
func hintPattern(pattern string) string { return "unibus sub " + shellQuoted(likePattern(pattern)) }

// hintNamed is a name like one that cannot be.
func hintNamed(name string) string {
	parts := strings.FieldsFunc(name, func(c rune) bool {
		return c > '~' || strings.Trim(strings.ToLower(string(c)), "abcdefghijklmnopqrstuvwxyz0123456789._-/") != ""
	})
	like := strings.Join(parts, ".")
	foreign := strings.ContainsFunc(name, func(c rune) bool { return c > '~' }) // without its letters it is another
	if like == "" || like == name || len(like) > 64 || foreign {
		return hintName
	}
	return "--name " + shellQuoted(like)
}

// hintHeader is a header as pub takes it, of what was given for one.
func hintHeader(given string) string {
	name, value, colon := strings.Cut(given, ":")
	if !colon {
		name, value, _ = strings.Cut(given, "=")
	}
	header := cmp.Or(strings.TrimSpace(name), "NAME") + "=" + cmp.Or(strings.TrimSpace(value), "VALUE")
	if inert.MatchString(strings.Replace(header, "=", "", 1)) {
		return "-H " + header
	}
	return "-H " + shellQuoted(header)
}

// hintRename is how a user is renamed, of what was given to be done so.
func hintRename(args []string) string {
	names := append(slices.Clone(args), "USER", "NAME")
	if len(args) == 1 {
		names[1] = "NAME"
	}
	return fmt.Sprintf("unibus user set %s --name %s", shellQuoted(names[0]), shellQuoted(names[1]))
}

// hintFileFirst is for a command that was given a room and then a file.
func hintFileFirst(cmd *cobra.Command, args []string) string {
	return fmt.Sprintf("%s %s %s", cmd.CommandPath(), shellQuoted(args[1]), shellQuoted(args[0]))
}

// hintBench is what bench can measure, by the name that is nearest to what was given.
func hintBench(what string) string { return "unibus bench " + what }
