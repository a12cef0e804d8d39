// Package remote is a store behind the membership API of a service (SPEC.md §7): an ordinary HTTP client whose transport
// may be NATS. It believes nothing and checks nothing of what it is told: that is its caller's part. What a service can
// cost its client is bounded: the size of an answer, how long one is waited for, and how many requests are under way.
//
// The interfaces of package store are implemented by a type each, in the file of its name, over one client (client.go).
package remote

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// Watcher tells which logs changed: over NATS, the connection on which the service announces them.
type Watcher interface {
	// Watch reports the logs that changed until ctx ends, and closes the channel then.
	Watch(ctx context.Context) (<-chan store.Notice, error)
}

// Options of New.
type Options struct {
	Transport http.RoundTripper // nil: HTTP over TCP
	URL       string            // of the API; any http:// base when the transport is NATS
	Identity  *crypto.Identity
	Bus       crypto.ID
	Inbox     crypto.Inbox  // of the connection that the transport uses; none over TCP
	Watcher   Watcher       // nil: Watch is ErrUnavailable
	OpTimeout time.Duration // 0: store.DefaultOpTimeout
}

// Store is a store.Store as the calling identity may see it.
type Store struct {
	*client
	*entryLog
	*directory
	*keyring
	*allowlist
	*past

	watcher Watcher
}

var _ store.Store = (*Store)(nil)

// New returns the store. It asks nothing yet.
func New(o Options) *Store {
	if o.OpTimeout == 0 {
		o.OpTimeout = store.DefaultOpTimeout
	}
	if o.URL == "" {
		o.URL = "http://unibus"
	}
	c := newClient(o)
	return &Store{
		client: c, entryLog: &entryLog{c}, directory: &directory{c}, keyring: &keyring{c, o.Identity.Key()}, allowlist: &allowlist{c}, past: &past{c},
		watcher: o.Watcher,
	}
}

// Watch reports the logs that the service says have changed. ErrUnavailable without a Watcher.
func (s *Store) Watch(ctx context.Context) (<-chan store.Notice, error) {
	if s.watcher == nil {
		return nil, fmt.Errorf("watch: %w over plain HTTP", store.ErrUnavailable)
	}
	return s.watcher.Watch(ctx)
}
