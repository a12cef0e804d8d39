package service

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// entryAPI takes new entries of logs. The ledger's rules are checked once more before the store has them, and whoever
// they end access for is disconnected before they are acknowledged.
type entryAPI struct {
	store   store.Log
	staged  store.Staging
	logs    *logs
	users   *allowlist
	bus     crypto.ID
	stream  func(ctx context.Context, room crypto.ID) error
	drop    func(ctx context.Context, n store.Notice) error
	noted   noted
	endings *rates[crypto.PublicKey] // of entries that end others' connections, by author
	quota   *quota
	now     func() time.Time
}

// noted notes, beside the store, that a log goes as far as a head. It is asked to before an entry is acknowledged.
type noted func(ctx context.Context, log crypto.ID, head ledger.Head) error

// create answers POST /logs: a room is made of its first entry, whoever brings that, and has its stream when this is
// answered. ErrDenied when its author has made as many as it may, ErrExists for a subject that is taken.
func (a *entryAPI) create(c *call) (int, any, error) {
	var in store.EntryBody
	if err := c.body(fields{"entry": &in.Entry}); err != nil {
		return 0, nil, err
	}
	var fold ledger.Fold
	change, err := store.Advance(&fold, in.Entry)
	if err != nil {
		return 0, nil, err
	}
	s := fold.State()
	if s.Room == nil || s.Room.Bus != a.bus {
		return 0, nil, fmt.Errorf("%w: it is not the first entry of a room of this bus", store.ErrInvalid)
	}
	commit := func() error { // when its author's turn has come, which may be no user any more by then
		if err := a.active(c.Context(), change.Entry); err != nil {
			return err
		}
		return a.store.Append(c.Context(), change)
	}
	if err := a.quota.create(c.Context(), change.Entry.By, s.ID, commit); err != nil {
		return 0, nil, err
	}
	if err := a.stream(c.Context(), s.ID); err != nil {
		return 0, nil, err
	}
	if err := a.noted(c.Context(), s.ID, s.Head); err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, store.PlaceBody{Log: s.ID, Seq: 1, Hash: s.Head.Hash}, nil
}

// add answers POST /logs/{log}: an entry is the next of a log that is there, or is in it already. When this is answered, the
// stream of a room whose policy was changed is what that says, and whoever the entry ended access for is disconnected.
// ErrConflict, with where the log ends, when another entry has the place.
func (a *entryAPI) add(c *call) (int, any, error) {
	log, err := c.id("log")
	if err != nil {
		return 0, nil, err
	}
	var in store.EntryBody
	if err := c.body(fields{"entry": &in.Entry}); err != nil {
		return 0, nil, err
	}
	place, added, err := a.logs.append(c.Context(), log, in.Entry, func(before, after *ledger.State, e *ledger.Entry) error {
		return a.check(c, before, after, e)
	})
	if err != nil {
		return 0, nil, err
	}
	status := http.StatusOK // the log had it already
	if added != nil {
		status = http.StatusCreated
		if _, ok := added.Body.(*ledger.SetPolicy); ok {
			err = a.stream(c.Context(), log)
		}
	}
	if err != nil {
		return 0, nil, err
	}
	if err := a.drop(c.Context(), store.Notice{Log: log, Seq: place.Seq}); err != nil {
		return 0, nil, fmt.Errorf("entry %d is stored, but not everyone it concerns is disconnected yet: %w", place.Seq, err)
	}
	if err := a.noted(c.Context(), log, ledger.Head{Seq: place.Seq, Hash: place.Hash}); err != nil {
		return 0, nil, err
	}
	return status, place, nil
}

// check is what an entry has to keep besides the rules of the ledger, before it is the next of a log: the states are those before
// and after it.
func (a *entryAPI) check(c *call, before, after *ledger.State, e *ledger.Entry) error {
	if before.Room != nil && !c.admin && !before.Room.Known(c.caller) {
		return fmt.Errorf("room %s: %w", e.Log, store.ErrNotFound)
	}
	if costsOthers(before, after, e) && !a.endings.of(e.By).AllowN(a.now(), 1) {
		return fmt.Errorf("%w: so many changes that end others' connections, or move what is stored", errBusy)
	}
	if err := a.active(c.Context(), e); err != nil {
		return err
	}
	return a.keyed(c.Context(), e.Log, e)
}

// active checks that the author of an entry is on the allowlist. What else an honest author may not have known when it
// signed, as that someone invited is on it no more, refuses nothing: it may sign no other entry for the place.
func (a *entryAPI) active(ctx context.Context, e *ledger.Entry) error {
	if e.Log == a.bus { // its own rules say who may, and it is being read
		return a.users.listed(ctx, e.By)
	}
	_, err := a.users.user(ctx, e.By, a.now())
	return err
}

// keyed checks that whoever begins an epoch has its own copy of the key: without one nobody may ever have it.
func (a *entryAPI) keyed(ctx context.Context, room crypto.ID, e *ledger.Entry) error {
	k := e.NewEpoch()
	if k == nil {
		return nil
	}
	if remove, ok := e.Body.(*ledger.Remove); ok && slices.Contains(remove.Keys, e.By) {
		return nil // it is for the others
	}
	of := store.SealedCopy{Room: room, Epoch: k.Epoch, Commit: k.Commit, SealedKey: store.SealedKey{Endpoint: e.By, Sealer: e.By}}
	has, err := a.staged.HasCopy(ctx, of)
	if err == nil && !has {
		err = fmt.Errorf("%w: the key of epoch %d is not there for its own author; it is staged before the entry", store.ErrInvalid, k.Epoch)
	}
	return err
}

// Anyone can invite anyone into a room of its own, and then do there what ends their connections, or have the servers make a
// stream and remove it: so each author has only so many of such entries.
const (
	endingRate  = 2 // in a second
	endingBurst = 256
)

// costsOthers reports whether an entry of a room, between two states, is one of these.
func costsOthers(before, after *ledger.State, e *ledger.Entry) bool {
	if after.Room == nil {
		return false
	}
	return before.Room.Policy.Stored() != after.Room.Policy.Stored() || len(affected(after, e, others)) > 0
}
