package reader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/roomtest"
	"github.com/unibus/unibus/internal/store"
)

// TestPatterns: wildcards are whole tokens, and > is the last one.
func TestPatterns(t *testing.T) {
	for pattern, subjects := range map[string][]string{ // those that match, and after "" those that do not
		"a.b":   {"a.b", "", "a", "a.b.c", "a.c"},
		"a.*":   {"a.b", "", "a", "a.b.c", "b.a"},
		"*.b":   {"a.b", "", "b", "a.c"},
		"a.*.c": {"a.b.c", "", "a.c", "a.b.c.d"},
		"a.>":   {"a.b", "a.b.c", "", "a", "b.c"},
		">":     {"a", "a.b", ""},
	} {
		if err := ValidPattern(pattern); err != nil {
			t.Error(err)
		}
		want := true
		for _, subject := range subjects {
			if subject == "" {
				want = false
			} else if Matches(pattern, subject) != want {
				t.Errorf("%q matches %q: %v", pattern, subject, !want)
			}
		}
	}
	for _, pattern := range []string{"", "a.", ".a", "a..b", "a*", "a.b*", "a>", ">.a", "a.>.b"} {
		if err := ValidPattern(pattern); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%q is a pattern: %v", pattern, err)
		}
	}
	if IsPattern("a.b") || !IsPattern("a.*") || !IsPattern(">") {
		t.Error("a pattern is taken for a name, or a name for one")
	}
}

// opening has a client's reader list the rooms that the store says the client is in; open has them by what it opened.
func (w *world) opening(rd *Reader, c *roomtest.Client) {
	open := map[string]*room.Room{}
	rd.Mine = func(ctx context.Context, wanted func(string) bool) (mine []*room.Room, err error) {
		refs, err := c.Store.ListRoomsForEndpoint(ctx, c.Key())
		for _, ref := range refs {
			id := ref.ID.String()
			if open[id] == nil {
				open[id] = c.Open(ref.ID)
			}
			if err := errors.Join(c.Self.Bus.Sync(ctx), open[id].Sync(ctx)); err != nil {
				return nil, err
			}
			if wanted(open[id].Subject()) {
				mine = append(mine, open[id])
			}
		}
		return mine, err
	}
}

// TestPatternOfNothing: a pattern that means no room is an error for a reading that ends with what is stored.
func TestPatternOfNothing(t *testing.T) {
	w := newWorld(t)
	w.Room("team.a", stored())
	w.opening(w.reader, w.Client)
	_, err := w.reader.Read(w.Ctx, nil, []string{"team.*", "other.*"}, Options{End: true})
	if !errors.Is(err, store.ErrNotFound) || remedy.Of(err).Kind != remedy.ListRooms {
		t.Errorf("%v, remedy %+v", err, remedy.Of(err))
	}
	w.reader.Mine = func(context.Context, func(string) bool) ([]*room.Room, error) { return nil, store.ErrUnavailable }
	if _, err := w.reader.Read(w.Ctx, nil, []string{"team.*"}, Options{}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("rooms that cannot be listed: %v", err)
	}
}

// TestWithoutLostRooms: rooms that are lost do not keep a reading with a pattern from the others; they are its error at the end.
func TestWithoutLostRooms(t *testing.T) {
	w := newWorld(t)
	there := w.Room("team.a", stored())
	w.publish(there, "one")
	var rooms []*room.Room
	first := fmt.Errorf("room team.b: %w", store.ErrIntegrity)
	var lost atomic.Pointer[error]
	lost.Store(&first)
	w.reader.Mine = func(context.Context, func(string) bool) ([]*room.Room, error) {
		return slices.Clone(rooms), *lost.Load()
	}
	if _, err := w.reader.Read(w.Ctx, nil, []string{"team.*"}, Options{}); !errors.Is(err, first) {
		t.Errorf("nothing is left to read: %v", err)
	}
	tell := w.reader.Tell
	w.reader.Tell = func(format string, args ...any) { t.Errorf("told is: "+format, args...) } // of others, which are not there
	if _, err := w.reader.Read(w.Ctx, nil, nil, Options{Lost: first}); !errors.Is(err, first) {
		t.Errorf("nothing was named that is left to read: %v", err)
	}
	w.reader.Tell = tell
	named, err := w.reader.Read(w.Ctx, []*room.Room{there}, nil, Options{All: true, End: true, Lost: first})
	w.Must(err)
	if texts, err := rest(named); !errors.Is(err, first) || len(texts) != 1 {
		t.Errorf("of what was named is read %q, %v", texts, err)
	}
	rooms = append(rooms, there)
	s, err := w.reader.Read(w.Ctx, nil, []string{"team.*"}, Options{All: true})
	w.Must(err)
	for _, want := range []string{"one", "two"} {
		if text := w.next(s); text != want {
			t.Errorf("%q is read", text)
		}
		w.reader.LookForRooms()
		w.publish(there, "two")
	}
	// That the store cannot be asked says nothing of rooms.
	away := errors.Join(first, store.ErrUnavailable)
	lost.Store(&away)
	w.reader.LookForRooms()
	w.publish(there, "three")
	for _, want := range []string{"two", "three"} {
		if text := w.next(s); text != want {
			t.Errorf("%q is read", text)
		}
	}
	s.findings.Add(1) // which is told beside it
	s.Finish()
	if texts, err := rest(s); !errors.Is(err, first) || !strings.Contains(err.Error(), "1 finding(s)") {
		t.Errorf("%q, and the end is %v", texts, err)
	}
	if _, err := w.reader.Read(w.Ctx, nil, []string{"team.*"}, Options{}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("rooms that cannot be listed: %v", err)
	}
}

// TestThereAgain: a room that was lost, and is there again when rooms are looked for, is read, and is no error at the end.
func TestThereAgain(t *testing.T) {
	w := newWorld(t)
	there, back := w.Room("team.a", stored()), w.Room("team.b", stored())
	w.publish(there, "one")
	var found atomic.Bool
	w.reader.Mine = func(context.Context, func(string) bool) ([]*room.Room, error) {
		if found.Load() {
			return []*room.Room{there, back}, nil
		}
		return []*room.Room{there}, fmt.Errorf("room team.b: %w", store.ErrIntegrity)
	}
	s, err := w.reader.Read(w.Ctx, nil, []string{"team.*"}, Options{All: true})
	w.Must(err)
	defer s.Close()
	if text := w.next(s); text != "one" {
		t.Errorf("%q is read", text)
	}
	found.Store(true)
	w.publish(back, "two")
	w.reader.LookForRooms()
	if text := w.next(s); text != "two" {
		t.Errorf("%q is read", text)
	}
	s.Finish()
	if texts, err := rest(s); err != nil || len(texts) > 0 {
		t.Errorf("%q are read at last, %v", texts, err)
	}
}

// TestGrowsWhole: of a room that is found later, all is read that came since, however few of the last messages are wanted
// of the others.
func TestGrowsWhole(t *testing.T) {
	w := newWorld(t)
	w.opening(w.reader, w.Client)
	s, err := w.reader.Read(w.Ctx, nil, []string{"team.*"}, Options{Last: 1})
	w.Must(err)
	defer s.Close()
	w.publish(w.Room("team.a", stored()), "one", "two")
	w.reader.LookForRooms()
	for _, want := range []string{"one", "two"} {
		if text := w.next(s); text != want {
			t.Fatalf("%q is read, not %q", text, want)
		}
	}
}

// TestGrows: a reading with a pattern goes on with rooms that the client is invited to later, without those that it is
// removed from, and where it stopped when it is invited again.
func TestGrows(t *testing.T) {
	w := newWorld(t)
	bob := w.User("bob")
	rd := w.readerOf(bob)
	w.opening(rd, bob)
	s, err := rd.Read(w.Ctx, nil, []string{"team.>"}, Options{})
	w.Must(err)
	defer s.Close()

	policy := stored()
	policy.History = ledger.HistoryShared
	r, other := w.Room("team.a", policy), w.Room("other", policy)
	change := room.Changes{Room: r}
	w.Must(change.Invite(w.Ctx, ledger.RoleMember, bob.Key()))
	w.Must(room.Changes{Room: other}.Invite(w.Ctx, ledger.RoleMember, bob.Key()))
	w.publish(other, "not meant")
	w.publish(r, "one")
	rd.LookForRooms()
	if text := w.next(s); text != "one" {
		t.Errorf("%q is read", text)
	}
	s.mu.Lock()
	bobs := s.feeds[r.ID].r
	s.mu.Unlock()

	w.Must(change.Kick(w.Ctx, bob.Key()))
	w.publish(r, "while it was out")
	w.Must(bobs.Sync(w.Ctx))
	bobs.EndUnreadable()
	w.Must(change.Invite(w.Ctx, ledger.RoleMember, bob.Key()))
	w.publish(r, "again")
	for !s.hasLeft(r.ID) { // its feed ends, and has it looked for by itself, or by this
		w.Must(w.Ctx.Err())
		s.mu.Lock()
		reading := s.feeds[r.ID] != nil && s.feeds[r.ID].ctx.Err() == nil
		s.mu.Unlock()
		if reading {
			break
		}
	}
	rd.ChangedRoom(r.ID)
	var texts []string
	for len(texts) < 2 {
		texts = append(texts, w.next(s))
	}
	if !slices.Equal(texts, []string{"while it was out", "again"}) {
		t.Errorf("%q are read", texts)
	}
	s.Finish()
	if texts, err := rest(s); err != nil || len(texts) > 0 {
		t.Errorf("%q are read at last, %v", texts, err)
	}
}

// TestGrowsAfterThePast: what comes by a room that is found later comes behind what was stored in the others when the reading
// began, and that this has been given is not told before.
func TestGrowsAfterThePast(t *testing.T) {
	w := newWorld(t)
	w.opening(w.reader, w.Client)
	const each = 2 * maxGiven // more than is given to a receiver that takes none
	for _, first := range []int{0, 1, 2} {
		var rooms []*room.Room
		for i := range first {
			rooms = append(rooms, w.Room(fmt.Sprintf("grows.%d.%d", first, i), stored()))
		}
		var want []string
		for i := range each * first {
			body := fmt.Sprint(i)
			w.publish(rooms[i%first], body)
			want = append(want, body)
		}
		var got []string
		s, err := w.reader.Read(w.Ctx, nil, []string{fmt.Sprintf("grows.%d.*", first)}, Options{Last: each, CaughtUp: func() { got = append(got, "|") }})
		w.Must(err)
		w.publish(w.Room(fmt.Sprintf("grows.%d.later", first), stored()), "later")
		w.reader.LookForRooms()
		want = append(want, "|", "later")
		for m, err := range s.Messages() {
			w.Must(err)
			if got = append(got, string(m.Body)); string(m.Body) == "later" {
				break
			}
		}
		if w.Must(s.Close()); !slices.Equal(got, want) {
			t.Errorf("of %d rooms and one more %q are read, not %q", first, got, want)
		}
	}
}

// TestEndedForAll: all readings of a client end for a reason; each room's for its own.
func TestEndedForAll(t *testing.T) {
	w := newWorld(t)
	r := w.Room("all", live())
	one, two := w.read(Options{}, r), w.read(Options{}, r)
	reason := errors.New("a reason")
	w.reader.End(reason)
	for _, s := range []*Reading{one, two} {
		if texts, err := rest(s); len(texts) > 0 || !errors.Is(err, reason) {
			t.Errorf("%q are read, and the end is %v", texts, err)
		}
	}
	three := w.read(Options{}, r)
	three.Fail(reason)
	three.Fail(store.ErrDenied) // the first reason stays
	if err := three.Err(); !errors.Is(err, reason) {
		t.Errorf("the end is %v", err)
	}
}
