package reader

import (
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/store"
)

// TestAskersAreBounded: of the members who had the log asked for no more are remembered than may be, and each of them has it
// asked for once a second.
func TestAskersAreBounded(t *testing.T) {
	w := newWorld(t)
	s := w.cast("askers", live(), w.User("bob"), w.User("carol"))
	parking := waiting{f: &feed{facts: room.Facts{Room: s.r}}, askers: map[asker]time.Time{}}
	for i := range maxAskers {
		parking.askers[asker{crypto.PublicKey{byte(i), byte(i >> 8), 1}, true}] = time.Now()
	}
	if !parking.mayAsk(s.bob.Key(), true) || len(parking.askers) > maxAskers {
		t.Errorf("%d are remembered", len(parking.askers))
	}
	if parking.askers[asker{s.bob.Key(), true}] = time.Now().Add(time.Hour); parking.mayAsk(s.bob.Key(), true) {
		t.Error("the same has it asked for again at once")
	}
	if !parking.mayAsk(s.bob.Key(), false) || !parking.mayAsk(s.carol.Key(), true) {
		t.Error("another may not have it asked for")
	}
}

// TestDroppedAreBounded: of the senders whose frames waited in vain no more are told of, each by itself, than may be.
func TestDroppedAreBounded(t *testing.T) {
	w := newWorld(t)
	parking := waiting{f: &feed{facts: room.Facts{Room: w.Room("dropped", live())}}}
	for i := range 2 * maxAskers {
		parking.giveUpParked(parked{frame: store.Frame{Sender: crypto.PublicKey{byte(i), byte(i >> 8), 1}}})
	}
	if n := len(parking.dropped); n != maxAskers {
		t.Errorf("%d are told of", n)
	}
}
