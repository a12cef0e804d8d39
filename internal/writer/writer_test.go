package writer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/outbox"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/store"
)

// live is a policy of a room that stores nothing.
func live() ledger.Policy {
	p := ledger.DefaultPolicy()
	p.Retain = nil
	return p
}

// header is one header of a message.
func header(key, value string) crypto.Field { return crypto.Field{Key: key, Value: value} }

// TestWhoWrites: who may not write begins no stream.
func TestWhoWrites(t *testing.T) {
	w := newWorld(t)
	r := w.Room("reading", live())
	carol := w.User("carol")
	w.Must(room.Changes{Room: r}.Invite(w.Ctx, ledger.RoleReader, carol.Key()))
	by := *w.writer
	by.Conn = carol.Conn
	if _, err := by.Begin(w.Ctx, carol.Open(r.ID)); !errors.Is(err, store.ErrDenied) {
		t.Errorf("a reader writes: %v", err)
	}
}

// TestRenewsAtExpiry: a stream goes on under a new key once the access of a member has ended by itself, though no log has an entry
// about that.
func TestRenewsAtExpiry(t *testing.T) {
	w := newWorld(t)
	r := w.Room("expiring", ledger.DefaultPolicy())
	carol := w.User("carol")
	w.Must(room.Changes{Room: r}.Invite(w.Ctx, ledger.RoleMember, carol.Key()))
	p := w.begin(r)
	ends := time.Now().Add(500 * time.Millisecond)
	until := crypto.Number(ends.UnixMilli())
	w.Must(w.Append(w.Self.Bus, &ledger.SetUsers{Users: []ledger.UserChange{{Key: carol.Key(), Expires: &until}}}))
	send := func(body string) {
		w.Must(p.Publish([]byte(body)))
		w.Must(p.Flush(w.Ctx))
	}
	send("begins")
	send("looks at the logs")
	over, cancel := context.WithDeadline(w.Ctx, ends)
	defer cancel()
	<-over.Done()
	send("under the new key")
	if now := r.Ledger(); len(now.Epochs) != 2 || now.Role(carol.Key()) != "" {
		t.Errorf("it is in epoch %d, and carol is %q", len(now.Epochs), now.Role(carol.Key()))
	}
	w.Must(p.Close(w.Ctx))
}

// TestInOrder: what is handed over comes in its order, the small messages together and the large ones in pieces, and is
// acknowledged when Flush and Close return.
func TestInOrder(t *testing.T) {
	w := newWorld(t)
	r := w.Room("order", ledger.DefaultPolicy())
	p := w.begin(r)
	var want []string
	for i := range 50 {
		body := fmt.Sprint(i)
		if i%20 == 10 {
			body = strings.Repeat(body, w.Conn.MaxPayload())
		}
		want = append(want, body)
		w.Must(p.Publish([]byte(body), header("n", fmt.Sprint(i))))
		if i == 25 {
			w.Must(p.Flush(w.Ctx))
			if n := p.Acked(); n != 26 {
				t.Errorf("%d messages are acknowledged", n)
			}
		}
	}
	w.Must(p.Close(w.Ctx))
	if n := p.Acked(); n != 50 || p.Usable() {
		t.Errorf("%d messages are acknowledged, and it takes more: %v", n, p.Usable())
	}
	select {
	case <-p.Done():
	default:
		t.Error("a closed stream is not done")
	}
	texts, notices, err := w.read(r)
	if err != nil || len(notices) > 0 || !slices.Equal(texts, want) {
		t.Errorf("%d messages are read, %v, %v", len(texts), notices, err)
	}
}

// TestRefusedMessages: a message that no reader would take is refused, and the stream goes on.
func TestRefusedMessages(t *testing.T) {
	w := newWorld(t)
	policy := ledger.DefaultPolicy()
	policy.Retain.Bytes = 1 << 20
	r := w.Room("refused", policy)
	p := w.begin(r)
	for name, err := range map[string]error{
		"headers that are too large": p.Publish(nil, header("k", strings.Repeat("v", maxHeaders))),
		"a message that is":          p.Publish(make([]byte, room.MaxMessage)),
		"half of what the room has":  p.Publish(make([]byte, 1<<19+1)),
		"a key that is no text":      p.Publish(nil, header("\xff", "v")),
		"a value that is no text":    p.Publish(nil, header("k", "\xff")),
	} {
		if !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.Must(p.Publish([]byte("text")))
	w.Must(p.Close(w.Ctx))
	if texts, _, err := w.read(r); err != nil || !slices.Equal(texts, []string{"text"}) {
		t.Errorf("%q, %v", texts, err)
	}
	w.Must(w.begin(r).Once(w.Ctx, make([]byte, 1<<19))) // just half of it
	if err := w.begin(r).Once(w.Ctx, nil, header("\xff", "v")); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("a single message with a key that is no text: %v", err)
	}
}

// TestOnce: a message that fits no frame is sent as all of a stream as well.
func TestOnce(t *testing.T) {
	w := newWorld(t)
	r := w.Room("once", ledger.DefaultPolicy())
	body := strings.Repeat("x", 2*w.Conn.MaxPayload())
	w.Must(w.begin(r).Once(w.Ctx, []byte(body)))
	if texts, notices, err := w.read(r); err != nil || len(notices) > 0 || len(texts) != 1 || texts[0] != body {
		t.Errorf("%d messages are read, %v, %v", len(texts), notices, err)
	}
}

// TestFullHeaders: headers that fit no frame of the room are refused: they stay in one.
func TestFullHeaders(t *testing.T) {
	w := newWorld(t)
	policy := ledger.DefaultPolicy()
	policy.Retain.Bytes = 4096
	p := w.begin(w.Room("headers", policy))
	defer p.Close(w.Ctx)
	if err := p.Publish([]byte("text"), header("k", strings.Repeat("v", 2000))); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "headers of more than") {
		t.Errorf("headers of a frame's size: %v", err)
	}
}

// TestTooSmallRoom: a room that keeps less than a frame takes no stream.
func TestTooSmallRoom(t *testing.T) {
	w := newWorld(t)
	policy := ledger.DefaultPolicy()
	policy.Pad = false
	policy.Retain.Bytes = 2 * (crypto.FrameOverhead + outbox.MinLimit)
	w.Must(w.begin(w.Room("just", policy)).Close(w.Ctx))
	policy.Retain.Bytes -= 2
	if _, err := w.writer.Begin(w.Ctx, w.Room("small", policy)); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("a stream begins with %v", err)
	}
}

// TestAfterClose: a stream that is closed, or was discarded, takes nothing, and one whose room has ended says why.
func TestAfterClose(t *testing.T) {
	w := newWorld(t)
	r := w.Room("closed", live())
	p := w.begin(r)
	w.Must(p.Close(w.Ctx)) // in which nothing was sent
	if err := p.Publish([]byte("text")); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed stream takes a message: %v", err)
	}
	discarded := w.begin(r)
	discarded.Discard()
	<-discarded.Done()
	discarded.wait.Wait()
	if err := discarded.Publish(make([]byte, 2*w.Conn.MaxPayload())); !errors.Is(err, ErrClosed) {
		t.Errorf("a discarded stream takes a message: %v", err)
	}
	ended := w.begin(r)
	reason := errors.New("a reason")
	r.End(reason)
	for what, err := range map[string]error{"Publish": ended.Publish([]byte("text")), "Flush": ended.Flush(w.Ctx), "Close": ended.Close(w.Ctx)} {
		if !errors.Is(err, reason) {
			t.Errorf("%s in a room that has ended: %v", what, err)
		}
	}
}

// TestClientEnds: a client that has ended begins no stream.
func TestClientEnds(t *testing.T) {
	w := newWorld(t)
	r := w.Room("client", live())
	w.Tasks.Wait()
	if _, err := w.writer.Begin(w.Ctx, r); !errors.Is(err, ErrClosed) {
		t.Errorf("a stream begins with %v", err)
	}
}

// TestLate: who waits for acknowledgements no longer is told why there were none.
func TestLate(t *testing.T) {
	w := newWorld(t)
	p := w.begin(w.Room("late", ledger.DefaultPolicy()))
	if err := gaveUp(context.DeadlineExceeded, store.ErrDamaged); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("after its deadline: %v", err)
	}
	if err := gaveUp(context.Canceled, store.ErrDamaged); !errors.Is(err, context.Canceled) {
		t.Errorf("when it gave up: %v", err)
	}
	if err := gaveUp(context.DeadlineExceeded, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after its deadline, with nothing against it: %v", err)
	}
	over, cancel := context.WithCancel(w.Ctx)
	cancel()
	if err := p.Close(over); !errors.Is(err, context.Canceled) {
		t.Errorf("a stream is closed with %v", err)
	}
}

// TestArchivedMeanwhile: a server that knows sooner than a writer that nobody may write any more refuses its frames; the
// writer finds out why, and fails with that.
func TestArchivedMeanwhile(t *testing.T) {
	w := newWorld(t)
	r := w.Room("archived", ledger.DefaultPolicy())
	bob := w.User("bob")
	w.Must(room.Changes{Room: r}.Invite(w.Ctx, ledger.RoleMember, bob.Key()))
	bobs := bob.Open(r.ID)
	by := *w.writer
	by.Conn = bob.Conn
	p, err := by.Begin(w.Ctx, bobs)
	w.Must(err)
	w.Must(p.Publish([]byte("before")))
	w.Must(p.Flush(w.Ctx))
	w.Must(room.Changes{Room: r}.Archive(w.Ctx))
	for err == nil { // of what is on its way before the server knows, something may be taken
		err = errors.Join(p.Publish([]byte("after")), p.Flush(w.Ctx))
	}
	if !errors.Is(err, store.ErrDenied) || !strings.Contains(err.Error(), "archived") {
		t.Errorf("a writer in an archived room fails with %v", err)
	}
	_ = p.Close(w.Ctx) // with the same
}

// TestOwnStream: a stream goes on as another where readers could not check it as one: when the room begins to store
// messages or ceases to, and when the clock is set back further than clocks are.
func TestOwnStream(t *testing.T) {
	w := newWorld(t)
	r := w.Room("own", live())
	p := w.begin(r)
	now := time.Now()
	r.Now = func() time.Time { return now }
	stream := func() (id [16]byte, counter uint64) {
		t.Helper()
		content := crypto.AppendRecord(crypto.AppendContentTime(nil, 0), nil, []byte("text"))
		f, err := p.seal.frame(w.Ctx, content, 0, 1)
		w.Must(err)
		h, err := crypto.ParseHeader(f.Frame)
		w.Must(err)
		return h.Stream, h.Counter
	}
	first, _ := stream()
	now = now.Add(-clockBack)
	if id, n := stream(); id != first || n != 1 {
		t.Errorf("a clock a little behind makes frame %d of a stream of its own", n)
	}
	now = now.Add(-time.Second)
	second, n := stream()
	if second == first || n != 0 {
		t.Errorf("a clock far behind makes frame %d of the same stream", n)
	}
	w.Must(room.Changes{Room: r}.SetPolicy(w.Ctx, func(p *room.PolicyChange) { p.Retain = &ledger.Retain{Age: 3600} }))
	if id, n := stream(); id == second || n != 0 {
		t.Errorf("a room that has begun to store makes frame %d of the same stream", n)
	}
	p.Discard()
	p.wait.Wait()
}

// TestUnfollowed: no frame but a stream's first is made while the room's log cannot be followed: what may be written is
// not known.
func TestUnfollowed(t *testing.T) {
	w := newWorld(t)
	p := w.begin(w.Room("unfollowed", live()))
	w.writer.Follow = func(context.Context) error { return store.ErrUnavailable }
	content := crypto.AppendRecord(crypto.AppendContentTime(nil, 0), nil, []byte("text"))
	_, err := p.seal.frame(w.Ctx, content, 0, 1)
	w.Must(err)
	if _, err := p.seal.frame(w.Ctx, content, 0, 1); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a frame is made, with %v", err)
	}
	p.Discard()
	p.wait.Wait()
}

// TestMessagesInAFrame: where the age of a key is told in messages a frame is a small part of it, and never larger than
// half of what the room keeps.
func TestMessagesInAFrame(t *testing.T) {
	policy := ledger.DefaultPolicy()
	for messages, want := range map[uint64]int{0: 0, 1: 1, 8: 1, 800: 100} {
		policy.RekeyAfter.Messages = crypto.Number(messages)
		if n := messagesPerFrame(&policy); n != want {
			t.Errorf("a key for %d messages: %d in a frame, want %d", messages, n, want)
		}
	}
	policy.Encryption = ledger.EncryptionNone
	if n := messagesPerFrame(&policy); n != 0 {
		t.Errorf("without a key: %d in a frame", n)
	}
	for bytes, want := range map[uint64]int{0: room.MaxMessage, 1000: 500, 1 << 40: room.MaxMessage} {
		policy.Retain.Bytes = crypto.Number(bytes)
		if n := maxMessage(policy); n != want {
			t.Errorf("a room of %d bytes: a message of %d, want %d", bytes, n, want)
		}
	}
}

// TestRefusedConnection: a frame that the bus ends the connection for is not sent again: what it ended for is the error.
func TestRefusedConnection(t *testing.T) {
	w := newWorld(t)
	reason := fmt.Errorf("%w: the bus is gone", store.ErrDenied)
	w.writer.Refused = func() error { return reason }
	p := w.begin(w.Room("gone", ledger.DefaultPolicy()))
	f := flight{stored: true, id: newMessageID()}
	f.ack = w.Conn.Store(crypto.ID{1}, f.id, []byte("no stream takes it"))
	if _, err := f.await(p); !errors.Is(err, reason) {
		t.Errorf("it ends with %v", err)
	}
	f.ack = bus.Ack{} // it was taken before that
	if _, err := f.await(p); err != nil {
		t.Errorf("what was taken ends with %v", err)
	}
	p.Discard()
	p.wait.Wait()
}

// TestHeadersCount: what its headers take counts in how large a message may be.
func TestHeadersCount(t *testing.T) {
	headers := []crypto.Field{header("k", strings.Repeat("v", 1000))}
	most := room.MaxMessage - crypto.RecordSize(headers, 0)
	if err := check(make([]byte, most), headers); err != nil {
		t.Errorf("a message of the size that may be: %v", err)
	}
	if err := check(make([]byte, most+1), headers); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("a byte more: %v", err)
	}
}

// TestRevokedWhileWriting: the first message after somebody who has the key is revoked goes out under another key, whether
// none, one or several went before, who ever revoked, and though the room's own log was confirmed a moment ago.
func TestRevokedWhileWriting(t *testing.T) {
	for before := range 4 {
		t.Run(fmt.Sprint(before), func(t *testing.T) {
			w := newWorld(t)
			r := w.Room("revoked", ledger.DefaultPolicy())
			bob, admin := w.User("bob"), w.User("carol")
			w.Must(w.Append(w.Self.Bus, &ledger.UserRole{Key: admin.Key(), Role: ledger.RoleAdmin}))
			w.Must(room.Changes{Room: r}.Invite(w.Ctx, ledger.RoleMember, bob.Key()))
			p := w.begin(r)
			publish := func(want uint32) {
				t.Helper()
				w.Must(p.Publish([]byte("text")))
				w.Must(p.Flush(w.Ctx))
				if epoch := r.Ledger().Epoch().Number; epoch != want {
					t.Errorf("a message goes out in epoch %d, not %d", epoch, want)
				}
			}
			for range before {
				publish(1)
			}
			w.Must(admin.Self.Bus.Sync(w.Ctx))
			w.Must(w.Append(admin.Self.Bus, &ledger.Revoke{Keys: []crypto.PublicKey{bob.Key()}}))
			switch {
			case before == 0: // it waited for something to send
				p.seal.begun = time.Now().Add(-2 * maxIdle)
			case before > 1: // whoever follows is told of it
				w.Must(w.Self.Bus.Sync(w.Ctx))
			}
			if !r.Log.Confirmed() {
				t.Fatal("the log would be confirmed anyway")
			}
			publish(2)
			if role := r.Ledger().Role(bob.Key()); role != "" {
				t.Errorf("who was revoked is %s", role)
			}
			publish(2)
			w.Must(p.Close(w.Ctx))
		})
	}
}
