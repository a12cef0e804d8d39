package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/shown"
	"github.com/unibus/unibus/internal/store"
)

// Every log is folded, its views are held against it, and what it says of its room is looked at: examine does that for one
// log, several at once, and add joins what was found. A log that is damaged is told of, and the others are looked at; when
// the store stops answering nothing is said of rooms, for not all were seen.

// Views checks every log by the rules and every view against its log; in a repair the views are
// written anew. It reports the check views, and room keys, stale rooms and owners if the store answered to the end. listed says
// that the views are right by now.
func Views(ctx context.Context, s store.Backend, look Look) (listed bool) {
	r := look.check("views")
	users, err := allowlist(ctx, s)
	if err != nil {
		r.fail(restoring(remedy.RestoreDamaged, s), "%v", err)
		return false
	}
	e := &logsExam{store: s, compare: s.Differs, repair: look.Repair, users: users, now: time.Now()}
	if e.repair {
		e.compare = s.Rebuild
	}
	e.logs, err = eachLog(ctx, s, func(ctx context.Context, log crypto.ID) error {
		found, err := e.examine(ctx, log)
		return e.add(found, err)
	})
	if err == nil {
		err = e.lost(ctx)
	}
	if err != nil {
		r.unknown(err)
		return false
	}
	if e.reportViews(ctx, r) {
		e.reportKeys(look.check("room keys"))
		RoomChecks(e.rooms, e.stale, e.sole, look.Report)
	}
	return len(e.damaged)+len(e.short) == 0 && (e.wrong == 0 || e.repair)
}

// logsExam is an examination of all logs of a store.
type logsExam struct {
	store   store.Backend
	compare func(context.Context, *ledger.State) (wrong int, err error) // a log's views with what it says
	repair  bool                                                        // compare puts them right
	users   *ledger.Bus
	now     time.Time

	mu             sync.Mutex
	logs           int      // of the whole store
	wrong          int      // records
	damaged, short []string // what is wrong with logs: not by the rules, or less than their views know of
	rooms          int      // that are not archived
	keyless        int      // members without a copy of their room's newest key
	without        []string // the rooms of these
	sole, stale    []string // rooms with one owner, and with a key that is due to be renewed
}

// examined is what was found of one log.
type examined struct {
	wrong   int          // records that are not as the log says
	keyless int          // members without a copy of the room's newest key
	room    *ledger.Room // as the log says; nil: it is archived, or the log is the bus's
}

// examine looks at one log. ErrConflict when it has grown meanwhile, ErrShort and ErrDamaged as with the store.
func (e *logsExam) examine(ctx context.Context, log crypto.ID) (found examined, err error) {
	state, err := store.Load(ctx, e.store, log)
	if err != nil {
		return found, err
	}
	if found.wrong, err = e.compare(ctx, state); err != nil {
		return found, err
	}
	if state.Room == nil || state.Room.Archived != 0 {
		return found, nil
	}
	found.room = state.Room
	if found.wrong == 0 || e.repair { // else it is unknown of whom there are keys
		found.keyless, err = e.withoutKey(ctx, state)
	}
	return found, err
}

// withoutKey counts the members without a copy of the room's newest key, but for those whose access has ended, for whom nobody
// seals one.
func (e *logsExam) withoutKey(ctx context.Context, state *ledger.State) (n int, err error) {
	without, err := store.Keyless(ctx, e.store, state)
	for member := range without {
		if e.users.User(member).ActiveAt(e.now) {
			n++
		}
	}
	return n, err
}

// add joins what was found of a log to what is known. The error that it returns ends the examination.
func (e *logsExam) add(found examined, err error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.wrong += found.wrong
	switch {
	case errors.Is(err, store.ErrShort): // which is a kind of being damaged
		e.short = append(e.short, err.Error())
		return nil
	case errors.Is(err, store.ErrDamaged):
		e.damaged = append(e.damaged, err.Error())
		return nil
	case errors.Is(err, store.ErrConflict): // it has grown just now, and its views with it
		return nil
	case err != nil || found.room == nil:
		return err
	}
	room := found.room
	e.rooms++
	if found.keyless > 0 {
		e.keyless += found.keyless
		e.without = append(e.without, room.Subject)
	}
	if owners(room) == 1 {
		e.sole = append(e.sole, room.Subject)
	}
	if ledger.Stale(room, e.users, e.now) {
		e.stale = append(e.stale, room.Subject)
	}
	return nil
}

// lost finds rooms that are listed and whose logs are not there at all, so that nobody came by them.
func (e *logsExam) lost(ctx context.Context) error {
	for room, err := range e.store.Rooms(ctx, crypto.ID{}) {
		if err != nil {
			return err
		}
		_, err := store.HeadOf(ctx, e.store, room.ID)
		switch {
		case errors.Is(err, store.ErrNotFound):
			e.damaged = append(e.damaged, fmt.Sprintf("the log of the room %s is lost, which is listed as of entry %d", room.Subject, room.Seq))
		case errors.Is(err, store.ErrDamaged): // of which it is told already
		case err != nil:
			return err
		}
	}
	return nil
}

// reportViews tells what is wrong with the logs and their views, the worst alone: a log that is damaged is beyond repair,
// one that is short may be all there is, and views can be written anew. It reports whether the store still answers.
func (e *logsExam) reportViews(ctx context.Context, r reporter) bool {
	records, logs := english.Plural(e.wrong, "record", ""), english.Plural(e.logs, "log", "")
	switch {
	case len(e.damaged) > 0:
		r.fail(restoring(remedy.RestoreDamaged, e.store), "%s", shown.Few(e.damaged))
	case len(e.short) > 0:
		r.fail(restoring(remedy.RestoreOrAccept, e.store), "%s", shown.Few(e.short))
	case e.wrong > 0 && e.repair:
		r.pass("%s were wrong and are right now, in %s", records, logs)
	case e.wrong > 0:
		behind, err := e.store.Behind(ctx)
		if err != nil {
			r.unknown(err)
			return false
		}
		r.fail(help(remedy.Repair), "%s are not what the logs say; %d of %s are ahead of their views", records, len(behind), logs)
	default:
		r.pass("all of %s as they say: the lists of rooms, members and users are right", logs)
	}
	return true
}

// reportKeys tells of members who cannot read what is written now.
func (e *logsExam) reportKeys(r reporter) {
	if len(e.without) > 0 {
		r.fail(remedy.Remedy{Kind: remedy.RenewKeys, Room: slices.Min(e.without)}, "%s without a copy of their room's key: %s", english.Plural(e.keyless, "member", ""), shown.Few(e.without))
		return
	}
	r.pass("there for every member of a room")
}

// RoomChecks reports on stale rooms and those with a single owner, of a number of rooms, as the checks stale rooms and
// owners. Stale and sole are their subjects.
func RoomChecks(total int, stale, sole []string, report func(Check)) {
	r := reporter{"stale rooms", report}
	if len(stale) > 0 {
		r.warn(help(remedy.RenewStale), "%d of %d: %s", len(stale), total, shown.Few(stale))
	} else {
		r.pass("none of %d: nobody has a room's key who is not to read what comes", total)
	}
	r = reporter{"owners", report}
	if len(sole) > 0 {
		r.warn(remedy.Remedy{Kind: remedy.AddOwner, Room: slices.Min(sole)}, "%d of %d rooms have a single one, without whom nobody can change them: %s", len(sole), total, shown.Few(sole))
	} else {
		r.pass("no room depends on a single one")
	}
}

// owners counts the owners of a room. When the only one loses the identity, nobody can change the room ever again.
func owners(r *ledger.Room) (n int) {
	for _, role := range r.Members() {
		if role == ledger.RoleOwner {
			n++
		}
	}
	return n
}

// allowlist is the bus as its log says, and not as its views do, which are yet to be looked at.
func allowlist(ctx context.Context, s store.Log) (*ledger.Bus, error) {
	id, err := BusOf(ctx, s)
	if err != nil {
		return nil, err
	}
	state, err := store.Load(ctx, s, id)
	if err != nil {
		return nil, err
	}
	return state.Bus, nil
}
