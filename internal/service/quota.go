package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// A room costs the servers a stream for as long as it is not archived, so nobody makes them without end.

// DefaultMaxRooms is how many rooms a user may have created unless a service is told otherwise.
const DefaultMaxRooms = 1000

const (
	nearQuota   = 64          // rooms left, from which on a user's rooms are made one by one: twice what it has under way
	maxCreators = 4096        // users remembered
	countLife   = time.Minute // for which a count is relied on: other services make rooms, too
)

// quota bounds how many rooms one user makes a store keep: those it created, whoever owns them now, archived
// ones not counted. They are counted in the store, not each time but the more often the fewer are left: several
// services then agree well enough.
type quota struct {
	store    roomCount
	rooms    int
	creators *recent[crypto.PublicKey, *creator]
	now      func() time.Time
}

// roomCount is the part of a store that counts rooms, and that knows whether there is one.
type roomCount interface {
	store.Log
	Created(ctx context.Context, endpoint crypto.PublicKey) (int, error)
}

// creator is what is known of one user's rooms. Whoever holds turn may use it.
type creator struct {
	turn   chan struct{}
	unseen int // rooms that may be made before they are counted again
	until  time.Time
}

// newQuota lets each user create so many rooms.
func newQuota(s roomCount, rooms int, now func() time.Time) *quota {
	return &quota{store: s, rooms: rooms, creators: newRecent[crypto.PublicKey, *creator](maxCreators), now: now}
}

// hold waits for a turn that one at a time has, and returns what ends it.
func hold(ctx context.Context, turn chan struct{}) (release func(), err error) {
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// create makes a room if its creator may have one more. A room that is there already, from an earlier
// request whose answer was lost, costs nothing.
func (q *quota) create(ctx context.Context, key crypto.PublicKey, room crypto.ID, commit func() error) error {
	c := q.creators.getOrMake(key, func() *creator { return &creator{turn: make(chan struct{}, 1)} })
	release, err := hold(ctx, c.turn)
	if err != nil {
		return err
	}
	held := true
	defer func() {
		if held {
			release()
		}
	}()
	if full, err := q.full(ctx, key, c); err != nil {
		return err
	} else if full {
		return q.refuse(ctx, room, commit)
	}
	if c.unseen > 0 {
		c.unseen--
		held = false
		release()
	}
	return commit()
}

// full reports whether a user has created as many rooms as it may.
func (q *quota) full(ctx context.Context, key crypto.PublicKey, c *creator) (bool, error) {
	if c.unseen > 0 && q.now().Before(c.until) {
		return false, nil
	}
	created, err := q.store.Created(ctx, key)
	if err != nil {
		return false, err
	}
	left := q.rooms - created
	c.unseen, c.until = 0, q.now().Add(countLife)
	if left > nearQuota {
		c.unseen = left / 8
	}
	return left <= 0, nil
}

// refuse is for one who has created as many rooms as it may.
func (q *quota) refuse(ctx context.Context, room crypto.ID, commit func() error) error {
	switch _, err := store.HeadOf(ctx, q.store, room); {
	case err == nil:
		return commit()
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	return fmt.Errorf("%w: a user may create %d rooms here, and as many of yours are not archived, whoever owns them now: have some archived, or ask whoever runs the bus for more", store.ErrDenied, q.rooms)
}
