package room_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/roomtest"
	"github.com/unibus/unibus/internal/store"
)

// TestWhoReads: members and readers read; who was never let in, who is out again and who lost access to the bus do not.
func TestWhoReads(t *testing.T) {
	o := newTrio(t, live())
	for _, r := range []*room.Room{o.owner, o.member, o.reader} {
		o.Must(r.Readable())
	}
	if o.owner.Subject() != "room" || o.owner.State().ID != o.owner.ID {
		t.Errorf("%s, %s", o.owner.Subject(), o.owner.State().ID)
	}
	dave := o.User("dave")
	log, err := o.Peer.Open(o.Ctx, o.owner.ID, o.Node.Bus) // of the owner's: the service gives it to no stranger
	o.Must(err)
	stranger, err := dave.Self.Open(o.Ctx, log)
	o.Must(err)
	refused(t, stranger.Readable(), store.ErrDenied, remedy.LetIn, "not a member")
	_, _, err = stranger.Writing(o.Ctx)
	refused(t, err, store.ErrDenied, remedy.LetIn, "not a member")

	o.Must(changes(o.member).Leave(o.Ctx))
	refused(t, o.member.Readable(), store.ErrDenied, remedy.LetIn, "no longer a member")
	if help := remedy.Of(o.member.Readable()); help.User != "bob" || help.Room != "room" || help.RoomID != o.owner.ID {
		t.Errorf("the remedy names %+v", help)
	}

	o.Revoke(o.carol.Key())
	o.carol.Self.Bus = o.Self.Bus // a revoked client is told nothing any more
	gone := o.reader
	if err := gone.Readable(); !errors.Is(err, roomtest.ErrExcluded) {
		t.Errorf("who lost access reads: %v", err)
	}
	if !gone.WasOut(o.carol.Key()) || gone.WasOut(o.Key()) || !gone.WasOut(crypto.PublicKey{1}) {
		t.Error("whose access ended is told wrongly")
	}
}

// TestWhoWrites: a reader does not, nobody does in an archived room or without access to the bus.
func TestWhoWrites(t *testing.T) {
	o := newTrio(t, live())
	h, key, err := o.member.Writing(o.Ctx)
	if head := o.member.State().Head; err != nil || key == nil || h.At != head.Seq || h.Head != [16]byte(head.Hash[:16]) || h.Epoch != 1 {
		t.Errorf("a frame would be at %+v, %v", h, err)
	}
	_, _, err = o.reader.Writing(o.Ctx)
	refused(t, err, store.ErrDenied, remedy.LetWrite, "you are a reader")

	o.Revoke(o.bob.Key())
	o.bob.Self.Bus = o.Self.Bus // a revoked client is told nothing any more
	if _, _, err := o.member.Writing(o.Ctx); !errors.Is(err, roomtest.ErrExcluded) {
		t.Errorf("who lost access writes: %v", err)
	}

	o.Must(changes(o.owner).Archive(o.Ctx))
	_, _, err = o.owner.Writing(o.Ctx)
	refused(t, err, store.ErrDenied, remedy.MakeOther, "archived")
	if err := changes(o.owner).Archive(o.Ctx); !errors.Is(err, store.ErrExists) {
		t.Errorf("a room is archived twice: %v", err)
	}
	if facts := (room.Facts{Room: o.owner}); !facts.Archived() {
		t.Error("the room is not archived")
	}
}

// TestWithoutEncryption: a room without encryption has no key, which everyone holds.
func TestWithoutEncryption(t *testing.T) {
	w := roomtest.New(t)
	r := w.Room("open", plain())
	if _, key, err := r.Writing(w.Ctx); err != nil || key != nil {
		t.Errorf("%v, %v", key, err)
	}
	if holds, err := r.HoldsKey(w.Ctx); err != nil || !holds {
		t.Errorf("%v, %v", holds, err)
	}
	bob := w.User("bob")
	w.Must(changes(r).Invite(w.Ctx, ledger.RoleMember, bob.Key()))
	w.Must(changes(r).Kick(w.Ctx, bob.Key()))
	if err := changes(r).Rekey(w.Ctx); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("a room without a key is rekeyed: %v", err)
	}
	w.Must(changes(r).SetPolicy(w.Ctx, func(p *room.PolicyChange) { p.History = ledger.HistoryJoined }))
	if n := len(r.Ledger().Epochs); n != 1 {
		t.Errorf("it has %d epochs", n)
	}
	if did, err := changes(r).Freshen(w.Ctx); did || err != nil {
		t.Errorf("%v, %v", did, err)
	}
}

// TestJudge: a frame of an epoch whose key is not at hand asks for it; with it the frame opens.
func TestJudge(t *testing.T) {
	o := newTrio(t, live())
	frame := o.frame(o.owner, nil)
	_, err := o.member.Judge(frame, o.Key(), true)
	var need *room.NeedKey
	if !errors.As(err, &need) || need.Epoch != 1 || need.Error() != "the key of epoch 1 is not at hand" {
		t.Fatalf("a frame without a key is judged with %v", err)
	}
	o.Must(o.member.Keys.Fetch(o.Ctx, need))
	v, err := o.member.Judge(frame, o.Key(), true)
	if err != nil || v.Refused != nil || v.Header.At != 3 {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := o.member.Judge(frame, o.bob.Key(), true); !errors.Is(err, ledger.ErrForged) {
		t.Errorf("another's frame under somebody's subject is judged with %v", err)
	}
}

// TestEnds: everyone who reads or writes in a room is stopped when it may not be read any more, and the connection's
// rights there are given back; who is detached is not told.
func TestEnds(t *testing.T) {
	o := newTrio(t, live())
	var released []crypto.ID
	o.bob.Self.Release = func(id crypto.ID) { released = append(released, id) }
	var told []error
	detach := o.member.Attach(func(error) { t.Error("who was detached is told") })
	o.member.Attach(func(why error) { told = append(told, why) })
	detach()
	o.member.EndUnreadable()
	if len(told)+len(released) != 0 {
		t.Errorf("a room that may be read ends with %v", told)
	}
	o.member.LostRights(store.ErrUnavailable)
	o.Must(changes(o.owner).Kick(o.Ctx, o.bob.Key()))
	o.member.EndUnreadable() // it is not known yet
	if len(told)+len(released) != 0 {
		t.Errorf("a room that may be read, as far as is known, ends with %v", told)
	}
	log, err := o.Peer.Open(o.Ctx, o.owner.ID, o.Node.Bus)
	o.Must(err)
	o.member.Log = log
	o.member.EndUnreadable()
	if len(told) != 1 || !errors.Is(told[0], store.ErrDenied) || !slices.Equal(released, []crypto.ID{o.owner.ID}) {
		t.Errorf("told of %v, released %v", told, released)
	}
}

// TestNoConnection: without a connection there are no rights to give back.
func TestNoConnection(t *testing.T) {
	o := newTrio(t, live())
	o.bob.Self.Release = nil
	o.member.LostRights(store.ErrDenied)
}

// TestRolledBack: a room that went back is a finding, and the remedy names the place that a person would have to accept.
func TestRolledBack(t *testing.T) {
	w := roomtest.New(t)
	err := w.Room("back", live()).RolledBack(7, "it ends at %d", 7)
	refused(t, err, store.ErrIntegrity, remedy.AcceptPlace, "room back: ", "rolled back: it ends at 7")
	if !errors.Is(err, room.ErrRolledBack) || remedy.Of(err).Place != 7 {
		t.Errorf("%v, %+v", err, remedy.Of(err))
	}
}

// TestAlarms: only who was added is refused.
func TestAlarms(t *testing.T) {
	var a room.Alarms
	if a.Has(crypto.PublicKey{1}) {
		t.Error("somebody is refused for nothing")
	}
	a.Add(crypto.PublicKey{1})
	if !a.Has(crypto.PublicKey{1}) || a.Has(crypto.PublicKey{2}) {
		t.Error("another than the liar is refused")
	}
}

// TestCards: a card that does not verify is a finding, with its remedy; cards of which there are many are still had.
func TestCards(t *testing.T) {
	w := roomtest.New(t)
	r := w.Room("cards", live())
	bob := w.User("bob")
	w.Self.Keyring = &falseCards{Keyring: w.Self.Keyring}
	err := changes(r).Invite(w.Ctx, ledger.RoleMember, bob.Key())
	refused(t, err, store.ErrIntegrity, remedy.MendCard, "card of bob")
	if remedy.Of(err).User != "bob" {
		t.Errorf("%+v", remedy.Of(err))
	}
}

// falseCards is a server that damages cards.
type falseCards struct{ store.Keyring }

// Cards gives the cards that there are, each with its first byte another.
func (f *falseCards) Cards(ctx context.Context, keys ...crypto.PublicKey) ([]store.Card, error) {
	cards, err := f.Keyring.Cards(ctx, keys...)
	for i := range cards {
		cards[i].Statement = bytes.Clone(cards[i].Statement)
		cards[i].Statement[len(cards[i].Statement)-1] ^= 1
	}
	return cards, err
}
