package pins

import (
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// offering is pins with a log of which this identity signs entries.
type offering struct {
	*Pins
	t      *testing.T
	states []*ledger.State // after each of its entries
}

func newOffering(t *testing.T) *offering {
	return &offering{newPins(t), t, states(t, "bob", "carol", "dave")}
}

func (o *offering) log() crypto.ID { return o.states[0].ID }

// advance pins the state after an entry.
func (o *offering) advance(seq uint64) {
	o.t.Helper()
	if err := o.Logs.Advance(o.t.Context(), o.states[seq-1]); err != nil {
		o.t.Fatal(err)
	}
}

// back pins the state after an entry, in the place of what is pinned.
func (o *offering) back(seq uint64) {
	o.t.Helper()
	if err := o.Logs.Return(o.t.Context(), o.states[seq-1]); err != nil {
		o.t.Fatal(err)
	}
}

// sign has a statement signed for a place.
func (o *offering) sign(log crypto.ID, seq uint64, statement string) {
	o.t.Helper()
	err := o.Offers.Sign(o.t.Context(), log, seq, func() (Offer, error) {
		return Offer{Seq: seq, Statement: []byte(statement), At: time.UnixMilli(7), Epoch: 2, Key: []byte("key")}, nil
	})
	if err != nil {
		o.t.Fatalf("sign %q for entry %d: %v", statement, seq, err)
	}
}

// taken makes sure that nothing is signed for a place.
func (o *offering) taken(seq uint64, why string) {
	o.t.Helper()
	err := o.Offers.Sign(o.t.Context(), o.log(), seq, func() (Offer, error) {
		o.t.Errorf("signed for entry %d, %s", seq, why)
		return Offer{}, nil
	})
	if !errors.Is(err, ErrTaken) {
		o.t.Errorf("for entry %d, %s: %v", seq, why, err)
	}
}

// kept makes sure what is kept for a place; nothing if that is empty.
func (o *offering) kept(seq uint64, statement string) {
	o.t.Helper()
	got, err := o.Offers.Pending(o.t.Context(), o.log())
	switch {
	case err != nil:
		o.t.Fatal(err)
	case got == nil && statement != "":
		o.t.Errorf("nothing is kept, want %q", statement)
	case got != nil && (string(got.Statement) != statement || got.Seq != seq || !got.At.Equal(time.UnixMilli(7)) || got.Epoch != 2 || string(got.Key) != "key"):
		o.t.Errorf("kept is %+v, want %q", got, statement)
	}
}

// unanswered makes sure which entry it is that nobody knows the end of; 0: none.
func (o *offering) unanswered(seq uint64) {
	o.t.Helper()
	got, err := o.Offers.Unanswered(o.t.Context(), o.log())
	if err != nil {
		o.t.Fatal(err)
	}
	if got == nil && seq != 0 || got != nil && got.Seq != seq {
		o.t.Errorf("unanswered is %+v, want entry %d", got, seq)
	}
}

// TestOneOffer: one entry is signed for a log at a time, whatever else is pinned meanwhile.
func TestOneOffer(t *testing.T) {
	o := newOffering(t)
	o.kept(0, "")
	o.advance(2)
	o.sign(o.log(), 3, "one")
	o.kept(3, "one")
	o.taken(3, "for which one is kept")
	o.taken(4, "while one is kept")
	o.advance(1)
	o.advance(2)
	o.kept(3, "one")
	o.sign(crypto.ID{1}, 3, "of another log")
	o.kept(3, "one")
}

// TestNotSigned: what could not be signed is not kept.
func TestNotSigned(t *testing.T) {
	o, failed := newOffering(t), errors.New("no signature")
	if err := o.Offers.Sign(t.Context(), o.log(), 1, func() (Offer, error) { return Offer{}, failed }); !errors.Is(err, failed) {
		t.Error(err)
	}
	o.kept(0, "")
	o.sign(o.log(), 1, "one")
}

// TestSettled: an entry is kept until a verified one stands at its place, and nothing is signed for that any more.
func TestSettled(t *testing.T) {
	o := newOffering(t)
	o.advance(2)
	o.sign(o.log(), 3, "one")
	o.advance(3)
	o.kept(0, "")
	o.taken(3, "where an entry stands")
	o.sign(o.log(), 4, "two")
	o.kept(4, "two")
}

// TestGivenUp: when a person has decided for what was before, what was signed for the history that is given up is offered
// no more.
func TestGivenUp(t *testing.T) {
	o := newOffering(t)
	o.advance(3)
	o.sign(o.log(), 4, "two")
	o.back(2)
	o.kept(0, "")
	if now, err := o.Logs.State(t.Context(), o.log()); err != nil || now.Head != o.states[1].Head {
		t.Errorf("pinned is %v, %v", now.Head, err)
	}
}

// TestSignedOnce: where the log went back, and goes on with what was signed there before, that is kept again: nobody may
// see two entries for one place. What another history cannot go on with does not stand in the way.
func TestSignedOnce(t *testing.T) {
	o := newOffering(t)
	first := statements(t, "bob", "carol", "dave")
	o.advance(2)
	o.sign(o.log(), 3, string(first[2]))
	o.advance(3)
	o.kept(0, "")
	o.back(2)
	o.taken(3, "which was signed for before")
	o.kept(3, string(first[2]))
	o.back(1)
	o.sign(o.log(), 2, "another second entry")
	o.back(1)
	o.kept(0, "")
	o.sign(o.log(), 3, "which could not go on with the third")
}

// TestUnanswered: whoever signed an entry, and ended before it knew whether it stands, can be told so later; of one that
// is still kept, or whose end is known, there is nothing to tell.
func TestUnanswered(t *testing.T) {
	o := newOffering(t)
	o.unanswered(0)
	o.advance(1)
	o.sign(o.log(), 2, "two")
	o.unanswered(0)
	o.advance(2)
	o.unanswered(2)
	o.sign(o.log(), 3, "three")
	o.advance(3)
	o.unanswered(3)
	if err := o.Offers.MarkAnswered(t.Context(), o.log(), 2); err != nil {
		t.Fatal(err)
	}
	o.unanswered(3)
	if err := o.Offers.MarkAnswered(t.Context(), o.log(), 3); err != nil {
		t.Fatal(err)
	}
	o.unanswered(0)
}

// TestUnansweredAgain: where the log went back, and an entry that was answered is settled once more, whoever signed it does not
// know what came of that.
func TestUnansweredAgain(t *testing.T) {
	o := newOffering(t)
	second := string(statements(t, "bob", "carol", "dave")[1])
	o.advance(1)
	o.sign(o.log(), 2, second)
	o.advance(2)
	if err := o.Offers.MarkAnswered(t.Context(), o.log(), 2); err != nil {
		t.Fatal(err)
	}
	o.unanswered(0)
	o.back(1)
	o.taken(2, "which was signed for before")
	o.kept(2, second)
	o.unanswered(0)
	o.advance(2)
	o.unanswered(2)
}

// TestMaxSigned: of a log only the last entries are remembered that were signed for it.
func TestMaxSigned(t *testing.T) {
	p := newPins(t)
	ctx, log := t.Context(), crypto.ID{1}
	for seq := uint64(1); seq <= maxSigned+2; seq++ {
		err := p.db.change(ctx, durable, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO offers (log, seq, statement, at, epoch, key) VALUES (?, ?, x'00', 0, 0, NULL)`, log[:], seq)
			return errors.Join(err, settleOffers(ctx, tx, log, seq))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var n, first uint64
	if err := p.db.file.QueryRow(`SELECT count(*), min(seq) FROM intact_signed WHERE log = ?`, log[:]).Scan(&n, &first); err != nil || n != maxSigned || first != 3 {
		t.Errorf("%d are remembered, from entry %d on: %v", n, first, err)
	}
}
