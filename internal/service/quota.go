package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// DefaultMaxRooms is how many rooms a user may own unless a service is told otherwise.
const DefaultMaxRooms = 1000

const (
	stagedSpare = 100       // rooms beyond the quota whose first key may wait for the room
	stagedLife  = time.Hour // after which a key that no entry names is removed
	nearQuota   = 64        // rooms left, from which on a caller's rooms are made one by one: twice what it has under way
	maxOwners   = 4096      // callers remembered
)

// quota bounds what one user makes a store keep: rooms that it owns, archived ones not counted, and keys
// of rooms that do not exist yet. The rooms are counted in the store, not each time but the more often the
// fewer are left: several services then agree well enough.
type quota struct {
	store  store.Store
	rooms  int
	owners *recent[crypto.PublicKey, *owner]
	now    func() time.Time
}

// owner is what is known of one user's rooms. Whoever holds turn may use it.
type owner struct {
	turn   chan struct{}
	unseen int // rooms that may be made before they are counted again
	until  time.Time
	staged int       // keys of rooms that did not come since
	since  time.Time // then
}

// countLife is how long a count is relied on: others make their users owners, too.
const countLife = time.Minute

func newQuota(s store.Store, rooms int, now func() time.Time) *quota {
	return &quota{store: s, rooms: rooms, owners: newRecent[crypto.PublicKey, *owner](maxOwners), now: now}
}

// hold waits for a user's turn, and returns what ends it.
func (q *quota) hold(ctx context.Context, key crypto.PublicKey) (o *owner, release func(), err error) {
	o = q.owners.getOrMake(key, func() *owner { return &owner{turn: make(chan struct{}, 1)} })
	select {
	case o.turn <- struct{}{}:
		return o, func() { <-o.turn }, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// create makes a room if its creator may own one more. A room that is there already, from an earlier
// request whose answer was lost, costs nothing.
func (q *quota) create(ctx context.Context, key crypto.PublicKey, room crypto.ID, commit func() error) error {
	o, release, err := q.hold(ctx, key)
	if err != nil {
		return err
	}
	held := true
	defer func() {
		if held {
			release()
		}
	}()
	if full, err := q.full(ctx, key, o); err != nil {
		return err
	} else if full {
		return q.refuse(ctx, room, commit)
	}
	o.staged = max(o.staged-1, 0)
	if o.unseen > 0 {
		o.unseen--
		held = false
		release()
	}
	return commit()
}

// full reports whether a user owns as many rooms as it may.
func (q *quota) full(ctx context.Context, key crypto.PublicKey, o *owner) (bool, error) {
	if o.unseen > 0 && q.now().Before(o.until) {
		return false, nil
	}
	left, err := q.left(ctx, key)
	if err != nil {
		return false, err
	}
	o.unseen, o.until = 0, q.now().Add(countLife)
	if left > nearQuota {
		o.unseen = left / 8
	}
	return left <= 0, nil
}

// left counts how many more rooms a user may own.
func (q *quota) left(ctx context.Context, key crypto.PublicKey) (int, error) {
	refs, err := q.store.ListRoomsForEndpoint(ctx, key)
	if err != nil {
		return 0, err
	}
	left := q.rooms
	for i := range refs {
		if refs[i].Role == ledger.RoleOwner && !refs[i].Archived {
			left--
		}
	}
	return left, nil
}

// refuse is for one who owns as many rooms as it may.
func (q *quota) refuse(ctx context.Context, room crypto.ID, commit func() error) error {
	switch _, err := store.HeadOf(ctx, q.store, room); {
	case err == nil:
		return commit()
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	return q.exceeded()
}

func (q *quota) exceeded() error {
	return fmt.Errorf("%w: a user may own %d rooms here, and you do: archive some, or ask whoever runs the bus for a larger --max-rooms", store.ErrDenied, q.rooms)
}

// stage notes a key of a room that does not exist yet.
func (q *quota) stage(ctx context.Context, key crypto.PublicKey) error {
	o, release, err := q.hold(ctx, key)
	if err != nil {
		return err
	}
	defer release()
	if full, err := q.full(ctx, key, o); err != nil {
		return err
	} else if full {
		return q.exceeded()
	}
	if now := q.now(); now.Sub(o.since) >= stagedLife {
		o.staged, o.since = 0, now
	}
	if o.staged >= q.rooms+stagedSpare {
		return fmt.Errorf("%w: %d rooms that you gave keys for do not exist yet: create them, or wait an hour", store.ErrDenied, o.staged)
	}
	o.staged++
	return nil
}
