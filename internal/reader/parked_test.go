package reader

import (
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/patience"
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

// TestParkedAreBounded: of what waits for the log the oldest is given up where it is more than may be, and no sooner.
func TestParkedAreBounded(t *testing.T) {
	w := newWorld(t)
	r := w.Room("parked", live())
	parking := waiting{f: &feed{r: r, facts: room.Facts{Room: r}}}
	for place := range uint64(3) {
		parking.park(store.Frame{Seq: place + 1, Data: make([]byte, parkedBytes/2)}, nil)
		if place == 1 && len(parking.frames) != 2 {
			t.Errorf("%d wait, of what may be", len(parking.frames))
		}
	}
	if len(parking.frames) != 2 || parking.frames[0].frame.Seq != 2 || parking.bytes != parkedBytes {
		t.Errorf("%d wait, with %d bytes", len(parking.frames), parking.bytes)
	}
}

// TestWaitedInVain: that a member's frame waited in vain is a finding only in a room that stores, and if the log was had
// since it came: else it may reach so far.
func TestWaitedInVain(t *testing.T) {
	w := newWorld(t)
	r := w.Room("vain", live())
	for _, c := range []struct {
		stored  bool
		sender  crypto.PublicKey
		synced  time.Duration // since it came
		finding bool
	}{
		{true, w.Key(), time.Millisecond, true},
		{true, w.Key(), 0, false},
		{true, w.Key(), -time.Millisecond, false},
		{true, w.Stranger('x').Key(), time.Millisecond, false},
		{false, w.Key(), time.Millisecond, false},
	} {
		came := time.Now()
		parking := waiting{f: &feed{r: r, stored: c.stored, facts: room.Facts{Room: r}}, synced: came.Add(c.synced)}
		parking.giveUpParked(parked{frame: store.Frame{Sender: c.sender}, until: came.Add(patience.Log)})
		if got := parking.dropped[c.sender].finding; got != c.finding {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
