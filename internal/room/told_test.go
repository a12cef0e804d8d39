package room_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/unibus/unibus/internal/room"
)

// TestToldEachEpoch: a member is told that a key is due to be renewed once for each epoch, and not for one in all.
func TestToldEachEpoch(t *testing.T) {
	policy := live()
	policy.RekeyAfter.Messages = 8
	o := newTrio(t, policy)
	var told []string
	o.bob.Self.Tell = func(format string, args ...any) { told = append(told, fmt.Sprintf(format, args...)) }
	for epoch := range uint32(3) {
		if epoch > 0 {
			o.Must(changes(o.owner).Rekey(o.Ctx))
			o.sync(o.member)
		}
		o.member.Used.Add(epoch+1, 9)
		for range 2 {
			o.Must(changes(o.member).Renew(o.Ctx))
		}
		if len(told) != int(epoch)+1 || !strings.Contains(told[epoch], "the key of room is due") {
			t.Errorf("in epoch %d they were told %q", epoch+1, told)
		}
	}
}

// TestAccepts: a person takes a room for what it is up to a place, that one included, and at no place where nothing is
// stored, and the last place that was known is told where it lies beyond that.
func TestAccepts(t *testing.T) {
	reach := &room.Reach{Accepted: 5, Pinned: 9}
	for _, c := range []struct {
		reach   *room.Reach
		place   uint64
		accepts bool
	}{
		{reach, 0, false}, {reach, 1, true}, {reach, 5, true}, {reach, 6, false},
		{nil, 1, false}, {new(room.Reach), 0, false}, {new(room.Reach), 1, false},
	} {
		if got := c.reach.Accepts(c.place); got != c.accepts {
			t.Errorf("%+v accepts place %d: %v, want %v", c.reach, c.place, got, c.accepts)
		}
	}
	for _, c := range []struct {
		reach *room.Reach
		last  uint64
	}{{nil, 0}, {reach, 9}, {&room.Reach{Accepted: 9, Pinned: 9}, 0}, {&room.Reach{Accepted: 8, Pinned: 9}, 9}} {
		if got := c.reach.Last(); got != c.last {
			t.Errorf("%+v has the last place %d, want %d", c.reach, got, c.last)
		}
	}
}
