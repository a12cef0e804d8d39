package reader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/store"
)

// TestWhoMayRead: who is no member of one of several rooms reads none of them.
func TestWhoMayRead(t *testing.T) {
	w := newWorld(t)
	r := w.Room("mine", stored())
	bob := w.User("bob")
	log, err := w.Peer.Open(w.Ctx, w.Room("theirs", stored()).ID, w.Node.Bus)
	w.Must(err)
	theirs, err := bob.Self.Open(w.Ctx, log)
	w.Must(err)
	if _, err := w.reader.Read(w.Ctx, []*room.Room{r, theirs}, nil, Options{}); !errors.Is(err, store.ErrDenied) {
		t.Errorf("a room of others is read: %v", err)
	}
}

// TestManyRooms: what several rooms have stored comes in the order in which it was stored, and each is read whole.
func TestManyRooms(t *testing.T) {
	w := newWorld(t)
	var rooms []*room.Room
	for i := range 3 {
		rooms = append(rooms, w.Room(fmt.Sprint("many.", i), stored()))
	}
	var want []string
	for i := range 12 {
		body := fmt.Sprint(i)
		w.publish(rooms[i*i%3], body)
		want = append(want, body)
	}
	if texts, told, err := w.everything(rooms...); err != nil || told != "[]" || !slices.Equal(texts, want) {
		t.Errorf("%q are read, told is %s, and the end is %v", texts, told, err)
	}
}

// TestLastOfManyRooms: the last messages of several rooms come in the order in which they were stored, too, however the rooms
// are named.
func TestLastOfManyRooms(t *testing.T) {
	w := newWorld(t)
	w.opening(w.reader, w.Client)
	rooms := []*room.Room{w.Room("last.p", stored()), w.Room("last.o", stored())}
	var all []string
	for i := range 5 {
		for j, r := range rooms {
			body := fmt.Sprint("po"[j:j+1], i)
			w.publish(r, body)
			all = append(all, body)
		}
	}
	large := strings.Repeat("x", 2<<20) // of several frames: it is stored when the last of them is
	w.publish(rooms[0], large)
	w.publish(rooms[1], "o5")
	all = append(all, large, "o5")
	for _, n := range []int{1, 3, 6, 1000} {
		want := all[max(0, len(all)-2*n):]
		named, err := w.reader.Read(w.Ctx, rooms, nil, Options{Last: n, End: true})
		w.Must(err)
		matched, err := w.reader.Read(w.Ctx, nil, []string{">"}, Options{Last: n, End: true})
		w.Must(err)
		for how, s := range map[string]*Reading{"by name": named, "by a pattern": matched} {
			if texts, err := rest(s); err != nil || !slices.Equal(texts, want) {
				t.Errorf("the last %d, %s: %.9q, and the end is %v", n, how, texts, err)
			}
		}
	}
}

// TestFinish: a reading that follows ends with what is stored by then, whole.
func TestFinish(t *testing.T) {
	w := newWorld(t)
	for subject, policy := range map[string]ledger.Policy{"stored": stored(), "live": live()} {
		r := w.Room(subject, policy)
		s := w.read(Options{}, r)
		w.publish(r, "one", "two")
		if text := w.next(s); text != "one" {
			t.Errorf("%s: %q is read", subject, text)
		}
		if policy.Stored() {
			w.publish(r, "three")
			s.Finish()
			if texts, err := rest(s); err != nil || !slices.Equal(texts, []string{"two", "three"}) {
				t.Errorf("%s: %q are read at last, %v", subject, texts, err)
			}
			continue
		}
		if text := w.next(s); text != "two" || s.Waiting() {
			t.Errorf("%s: %q is read", subject, text)
		}
		s.Finish()
		if texts, err := rest(s); err != nil || len(texts) > 0 {
			t.Errorf("%s: %q are read at last, %v", subject, texts, err)
		}
	}
}

// TestCaughtUp: whoever follows is told once where the past ends, behind all of it, in whatever order the rooms were read, and
// before anything that came since; with an end to the reading nobody is told.
func TestCaughtUp(t *testing.T) {
	w := newWorld(t)
	for i, c := range []struct {
		o     Options
		rooms []ledger.Policy
		want  string
	}{
		{Options{All: true}, []ledger.Policy{stored()}, "[0 1 2 | now]"},
		{Options{Last: 1}, []ledger.Policy{stored()}, "[2 | now]"},
		{Options{}, []ledger.Policy{stored()}, "[| now]"},
		{Options{All: true}, []ledger.Policy{live()}, "[| now]"},
		{Options{All: true}, []ledger.Policy{live(), stored(), stored(), stored()}, "[1 2 | now]"},
		{Options{All: true, End: true}, []ledger.Policy{stored(), stored()}, "[0 1 2]"},
	} {
		var rooms []*room.Room
		for j, policy := range c.rooms {
			rooms = append(rooms, w.Room(fmt.Sprintf("room.%d.%d", i, j), policy))
		}
		for n := range 3 {
			w.publish(rooms[n%len(rooms)], fmt.Sprint(n))
		}
		var got []string
		c.o.CaughtUp = func() { got = append(got, "|") }
		s := w.read(c.o, rooms...)
		if !c.o.End {
			w.publish(rooms[0], "now")
		}
		for m, err := range s.Messages() {
			w.Must(err)
			if got = append(got, string(m.Body)); string(m.Body) == "now" {
				break
			}
		}
		if w.Must(s.Close()); fmt.Sprint(got) != c.want {
			t.Errorf("%d: %v instead of %s", i, got, c.want)
		}
	}
}

// TestCaughtUpWithNothing: a pattern that means no room yet has no past.
func TestCaughtUpWithNothing(t *testing.T) {
	w := newWorld(t)
	told := make(chan struct{})
	w.reader.Mine = func(context.Context, func(string) bool) ([]*room.Room, error) { return nil, nil }
	s, err := w.reader.Read(w.Ctx, nil, []string{"ops.>"}, Options{All: true, CaughtUp: func() { close(told) }})
	w.Must(err)
	ended := make(chan error, 1)
	go func() {
		_, err := rest(s)
		ended <- err
	}()
	<-told
	w.Must(s.Close())
	w.Must(<-ended)
}

// TestRoomEnds: who is removed while it reads is told so, and given what was read till then.
func TestRoomEnds(t *testing.T) {
	w := newWorld(t)
	s := w.cast("ends", stored(), w.User("bob"), w.User("carol"))
	rd := w.readerOf(s.bob)
	reading, err := rd.Read(w.Ctx, []*room.Room{s.bobs}, nil, Options{})
	w.Must(err)
	defer reading.Close()
	w.publish(s.r, "before")
	if text := w.next(reading); text != "before" {
		t.Errorf("%q is read", text)
	}
	w.Must(room.Changes{Room: s.r}.Kick(w.Ctx, s.bob.Key()))
	w.publish(s.r, "after") // which names an entry that bob may not have any more
	if texts, err := rest(reading); len(texts) > 0 || !errors.Is(err, store.ErrDenied) {
		t.Errorf("%q are read, and the end is %v", texts, err)
	}
}

// TestCeasesAndBeginsToStore: a reading goes on in a room that stores nothing any more, and again when it does, with
// nothing held against it. Around a change what is sent may not come, so it is sent until it does.
func TestCeasesAndBeginsToStore(t *testing.T) {
	w := newWorld(t)
	r := w.Room("ceases", stored())
	var told noticed
	s := w.read(Options{Notice: told.add}, r)
	last := ""
	for _, retain := range []*ledger.Retain{{Age: 3600}, nil, {Age: 3600}} {
		w.Must(room.Changes{Room: r}.SetPolicy(w.Ctx, func(p *room.PolicyChange) { p.Retain = retain }))
		body := fmt.Sprintf("stored %v", retain != nil)
		got := last
		for got == last {
			for !s.Waiting() {
				w.publish(r, body)
			}
			got = w.next(s)
		}
		if got != body {
			t.Errorf("%q is read, not %q", got, body)
		}
		last = body
	}
	if told.String() != "[]" {
		t.Errorf("told is %s", &told)
	}
}

// TestInTheMiddle: a stream that is met in its middle is looked for in what was stored before; of one whose frame before
// is gone that is told.
func TestInTheMiddle(t *testing.T) {
	w := newWorld(t)
	r := w.Room("middle", stored())
	p, err := w.writer.Begin(w.Ctx, r)
	w.Must(err)
	publish := func(body string) {
		w.Must(p.Publish([]byte(body)))
		w.Must(p.Flush(w.Ctx))
	}
	publish("one")
	for i := range contextFrames + 8 {
		w.publish(r, fmt.Sprint("between ", i))
	}
	var told noticed
	s := w.read(Options{Notice: told.add}, r)
	publish("two")
	if text := w.next(s); text != "two" || told.String() != "[]" {
		t.Errorf("%q is read, told is %s", text, &told)
	}
	w.Must(s.Close())
	publish("three")
	w.Must(w.stream(r).DeleteMsg(w.Ctx, contextFrames+11)) // three
	for i := range contextFrames + 8 {
		w.publish(r, fmt.Sprint("behind ", i))
	}
	s = w.read(Options{Notice: told.add}, r)
	publish("four")
	w.Must(p.Close(w.Ctx))
	s.Finish()
	if texts, err := rest(s); !slices.Equal(texts, []string{"four"}) || !errors.Is(err, store.ErrIntegrity) || told.String() != "[!gap 2-2]" {
		t.Errorf("%q are read, told is %s, and the end is %v", texts, &told, err)
	}
}
