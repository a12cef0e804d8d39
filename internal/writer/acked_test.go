package writer

import (
	"testing"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// TestAckedIsABeginning: what is acknowledged behind a frame that was not does not count. A script that goes on with its
// input behind the first so many messages would leave that frame's out.
func TestAckedIsABeginning(t *testing.T) {
	w := newWorld(t)
	r := w.Room("acked", ledger.DefaultPolicy())
	p := w.begin(r)
	frame, err := p.seal.frame(w.Ctx, crypto.AppendRecord(crypto.AppendContentTime(nil, 1), nil, []byte("text")), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	first, second, third := frame, frame, frame
	if err = first.transmit(p); err != nil {
		t.Fatal(err)
	}
	second.ack = w.Conn.Store(crypto.ID{1}, newMessageID(), frame.Frame) // no stream takes it
	third.ack = bus.Ack{}                                                // it is there
	p.mu.Lock()
	p.failed = ErrClosed // as when the room is archived: nothing is sent again
	p.mu.Unlock()
	for _, f := range []flight{first, second, third} {
		f.messages = 1
		p.inFlight <- f
	}
	if err := p.Close(w.Ctx); err != ErrClosed {
		t.Errorf("a failed stream closes with %v", err)
	}
	if n := p.Acked(); n != 1 {
		t.Errorf("of three frames whose second was not acknowledged, %d messages are", n)
	}
}
