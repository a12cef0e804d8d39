package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// A start reads all that a store holds, and says what of it cannot be believed. What a file lists beside the logs is mended
// at once, since nobody else has it open; of what servers list, what is missing in the lists of members is. Of all else it tells, and
// an operator says when it is mended.

// audit looks, when a service starts, whether what the store holds is what was signed: a damaged disk is told of before
// anybody meets it. The allowlist is looked at before logins are answered, rooms beside that.
type audit struct {
	store store.Backend
	logs  *logs
	bus   crypto.ID
	seen  *seen
	log   *slog.Logger
}

// fileStore is a store in a file, which may be damaged without a word.
type fileStore interface {
	CheckFile(ctx context.Context) error
	Unrecorded(ctx context.Context) (int, error)
	ResetHeads(ctx context.Context) error
}

// serverStore is a store whose servers may not be able to read all that they have.
type serverStore interface {
	CheckRecords(ctx context.Context) error
	Unlisted(ctx context.Context) (map[crypto.ID]bool, error)
}

// allowlist looks at the store's file, if it is in one, and reads the whole bus log; ErrDamaged when either is damaged.
// Records that differ from the log let nobody in: in a file they are written anew, elsewhere it tells of them.
func (a *audit) allowlist(ctx context.Context) error {
	if records, ok := a.store.(serverStore); ok {
		err := records.CheckRecords(ctx)
		if errors.Is(err, store.ErrDamaged) { // the rooms that need it fail, and no others
			a.log.Error("some of what the store keeps cannot be read: "+doctorTells+"; nobody can use them until a backup is restored", "error", err)
		} else if err != nil {
			return err
		}
	}
	if file, ok := a.store.(fileStore); ok {
		err := file.CheckFile(ctx)
		if err == nil {
			err = a.record(ctx, file)
		}
		if err != nil {
			return err
		}
	}
	if err := a.users(ctx); err != nil {
		return fmt.Errorf("the allowlist: %w", err)
	}
	return nil
}

// users compares the store's list of users, and what it has of no log, with the bus log.
func (a *audit) users(ctx context.Context) error {
	s, err := a.logs.state(ctx, a.bus)
	if err != nil {
		return err
	}
	wrong, err := a.store.Differs(ctx, s)
	switch {
	case errors.Is(err, store.ErrConflict), err == nil && wrong == 0: // somebody has changed it meanwhile
		return nil
	case errors.Is(err, store.ErrShort):
		return a.lostEnd(err)
	case err != nil:
		return err
	}
	if _, ok := a.store.(fileStore); ok {
		return a.rewrite(ctx, s, "of users")
	}
	behind, err := a.store.Behind(ctx)
	if err != nil || slices.Contains(behind, a.bus) { // by an entry that was stored just now: it is brought up to date
		return err
	}
	a.log.Warn("the store's list of users is not what its log says, and the log counts: "+doctorRepairs, "records", wrong)
	return nil
}

// lostEnd decides what to do about a bus log that ends before what the store lists: it is served only if nothing has been
// noted of it here, or not any more. Nobody gets in whom either the log or the list has revoked.
func (a *audit) lostEnd(err error) error {
	if a.seen.recorded {
		return err
	}
	a.log.Error("the bus log lost its end: who came after that is not let in, and who was revoked is revoked in the store's list alone, which "+doctorForgets, "error", err)
	return nil
}

// record has what is there recorded as acknowledged where nothing says what was, and tells of it.
func (a *audit) record(ctx context.Context, file fileStore) error {
	n, err := file.Unrecorded(ctx)
	if err != nil || n == 0 {
		return err
	}
	a.log.Warn("nothing says what was acknowledged of some logs: that this is an older copy of the database would not be noticed; from now on it is", "logs", n)
	return file.ResetHeads(ctx)
}

// mend makes what the store lists what a log says, if it is not, and tells of it.
func (a *audit) mend(ctx context.Context, s *ledger.State, what string) error {
	wrong, err := a.store.Differs(ctx, s)
	if err == nil && wrong > 0 {
		return a.rewrite(ctx, s, what)
	}
	return unlessGrown(err)
}

// rewrite writes anew what the store lists of a log, and tells of it if that made a difference.
func (a *audit) rewrite(ctx context.Context, s *ledger.State, what string) error {
	wrong, err := a.store.Rebuild(ctx, s)
	if err == nil && wrong > 0 {
		a.log.Warn("what the store lists "+what+" was not what the log says, and was written anew from that: the disk may be failing", "log", s.ID, "records", wrong)
	}
	return unlessGrown(err)
}

// unlessGrown is an error, but not that a log has grown meanwhile: its views have grown with it.
func unlessGrown(err error) error {
	if errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

// rooms reads every room's log, and tells of those that are damaged.
func (a *audit) rooms(ctx context.Context) {
	_, inFile := a.store.(fileStore)
	unlisted, err := a.unlisted(ctx)
	if err != nil {
		a.log.Warn("what is listed of each member was not looked at", "error", err)
	}
	wrong, keyless := 0, 0
	for room, err := range a.store.Rooms(ctx, crypto.ID{}) {
		var state *ledger.State
		var at uint64 // read before the log, which goes at least as far
		if err == nil {
			at, err = a.store.ListedAt(ctx, room.ID)
		}
		if err == nil {
			state, err = store.Load(ctx, a.store, room.ID)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && max(at, room.Seq) > state.Head.Seq:
			a.log.Error("a room's log lost its end: nobody can use the room until a backup is restored", "room", room.Subject, "ends", state.Head.Seq, "was", max(at, room.Seq))
		case errors.Is(err, store.ErrNotFound):
			a.log.Error("a room's log is lost: nobody can use the room until a backup is restored", "room", room.Subject, "was", room.Seq)
		case errors.Is(err, store.ErrDamaged):
			a.log.Error("a room's log is damaged: nobody can use the room until a backup is restored", "room", room.Subject, "error", err)
		case err != nil:
			a.log.Warn("rooms could not be looked at", "error", err)
			return
		case inFile, unlisted[room.ID]: // which its members would not hear of
			if err := a.mend(ctx, state, "of a room"); err != nil {
				a.log.Warn("what the store lists of a room was not looked at", "room", room.Subject, "error", err)
			}
		case !listed(room, state):
			wrong++
		}
		if err == nil && a.keyless(ctx, state) { // also of a list that has just been mended
			keyless++
		}
	}
	if keyless > 0 {
		a.log.Error("members of rooms have lost the key of what is written now: "+doctorTells+"; a backup has it, or an owner or admin renews it", "rooms", keyless)
	}
	if wrong > 0 {
		a.log.Warn("what the store lists of rooms is not what their logs say, and those count: "+doctorRepairs, "rooms", wrong)
	}
}

// keyless reports whether members of a room lack its newest key who have been on the allowlist all the time: from others
// it may have been kept.
func (a *audit) keyless(ctx context.Context, s *ledger.State) bool {
	if s.Room == nil || s.Room.Archived != 0 {
		return false
	}
	without, err := store.Keyless(ctx, a.store, s)
	if err == nil && len(without) > 0 {
		var bus *ledger.State
		if bus, err = a.logs.state(ctx, a.bus); err == nil {
			maps.DeleteFunc(without, func(member crypto.PublicKey, _ ledger.Role) bool {
				return bus.Bus.WasOut(member) || !bus.Bus.User(member).ActiveAt(time.Now())
			})
		}
	}
	if err != nil && ctx.Err() == nil {
		a.log.Warn("the keys of a room were not looked at", "room", s.Room.Subject, "error", err)
	}
	return err == nil && len(without) > 0
}

// unlisted are the rooms that lists of their members lack, where servers keep such.
func (a *audit) unlisted(ctx context.Context) (map[crypto.ID]bool, error) {
	if records, ok := a.store.(serverStore); ok {
		return records.Unlisted(ctx)
	}
	return nil, nil
}

// listed reports whether a record is what the log of its room says; also when that has grown since.
func listed(room store.Room, s *ledger.State) bool {
	return room.Seq < s.Head.Seq || s.Room != nil && room.Is(s.Room) && room.Members == len(s.Room.Members())
}
