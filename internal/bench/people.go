package bench

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
)

// What is done about people: handing the members of a room a new key, and letting people in.

const (
	manyPeople   = 99  // who are on the allowlist beside the founder
	keyRecord    = 256 // bytes, about, of what hands one member a key, and of an entry of a log
	loginsAtOnce = 8   // logins that are under way at once, of those that are counted
)

// crowd are the people who are on the allowlist, put there when they are needed first.
func (b *Bed) crowd(ctx context.Context) ([]*crypto.Identity, error) {
	if b.people != nil {
		return b.people, nil
	}
	people, users := make([]*crypto.Identity, manyPeople), make([]unibus.NewUser, manyPeople)
	for i := range people {
		var err error
		if people[i], err = unibus.NewIdentity(); err != nil {
			return nil, err
		}
		card, err := people[i].Card()
		if err != nil {
			return nil, err
		}
		users[i] = unibus.NewUser{Key: people[i].Key(), Name: fmt.Sprintf("user%d", i+1), Card: card}
	}
	if err := b.c.AddUsers(ctx, users...); err != nil {
		return nil, err
	}
	b.people = people
	return people, nil
}

// rekey returns what gives the members of a room a new key, and what has raw NATS store as many records: one for each
// member, and one that says so to all. The first others of the crowd are members beside the founder.
func (b *Bed) rekey(ctx context.Context, others int) (ours, raw func() error, err error) {
	room, err := b.Room(ctx, fmt.Sprintf("bench.rekey%d", others), unibus.DefaultPolicy())
	if err != nil {
		return nil, nil, err
	}
	if others > 0 {
		people, err := b.crowd(ctx)
		if err != nil {
			return nil, nil, err
		}
		keys := make([]unibus.PublicKey, others)
		for i := range keys {
			keys[i] = people[i].Key()
		}
		if err := room.Invite(ctx, unibus.RoleMember, keys...); err != nil {
			return nil, nil, err
		}
	}
	record := make([]byte, keyRecord)
	ours = func() error { return room.Rekey(ctx) }
	raw = func() error { return b.Raw.async(ctx, storedSubject, record, UpTo(others+2)) }
	return ours, raw, nil
}

// logins returns what logs in, and goes: as one of the crowd after the other, since a user may not log in as often as can be
// measured; and with a key that the server itself knows. Both may be called from several goroutines.
func (b *Bed) logins(ctx context.Context) (ours, raw func() error, err error) {
	people, err := b.crowd(ctx)
	if err != nil {
		return nil, nil, err
	}
	var turn atomic.Uint64
	ours = func() error { return closed(b.dialFor(people[turn.Add(1)%manyPeople])) }
	raw = func() error { return closed(b.dialRaw()) }
	return ours, raw, nil
}

// closed closes a connection that there is.
func closed(c *bus.Conn, err error) error {
	if err == nil {
		c.Close()
	}
	return err
}

// several does a thing again and again, several at once.
func several(do func() error) Side {
	return func(_ context.Context, more func() bool) error {
		var mu sync.Mutex // of more, and failed
		var failed error
		next := func(err error) bool {
			mu.Lock()
			defer mu.Unlock()
			failed = cmp.Or(failed, err)
			return failed == nil && more()
		}
		var wait sync.WaitGroup
		for range loginsAtOnce {
			wait.Go(func() {
				for next(nil) {
					if err := do(); err != nil {
						next(err)
					}
				}
			})
		}
		wait.Wait()
		return failed
	}
}
