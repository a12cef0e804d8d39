package unibus

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
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
// of previous keys, or the client's own sealed copies.
func (k *keyring) roomKey(ctx context.Context, epochs []ledger.Epoch, epoch uint32) (crypto.RoomKey, error) {
	if key, ok := k.keys[epoch]; ok {
		return key, nil
	}
	if epoch < 1 || int(epoch) > len(epochs) {
		return crypto.RoomKey{}, fmt.Errorf("epoch %d: %w", epoch, ErrNotFound)
	}
	fault := errNoKey // in the chain
	if int(epoch) < len(epochs) && epochs[epoch].Previous != nil {
		key, err := k.previous(ctx, epochs, epoch)
		if err == nil || !errors.Is(err, errNoKey) && !errors.Is(err, ErrIntegrity) {
			return key, err
		}
		fault = err
	}
	key, err := k.sealed(ctx, epochs[epoch-1])
	if errors.Is(err, errNoKey) {
		err = fault
	}
	return key, err
}

// previous opens an epoch's key by that of the next.
func (k *keyring) previous(ctx context.Context, epochs []ledger.Epoch, epoch uint32) (crypto.RoomKey, error) {
	later, err := k.roomKey(ctx, epochs, epoch+1)
	if err != nil {
		return later, err
	}
	own, next := epochs[epoch-1], epochs[epoch]
	key, err := crypto.OpenPrevious(later, k.room.id, next.Number, next.Previous, own.Commit)
	switch {
	case err == nil:
		k.put(epoch, key)
		return key, nil
	case bytes.Equal(next.Previous, noPrevious):
		err = fmt.Errorf("key of epoch %d: %w: whoever began epoch %d did not have it, and %s, who began this one, handed you none that opens",
			epoch, ErrIntegrity, next.Number, k.room.c.nameOf(own.By))
	default:
		err = fmt.Errorf("key of epoch %d: %w: what %s says it is, in entry %d: %w", epoch, ErrIntegrity, k.room.c.nameOf(next.By), next.Seq, err)
	}
	return key, err
}

// noPrevious is what an entry says of the key before when its author does not have it.
var noPrevious = make([]byte, crypto.PreviousSize)

// sealed opens the first of the client's own sealed copies that holds the key to which the log committed: garbage
// among them harms nobody. Once it has opened somebody else's it keeps one of its own, the first to be tried from
// then on.
func (k *keyring) sealed(ctx context.Context, e ledger.Epoch) (crypto.RoomKey, error) {
	c := k.room.c
	copies, err := c.store.Key(ctx, k.room.id, e.Number, c.id.Key())
	if errors.Is(err, ErrNotFound) || err == nil && len(copies) == 0 {
		return crypto.RoomKey{}, errNoKey
	}
	if err != nil {
		return crypto.RoomKey{}, err
	}
	own := false
	var sealers []string
	for _, s := range copies[:min(len(copies), store.MaxSealers)] {
		own = own || s.Sealer == c.id.Key()
		key, err := c.id.OpenKey(s.Sealed, k.room.id, e.Number, e.Commit)
		if err != nil {
			sealers = append(sealers, c.nameOf(s.Sealer))
			continue
		}
		k.put(e.Number, key)
		if !own {
			_ = c.handOut(ctx, k.room.id, e.Number, key, []PublicKey{c.id.Key()}) // without it the key opens as well
		}
		return key, nil
	}
	return crypto.RoomKey{}, withHint(
		fmt.Errorf("key of epoch %d: %w: no sealed copy for you opens to it: of whoever made them (%s), the server, or its disk", e.Number, ErrIntegrity, strings.Join(sealers, ", ")),
		"an owner or admin hands out a new key: unibus rekey %s; a damaged disk: unibus doctor", k.room.Subject())
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
				"%s runs unibus join once, or give an admin the card that unibus whoami --card prints; invite --wait 5m waits for it", name)
		}
		if cards[i], err = crypto.OpenCard(statement, key); err != nil {
			name := c.nameOf(key)
			return nil, withHint(fmt.Errorf("card of %s: %w: %w", name, ErrIntegrity, err), "%s gives the bus a whole one with unibus join", name)
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
	err = c.store.PutKeys(ctx, room, epoch, key.Commit(epoch), c.id.Key(), keys)
	if errors.Is(err, ErrExists) { // handed out before, by this client or enough others, to someone who was to come, or has been here
		err = nil
	}
	return err
}

// stage hands out the key that an entry needs: that of a new epoch to all members as they are then, the present one
// to those who are invited; of them to who is on the allowlist.
func (c *Client) stage(ctx context.Context, after *ledger.State, e *ledger.Entry, k *mirror.Key) error {
	var to []PublicKey
	if invite, ok := e.Body.(*ledger.Invite); ok && invite.Rekey == nil {
		for _, m := range invite.Members {
			to = append(to, m.Key)
		}
	} else {
		to = slices.Collect(maps.Keys(after.Room.Members()))
	}
	to = slices.DeleteFunc(to, func(key PublicKey) bool { return !c.active(key) })
	return c.handOut(ctx, after.ID, k.Epoch, k.Key, to)
}

// rekey makes the next epoch's key. history is that after the entry.
func (r *Room) rekey(ctx context.Context, s *ledger.State, history string) (*ledger.Rekey, *mirror.Key, error) {
	old := s.Room.Epoch()
	key := newRoomKey()
	k := &ledger.Rekey{Epoch: old.Number + 1, Commit: key.Commit(old.Number + 1)}
	if s.Room.Policy.History == ledger.HistoryShared && history == ledger.HistoryShared {
		var err error
		if k.Previous, err = r.sealPrevious(ctx, s.Room.Epochs, key); err != nil {
			return nil, nil, err
		}
	}
	return k, &mirror.Key{Epoch: k.Epoch, Key: key}, nil
}

// rekeyWithout begins a new epoch, and removes members in the same entry.
func (r *Room) rekeyWithout(ctx context.Context, s *ledger.State, gone []PublicKey) (*mirror.Proposal, error) {
	k, key, err := r.rekey(ctx, s, s.Room.Policy.History)
	if err != nil {
		return nil, err
	}
	if len(gone) > 0 {
		return &mirror.Proposal{Body: &ledger.Remove{Keys: gone, Rekey: k}, Key: key}, nil
	}
	return &mirror.Proposal{Body: k, Key: key}, nil
}

// sealPrevious seals the present epoch's key under that of the next. Whoever was handed nothing that opens can rekey all
// the same, or the one who left it out could never be removed.
func (r *Room) sealPrevious(ctx context.Context, epochs []ledger.Epoch, next crypto.RoomKey) ([]byte, error) {
	present := epochs[len(epochs)-1]
	key, err := r.keys.get(ctx, epochs, present.Number)
	switch {
	case errors.Is(err, errNoKey), errors.Is(err, ErrIntegrity):
		r.c.say("%s, who began epoch %d of %s, handed you no key of it: whoever comes later cannot read by yours what was written before",
			r.c.nameOf(present.By), present.Number, r.Subject())
		return noPrevious, nil
	case err != nil:
		return nil, err
	}
	return crypto.SealPrevious(next, r.id, present.Number+1, key, [24]byte(random[[24]byte]()))
}

// HoldsKey reports whether this client was given the key of the room's present epoch. In a room
// without encryption everyone holds it.
func (r *Room) HoldsKey(ctx context.Context) (bool, error) {
	room := r.room()
	if !room.Policy.Encrypted() {
		return true, nil
	}
	_, err := r.keys.get(ctx, room.Epochs, room.Epoch().Number)
	if errors.Is(err, errNoKey) {
		return false, nil
	}
	return err == nil, err
}
