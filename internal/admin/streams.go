package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/shown"
	"github.com/unibus/unibus/internal/store"
)

// Whether every room that stores messages has its stream, as it has to be, and no other stream is there. What is found in
// the servers is held against what the store says; a repair makes and changes streams, and removes none.

// roomStreams are the streams that rooms have or may have, by name, with the room; nil for one that is archived or
// stores nothing, whose stream may be there still: with it would go what places count from.
type roomStreams map[string]*store.Room

// mend makes the stream of a room what it has to be; nil when nothing is to be changed.
type mend func(store.Room) error

// Streams looks at the copies of the store's buckets and of the rooms' streams, and holds the streams
// against the rooms; those that are missing or wrong are put right in a repair. It reports the checks replicas, stream
// settings and streams, or replicas alone when the servers or the store do not answer. Which rooms there are the views say,
// and listed that these are right, as Views found.
func Streams(ctx context.Context, a Access, servers string, s store.Backend, listed bool, look Look) {
	r := look.check("replicas")
	nc, err := a.Dial(servers)
	if err != nil {
		r.unknown(err)
		return
	}
	defer nc.Close()
	rooms, err := streamsOf(ctx, s)
	if err != nil {
		r.fail(noHelp, "the rooms cannot be listed: %v", err)
		return
	}
	found, err := replicas(ctx, nc, a.step(), r)
	if err != nil {
		r.fail(noHelp, "the streams cannot be listed: %v", err)
		return
	}
	// One stream may take as long as a step: a repair of many is bounded by ctx, and ends with the first that is silent.
	var m mend
	if look.Repair {
		m = func(r store.Room) error {
			step, cancel := context.WithTimeout(ctx, a.step())
			defer cancel()
			return ensureStream(step, nc, s, r)
		}
	}
	rooms.settings(found, m, look.check("stream settings"))
	orphaned := remedy.LeaveStreams
	switch {
	case !listed:
		orphaned = remedy.RepairFirst
	case look.Served:
		orphaned = remedy.RestoreOrRemove
	}
	rooms.complete(found, m, restoring(orphaned, s), look)
}

// streamsOf lists the rooms of a store that have streams.
func streamsOf(ctx context.Context, s store.Directory) (roomStreams, error) {
	rooms := roomStreams{}
	for r, err := range s.Rooms(ctx, crypto.ID{}) {
		if err != nil {
			return nil, err
		}
		rooms[bus.StreamName(r.ID)] = nil
		if !r.Archived && r.Policy.Stored() {
			rooms[bus.StreamName(r.ID)] = &r
		}
	}
	return rooms, nil
}

// settings holds the streams of stored rooms against what they have to be, and in a repair makes them so. The first
// one about which the servers do not answer ends a repair: each of the others would take as long.
func (rooms roomStreams) settings(found []foundStream, m mend, r reporter) {
	var wrong, mended, stuck []string
	for _, f := range found {
		room := rooms[f.name]
		if room == nil {
			continue
		}
		names := bus.Deviations(f.config, bus.StreamForm(room.ID, room.Policy))
		if len(names) == 0 {
			continue
		}
		text := room.Subject + " (" + strings.Join(names, ", ") + ")"
		if m == nil {
			wrong = append(wrong, text)
			continue
		}
		// How a stream is stored and written no server changes, whatever it answers to an update.
		err := m(*room)
		switch {
		case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
			r.fail(help(remedy.RepairLater), "%s: %v", room.Subject, err)
			return
		case err == nil && !slices.Contains(names, "persist_mode") && !slices.Contains(names, "storage"):
			mended = append(mended, text)
		default:
			stuck = append(stuck, text)
		}
	}
	switch {
	case len(stuck) > 0:
		r.fail(help(remedy.RemakeStreams), "not as they have to be: %s", shown.Few(stuck))
	case len(wrong) > 0:
		r.fail(help(remedy.Repair), "not as they have to be: %s", shown.Few(wrong))
	case len(mended) > 0:
		r.pass("made as they have to be: %s", shown.Few(mended))
	default:
		r.pass("every room's stream is as it has to be: what it keeps, how long, and on how many servers")
	}
}

// complete tells of rooms whose stream is not there, and in a repair makes it; or else of streams without a room, which may
// be all that is left of one, and of what helps with these.
func (rooms roomStreams) complete(found []foundStream, m mend, orphaned remedy.Remedy, look Look) {
	r := look.check("streams")
	missing, orphans := rooms.compare(found)
	var subjects []string
	for _, room := range missing {
		subjects = append(subjects, room.Subject)
		if m == nil {
			continue
		}
		if err := m(room); err != nil {
			r.unknown(err)
			return
		}
	}
	switch {
	case len(missing) > 0 && m != nil:
		r.pass("made for rooms without: %s", shown.Few(subjects))
	case len(missing) > 0:
		r.fail(help(remedy.MakeStreams), "rooms without their stream: %s", shown.Few(subjects))
	case len(orphans) > 0:
		r.warn(orphaned, "streams without a room in this store: %s; it has lost their rooms, as one restored from before they were made, or they are nobody's", shown.Few(orphans))
	default:
		r.pass("one for every stored room, and no other")
	}
}

// compare returns the rooms whose stream is not among those found, and the streams found of which there is no room.
// Other streams than those of rooms are not looked at.
func (rooms roomStreams) compare(found []foundStream) (missing []store.Room, orphans []string) {
	there := map[string]bool{}
	for _, f := range found {
		there[f.name] = true
		if _, known := rooms[f.name]; !known && isRooms(f.name) {
			orphans = append(orphans, f.name)
		}
	}
	for name, room := range rooms {
		if room != nil && !there[name] {
			missing = append(missing, *room)
		}
	}
	return missing, orphans
}

// ensureStream makes the stream of a room as its log says, or changes it, kept as often as the store is.
func ensureStream(ctx context.Context, nc *nats.Conn, s store.Backend, r store.Room) error {
	// A store in servers knows on how many of them it is kept. For one in a file there are no copies to go by.
	replicas := func(context.Context) (int, error) { return 1, nil }
	if kept, ok := s.(interface {
		Replicas(context.Context) (int, error)
	}); ok {
		replicas = kept.Replicas
	}
	streams, err := bus.NewStreams(nc, replicas)
	if err != nil {
		return err
	}
	return streams.Ensure(ctx, r.ID, func(ctx context.Context) (ledger.Policy, error) {
		state, err := store.Load(ctx, s, r.ID)
		if err == nil && state.Room == nil {
			err = fmt.Errorf("%w: the log %s is of no room", store.ErrDamaged, r.ID)
		}
		if err != nil {
			return ledger.Policy{}, err
		}
		return state.Room.Policy, nil
	})
}
