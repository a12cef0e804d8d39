package unibus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"reflect"

	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/room"
)

// create makes a room's log.
func (o *rooms) create(ctx context.Context, subject string, p Policy) (*mirror.Log, error) {
	create := &ledger.Create{Bus: o.c.Bus(), Subject: subject, Policy: p, Nonce: nonce()}
	proposal := mirror.Proposal{Body: create}
	if p.Encrypted() {
		proposal.Key = &mirror.Key{Epoch: 1, Key: room.NewKey()}
		commit := proposal.Key.Key.Commit(1)
		create.Commit = &commit
	}
	var log *mirror.Log
	err := o.c.link.inTurn(ctx, func() (err error) {
		log, err = o.c.peer.Create(ctx, proposal, o.c.Bus())
		return err
	})
	return log, err
}

// making is what remembers the room of which nobody knows whether it was made.
func (o *rooms) making(subject string) string {
	return "room in the making at " + o.c.Bus().String() + ": " + subject
}

// madeBefore returns the room that has a subject, if it is the one whose making was not answered, and has the policy that
// is wanted; ErrExists for another.
func (o *rooms) madeBefore(ctx context.Context, subject string, there ID, p Policy) (*Room, error) {
	made, err := o.c.pins.Settings.Get(ctx, o.making(subject))
	if err != nil {
		return nil, err
	}
	if made != there.String() {
		return nil, fmt.Errorf("room %s: %w", subject, ErrExists)
	}
	r, err := o.byID(ctx, there)
	if err != nil {
		return nil, err
	}
	if !reflect.DeepEqual(r.Info().Policy, p) {
		return nil, fmt.Errorf("room %s: %w, with another policy", subject, ErrExists)
	}
	return r, errors.Join(o.c.pins.Subjects.Replace(ctx, o.c.Bus(), subject, there), o.c.pins.Settings.Set(ctx, o.making(subject), "made"))
}

// free makes sure that no room that was verified has a subject that no room of the store has: ErrIntegrity when the store has lost
// that room, ErrExists when it has lost the subject alone.
func (o *rooms) free(ctx context.Context, subject string) error {
	id, err := meaning(ctx, o, subject)
	if err != nil || id.IsZero() {
		return err
	}
	switch _, err := o.byID(ctx, id); {
	case errors.Is(err, ErrNotFound): // a person has taken it for lost, or it is others' by now, whose rooms the store knows
		return o.c.pins.Subjects.Replace(ctx, o.c.Bus(), subject, ID{})
	case err != nil:
		return err
	}
	return fmt.Errorf("room %s: %w", subject, ErrExists)
}

// CreateRoom makes a room with the caller as its owner. ErrExists when the subject is taken.
func (c *Client) CreateRoom(ctx context.Context, subject string, p Policy) (*Room, error) {
	if err := ledger.ValidSubject(subject); err != nil {
		return nil, fmt.Errorf("room %q: %w: %w", subject, ErrInvalid, err)
	}
	if subject[0] == '_' { // the ledger takes it, since a log says nothing of NATS
		return nil, fmt.Errorf("room %q: %w: subjects that begin with _ are NATS's own", subject, ErrInvalid)
	}
	if !c.self.Active(c.Key()) {
		return nil, c.self.Excluded()
	}
	switch there, err := c.link.store.RoomBySubject(ctx, subject); {
	case err == nil:
		return c.rooms.madeBefore(ctx, subject, there.ID, p)
	case !errors.Is(err, ErrNotFound):
		return nil, err
	}
	if err := c.rooms.free(ctx, subject); err != nil {
		return nil, err
	}
	log, err := c.rooms.create(ctx, subject, p)
	if err == nil {
		err = c.pins.Subjects.Replace(ctx, c.Bus(), subject, log.ID())
	}
	if err == nil && isPrefix(subject) {
		err = c.pins.Settings.Set(ctx, namedBefore(c.Bus(), subject), asSubject)
	}
	var r *Room
	if err == nil {
		r, err = c.rooms.byID(ctx, log.ID())
	}
	switch {
	case errors.Is(err, ErrExists):
		return nil, fmt.Errorf("room %s: %w", subject, ErrExists)
	case errors.Is(err, ErrUnavailable):
		if log != nil {
			err = errors.Join(err, c.pins.Settings.Set(context.WithoutCancel(ctx), c.rooms.making(subject), log.ID().String()))
		}
		return nil, remedy.With(fmt.Errorf("room %s: %w", subject, err), remedy.Remedy{Kind: remedy.LookAgain, Room: subject})
	}
	return r, err
}

// nonce makes no two rooms share an id.
func nonce() []byte {
	n := make([]byte, 16)
	_, _ = rand.Read(n) // it never fails: it ends the process instead
	return n
}
