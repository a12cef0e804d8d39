package admin

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/open"
)

// TestOpen: a store is opened where its URL says, by who may, and what is not there is made only for who asks for it.
func TestOpen(t *testing.T) {
	n := startNode(t)
	file := open.FileURL(filepath.Join(t.TempDir(), "a.db"))
	others, err := bus.NewKeys()
	must(t, err)
	stranger := Access{Keys: others, Timeout: 5 * time.Second}
	for _, c := range []struct {
		what, url string
		acc       Access
		missing   open.Missing
		kind      error // nil: it is opened
	}{
		{"no URL", "jetstream", n.acc, open.Make, store.ErrInvalid},
		{"a file that is not there", file, Access{}, open.Refuse, store.ErrNotFound},
		{"a file that is made", file, Access{}, open.Make, nil},
		{"a file that is there", file, Access{}, open.Refuse, nil},
		{"servers without a store", n.URL(), n.acc, open.Refuse, store.ErrNotFound},
		{"another's servers", n.URL(), stranger, open.Make, store.ErrDenied},
		{"servers in which one is made", n.URL(), n.acc, open.Make, nil},
		{"servers with a store", n.URL(), n.acc, open.Refuse, nil},
		{"nobody there", "nats://127.0.0.1:1", Access{Keys: n.acc.Keys, Timeout: time.Second}, open.Refuse, store.ErrUnavailable},
		{"a context that is not there", n.URL(), Access{Context: "none", Timeout: time.Second}, open.Refuse, store.ErrNotFound},
	} {
		s, done, err := Open(t.Context(), c.url, c.acc, c.missing)
		if c.kind != nil {
			if !errors.Is(err, c.kind) || s != nil || done != nil {
				t.Errorf("%s: %v", c.what, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if _, err := BusOf(t.Context(), s); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v", c.what, err)
		}
		done()
		if _, err := BusOf(t.Context(), s); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s, closed: %v", c.what, err)
		}
	}
}

// TestDial: an operator's connections lead to servers, and nothing else is one's URL.
func TestDial(t *testing.T) {
	n := startNode(t)
	if _, err := n.acc.Dial("nats://h?replicas=9"); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("no servers: %v", err)
	}
	if _, err := n.acc.Links("nats://h?replicas=9"); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("links to no servers: %v", err)
	}
	links, err := n.acc.Links(n.URL())
	must(t, err)
	defer links.Close()
	if Serving(t.Context(), links) {
		t.Error("a service is there that nobody started")
	}
	if n.acc.step() != open.Slow || (&Access{Step: time.Second}).step() != time.Second {
		t.Error("a step takes another time than was said")
	}
}
