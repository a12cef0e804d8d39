package unibus_test

import (
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
)

// bodies reads a subscription to its end.
func bodies(t *testing.T, sub *unibus.Subscription, err error) (out []string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	for m, err := range sub.Messages() {
		if err != nil {
			t.Fatalf("after %d messages: %v", len(out), err)
		}
		out = append(out, string(m.Body))
	}
	return out
}

// TestManyRooms: a subscription to many rooms has ended when every one has been read whole, and gives what was
// stored in the order in which it was, whatever room it is in.
func TestManyRooms(t *testing.T) {
	w := newWorld(t)
	const rooms, each = 12, 6
	var open []*unibus.Room
	for i := range rooms {
		r, err := w.alice.CreateRoom(w.ctx, fmt.Sprintf("many.r%d", i), unibus.DefaultPolicy())
		w.must(err)
		open = append(open, r)
	}
	live := unibus.DefaultPolicy()
	live.Retain = nil
	_, err := w.alice.CreateRoom(w.ctx, "many.live", live)
	w.must(err)
	var want []string
	middle := time.Time{}
	for n := range each {
		if n == each/2 {
			middle = time.Now()
		}
		for i, r := range open {
			text := fmt.Sprintf("%d in %d", n, i)
			w.must(r.Publish(w.ctx, []byte(text)))
			want = append(want, text)
		}
	}
	for range 5 {
		sub, err := w.alice.Subscribe(w.ctx, []string{"many.>"}, unibus.SubscribeOptions{All: true, End: true})
		if got := bodies(t, sub, err); !slices.Equal(got, want) {
			t.Fatalf("%d of %d messages, or in another order: %q", len(got), len(want), got)
		}
	}
	sub, err := w.alice.Subscribe(w.ctx, []string{"many.>"}, unibus.SubscribeOptions{Last: 1, End: true})
	if got := bodies(t, sub, err); !slices.Equal(got, want[len(want)-rooms:]) {
		t.Errorf("the last of each: %q", got)
	}
	sub, err = w.alice.Subscribe(w.ctx, []string{"many.>"}, unibus.SubscribeOptions{Since: middle, End: true})
	if got := bodies(t, sub, err); !slices.Equal(got, want[len(want)/2:]) {
		t.Errorf("since the middle: %q", got)
	}
	// What follows the past comes after all of it.
	sub, err = w.alice.Subscribe(w.ctx, []string{"many.>"}, unibus.SubscribeOptions{Last: 1})
	w.must(err)
	w.must(open[3].Publish(w.ctx, []byte("news")))
	n := 0
	for m, err := range sub.Messages() {
		w.must(err)
		if n++; string(m.Body) == "news" {
			break
		}
	}
	if n != rooms+1 {
		t.Errorf("the news is message %d", n)
	}
	w.must(sub.Close())
}

// TestInvitedAgain: whoever follows rooms by a pattern, is removed from one and invited again reads on where it was, once.
func TestInvitedAgain(t *testing.T) {
	w := newWorld(t)
	alices, bobs := w.room("again.one", unibus.DefaultPolicy())
	sub, err := w.bob.Subscribe(w.ctx, []string{"again.>"}, unibus.SubscribeOptions{All: true})
	w.must(err)
	next, stop := iter.Pull2(sub.Messages())
	defer stop()
	want := 0
	for range 3 {
		for range 40 {
			w.send(alices, strconv.Itoa(want))
			m, err, ok := next()
			w.must(err)
			if got := string(m.Body); !ok || got != strconv.Itoa(want) {
				t.Fatalf("%q, not %d", got, want)
			}
			want++
		}
		w.must(alices.Kick(w.ctx, w.bob.Key()))
		if err := bobs.Publish(w.ctx, []byte("no member")); !errors.Is(err, unibus.ErrDenied) {
			t.Fatalf("bob publishes: %v", err)
		}
		w.must(alices.Invite(w.ctx, unibus.RoleMember, w.bob.Key()))
	}
	w.must(sub.Close())
}

// TestUnpublished: a stored message that the servers published to nobody, as happens when a stream's leader
// changes, is found by asking for it.
func TestUnpublished(t *testing.T) {
	w := newWorld(t)
	r, err := w.alice.CreateRoom(w.ctx, "quiet", unibus.DefaultPolicy())
	w.must(err)
	sub, err := r.Subscribe(w.ctx, unibus.SubscribeOptions{})
	w.must(err)
	w.must(r.Publish(w.ctx, []byte("published")))
	stream, err := w.js.Stream(w.ctx, bus.StreamName(r.ID()))
	w.must(err)
	mute := func(republish *jetstream.RePublish) {
		t.Helper()
		c := stream.CachedInfo().Config
		c.RePublish = republish
		_, err := w.js.UpdateStream(w.ctx, c)
		w.must(err)
	}
	var got []string
	for m, err := range sub.Messages() {
		w.must(err)
		got = append(got, string(m.Body))
		switch len(got) {
		case 1:
			mute(nil)
			w.must(r.Publish(w.ctx, []byte("told to nobody")))
		case 2:
			w.must(r.Publish(w.ctx, []byte("before a hole")))
			mute(stream.CachedInfo().Config.RePublish)
			w.must(r.Publish(w.ctx, []byte("behind it")))
		}
		if len(got) == 4 {
			break
		}
	}
	if !slices.Equal(got, []string{"published", "told to nobody", "before a hole", "behind it"}) {
		t.Errorf("%q", got)
	}
	w.must(sub.Close())
}

// TestUnreachable: a room whose messages are gone ends a read and a verification with a finding, never as if there were none.
func TestUnreachable(t *testing.T) {
	w := newWorld(t)
	r, err := w.alice.CreateRoom(w.ctx, "gone", unibus.DefaultPolicy())
	w.must(err)
	w.must(r.Publish(w.ctx, []byte("one")))
	w.must(w.js.DeleteStream(w.ctx, bus.StreamName(r.ID())))
	impatient, err := unibus.Connect(w.ctx, unibus.Options{Identity: w.aliceID, StateDir: filepath.Join(w.dir, "alice"), Server: w.node.URL(), Timeout: time.Second})
	w.must(err)
	defer impatient.Close()
	same, err := impatient.Room(w.ctx, "gone")
	w.must(err)
	sub, err := same.Subscribe(w.ctx, unibus.SubscribeOptions{All: true, End: true})
	w.must(err)
	for m, err := range sub.Messages() {
		if !errors.Is(err, unibus.ErrIntegrity) {
			t.Errorf("a stream that is gone: %q, %v", m.Body, err)
		}
	}
	var told []unibus.NoticeKind
	v, err := same.Verify(w.ctx, func(n unibus.Notice) { told = append(told, n.Kind) })
	if !errors.Is(err, unibus.ErrIntegrity) || v.Findings != 1 || !slices.Equal(told, []unibus.NoticeKind{unibus.NoticeGone}) {
		t.Errorf("%+v, %v, and told %q", v, err, told)
	}
}

// TestBeginsAndCeasesToStore: whoever reads and whoever publishes go on when a room ceases to store messages, and
// when it begins again.
func TestBeginsAndCeasesToStore(t *testing.T) {
	w := newWorld(t)
	alices, bobs := w.room("both", unibus.DefaultPolicy())
	sub, err := bobs.Subscribe(w.ctx, unibus.SubscribeOptions{})
	w.must(err)
	p, err := alices.Publisher(w.ctx)
	w.must(err)
	next := make(chan string)
	go func() {
		defer close(next)
		for m, err := range sub.Messages() {
			if err != nil {
				t.Error(err)
				return
			}
			next <- string(m.Body)
		}
	}()
	// Delivery is at most once around a change, so each text is sent until it comes.
	say := func(text string) {
		t.Helper()
		again := time.NewTicker(300 * time.Millisecond)
		defer again.Stop()
		for {
			w.must(p.Publish([]byte(text)))
			w.must(p.Flush(w.ctx))
			if p.Stored() != (text != "live") {
				t.Errorf("%q is stored: %v", text, p.Stored())
			}
			for waiting := true; waiting; {
				select {
				case got, ok := <-next:
					if !ok {
						t.Fatal("the subscription has ended")
					}
					if got == text {
						return
					}
				case <-again.C:
					waiting = false
				case <-w.ctx.Done():
					t.Fatalf("%q never comes", text)
				}
			}
		}
	}
	say("stored")
	w.must(alices.SetPolicy(w.ctx, func(p *unibus.PolicyChange) { p.Retain = nil }))
	say("live")
	w.must(alices.SetPolicy(w.ctx, func(p *unibus.PolicyChange) { p.Policy = unibus.DefaultPolicy() }))
	say("stored again")
	w.must(p.Close(w.ctx))
	w.must(sub.Close())
	for range next {
	}
}
