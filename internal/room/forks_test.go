package room_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/store"
)

// fork is a proof that a sender holds another entry 2 than everyone else.
func fork(sender crypto.PublicKey) pins.Fork {
	return pins.Fork{Sender: sender, At: 2, Head: [16]byte{0xaa, 0xbb, 0xcc, 0xdd}}
}

// freeze proves a fork, which nobody has settled.
func (o *trio) freeze(r *room.Room, f pins.Fork) {
	o.Helper()
	settled, err := r.Forked(o.Ctx, f)
	refused(o.T, err, ledger.ErrForkProven, remedy.ChooseHistory, "its entry 2 is aabbccdd", "frozen")
	if settled || !errors.Is(err, store.ErrIntegrity) {
		o.Fatalf("%v, %v", settled, err)
	}
}

// TestFrozen: in a room of which two histories are proven nobody reads or writes, now or in a later process.
func TestFrozen(t *testing.T) {
	o := newTrio(t, live())
	var ended error
	o.member.Attach(func(why error) { ended = why })
	o.Must(o.member.Frozen())
	o.freeze(o.member, fork(o.Key()))
	_, _, writing := o.member.Writing(o.Ctx)
	for what, err := range map[string]error{
		"is told": ended, "reads": o.member.Readable(), "writes": writing, "reads later": o.bob.Open(o.owner.ID).Readable(),
	} {
		if !errors.Is(err, ledger.ErrForkProven) {
			t.Errorf("who %s gets %v", what, err)
		}
	}
	own, _ := o.member.State().HashAt(2)
	if help := remedy.Of(o.member.Frozen()); help.Hash != own {
		t.Errorf("the remedy names %x, not the history verified here", help.Hash)
	}
}

// TestForkOfWhoIsOut: a fork is over once its sender is removed by the history that this client has, also when it is back.
func TestForkOfWhoIsOut(t *testing.T) {
	o := newTrio(t, live())
	o.freeze(o.owner, fork(o.bob.Key()))
	o.Must(changes(o.owner).Kick(o.Ctx, o.bob.Key()))
	o.Must(o.owner.Frozen())
	o.Must(changes(o.owner).Invite(o.Ctx, ledger.RoleMember, o.bob.Key()))
	o.Must(o.owner.Frozen())
}

// TestAcceptHistory: a person goes on with the history that this client has verified by how its hash begins, long enough
// to be no accident, and with no other; what the same sender says of it again stops nothing.
func TestAcceptHistory(t *testing.T) {
	o := newTrio(t, live())
	r := o.member
	own, _ := r.State().HashAt(2)
	digits := hex.EncodeToString(own[:])
	head := hex.EncodeToString(r.State().Head.Hash[:])
	if err := r.AcceptHistory(o.Ctx, digits); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a fork that nobody knows of is settled: %v", err)
	}
	o.Must(r.AcceptHistory(o.Ctx, head)) // its log ends there
	o.freeze(r, fork(o.Key()))
	refused(t, r.AcceptHistory(o.Ctx, digits[:room.MinHash-1]), store.ErrInvalid, remedy.None, "at least 8")
	refused(t, r.AcceptHistory(o.Ctx, "aabbccdd"), store.ErrInvalid, remedy.JoinAnew, "the history of alice")
	whole := fork(o.Key()).Head
	refused(t, r.AcceptHistory(o.Ctx, hex.EncodeToString(whole[:])+"00"), store.ErrInvalid, remedy.JoinAnew, "the history of alice")
	refused(t, r.AcceptHistory(o.Ctx, "0123456789"), store.ErrNotFound, remedy.None, "no two histories of room")
	o.Must(r.AcceptHistory(o.Ctx, strings.ToUpper(digits[:room.MinHash])))
	o.Must(r.Readable())
	again := fork(o.Key())
	again.Head[0]++
	if settled, err := r.Forked(o.Ctx, again); !settled || err != nil {
		t.Errorf("a settled fork stops the room again: %v, %v", settled, err)
	}
	later := o.bob.Open(r.ID)
	o.Must(later.Readable())
	o.freeze(r, fork(o.carol.Key())) // another sender's is another matter
	for _, r := range []*room.Room{later, r} {
		again.Head[0]++
		if settled, err := r.Forked(o.Ctx, again); !settled || err != nil {
			t.Errorf("a settled fork stops the room again: %v, %v", settled, err)
		}
		if err := o.bob.Open(r.ID).Readable(); !errors.Is(err, ledger.ErrForkProven) {
			t.Errorf("with what one sender said again another's fork is settled: %v", err)
		}
	}
}

// TestForkedTwice: that somebody's fork is known settles no other of the same sender's: only a person does.
func TestForkedTwice(t *testing.T) {
	o := newTrio(t, live())
	o.freeze(o.member, fork(o.Key()))
	again := fork(o.Key())
	again.Head[5]++
	o.freeze(o.member, again)
}

// TestBegins: a person means a hash by how it begins, in either case, and by enough of it to be no accident.
func TestBegins(t *testing.T) {
	h := crypto.Hash{0xab, 0xcd, 0xef, 0x12, 0x34}
	for digits, want := range map[string]bool{"abcdef1234": true, "ABCDEF12": true, "abcdef1": false, "": false, "abcdef13": false} {
		if room.Begins(h, digits) != want {
			t.Errorf("%q: %v", digits, !want)
		}
	}
}
