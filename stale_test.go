package unibus

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
)

// TestLiveIsFresh: in a room that stores nothing, an authentic frame that was sealed long ago is no
// news, whoever shows it.
func TestLiveIsFresh(t *testing.T) {
	w := found(t)
	ctx, id, c := w.ctx, w.id, w.c
	p := DefaultPolicy()
	p.Retain = nil
	room, err := c.CreateRoom(ctx, "live", p)
	if err != nil {
		t.Fatal(err)
	}
	notices := make(chan Notice, 8)
	sub, err := room.Subscribe(ctx, SubscribeOptions{Notice: func(n Notice) { notices <- n }})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	show := func(stream byte, sealed time.Time, text string) {
		t.Helper()
		h, key, err := room.r.Writing(ctx)
		if err != nil {
			t.Fatal(err)
		}
		h.Stream[0] = stream
		content := crypto.AppendRecord(crypto.AppendContentTime(nil, uint64(sealed.UnixMicro())), nil, []byte(text))
		frame, err := id.SealFrame(nil, room.ID(), key, h, content, [32]byte{stream})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.node.Links().Store.Publish(bus.LiveSubject(room.ID(), id.Key()), frame); err != nil {
			t.Fatal(err)
		}
	}
	show(1, time.Now().Add(-11*time.Minute), "old news")
	show(2, time.Now().Add(11*time.Minute), "from the future")
	show(3, time.Now().Add(-9*time.Minute), "late but news")
	for m, err := range sub.Messages() {
		if err != nil || string(m.Body) != "late but news" {
			t.Fatalf("%q, %v", m.Body, err)
		}
		break
	}
	for range 2 {
		if n := <-notices; n.Kind != NoticeRefused || n.Finding {
			t.Errorf("%+v", n)
		}
	}
}

// orFatal returns what ends a test with an error.
func orFatal(t *testing.T) func(error) {
	return func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// ageing makes a room whose key is to be renewed, with bob as a member, and says what bob is told.
func (w *own) ageing(t *testing.T, subject string, after RekeyAfter) (alices, bobs *Room, said chan string) {
	t.Helper()
	must := orFatal(t)
	p := DefaultPolicy()
	p.RekeyAfter = after
	alices, err := w.c.CreateRoom(w.ctx, subject, p)
	must(err)
	id, err := NewIdentity()
	must(err)
	must(w.c.AddUsers(w.ctx, NewUser{Key: id.Key(), Name: "bob"}))
	said = make(chan string, 16)
	bob, err := Connect(w.ctx, Options{
		Identity: id, StateDir: filepath.Join(w.dir, "bob"), Server: w.node.URL(), Notice: func(text string) { said <- text },
	})
	must(err)
	t.Cleanup(func() { bob.Close() })
	must(alices.Invite(w.ctx, RoleMember, id.Key()))
	bobs, err = bob.Room(w.ctx, subject)
	must(err)
	return alices, bobs, said
}

// TestAging: an epoch that has outlived the room's policy is renewed by who may, and used by others
// for a quarter longer, with a warning. So a store that withholds a renewal keeps nobody on an old key
// for longer.
func TestAging(t *testing.T) {
	w := found(t)
	must := orFatal(t)
	alices, bobs, said := w.ageing(t, "aging", RekeyAfter{Age: 3600})
	bob := bobs.c.self
	begun := time.Now()
	for _, c := range []struct {
		age  time.Duration
		warn bool
		err  error
	}{
		{59 * time.Minute, false, nil},
		{61 * time.Minute, true, nil},
		{74 * time.Minute, false, nil}, // once is enough
		{76 * time.Minute, false, ErrDenied},
	} {
		bob.Now = func() time.Time { return begun.Add(c.age) }
		err := bobs.PublishOnce(w.ctx, []byte("x"))
		warned := false
		for len(said) > 0 {
			warned = strings.Contains(<-said, "the key of aging is due") || warned
		}
		if !errors.Is(err, c.err) || warned != c.warn {
			t.Errorf("after %v: %v, warned: %v", c.age, err, warned)
		}
	}
	w.c.self.Now = bob.Now
	if err := alices.PublishOnce(w.ctx, []byte("x")); err != nil || alices.Info().Epoch != 2 {
		t.Errorf("its owner publishes in epoch %d, %v", alices.Info().Epoch, err)
	}
	bob.Now = time.Now
	must(bobs.Refresh(w.ctx))
	must(bobs.PublishOnce(w.ctx, []byte("x")))
}

// TestUsed: an epoch ends after so many messages too, sent or read; whoever may not renew it warns, and stops a
// quarter beyond.
func TestUsed(t *testing.T) {
	w := found(t)
	must := orFatal(t)
	alices, bobs, warned := w.ageing(t, "used", RekeyAfter{Messages: 8})
	var err error
	sent := 0
	for err == nil && sent < 100 {
		if err = bobs.Publish(w.ctx, []byte("x")); err == nil {
			sent++
		}
	}
	if sent != 11 || !errors.Is(err, ErrDenied) {
		t.Errorf("a member sends %d messages of a key for 8, then %v", sent, err)
	}
	told := 0
	for len(warned) > 0 {
		if strings.Contains(<-warned, "the key of used is due") {
			told++
		}
	}
	if told != 1 {
		t.Errorf("warned %d times", told)
	}
	// The owner has only read them.
	s, err := alices.Subscribe(w.ctx, SubscribeOptions{All: true, End: true})
	must(err)
	read := 0
	for _, err := range s.Messages() {
		must(err)
		read++
	}
	must(alices.Publish(w.ctx, []byte("y")))
	if epoch := alices.Info().Epoch; read != 11 || epoch != 2 {
		t.Errorf("read %d, and the owner publishes in epoch %d", read, epoch)
	}
	must(bobs.Refresh(w.ctx))
	must(bobs.PublishOnce(w.ctx, []byte("x")))
}

// TestFailsKnowingHowFar: a publisher that may send no more says of each message that is stored by then that it is.
func TestFailsKnowingHowFar(t *testing.T) {
	w := found(t)
	must := orFatal(t)
	alices, bobs, _ := w.ageing(t, "far", RekeyAfter{Messages: 8})
	acked := 0
	for range 4 {
		p, err := bobs.Publisher(w.ctx)
		must(err)
		for err == nil {
			err = p.Publish([]byte("x"))
		}
		if closed := p.Close(w.ctx); !errors.Is(closed, ErrDenied) {
			t.Errorf("it ended with %v", closed)
		}
		acked += int(p.Acked())
		texts, _, err := w.read(t, alices, SubscribeOptions{All: true})
		must(err)
		if acked == 0 || acked != len(texts) {
			t.Errorf("%d messages acknowledged, %d stored", acked, len(texts))
		}
		if p.Acked() > 11 { // however many wait at once
			t.Errorf("%d messages under a key for 8", p.Acked())
		}
		must(alices.Rekey(w.ctx))
		must(bobs.Refresh(w.ctx))
	}
}
