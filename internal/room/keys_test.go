package room_test

import (
	"context"
	"errors"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/roomtest"
	"github.com/unibus/unibus/internal/store"
)

// TestSharedHistory: the keys of earlier epochs are found by the chain that leads back from a later one.
func TestSharedHistory(t *testing.T) {
	w := roomtest.New(t)
	r := w.Room("shared", live())
	w.Must(changes(r).Rekey(w.Ctx))
	w.Must(changes(r).Rekey(w.Ctx))
	bob := w.User("bob")
	w.Must(changes(r).Invite(w.Ctx, ledger.RoleMember, bob.Key()))
	late := bob.Open(r.ID)
	for epoch := uint32(1); epoch <= 3; epoch++ {
		key, err := late.Keys.Get(w.Ctx, late.Ledger().Epochs, epoch)
		if own, ownErr := r.Keys.Get(w.Ctx, r.Ledger().Epochs, epoch); err != nil || ownErr != nil || key != own {
			t.Errorf("the key of epoch %d: %v, %v", epoch, err, ownErr)
		}
	}
	for _, epoch := range []uint32{0, 4} {
		if _, err := late.Keys.Get(w.Ctx, late.Ledger().Epochs, epoch); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("the key of epoch %d is found: %v", epoch, err)
		}
	}
}

// seal seals an epoch's key for a client.
func (o *trio) seal(c *roomtest.Client, id crypto.ID, epoch uint32, key crypto.RoomKey) store.SealedKey {
	o.Helper()
	own, err := c.ID.Card()
	o.Must(err)
	card, err := crypto.OpenCard(own, c.Key())
	o.Must(err)
	sealed, err := crypto.SealKey(key, id, epoch, card.Key, card.Sealing)
	o.Must(err)
	return store.SealedKey{Endpoint: c.Key(), Sealed: sealed}
}

// handsOut has a client keep a key that an entry needs for itself, beside copies of the test's own: no honest client does.
func (o *trio) handsOut(c *roomtest.Client, others func(id crypto.ID, epoch uint32) []store.SealedKey) {
	c.Peer.Stage = func(ctx context.Context, after *ledger.State, _ *ledger.Entry, k *mirror.Key) error {
		copies := append(others(after.ID, k.Epoch), o.seal(c, after.ID, k.Epoch, k.Key))
		return c.Store.PutKeys(ctx, after.ID, k.Epoch, k.Key.Commit(k.Epoch), c.Key(), copies)
	}
}

// TestLeftOut: a member whom an admin leaves out of the new key has none, is told who it was when it renews the key, and
// can renew it all the same.
func TestLeftOut(t *testing.T) {
	o := newTrio(t, live())
	o.Must(changes(o.owner).SetRole(o.Ctx, o.bob.Key(), ledger.RoleAdmin))
	o.sync(o.member)
	o.handsOut(o.bob, func(crypto.ID, uint32) []store.SealedKey { return nil })
	o.Must(changes(o.member).Rekey(o.Ctx))
	o.sync(o.owner)
	if holds, err := o.owner.HoldsKey(o.Ctx); holds || err != nil {
		t.Errorf("who was left out holds the key: %v, %v", holds, err)
	}
	_, _, err := o.owner.Writing(o.Ctx)
	refused(t, err, store.ErrIntegrity, remedy.HandOutKey, "the key of epoch 2, which its log says is for you, is not to be had")
	again := o.Client.Open(o.owner.ID)
	if _, err := again.Keys.Get(o.Ctx, again.Ledger().Epochs, 1); err != nil {
		t.Errorf("a copy of the key before does not serve: %v", err)
	}
	told := ""
	o.Self.Tell = func(format string, args ...any) { told = format }
	o.Must(changes(o.owner).Rekey(o.Ctx))
	if told == "" {
		t.Error("nobody is told that the chain of keys breaks off")
	}
	if _, _, err := o.owner.Writing(o.Ctx); err != nil {
		t.Errorf("who renewed the key does not write: %v", err)
	}
	// Whoever reads back along the chain learns who broke it off.
	_, err = o.owner.Keys.Get(o.Ctx, o.owner.Ledger().Epochs, 2)
	refused(t, err, store.ErrIntegrity, remedy.None, "whoever began epoch 3 did not have it, and bob")
}

// TestGarbageCopies: a copy that does not open, or opens to another key, is a finding that names who sealed it.
func TestGarbageCopies(t *testing.T) {
	for name, seal := range map[string]func(o *trio, id crypto.ID, epoch uint32) []byte{
		"rubbish": func(*trio, crypto.ID, uint32) []byte { return make([]byte, crypto.SealedSize) },
		"another key": func(o *trio, id crypto.ID, epoch uint32) []byte {
			return o.seal(o.bob, id, epoch, room.NewKey()).Sealed
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newTrio(t, joined())
			honest := o.Peer.Stage
			o.handsOut(o.Client, func(id crypto.ID, epoch uint32) []store.SealedKey {
				return []store.SealedKey{{Endpoint: o.bob.Key(), Sealed: seal(o, id, epoch)}}
			})
			o.Must(changes(o.owner).Rekey(o.Ctx))
			o.Peer.Stage = honest
			o.sync(o.member)
			_, _, err := o.member.Writing(o.Ctx)
			refused(t, err, store.ErrIntegrity, remedy.HandOutOrMend, "no sealed copy for you opens", "alice")
			o.Must(changes(o.owner).Rekey(o.Ctx))
			o.sync(o.member)
			if _, _, err := o.member.Writing(o.Ctx); err != nil {
				t.Errorf("a later key does not open: %v", err)
			}
		})
	}
}

// TestFalsePrevious: what an entry says of the key before is a finding where it does not open to it, and one's own copy
// of that key serves as well.
func TestFalsePrevious(t *testing.T) {
	o := newTrio(t, live())
	next := room.NewKey()
	commit := next.Commit(2)
	previous, err := crypto.SealPrevious(next, o.owner.ID, 2, room.NewKey(), [24]byte{1})
	o.Must(err)
	o.Must(o.owner.Log.Append(o.Ctx, func(context.Context, *ledger.State) (*mirror.Proposal, error) {
		return &mirror.Proposal{Body: &ledger.Rekey{Epoch: 2, Commit: commit, Previous: previous}, Key: &mirror.Key{Epoch: 2, Key: next}}, nil
	}))
	o.sync(o.member)
	if _, err := o.member.Keys.Get(o.Ctx, o.member.Ledger().Epochs, 1); err != nil {
		t.Errorf("a member's own copy does not serve: %v", err)
	}
	dave := o.User("dave")
	o.Must(changes(o.owner).Invite(o.Ctx, ledger.RoleMember, dave.Key()))
	late := dave.Open(o.owner.ID)
	_, err = late.Keys.Get(o.Ctx, late.Ledger().Epochs, 1)
	refused(t, err, store.ErrIntegrity, remedy.None, "what alice says it is, in entry 4")
}

// slowKeyring answers for a key when it is told to.
type slowKeyring struct {
	store.Keyring
	asked, answer chan struct{}
}

// Key waits.
func (s *slowKeyring) Key(ctx context.Context, id crypto.ID, epoch uint32, endpoint crypto.PublicKey) ([]store.SealedKey, error) {
	s.asked <- struct{}{}
	<-s.answer
	return s.Keyring.Key(ctx, id, epoch, endpoint)
}

// TestOneFetches: one caller at a time fetches a key; another waits no longer than its own context.
func TestOneFetches(t *testing.T) {
	o := newTrio(t, live())
	slow := &slowKeyring{o.bob.Self.Keyring, make(chan struct{}), make(chan struct{})}
	o.bob.Self.Keyring = slow
	fetched := make(chan error, 1)
	go func() {
		_, err := o.member.HoldsKey(o.Ctx)
		fetched <- err
	}()
	<-slow.asked
	over, cancel := context.WithCancel(o.Ctx)
	cancel()
	if _, _, err := o.member.Writing(over); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("a second caller gets %v", err)
	}
	close(slow.answer)
	o.Must(<-fetched)
	if _, _, err := o.member.Writing(o.Ctx); err != nil {
		t.Errorf("the key is not at hand: %v", err)
	}
}

// emptyKeyring gives no copies of any key, and an error or none.
type emptyKeyring struct {
	store.Keyring
	err error
}

// Key gives none.
func (e *emptyKeyring) Key(context.Context, crypto.ID, uint32, crypto.PublicKey) ([]store.SealedKey, error) {
	return nil, e.err
}

// TestNoCopies: that there are no copies of a key is told from that they are not to be had.
func TestNoCopies(t *testing.T) {
	o := newTrio(t, live())
	o.bob.Self.Keyring = &emptyKeyring{Keyring: o.bob.Self.Keyring}
	if holds, err := o.member.HoldsKey(o.Ctx); holds || err != nil {
		t.Errorf("without copies: %v, %v", holds, err)
	}
	o.bob.Self.Keyring = &emptyKeyring{err: store.ErrUnavailable}
	if holds, err := o.member.HoldsKey(o.Ctx); holds || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("without a store: %v, %v", holds, err)
	}
}

// countedKeyring counts what is handed out.
type countedKeyring struct {
	store.Keyring
	puts int
}

// PutKeys counts.
func (c *countedKeyring) PutKeys(ctx context.Context, id crypto.ID, epoch uint32, commit crypto.Hash, sealer crypto.PublicKey, keys []store.SealedKey) error {
	c.puts++
	return c.Keyring.PutKeys(ctx, id, epoch, commit, sealer, keys)
}

// TestOwnCopy: who has opened somebody else's copy of a key keeps one of its own, once.
func TestOwnCopy(t *testing.T) {
	o := newTrio(t, live())
	counted := &countedKeyring{Keyring: o.bob.Self.Keyring}
	o.bob.Self.Keyring = counted
	for range 2 {
		if holds, err := o.bob.Open(o.owner.ID).HoldsKey(o.Ctx); !holds || err != nil || counted.puts != 1 {
			t.Errorf("%v, %v, and %d are kept", holds, err, counted.puts)
		}
	}
}

// TestGarbageIsNoEnd: whose copy of the present key does not open can renew it all the same.
func TestGarbageIsNoEnd(t *testing.T) {
	o := newTrio(t, live())
	o.Must(changes(o.owner).SetRole(o.Ctx, o.bob.Key(), ledger.RoleAdmin))
	o.handsOut(o.Client, func(crypto.ID, uint32) []store.SealedKey {
		return []store.SealedKey{{Endpoint: o.bob.Key(), Sealed: make([]byte, crypto.SealedSize)}}
	})
	o.Must(changes(o.owner).Rekey(o.Ctx))
	o.sync(o.member)
	o.Must(changes(o.member).Rekey(o.Ctx))
}

// manyCopies gives so many copies that do not open before those that are there.
type manyCopies struct {
	store.Keyring
	before int
}

// Key gives them.
func (m *manyCopies) Key(ctx context.Context, id crypto.ID, epoch uint32, endpoint crypto.PublicKey) ([]store.SealedKey, error) {
	copies, err := m.Keyring.Key(ctx, id, epoch, endpoint)
	return append(make([]store.SealedKey, m.before), copies...), err
}

// TestBoundedCopies: no more copies of a key are tried than a store gives, and of an epoch that cannot be there is none.
func TestBoundedCopies(t *testing.T) {
	o := newTrio(t, live())
	honest := o.bob.Self.Keyring
	o.bob.Self.Keyring = &manyCopies{honest, store.MaxSealers}
	_, err := o.member.HoldsKey(o.Ctx)
	refused(t, err, store.ErrIntegrity, remedy.HandOutOrMend, "no sealed copy for you opens")
	o.bob.Self.Keyring = &manyCopies{honest, store.MaxSealers - 1}
	if holds, err := o.member.HoldsKey(o.Ctx); !holds || err != nil {
		t.Errorf("%v, %v", holds, err)
	}
	for _, epoch := range []uint32{0, 2} {
		if _, err := o.member.Keys.Get(o.Ctx, o.member.Ledger().Epochs, epoch); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("epoch %d: %v", epoch, err)
		}
	}
}

// TestLeftOutWhileOut: to who may have been out of the bus when the key was renewed nobody owes it.
func TestLeftOutWhileOut(t *testing.T) {
	o := newTrio(t, live())
	o.Revoke(o.bob.Key())
	o.Allow(o.bob.Key(), "bob")
	o.handsOut(o.Client, func(crypto.ID, uint32) []store.SealedKey { return nil })
	o.Must(changes(o.owner).Rekey(o.Ctx))
	back := o.Login(o.bob.ID).Open(o.owner.ID)
	_, _, err := back.Writing(o.Ctx)
	refused(t, err, room.ErrNoKey, remedy.HandOutKey, "no key of this epoch was handed to you")
}
