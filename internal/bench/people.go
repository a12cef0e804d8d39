package bench

import (
	"cmp"
	"context"
	"fmt"
	"sync"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
)

// What is done about people: handing the members of a room a new key, and letting people in.

// keyRecord is about how long what hands one member a key is, and an entry of a log.
const keyRecord = 256

// roomOf makes a room with so many members, who are on the allowlist and never connect.
func (b *Bed) roomOf(ctx context.Context, members int) (*unibus.Room, error) {
	room, err := b.Room(ctx, fmt.Sprintf("bench.of%d", members), unibus.DefaultPolicy())
	if err != nil || members == 1 {
		return room, err
	}
	users := make([]unibus.NewUser, members-1)
	keys := make([]unibus.PublicKey, members-1)
	for i := range users {
		id, err := unibus.NewIdentity()
		if err != nil {
			return nil, err
		}
		card, err := id.Card()
		if err != nil {
			return nil, err
		}
		users[i], keys[i] = unibus.NewUser{Key: id.Key(), Name: fmt.Sprintf("member%d", i+1), Card: card}, id.Key()
	}
	if err := b.c.AddUsers(ctx, users...); err != nil {
		return nil, err
	}
	return room, room.Invite(ctx, unibus.RoleMember, keys...)
}

// rekey returns what gives the members of a room a new key, and what has raw NATS store as many records: one for each
// member, and one that says so to all.
func (b *Bed) rekey(ctx context.Context, members int) (ours, raw func() error, err error) {
	room, err := b.roomOf(ctx, members)
	ours = func() error { return room.Rekey(ctx) }
	raw = func() error { return b.rawAsync(ctx, storedSubject, make([]byte, keyRecord), UpTo(members+1)) }
	return ours, raw, err
}

// login connects, logs in and closes.
func login(dial func() (*bus.Conn, error)) error {
	c, err := dial()
	if err == nil {
		c.Close()
	}
	return err
}

// loginsAtOnce is how many logins are under way at once, of those that are counted.
const loginsAtOnce = 8

// logins logs in again and again, several at once.
func logins(dial func() (*bus.Conn, error)) Side {
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
					if err := login(dial); err != nil {
						next(err)
					}
				}
			})
		}
		wait.Wait()
		return failed
	}
}
