package unibus

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// silent does what it is asked, and does not answer.
type silent struct{ store.Store }

func (s silent) Append(ctx context.Context, c store.Change) error {
	_ = s.Store.Append(ctx, c) // again and again, until nobody waits for it
	return store.ErrUnavailable
}

// TestCreateAgain: a room whose making was not answered is what the same call finds, once; what others have made, or was
// made earlier, is not.
func TestCreateAgain(t *testing.T) {
	w, must := found(t), orFatal(t)
	answering, timeout := w.c.link.store, w.c.peer.Timeout
	w.c.peer.Store, w.c.peer.Timeout = silent{answering}, 100*time.Millisecond
	if _, err := w.c.CreateRoom(w.ctx, "ops", DefaultPolicy()); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	w.c.peer.Store, w.c.peer.Timeout = answering, timeout
	made, err := answering.RoomBySubject(w.ctx, "ops")
	must(err)
	for _, change := range []func(p *Policy){
		func(p *Policy) { p.Encryption = ledger.EncryptionNone }, func(p *Policy) { p.History = ledger.HistoryJoined }, func(p *Policy) { p.Pad = true }, func(p *Policy) { p.Retain = nil },
		func(p *Policy) { p.Retain = &Retain{Age: 1} }, func(p *Policy) { p.RekeyAfter.Messages = 7 },
	} {
		p := DefaultPolicy()
		change(&p)
		if _, err := w.c.CreateRoom(w.ctx, "ops", p); !errors.Is(err, ErrExists) {
			t.Errorf("made with the policy %v: %v", p, err)
		}
	}
	r, err := w.c.CreateRoom(w.ctx, "ops", DefaultPolicy())
	must(err)
	if r.ID() != made.ID {
		t.Errorf("made is %s, and found %s", made.ID, r.ID())
	}
	must(r.PublishOnce(w.ctx, []byte("it has its key")))
	for range 2 {
		if _, err := w.c.CreateRoom(w.ctx, "ops", DefaultPolicy()); !errors.Is(err, ErrExists) {
			t.Errorf("made twice: %v", err)
		}
	}
}
