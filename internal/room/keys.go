package room

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/store"
)

// NewKey makes a room key from fresh randomness.
func NewKey() (key crypto.RoomKey) {
	_, _ = rand.Read(key[:]) // it never fails: it ends the process instead
	return key
}

// Keys holds a room's opened keys, by epoch. They are in memory only. A key is found by the chain that leads back from a
// later one, where history is shared, or in the client's own sealed copies (SPEC.md §5). One caller at a time fetches a
// key, and holds nobody up who has the key it needs.
type Keys struct {
	room *Room
	turn chan struct{} // held by whoever fetches a key, and by it alone: keys

	keys   map[uint32]crypto.RoomKey
	mu     sync.Mutex
	frames map[uint32]*crypto.FrameKey
}

// NeedKey is a key that is not at hand.
type NeedKey struct {
	epochs []ledger.Epoch
	Epoch  uint32
}

// Error says which key it is.
func (n *NeedKey) Error() string { return fmt.Sprintf("the key of epoch %d is not at hand", n.Epoch) }

// ErrNoKey says that a key was never handed to this client: an epoch from before it was invited,
// or one that whoever rekeyed left it out of.
var ErrNoKey = fmt.Errorf("%w: no key of this epoch was handed to you", store.ErrDenied)

// cached returns the key of an epoch's frames if it is at hand, else nil.
func (k *Keys) cached(epoch uint32) *crypto.FrameKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.frames[epoch]
}

// Fetch gets a key at hand.
func (k *Keys) Fetch(ctx context.Context, need *NeedKey) error {
	_, err := k.Frame(ctx, need.epochs, need.Epoch)
	return err
}

// lock waits for the turn to fetch a key.
func (k *Keys) lock(ctx context.Context) error {
	select {
	case k.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: another key of the room is being fetched: %w", store.ErrUnavailable, ctx.Err())
	}
}

// Frame returns the key that opens and seals an epoch's frames.
func (k *Keys) Frame(ctx context.Context, epochs []ledger.Epoch, epoch uint32) (*crypto.FrameKey, error) {
	if f := k.cached(epoch); f != nil {
		return f, nil
	}
	key, err := k.Get(ctx, epochs, epoch)
	if err != nil {
		return nil, err
	}
	f, err := crypto.NewFrameKey(key, k.room.ID, epoch)
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

// Get returns an epoch's room key.
func (k *Keys) Get(ctx context.Context, epochs []ledger.Epoch, epoch uint32) (crypto.RoomKey, error) {
	if err := k.lock(ctx); err != nil {
		return crypto.RoomKey{}, err
	}
	defer func() { <-k.turn }()
	return k.roomKey(ctx, epochs, epoch)
}

// put keeps an opened key.
func (k *Keys) put(epoch uint32, key crypto.RoomKey) {
	if k.keys == nil {
		k.keys = map[uint32]crypto.RoomKey{}
	}
	k.keys[epoch] = key
}

// roomKey finds an epoch's key: one opened before, or one to which a later key leads by the chain
// of previous keys, or the client's own sealed copies.
func (k *Keys) roomKey(ctx context.Context, epochs []ledger.Epoch, epoch uint32) (crypto.RoomKey, error) {
	if key, ok := k.keys[epoch]; ok {
		return key, nil
	}
	if epoch < 1 || int(epoch) > len(epochs) {
		return crypto.RoomKey{}, fmt.Errorf("epoch %d: %w", epoch, store.ErrNotFound)
	}
	fault := ErrNoKey // in the chain
	if int(epoch) < len(epochs) && epochs[epoch].Previous != nil {
		key, err := k.previous(ctx, epochs, epoch)
		if !errors.Is(err, ErrNoKey) && !errors.Is(err, store.ErrIntegrity) {
			return key, err
		}
		fault = err
	}
	key, err := k.sealed(ctx, epochs[epoch-1])
	if errors.Is(err, ErrNoKey) {
		err = fault
	}
	return key, err
}

// previous opens an epoch's key by that of the next.
func (k *Keys) previous(ctx context.Context, epochs []ledger.Epoch, epoch uint32) (crypto.RoomKey, error) {
	later, err := k.roomKey(ctx, epochs, epoch+1)
	if err != nil {
		return later, err
	}
	own, next := epochs[epoch-1], epochs[epoch]
	key, err := crypto.OpenPrevious(later, k.room.ID, next.Number, next.Previous, own.Commit)
	switch {
	case err == nil:
		k.put(epoch, key)
		return key, nil
	case bytes.Equal(next.Previous, noPrevious):
		err = fmt.Errorf("key of epoch %d: %w: whoever began epoch %d did not have it, and %s, who began this one, handed you none that opens",
			epoch, store.ErrIntegrity, next.Number, k.room.NameOf(own.By))
	default:
		err = fmt.Errorf("key of epoch %d: %w: what %s says it is, in entry %d: %w", epoch, store.ErrIntegrity, k.room.NameOf(next.By), next.Seq, err)
	}
	return key, err
}

// noPrevious is what an entry says of the key before when its author does not have it.
var noPrevious = make([]byte, crypto.PreviousSize)

// sealed opens the first of the client's own sealed copies that holds the key to which the log committed: garbage
// among them harms nobody. Once it has opened somebody else's it keeps one of its own, the first to be tried from
// then on.
func (k *Keys) sealed(ctx context.Context, e ledger.Epoch) (crypto.RoomKey, error) {
	me := k.room.Self
	copies, err := me.Keyring.Key(ctx, k.room.ID, e.Number, me.Key())
	if errors.Is(err, store.ErrNotFound) || err == nil && len(copies) == 0 {
		return crypto.RoomKey{}, ErrNoKey
	}
	if err != nil {
		return crypto.RoomKey{}, err
	}
	own := false
	var sealers []string
	for _, s := range copies[:min(len(copies), store.MaxSealers)] {
		own = own || s.Sealer == me.Key()
		key, err := me.Identity.OpenKey(s.Sealed, k.room.ID, e.Number, e.Commit)
		if err != nil {
			sealers = append(sealers, me.NameOf(s.Sealer))
			continue
		}
		k.put(e.Number, key)
		if !own {
			_ = me.handOut(ctx, k.room.ID, e.Number, key, []crypto.PublicKey{me.Key()}) // without it the key opens as well
		}
		return key, nil
	}
	return crypto.RoomKey{}, remedy.With(
		fmt.Errorf("key of epoch %d: %w: no sealed copy for you opens to it: of whoever made them (%s), the server, or its disk", e.Number, store.ErrIntegrity, strings.Join(sealers, ", ")),
		k.room.Remedy(remedy.HandOutOrMend))
}

// HoldsKey reports whether this client was given the key of the room's present epoch. In a room
// without encryption everyone holds it.
func (r *Room) HoldsKey(ctx context.Context) (bool, error) {
	room := r.Ledger()
	if !room.Policy.Encrypted() {
		return true, nil
	}
	_, err := r.Keys.Get(ctx, room.Epochs, room.Epoch().Number)
	if errors.Is(err, ErrNoKey) {
		return false, nil
	}
	return err == nil, err
}
