// Package jetstream is the replicated store: JetStream key-value buckets, on one server or on a cluster of them. The
// bucket unibus_log is the truth; the other buckets are views, and sealed keys and cards. What entries mean, and whether
// they may be appended at all, is package ledger's; how a connection logs in is package bus's.
//
// It has four parts:
//
//   - The bucket (bucket.go, write.go, barrier.go, read.go, scan.go). Reads are linearizable. A get answered by one
//     replica may be old for as long as a partition lasts, so that a read first has a barrier acknowledged by a quorum
//     (Raft's read index, shared by reads that wait for one at the same time), and believes only a replica that has
//     reached it. Without a quorum nothing is answered: ErrUnavailable, within OpTimeout.
//   - Committing (commit.go). The commit point of an Append is the Create of one key, <log>.<seq>.
//   - Applying views (views.go, records.go), after the commit. Each record has the seq of the entry that it comes from, so
//     that a late writer never replaces what a later entry said.
//   - Repairing (repair.go, rebuild.go, check.go): what a crash left behind is made up for by whoever touches the log
//     next.
//
// An Append, and what a crash in it leaves:
//
//	  step                       in the servers                  after a crash right behind it
//	  PutKeys, the call before   staged copies of a new key      they expire, unless an entry comes to name the key
//	     │
//	1 prepare                    of a first entry: its name,     the next who wants the name puts a tombstone at
//	     │                       claimed for its log             <log>.1, so that the log never begins, and takes it over
//	     │
//	2 commit ── the place is     one key, created: <log>.<seq>   the entry stands for good, and its views are
//	     │      another's:                                       behind it, of which nobody has been told yet
//	     │      ErrConflict
//	     │
//	3 apply                      views, bucket by bucket; the    whoever reads the room, appends to the log or heals it
//	     │                       log's own record comes last     gives the writer a moment, then writes what is missing
//	     │                                                       from the entries
//	  answer                     nothing                         the client offers the same bytes again: they are there
//
// The interfaces of package store are implemented by a type each, in the file of its name: log.go, directory.go,
// keyring.go, allowlist.go, backend.go.
package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// Options of Open. The zero value is the default.
type Options struct {
	OpTimeout time.Duration // that one call may take; 0: store.DefaultOpTimeout
	Replicas  int           // of buckets that are made now, 1 to MaxReplicas; 0: 1. Those that exist stay as they are
	Existing  bool          // fail with ErrNotFound instead of making the buckets
}

// MaxReplicas is on how many servers a bucket can be kept.
const MaxReplicas = 5

// Store keeps everything in the JetStream of one account: a store.Backend, and what is to be asked of servers beyond
// that.
type Store struct {
	*conn
	*buckets
	*entryLog
	*committer
	*watcher
	*directory
	*keyring
	*staging
	*allowlist
	*inventory
	*repairer
	*rebuilder
}

var _ store.Backend = (*Store)(nil)

// Open makes the buckets if they are not there, and returns when they are, or when ctx ends: a cluster takes a while to
// find together. The connection stays its owner's, and outlives the store. ErrInvalid for a number of replicas that
// cannot be, and for buckets of another build; ErrNotFound with Existing; ErrUnavailable when ctx ends.
func Open(ctx context.Context, nc *nats.Conn, o Options) (*Store, error) {
	if o.OpTimeout == 0 {
		o.OpTimeout = store.DefaultOpTimeout
	}
	if o.Replicas == 0 {
		o.Replicas = 1
	}
	if o.Replicas < 0 || o.Replicas > MaxReplicas {
		return nil, fmt.Errorf("open the store: %w: %d replicas; 1 to 5 are possible", store.ErrInvalid, o.Replicas)
	}
	c, err := newConn(nc, o.OpTimeout)
	if err != nil {
		return nil, err
	}
	s := assemble(c)
	for _, name := range Buckets {
		if err := c.ensure(ctx, name, o); err != nil {
			return nil, errors.Join(fmt.Errorf("open the store: %w", err), s.Close())
		}
	}
	return s, nil
}

// assemble makes the parts of a store on a connection, each on those that it needs.
func assemble(c *conn) *Store {
	b := newBuckets(c)
	h := &heads{buckets: b, last: map[crypto.ID]ledger.Head{}}
	l := &entryLog{conn: c, buckets: b, heads: h}
	v := &views{buckets: b, step: func(string) {}}
	r := &repairer{conn: c, buckets: b, heads: h, entries: l, views: v}
	d := &directory{conn: c, buckets: b, repairer: r}
	st := &staging{conn: c, buckets: b, directory: d}
	a := newAllowlist(c, b)
	return &Store{
		conn: c, buckets: b, entryLog: l, directory: d, staging: st, allowlist: a, repairer: r,
		committer: &committer{conn: c, buckets: b, heads: h, views: v, repairer: r, staging: st},
		watcher:   &watcher{conn: c, buckets: b},
		keyring:   &keyring{conn: c, buckets: b, directory: d},
		inventory: &inventory{conn: c, buckets: b},
		rebuilder: &rebuilder{conn: c, buckets: b, views: v, repairer: r, allowlist: a},
	}
}
