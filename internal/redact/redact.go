// Package redact takes user names, passwords and tokens out of URLs before anyone is shown them: in
// errors, notices, logs and JSON, and in what is kept on disk (nats://user:secret@host).
//
// It errs on the side of taking out too much: what does not look like a host is not shown. URL is for a text that is a
// URL, Text and Error find the URLs in what others have written. Secrets anywhere else in a text stay where they are.
package redact

import (
	"regexp"
	"strings"
)

// withheld stands where something was that may not be shown.
const withheld = "…"

var (
	// host is a name or an address, with a port or without, and what may follow it in a URL.
	host = regexp.MustCompile(`^(\[[0-9a-fA-F:.%a-z]+\]|[^:/?#@\[\]]*)(:[0-9]*)?([/?#].*)?$`)
	// inText is a URL, or a list of them, within a text, without the punctuation that ends it there.
	inText = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"'<>]*[^\s"'<>:.,;)]`)
)

// URL returns a URL, or a comma-separated list of them with or without schemes, as it may be shown. What
// names a file or a NATS context (sqlite:PATH, context:NAME) stays as it is.
func URL(list string) string {
	if strings.HasPrefix(list, "sqlite:") || strings.HasPrefix(list, "context:") {
		return list
	}
	parts := strings.Split(list, ",")
	for i, p := range parts {
		parts[i] = withoutUser(p)
	}
	return strings.Join(parts, ",")
}

// withoutUser is one URL with neither user name nor password.
func withoutUser(url string) string {
	scheme, rest, found := strings.Cut(url, "://")
	if found {
		scheme += "://"
	} else {
		scheme, rest = "", url
	}
	// A password may hold any character if it was not escaped: what is before the last @ goes.
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	if !host.MatchString(rest) { // such as the first half of a password with a comma in it
		rest = withheld
	}
	return scheme + rest
}

// Text returns a text, such as a library's error, with the URLs in it as they may be shown.
func Text(s string) string {
	if !strings.Contains(s, "://") {
		return s
	}
	return inText.ReplaceAllStringFunc(s, URL)
}

// Error returns an error of the same kind whose text may be shown.
func Error(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if shown := Text(text); shown != text {
		return &redacted{shown, err}
	}
	return err
}

// redacted is an error with another text, of the same kind.
type redacted struct {
	text string
	err  error
}

// Error is the text that may be shown.
func (r *redacted) Error() string { return r.text }

// Unwrap lets the error be of the kinds that it was of.
func (r *redacted) Unwrap() error { return r.err }
