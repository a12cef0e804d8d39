package pins

import (
	"testing"

	"github.com/unibus/unibus/internal/crypto"
)

// reaching is what is remembered of one room.
type reaching struct {
	*Pins
	t    *testing.T
	room crypto.ID
}

func newReaching(t *testing.T) *reaching { return &reaching{newPins(t), t, crypto.ID{1}} }

func (r *reaching) reached(at Place) {
	r.t.Helper()
	if err := r.Places.Reached(r.t.Context(), r.room, at); err != nil {
		r.t.Fatal(err)
	}
}

func (r *reaching) accept(at Place) {
	r.t.Helper()
	if err := r.Places.Accept(r.t.Context(), r.room, at); err != nil {
		r.t.Fatal(err)
	}
}

func (r *reaching) dispute(seq uint64) {
	r.t.Helper()
	if err := r.Places.Dispute(r.t.Context(), r.room, seq); err != nil {
		r.t.Fatal(err)
	}
}

func (r *reaching) want(at Place, why string) {
	r.t.Helper()
	if got, err := r.Places.Of(r.t.Context(), r.room); err != nil || got != at {
		r.t.Errorf("%s: %+v, %v, want %+v", why, got, err, at)
	}
}

// TestReached: how far a room reaches never moves back, read and acknowledged each by itself, until it begins anew.
func TestReached(t *testing.T) {
	r := newReaching(t)
	one, two := crypto.Hash{1}, crypto.Hash{2}
	r.want(Place{}, "not met")
	r.reached(Place{Anew: 1, Seq: 5, Hash: one})
	r.want(Place{Anew: 1, Seq: 5, Hash: one}, "read")
	r.reached(Place{Anew: 1, Own: 7, OwnHash: two})
	r.want(Place{Anew: 1, Seq: 5, Hash: one, Own: 7, OwnHash: two}, "acknowledged")
	r.reached(Place{Anew: 1, Seq: 4, Hash: two, Own: 6, OwnHash: one})
	r.want(Place{Anew: 1, Seq: 5, Hash: one, Own: 7, OwnHash: two}, "behind")
	r.reached(Place{Anew: 1, Seq: 6, Hash: two, Own: 7, OwnHash: one})
	r.want(Place{Anew: 1, Seq: 6, Hash: two, Own: 7, OwnHash: two}, "further, and again the same")
	r.accept(Place{Anew: 1, Seq: 6, Hash: two, Accepted: 6})
	r.dispute(6)
	r.reached(Place{Anew: 3, Seq: 2, Hash: one})
	r.want(Place{Anew: 3, Seq: 2, Hash: one}, "begun anew")
	r.reached(Place{Anew: 1, Seq: 9, Hash: two})
	r.want(Place{Anew: 3, Seq: 2, Hash: one}, "by whom does not know yet that it has begun anew")
}

// TestDisputed: that there is another frame at a place is remembered until a person has accepted that.
func TestDisputed(t *testing.T) {
	r := newReaching(t)
	r.dispute(3)
	r.want(Place{}, "of a room that was not met")
	r.reached(Place{Anew: 1, Seq: 5})
	r.dispute(3)
	r.dispute(2)
	r.want(Place{Anew: 1, Seq: 5, Disputed: 3}, "the highest counts")
	r.reached(Place{Anew: 1, Seq: 6})
	r.want(Place{Anew: 1, Seq: 6, Disputed: 3}, "read on")
	r.accept(Place{Anew: 1, Seq: 6, Accepted: 2, Disputed: 3})
	r.want(Place{Anew: 1, Seq: 6, Accepted: 2, Disputed: 3}, "accepted up to before it")
	r.accept(Place{Anew: 1, Seq: 4, Accepted: 3, Disputed: 3})
	r.want(Place{Anew: 1, Seq: 4, Accepted: 3}, "accepted, and it need not reach further")
}

// TestPlacesGivenUp: where a room reached that had begun anew is forgotten when its log goes back to before that, and
// where it reached before is not.
func TestPlacesGivenUp(t *testing.T) {
	o := newOffering(t)
	r := &reaching{o.Pins, t, o.log()}
	o.advance(3)
	r.reached(Place{Anew: 3, Seq: 9})
	o.back(2)
	r.want(Place{}, "of what is given up")
	r.reached(Place{Anew: 2, Seq: 7})
	o.back(2)
	r.want(Place{Anew: 2, Seq: 7}, "of what is not")
}
