package unibus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// random returns fresh random bytes.
func random[T interface {
	~[16]byte | ~[24]byte | ~[32]byte
}]() []byte {
	var t T
	b := make([]byte, len(t))
	_, _ = rand.Read(b) // it never fails: it ends the process instead
	return b
}

func newRoomKey() crypto.RoomKey { return crypto.RoomKey(random[[32]byte]()) }

// keyring holds a room's opened keys, by epoch. They are in memory only. One caller at a time fetches a key,
// and holds nobody up who has the key it needs.
type keyring struct {
	room *Room
	turn chan struct{} // held by whoever fetches a key, and by it alone: keys

	keys   map[uint32]crypto.RoomKey
	mu     sync.Mutex
	frames map[uint32]*crypto.FrameKey
}

// needKey is a key that is not at hand.
type needKey struct {
	epochs []ledger.Epoch
	epoch  uint32
}

func (n *needKey) Error() string { return fmt.Sprintf("the key of epoch %d is not at hand", n.epoch) }

// errNoKey says that a key was never handed to this client: an epoch from before it was invited,
// or one that whoever rekeyed left it out of.
var errNoKey = fmt.Errorf("%w: no key of this epoch was handed to you", ErrDenied)

// cached returns the key of an epoch's frames if it is at hand, else nil.
func (k *keyring) cached(epoch uint32) *crypto.FrameKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.frames[epoch]
}

// fetch gets a key at hand.
func (k *keyring) fetch(ctx context.Context, need *needKey) error {
	_, err := k.frameKey(ctx, need.epochs, need.epoch)
	return err
}

// lock waits for the turn to fetch a key.
func (k *keyring) lock(ctx context.Context) error {
	select {
	case k.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: another key of the room is being fetched: %w", ErrUnavailable, ctx.Err())
	}
}

// frameKey returns the key that opens and seals an epoch's frames.
func (k *keyring) frameKey(ctx context.Context, epochs []ledger.Epoch, epoch uint32) (*crypto.FrameKey, error) {
	if f := k.cached(epoch); f != nil {
		return f, nil
	}
	key, err := k.get(ctx, epochs, epoch)
	if err != nil {
		return nil, err
	}
	f, err := crypto.NewFrameKey(key, k.room.id, epoch)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.frames == nil {
		k.frames = map[uint32]*crypto.FrameKey{}
	}
	k.frames[epoch] = f
	return f, nil
}

// get returns an epoch's room key.
func (k *keyring) get(ctx context.Context, epochs []ledger.Epoch, epoch uint32) (crypto.RoomKey, error) {
	if err := k.lock(ctx); err != nil {
		return crypto.RoomKey{}, err
	}
	defer func() { <-k.turn }()
	return k.roomKey(ctx, epochs, epoch)
}

func (k *keyring) put(epoch uint32, key crypto.RoomKey) {
	if k.keys == nil {
		k.keys = map[uint32]crypto.RoomKey{}
	}
	k.keys[epoch] = key
}

// roomKey finds an epoch's key: one opened before, or one to which a later key leads by the chain
// of previous keys, or the client's own sealed copy.
func (k *keyring) roomKey(ctx context.Context, epochs []ledger.Epoch, epoch uint32) (crypto.RoomKey, error) {
	if key, ok := k.keys[epoch]; ok {
		return key, nil
	}
	if epoch < 1 || int(epoch) > len(epochs) {
		return crypto.RoomKey{}, fmt.Errorf("epoch %d: %w", epoch, ErrNotFound)
	}
	if int(epoch) < len(epochs) && epochs[epoch].Previous != nil {
		later, err := k.roomKey(ctx, epochs, epoch+1)
		switch {
		case err == nil:
			key, err := crypto.OpenPrevious(later, k.room.id, epoch+1, epochs[epoch].Previous, epochs[epoch-1].Commit)
			if err != nil {
				return key, fmt.Errorf("key of epoch %d: %w: %w", epoch, ErrIntegrity, err)
			}
			k.put(epoch, key)
			return key, nil
		case !errors.Is(err, errNoKey):
			return crypto.RoomKey{}, err
		}
	}
	return k.sealed(ctx, epochs[epoch-1])
}

// sealed opens the client's own sealed copy.
func (k *keyring) sealed(ctx context.Context, e ledger.Epoch) (crypto.RoomKey, error) {
	c := k.room.c
	sealed, err := c.store.Key(ctx, k.room.id, e.Number, c.id.Key())
	if errors.Is(err, ErrNotFound) {
		return crypto.RoomKey{}, errNoKey
	}
	if err != nil {
		return crypto.RoomKey{}, err
	}
	key, err := c.id.OpenKey(sealed.Sealed, k.room.id, e.Number, e.Commit)
	if err != nil {
		return key, fmt.Errorf("key of epoch %d: %w: the sealed copy in the store: %w", e.Number, ErrIntegrity, err)
	}
	k.put(e.Number, key)
	return key, nil
}

// cards returns verified cards of users, in their order. ErrNotFound, with a hint, when one has never
// published it.
func (c *Client) cards(ctx context.Context, keys []PublicKey) ([]crypto.Card, error) {
	own, err := c.id.Card()
	if err != nil {
		return nil, err
	}
	others := slices.DeleteFunc(slices.Clone(keys), func(key PublicKey) bool { return key == c.id.Key() })
	stored, err := c.store.Cards(ctx, others...)
	if err != nil {
		return nil, err
	}
	statements := map[PublicKey][]byte{}
	for _, card := range stored {
		statements[card.Endpoint] = card.Statement
	}
	statements[c.id.Key()] = own
	cards := make([]crypto.Card, len(keys))
	for i, key := range keys {
		statement, ok := statements[key]
		if !ok {
			name := c.nameOf(key)
			return nil, withHint(fmt.Errorf("%s has not connected yet, so there is no key to seal for: %w", name, ErrNotFound),
				"%s runs unibus join once, or give an admin the card that unibus whoami --card prints; invite --wait waits for it", name)
		}
		if cards[i], err = crypto.OpenCard(statement, key); err != nil {
			return nil, fmt.Errorf("card of %s: %w: %w", c.nameOf(key), ErrIntegrity, err)
		}
	}
	return cards, nil
}

// handOut seals a key for members and stages the copies, before the entry that needs them.
func (c *Client) handOut(ctx context.Context, room ID, epoch uint32, key crypto.RoomKey, to []PublicKey) error {
	cards, err := c.cards(ctx, to)
	if err != nil {
		return err
	}
	keys := make([]store.SealedKey, len(to))
	for i, member := range to {
		sealed, err := crypto.SealKey(key, room, epoch, member, cards[i].Sealing)
		if err != nil {
			return err
		}
		keys[i] = store.SealedKey{Endpoint: member, Sealed: sealed}
	}
	err = c.store.PutKeys(ctx, room, epoch, key.Commit(epoch), keys)
	if errors.Is(err, ErrExists) { // handed out before, to someone who was to come, or has been here
		err = nil
	}
	return err
}

// rekey makes the next epoch's key and hands it to the members of the new state who are on the
// allowlist: whoever is in present but not in gone, and whoever is in joining. history is that
// after the entry.
func (r *Room) rekey(ctx context.Context, s *ledger.State, history string, gone, joining []PublicKey) (*ledger.Rekey, error) {
	skip := map[PublicKey]bool{}
	for _, key := range gone {
		skip[key] = true
	}
	var to []PublicKey
	for key := range s.Room.Members() {
		if !skip[key] && r.c.active(key) {
			to = append(to, key)
		}
	}
	to = append(to, joining...)
	old := s.Room.Epoch()
	key := newRoomKey()
	k := &ledger.Rekey{Epoch: old.Number + 1, Commit: key.Commit(old.Number + 1)}
	if s.Room.Policy.History == ledger.HistoryShared && history == ledger.HistoryShared {
		previous, err := r.keys.get(ctx, s.Room.Epochs, old.Number)
		if err != nil {
			return nil, err
		}
		if k.Previous, err = crypto.SealPrevious(key, r.id, k.Epoch, previous, [24]byte(random[[24]byte]())); err != nil {
			return nil, err
		}
	}
	return k, r.c.handOut(ctx, r.id, k.Epoch, key, to)
}

// HoldsKey reports whether this client was given the key of the room's present epoch. In a room
// without encryption everyone holds it.
func (r *Room) HoldsKey(ctx context.Context) (bool, error) {
	var epochs []ledger.Epoch
	encrypted := false
	r.read(func(s *ledger.State) { epochs, encrypted = s.Room.Epochs, s.Room.Policy.Encrypted() })
	if !encrypted {
		return true, nil
	}
	_, err := r.keys.get(ctx, epochs, uint32(len(epochs)))
	if errors.Is(err, errNoKey) {
		return false, nil
	}
	return err == nil, err
}
