package unibus

import (
	"context"
	"strings"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
	"github.com/unibus/unibus/internal/patience"
	"github.com/unibus/unibus/internal/room"
)

// This file is what a client's logs are opened with: where they are stored and pinned, how their entries' keys are handed
// out, and what people are told of them.

// peer is what the logs of one client have in common.
func (l *link) peer(self *room.Self) *mirror.Peer {
	p := &mirror.Peer{
		Identity: l.o.Identity, Store: l.store, Pins: l.pins, Timeout: l.o.Timeout, Confirm: l.o.Confirm,
		Stage: self.Stage, Turn: l.inTurn,
	}
	p.OfferedAgain = func(e *ledger.Entry, age time.Duration) {
		self.Tell("entry %d of log %s, which you signed %v ago, was never answered, or was taken back, and is offered again: %s", e.Seq, e.Log, age.Round(time.Second), inWords(self, e))
	}
	p.LostPlace = func(e *ledger.Entry, age time.Duration) {
		self.Tell("entry %d of log %s, which you signed %v ago and which was never answered (%s), lost its place to another and is given up", e.Seq, e.Log, age.Round(time.Second), inWords(self, e))
	}
	if l.o.Accept != "" {
		p.Accept = func(h crypto.Hash) bool { return room.Begins(h, l.o.Accept) }
		p.Returned = func(id ID, end ledger.Head) {
			l.o.tell("log %s is taken for what it is: it ends at entry %d (%x)", id, end.Seq, end.Hash[:8])
		}
	}
	if streams := l.streams; streams != nil { // no service makes them
		p.Accepted = func(ctx context.Context, after *ledger.State) error {
			if after.Room == nil {
				return nil
			}
			return streams.Ensure(ctx, after.ID, func(ctx context.Context) (Policy, error) {
				room, err := l.store.Room(ctx, after.ID) // somebody else may have changed it again
				return room.Policy, err
			})
		}
	}
	return p
}

// inWords says what an entry does, to people.
func inWords(self *room.Self, e *ledger.Entry) string {
	return strings.TrimSpace(e.Op + " " + e.Words(self.NameOf))
}

// inTurn does what is costly, when not too many other processes of the identity that go to the same bus are at it.
func (l *link) inTurn(ctx context.Context, do func() error) error {
	atMost := patience.Turns * l.o.Timeout
	done, err := l.turns.Take(ctx, atMost, func() {
		l.o.tell("other processes of this identity are at work: waiting for a turn, at most %v", atMost)
	})
	if err != nil {
		return err
	}
	defer done()
	return do()
}
