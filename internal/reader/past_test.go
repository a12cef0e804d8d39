package reader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/inbox"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/store"
)

// TestHoles: places that hold nothing are told of as lost, whether there are messages before and after them, only before,
// or only after them while nothing there can have expired yet.
func TestHoles(t *testing.T) {
	w := newWorld(t)
	for subject, c := range map[string]struct {
		remove func(s jetstream.Stream) error
		texts  []string
		told   string
	}{
		"middle": {func(s jetstream.Stream) error { return s.DeleteMsg(w.Ctx, 2) }, []string{"1", "3", "4"}, "[!lost 2-2]"},
		"end":    {func(s jetstream.Stream) error { return s.DeleteMsg(w.Ctx, 4) }, []string{"1", "2", "3"}, "[!lost 4-4]"},
		"front":  {func(s jetstream.Stream) error { return s.Purge(w.Ctx, jetstream.WithPurgeSequence(3)) }, []string{"3", "4"}, "[!lost 1-2 !gap 0-1]"},
	} {
		r := w.Room(subject, stored())
		s, err := w.writer.Begin(w.Ctx, r)
		w.Must(err)
		for i := range 4 { // one stream: what is trimmed is no concern of the next
			w.Must(s.Publish(fmt.Append(nil, i+1)))
			w.Must(s.Flush(w.Ctx))
		}
		w.Must(c.remove(w.stream(r)))
		texts, told, err := w.everything(r)
		if finding := strings.Contains(c.told, "!"); !slices.Equal(texts, c.texts) || finding != errors.Is(err, store.ErrIntegrity) || !strings.HasPrefix(told, c.told[:len(c.told)-1]) {
			t.Errorf("%s: %q are read, told is %s, want %s, and the end is %v", subject, texts, told, c.told, err)
		}
		w.Must(s.Close(w.Ctx))
	}
}

// TestWentBackWhileRead: a room that ends before what a reading has read of it, when it is asked again after the
// connection broke, ends the reading; so does one that has another message at the last place.
func TestWentBackWhileRead(t *testing.T) {
	w := newWorld(t)
	for subject, alter := range map[string]func(store.FramesQuery, *store.Past) error{
		"shorter": endAt(1),
		"another": func(_ store.FramesQuery, past *store.Past) error {
			for i := range past.Frames {
				past.Frames[i].Data = []byte("another")
			}
			return nil
		},
	} {
		r := w.Room(subject, stored())
		w.publish(r, "one", "two")
		server := w.lies(nil)
		s := w.read(Options{All: true}, r)
		for _, want := range []string{"one", "two"} {
			if text := w.next(s); text != want {
				t.Errorf("%q is read, not %q", text, want)
			}
		}
		w.publish(r, "three")
		if text := w.next(s); text != "three" { // so that it follows, and what comes is held against what it was given
			t.Errorf("%q is read", text)
		}
		server.set(alter)
		w.Must(w.Conn.NATS().ForceReconnect())
		if texts, err := rest(s); len(texts) > 0 || !errors.Is(err, room.ErrRolledBack) || !errors.Is(err, store.ErrIntegrity) {
			t.Errorf("%s: %q are read on, and the end is %v", subject, texts, err)
		}
	}
}

// makeAnew has a room's stream be another, with other settings.
func (w *world) makeAnew(r *room.Room, alter func(*jetstream.StreamConfig)) {
	w.Helper()
	js, err := jetstream.New(w.Node.Links().Store)
	w.Must(err)
	config := w.stream(r).CachedInfo().Config
	w.Must(js.DeleteStream(w.Ctx, config.Name))
	alter(&config)
	_, err = js.CreateStream(w.Ctx, config)
	w.Must(err)
}

// TestMadeAnewWhileRead: a stream that was made anew, and has come further than what was read of it before anybody asked, ends a
// reading, whether what is in it now comes by the subscription or not.
func TestMadeAnewWhileRead(t *testing.T) {
	w := newWorld(t)
	bob, carol := w.User("bob"), w.User("carol")
	for subject, alter := range map[string]func(*jetstream.StreamConfig){
		"by.the.subscription": func(*jetstream.StreamConfig) {},
		"by.asking":           func(c *jetstream.StreamConfig) { c.RePublish = nil },
	} {
		c := w.cast(subject, stored(), bob, carol)
		w.publish(c.r, "one", "two")
		s := w.read(Options{All: true}, c.r)
		for _, want := range []string{"one", "two"} {
			if text := w.next(s); text != want {
				t.Errorf("%q is read, not %q", text, want)
			}
		}
		w.makeAnew(c.r, alter)
		w.publishAs(w.writerOf(bob), c.bobs, "other", "ones", "that", "are more")
		if texts, err := rest(s); !errors.Is(err, room.ErrRolledBack) {
			t.Errorf("%s: %q are read on, and the end is %v", subject, texts, err)
		}
	}
}

// TestBeginsLater: a stream that was made anew, and begins behind what was read, took what was not read with it.
func TestBeginsLater(t *testing.T) {
	w := newWorld(t)
	bob := w.User("bob")
	c := w.cast("room", stored(), bob, w.User("carol"))
	w.publish(c.r, "one", "two")
	told := make(chan Notice, 10)
	s := w.read(Options{All: true, Notice: func(n Notice) { told <- n }}, c.r)
	for _, want := range []string{"one", "two"} {
		if text := w.next(s); text != want {
			t.Errorf("%q is read, not %q", text, want)
		}
	}
	w.makeAnew(c.r, func(c *jetstream.StreamConfig) { c.FirstSeq = 200 })
	w.publishAs(w.writerOf(bob), c.bobs, "later")
	if text := w.next(s); text != "later" {
		t.Errorf("%q is read", text)
	}
	if n := <-told; n.Kind != inbox.Lost || !n.Finding || n.From != 3 || n.To != 199 {
		t.Errorf("told is %+v", n)
	}
	s.Finish()
	if _, err := rest(s); !errors.Is(err, store.ErrIntegrity) {
		t.Errorf("it ended with %v", err)
	}
}

// TestOneWentBack: a room that went back ends the reading of it, and not that of the others; it is the error in the end.
func TestOneWentBack(t *testing.T) {
	w := newWorld(t)
	back, there := w.Room("back", stored()), w.Room("there", stored())
	w.publish(back, "one", "two")
	server := w.lies(nil)
	tells := make(chan string, 10)
	w.reader.Tell = func(format string, args ...any) { tells <- fmt.Sprintf(format, args...) }
	s := w.read(Options{All: true}, back, there)
	for _, want := range []string{"one", "two"} {
		if text := w.next(s); text != want {
			t.Errorf("%q is read, not %q", text, want)
		}
	}
	server.set(func(_ store.FramesQuery, past *store.Past) error {
		for i := range past.Frames {
			if past.Frames[i].Seq == 2 {
				past.Frames[i].Data = []byte("another")
			}
		}
		return nil
	})
	w.Must(w.Conn.NATS().ForceReconnect())
	for told := ""; !strings.Contains(told, "no longer reading back: "); told = <-tells {
		w.Must(w.Ctx.Err())
	}
	w.publish(there, "three")
	if text := w.next(s); text != "three" {
		t.Errorf("%q is read", text)
	}
	s.Finish()
	if texts, err := rest(s); len(texts) > 0 || !errors.Is(err, room.ErrRolledBack) || !strings.Contains(err.Error(), "room back") {
		t.Errorf("%q are read, and the end is %v", texts, err)
	}
}

// TestStreamGone: that the stream of a room is gone is a finding, to who begins to read, at its start and at its end, to who
// follows and to who is in the middle of it; the other rooms are read all the same.
func TestStreamGone(t *testing.T) {
	w := newWorld(t)
	gone, there := w.Room("gone", stored()), w.Room("there", stored())
	w.publish(gone, "one", "two")
	w.publish(there, "three")
	told := make(chan Notice, 10)
	following := w.read(Options{Notice: func(n Notice) { told <- n }}, gone, there)
	deleted, begun := make(chan struct{}), false
	server := w.lies(func(q store.FramesQuery, past *store.Past) (err error) {
		if !begun {
			begun, past.Frames = true, past.Frames[:1]
			return nil
		}
		<-deleted // what is asked for ahead is asked for then
		*past, err = w.Store.Frames(w.Ctx, gone.ID, q)
		return err
	})
	w.reader.Timeout = time.Second // nothing is asked for long
	s := w.read(Options{All: true}, gone)
	if text := w.next(s); text != "one" {
		t.Errorf("%q is read", text)
	}
	js, err := jetstream.New(w.Node.Links().Store)
	w.Must(err)
	w.Must(js.DeleteStream(w.Ctx, bus.StreamName(gone.ID)))
	close(deleted)
	server.set(func(q store.FramesQuery, past *store.Past) error { return nil })
	if texts, err := rest(s); len(texts) > 0 || !errors.Is(err, room.ErrRolledBack) || !errors.Is(err, store.ErrIntegrity) || !strings.Contains(err.Error(), noStream) {
		t.Errorf("%q are read on, and the end is %v", texts, err)
	}
	for name, o := range map[string]Options{"all": {All: true}, "last": {Last: 2}, "since": {Since: time.Now().Add(-time.Hour)}} {
		var all noticed
		o.End, o.Notice = true, all.add
		texts, err := rest(w.read(o, gone, there))
		if !slices.Equal(texts, []string{"three"}) || all.String() != "[!gone 0-2]" || !errors.Is(err, store.ErrIntegrity) {
			t.Errorf("%s: %q are read, told is %s, and the end is %v", name, texts, all.String(), err)
		}
	}
	w.Must(w.Conn.NATS().ForceReconnect())
	if n := <-told; n.Kind != Gone || !n.Finding || n.Room != gone.ID || !strings.Contains(n.Why, "it reached to place 2 before") {
		t.Errorf("who follows is told %+v", n)
	}
	w.publish(there, "four")
	if text := w.next(following); text != "four" {
		t.Errorf("%q is read", text)
	}
	following.Finish()
	if texts, err := rest(following); len(texts) > 0 || !errors.Is(err, store.ErrIntegrity) || len(told) > 0 {
		t.Errorf("%q, %v, and %d more were told", texts, err, len(told))
	}
}

// TestMissedWhileParted: what was stored while the connection was broken is read when it stands again.
func TestMissedWhileParted(t *testing.T) {
	w := newWorld(t)
	s := w.cast("parted", stored(), w.User("bob"), w.User("carol"))
	reading := w.read(Options{}, s.r)
	w.Must(w.Conn.NATS().ForceReconnect())
	w.publishAs(w.writerOf(s.bob), s.bobs, "meanwhile")
	if text := w.next(reading); text != "meanwhile" {
		t.Errorf("%q is read", text)
	}
}

// TestImpossibleAnswers: an answer that cannot be is none: a reading that is to end says how far it came, and does not
// take it for the end.
func TestImpossibleAnswers(t *testing.T) {
	w := newWorld(t)
	r := w.Room("impossible", stored())
	w.publish(r, "one", "two", "three")
	w.reader.Timeout = 300 * time.Millisecond // nothing is asked for long
	for name, alter := range map[string]func(q store.FramesQuery, past *store.Past) error{
		"begins nowhere":         func(_ store.FramesQuery, past *store.Past) error { past.First = 0; return nil },
		"begins behind its end":  func(_ store.FramesQuery, past *store.Past) error { past.First = past.Last + 2; return nil },
		"ends behind the last":   func(_ store.FramesQuery, past *store.Past) error { past.Last = crypto.MaxNumber + 1; return nil },
		"cannot be had":          func(store.FramesQuery, *store.Past) error { return store.ErrUnavailable },
		"holds nothing of it":    func(_ store.FramesQuery, past *store.Past) error { past.Frames = nil; return nil },
		"reaches never that far": func(_ store.FramesQuery, past *store.Past) error { past.Last += 100; return nil },
	} {
		w.lies(alter)
		s, err := w.reader.Read(w.Ctx, []*room.Room{r}, nil, Options{All: true, End: true})
		if err == nil {
			_, err = rest(s)
		}
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("a room that %s ends the reading with %v", name, err)
		}
	}
}

// TestEndComesNear: a room that is said to end before where it was said to reach, and stays so, has not been read.
func TestEndComesNear(t *testing.T) {
	w := newWorld(t)
	r := w.Room("near", stored())
	w.publish(r, "one", "two", "three")
	w.reader.Timeout = 300 * time.Millisecond // nothing is asked for long
	w.lies(func(q store.FramesQuery, past *store.Past) error {
		if q.None { // as it is asked at first, with Last
			past.Last = 9
		}
		return nil
	})
	_, err := w.reader.Read(w.Ctx, []*room.Room{r}, nil, Options{Last: 2, End: true})
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), "of 9 places could be read") {
		t.Errorf("it is read, with %v", err)
	}
}

// TestTakesTurns: requests for the past wait for their turn, no longer than whoever made them.
func TestTakesTurns(t *testing.T) {
	w := newWorld(t)
	r := w.Room("turns", stored())
	entered, leave := make(chan struct{}), make(chan struct{})
	w.reader.Past = &slowPast{w.Store, entered, leave}
	for range fetchAtOnce {
		if !w.Tasks.Go(func() { _, _ = w.reader.Frames(w.Ctx, r.ID, store.FramesQuery{None: true}) }) {
			t.Fatal("the client has ended")
		}
		<-entered
	}
	over, cancel := context.WithCancel(w.Ctx)
	cancel()
	if _, err := w.reader.Frames(over, r.ID, store.FramesQuery{None: true}); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("a request beyond those under way ends with %v", err)
	}
	close(leave)
}

// slowPast answers when it is told to.
type slowPast struct {
	Past
	entered, leave chan struct{}
}

// Frames waits.
func (s *slowPast) Frames(ctx context.Context, id crypto.ID, q store.FramesQuery) (store.Past, error) {
	s.entered <- struct{}{}
	<-s.leave
	return s.Past.Frames(ctx, id, q)
}
