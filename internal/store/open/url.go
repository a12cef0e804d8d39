// Package open is the one place that reads the URL of a store, and the one that opens what it names, for the client, the
// service, operators and the command line alike. It knows no credentials: who opens a store in servers brings a
// connection to them (package bus).
package open

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/servers"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/jetstream"
)

// This file is the grammar of a store's URL:
//
//	sqlite:PATH                               a SQLite file
//	nats://HOST:PORT[,HOST:PORT…][?replicas=N]  the JetStream of NATS servers; a new store is kept on N of them, 1 to 5
//	tls://…                                   the same, over TLS
//	nats://                                   the same, at the servers of a NATS context

// ErrKind is an ErrInvalid: a URL of no kind of store that is known.
var ErrKind = fmt.Errorf("%w", store.ErrInvalid)

// URLError is what is wrong with the URL of a store.
type URLError struct {
	URL string // without passwords
	Why error
}

// Error names the URL, and says what is wrong.
func (e *URLError) Error() string { return fmt.Sprintf("store %q: %v", e.URL, e.Why) }

// Unwrap returns what is wrong.
func (e *URLError) Unwrap() error { return e.Why }

// invalid makes a URLError.
func invalid(text string, kind error, why string) (URL, error) {
	return URL{}, &URLError{redact.URL(text), fmt.Errorf("%w: %s", kind, why)}
}

// filePrefix begins the URLs of files; the path behind it is as the system writes it, and not escaped.
const filePrefix = "sqlite:"

// URL names a store. The zero value names none.
type URL struct {
	Path     string // of a SQLite file; empty for a store in servers
	Servers  string // NATS URLs, comma-separated, perhaps with passwords in them; empty: those of a NATS context
	Replicas int    // on how many servers a store is kept that is made now; 0: as whoever makes it says
}

// Parse reads a URL. Its error is a *URLError: ErrKind for one of another kind, ErrInvalid for one without a path, or with a
// query that means nothing. What the URL names is not looked at.
func Parse(text string) (URL, error) {
	if path, ok := strings.CutPrefix(text, filePrefix); ok {
		if path == "" {
			return invalid(text, store.ErrInvalid, "sqlite: needs a path")
		}
		return URL{Path: path}, nil
	}
	if !strings.HasPrefix(text, "nats://") && !strings.HasPrefix(text, "tls://") {
		return invalid(text, ErrKind, "neither sqlite:PATH nor nats://HOST:PORT")
	}
	return ParseServers(text)
}

// ParseServers is Parse for where only servers can be meant: a list of them without schemes will do as well.
func ParseServers(text string) (URL, error) {
	list, query, _ := strings.Cut(text, "?")
	values, err := url.ParseQuery(query)
	u := URL{}
	if err == nil && values.Has("replicas") {
		u.Replicas, err = strconv.Atoi(values.Get("replicas"))
		values.Del("replicas")
		if err == nil && (u.Replicas < 1 || u.Replicas > jetstream.MaxReplicas) {
			return invalid(text, store.ErrInvalid, fmt.Sprintf("1 to %d replicas are possible", jetstream.MaxReplicas))
		}
	}
	if err != nil || len(values) > 0 {
		return invalid(text, store.ErrInvalid, "after the ? only replicas=N is known")
	}
	if list == "nats://" || list == "" { // as the NATS context says
		return u, nil
	}
	if u.Servers, err = servers.Parse(list); err != nil {
		return invalid(text, store.ErrInvalid, err.Error())
	}
	return u, nil
}

// IsFile reports whether a text is the URL of a file, with a path or without.
func IsFile(text string) bool { return strings.HasPrefix(text, filePrefix) }

// FileURL is the URL of the file at a path.
func FileURL(path string) string { return filePrefix + path }

// Address is where the store is, as it may be shown, remembered and compared: an absolute path, or servers without
// what only they may know; context is the NATS context that is meant where the URL names no servers.
func (u URL) Address(context string) (string, error) {
	if u.Path != "" {
		absolute, err := filepath.Abs(u.Path)
		return filePrefix + absolute, err
	}
	if u.Servers == "" {
		return "context:" + context, nil
	}
	return redact.URL(u.Servers), nil
}

// Same reports whether two texts name the same store, as far as that can be seen without asking anyone: the same file,
// by whatever path, or the same servers. Lists without schemes are compared, too.
func Same(a, b string) bool {
	if IsFile(a) != IsFile(b) {
		return false
	}
	if IsFile(a) {
		x, y := strings.TrimPrefix(a, filePrefix), strings.TrimPrefix(b, filePrefix)
		return filepath.Clean(x) == filepath.Clean(y) || SameFile(x, y)
	}
	x, xerr := ParseServers(a)
	y, yerr := ParseServers(b)
	return errors.Join(xerr, yerr) == nil && slices.Equal(servers.Keys(x.Servers), servers.Keys(y.Servers))
}

// SameFile reports whether two paths are those of one file or folder that is there.
func SameFile(a, b string) bool {
	x, err := os.Stat(a)
	y, yerr := os.Stat(b)
	return err == nil && yerr == nil && os.SameFile(x, y)
}
