package jetstream

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// TestReclaim: a room whose subject a disk has lost, alone or with everything that was listed, is behind, and has its
// subject back when it is healed: nobody else can take it.
func TestReclaim(t *testing.T) {
	t.Parallel()
	for lost, key := range map[string]string{"its subject": subjectKey("taken"), "all that is listed of rooms": ">"} {
		t.Run(lost, func(t *testing.T) {
			t.Parallel()
			_, s, bus := alone(t)
			state, create := newRoom(t, bus, "taken")
			must(t, s.Append(t.Context(), create))
			other, another := newRoom(t, bus, "other")
			must(t, s.Append(t.Context(), another))
			lose(t, s.rooms, key)

			behind, err := s.Behind(t.Context())
			if err != nil || !slices.Contains(behind, state.ID) || slices.Contains(behind, other.ID) != (key == ">") {
				t.Fatalf("behind are %v, %v", behind, err)
			}
			for _, log := range behind {
				must(t, s.Heal(t.Context(), log))
				must(t, s.Heal(t.Context(), log)) // what is in order stays so
			}
			if r, err := s.RoomBySubject(t.Context(), "taken"); err != nil || r.ID != state.ID {
				t.Errorf("its subject means %+v, %v", r, err)
			}
			if behind, err := s.Behind(t.Context()); err != nil || len(behind) > 0 {
				t.Errorf("behind are still %v, %v", behind, err)
			}
			_, thief := newRoom(t, bus, "taken")
			if err := s.Append(t.Context(), thief); !errors.Is(err, store.ErrExists) {
				t.Errorf("another takes its subject: %v", err)
			}
		})
	}
}

// TestLostLog: of a room whose log a disk has lost, all of it or its end, the records tell as long as there are any: it
// is listed beyond its log, and nobody else takes its subject.
func TestLostLog(t *testing.T) {
	t.Parallel()
	for _, left := range []string{"all records", "its own record", "those of members"} {
		t.Run(left, func(t *testing.T) {
			t.Parallel()
			_, s, bus := alone(t)
			state, create := newRoom(t, bus, "taken")
			must(t, s.Append(t.Context(), create))
			lose(t, s.log, entryKey(state.ID, 1))
			switch left {
			case "its own record":
				lose(t, s.members, memberKey(state.ID, state.Room.Creator()))
			case "those of members":
				lose(t, s.rooms, roomKey(state.ID))
			}
			if seq, err := s.ListedAt(t.Context(), state.ID); seq != 1 || err != nil {
				t.Errorf("it is listed as of entry %d, %v", seq, err)
			}
			_, thief := newRoom(t, bus, "taken")
			if err := s.Append(t.Context(), thief); !errors.Is(err, store.ErrExists) || !strings.Contains(err.Error(), "whose log is lost") {
				t.Errorf("another takes its subject: %v", err)
			}
			must(t, s.Append(t.Context(), create)) // whoever has the entry can bring it
		})
	}
}

// TestLostFirst: nobody founds a bus where a disk has lost the log of one, while anybody of it is listed.
func TestLostFirst(t *testing.T) {
	t.Parallel()
	_, s, bus := alone(t)
	lose(t, s.log, entryKey(bus.ID, 1))
	mallory, err := crypto.NewIdentity([32]byte{'m'})
	must(t, err)
	found, err := new(ledger.State).Draft(mallory.Key(), &ledger.Found{Name: "mallory", Key: mallory.Key()}, time.Now())
	must(t, err)
	found.Sign(mallory)
	if err := s.Append(t.Context(), store.Change{Entry: found.Entry, Views: found.After.Views(found.Entry)}); !errors.Is(err, store.ErrExists) {
		t.Errorf("another founds the bus: %v", err)
	}
}

// TestTurns: the views of a log are written by one at a time, those who append and those who find them behind; others wait
// for it as long as they may.
func TestTurns(t *testing.T) {
	t.Parallel()
	_, s, bus := alone(t)
	state, create := newRoom(t, bus, "r")
	must(t, s.Append(t.Context(), create))
	done, err := s.repairer.turns.take(t.Context(), state.ID)
	must(t, err)
	for _, e := range []store.Change{next(t, state, &ledger.SetPolicy{Policy: ledger.DefaultPolicy()}), next(t, state, &ledger.Archive{})} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*writerTime)
		if err := s.Append(ctx, e); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("entry %d, while another has the turn: %v", e.Entry.Seq, err)
		}
		cancel()
		ctx, cancel = context.WithTimeout(t.Context(), 4*writerTime)
		if r, err := s.Room(ctx, state.ID); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("the views are at %d without the turn, %v", r.Seq, err)
		}
		cancel()
	}
	other, create := newRoom(t, bus, "other")
	must(t, s.Append(t.Context(), create))
	if r, err := s.Room(t.Context(), other.ID); err != nil || r.Seq != 1 {
		t.Errorf("another room is kept waiting: %v", err)
	}
	done()
	if r, err := s.Room(t.Context(), state.ID); err != nil || r.Seq != 3 || !r.Archived {
		t.Errorf("then the room is %+v, %v", r, err)
	}
	if len(s.repairer.turns.held) > 0 {
		t.Error("a turn is never given back")
	}
}

// TestUnlisted: a room is unlisted while the list of a member lacks it, or says what was before; not when what it says is of a later
// entry, or only written otherwise.
func TestUnlisted(t *testing.T) {
	t.Parallel()
	_, s, bus := alone(t)
	state, create := newRoom(t, bus, "r")
	must(t, s.Append(t.Context(), create))
	_, another := newRoom(t, bus, "other")
	must(t, s.Append(t.Context(), another))
	own := roomsOfKey(create.Entry.By, state.ID)
	for _, c := range []struct {
		room, own string // what is kept of the creator; empty: nothing
		unlisted  bool
	}{
		{`{"role":"owner","creator":true,"seq":3}`, `{"role":"owner","creator":true,"seq":3}`, false},
		{`{"role":"owner","creator":true,"seq":3}`, `{"creator":true,"role":"owner","seq":2}`, false},
		{`{"role":"owner","creator":true,"seq":3}`, `{"role":"member","creator":true,"seq":2}`, true},
		{`{"role":"owner","creator":true,"seq":3}`, `{"role":"member","creator":true,"seq":4}`, false},
		{`{"role":"owner","creator":true,"seq":3}`, "", true},
		{"", `{"role":"owner","creator":true,"seq":3}`, false},
		{"", "", false},
	} {
		for b, kept := range map[*bucket][2]string{s.members: {memberKey(state.ID, create.Entry.By), c.room}, s.roomsOf: {own, c.own}} {
			if kept[1] != "" {
				_, err := b.put(t.Context(), kept[0], []byte(kept[1]), anyRevision)
				must(t, err)
				continue
			}
			lose(t, b, kept[0])
		}
		rooms, err := s.Unlisted(t.Context())
		if want := map[bool]int{true: 1}[c.unlisted]; err != nil || rooms[state.ID] != c.unlisted || len(rooms) != want {
			t.Errorf("%+v: %v, %v", c, rooms, err)
		}
	}
}
