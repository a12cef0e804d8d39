package jetstream

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// This file is store.Keyring: sealed copies of room keys, each at a key of its own in unibus_room_keys, so that nobody's
// takes another's place, and cards beside them. A copy is staged until an entry names its key (staging.go).

// keyring is store.Keyring, and CopyKeys of store.Target.
type keyring struct {
	*conn
	*buckets
	directory *directory
}

// PutKeys keeps copies that one sealer made. Each is a Create, so that none that is there is ever replaced, not
// even by who looked before the entry was committed that names it.
func (k *keyring) PutKeys(ctx context.Context, room crypto.ID, epoch uint32, commit crypto.Hash, sealer crypto.PublicKey, keys []store.SealedKey) error {
	return k.put(ctx, stagedKey{room, epoch, commit.String()}, store.MadeBy(sealer, keys), k.full)
}

// CopyKeys keeps copies that another store has.
func (k *keyring) CopyKeys(ctx context.Context, room crypto.ID, epoch uint32, commit crypto.Hash, copies []store.SealedKey) error {
	return k.put(ctx, stagedKey{room, epoch, commit.String()}, copies, noLimit)
}

// limit says of which members as many copies of a key are there as are kept.
type limit func(ctx context.Context, of stagedKey, copies []store.SealedKey) (map[crypto.PublicKey]bool, error)

// noLimit keeps as many as there are.
func noLimit(context.Context, stagedKey, []store.SealedKey) (map[crypto.PublicKey]bool, error) {
	return nil, nil
}

// put keeps copies of a key, all but those that are refused.
func (k *keyring) put(ctx context.Context, of stagedKey, copies []store.SealedKey, full limit) error {
	ctx, cancel := k.writing(ctx, len(copies))
	defer cancel()
	refused, err := k.tryPut(ctx, of, copies, full)
	if err == nil && refused > 0 {
		err = fmt.Errorf("%w: other copies, for %d of %d", store.ErrExists, refused, len(copies))
	}
	if err != nil {
		return fmt.Errorf("put keys: %w", failure(err))
	}
	return nil
}

// tryPut is put without a bound; it reports how many copies were refused.
func (k *keyring) tryPut(ctx context.Context, of stagedKey, copies []store.SealedKey, full limit) (refused int, err error) {
	enough, err := full(ctx, of, copies)
	if err != nil {
		return 0, err
	}
	var writes []write
	for _, k := range copies {
		if !enough[k.Endpoint] {
			writes = append(writes, write{sealedKey(of.room, of.epoch, of.commit, k.Endpoint.String(), k.Sealer.String()), k.Sealed, 0})
		}
	}
	others, err := k.stage(ctx, writes)
	return len(copies) - len(writes) + others, err
}

// full is the limit of store.Full; there is none before an entry names the key. Of two sealers at once both may find
// that there is room for one: then one copy more is kept, and for that no more are given.
func (k *keyring) full(ctx context.Context, of stagedKey, copies []store.SealedKey) (map[crypto.PublicKey]bool, error) {
	r, err := k.rooms.one(ctx, epochKey(of.room, of.epoch))
	if errors.Is(err, store.ErrNotFound) || err == nil && commitOf(r) != of.commit {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	_, author, err := epochOf(r)
	if err != nil {
		return nil, err
	}
	patterns := make([]string, len(copies))
	for i, k := range copies {
		patterns[i] = sealedKey(of.room, of.epoch, of.commit, k.Endpoint.String(), "*")
	}
	found, err := k.keys.latest(ctx, patterns...)
	if err != nil {
		return nil, err
	}
	there := map[crypto.PublicKey][]crypto.PublicKey{}
	for _, r := range found {
		k, err := sealed(r)
		if err != nil {
			return nil, err
		}
		there[k.Endpoint] = append(there[k.Endpoint], k.Sealer)
	}
	full := map[crypto.PublicKey]bool{}
	for _, k := range copies {
		full[k.Endpoint] = store.Full(k, author, there[k.Endpoint])
	}
	return full, nil
}

// stage writes copies, again those that are there already with the same bytes: as if staged now. It returns how
// many of them have other bytes.
func (k *keyring) stage(ctx context.Context, writes []write) (refused int, err error) {
	for {
		taken, err := k.keys.putMany(ctx, writes)
		if err != nil || len(taken) == 0 {
			return refused, err
		}
		keys := make([]string, len(taken))
		for i, w := range taken {
			keys[i] = w.key
		}
		found, err := k.keys.latest(ctx, keys...)
		if err != nil {
			return refused, err
		}
		writes = writes[:0]
		for _, w := range taken {
			if r, ok := found[w.key]; ok && !bytes.Equal(r.value, w.value) {
				refused++
			} else {
				writes = append(writes, write{w.key, w.value, int64(r.rev)})
			}
		}
	}
}

// Key returns an endpoint's copies of an epoch's committed key.
func (k *keyring) Key(ctx context.Context, room crypto.ID, epoch uint32, endpoint crypto.PublicKey) ([]store.SealedKey, error) {
	ctx, cancel := k.op(ctx)
	defer cancel()
	copies, err := k.key(ctx, room, epoch, endpoint)
	if err != nil {
		return nil, fmt.Errorf("key of room %s: %w", room, failure(err))
	}
	return copies, nil
}

// key is Key without a bound.
func (k *keyring) key(ctx context.Context, room crypto.ID, epoch uint32, endpoint crypto.PublicKey) ([]store.SealedKey, error) {
	v, err := k.directory.room(ctx, room)
	if err != nil {
		return nil, err
	}
	epoch = cmp.Or(epoch, v.Epoch)
	r, err := k.rooms.one(ctx, epochKey(room, epoch))
	if err != nil {
		return nil, err
	}
	commit, author, err := epochOf(r)
	if err != nil {
		return nil, err
	}
	found, err := k.keys.list(ctx, sealedKey(room, epoch, commit.String(), endpoint.String(), "*"))
	if err != nil {
		return nil, err
	}
	var copies []store.SealedKey
	for _, r := range found {
		k, err := sealed(r)
		if err != nil {
			return nil, err
		}
		copies = append(copies, k)
	}
	if len(copies) == 0 {
		return nil, store.ErrNotFound
	}
	return store.InOrder(copies, author), nil
}

// PutCards keeps cards, side by side.
func (k *keyring) PutCards(ctx context.Context, cards ...store.Card) error {
	ctx, cancel := k.writing(ctx, len(cards))
	defer cancel()
	writes := make([]write, len(cards))
	for i, c := range cards {
		writes[i] = write{cardKey(c.Endpoint), c.Statement, anyRevision}
	}
	if _, err := k.keys.putMany(ctx, writes); err != nil {
		return fmt.Errorf("put cards: %w", failure(err))
	}
	return nil
}

// Cards returns the cards of endpoints.
func (k *keyring) Cards(ctx context.Context, endpoints ...crypto.PublicKey) ([]store.Card, error) {
	if len(endpoints) == 0 {
		return nil, nil
	}
	ctx, cancel := k.op(ctx)
	defer cancel()
	keys := make([]string, len(endpoints))
	for i, endpoint := range endpoints {
		keys[i] = cardKey(endpoint)
	}
	found, err := k.keys.latest(ctx, keys...)
	var cards []store.Card
	for _, r := range found {
		var c store.Card
		if c, err = card(r); err != nil {
			break
		}
		cards = append(cards, c)
	}
	if err != nil {
		return nil, fmt.Errorf("cards: %w", failure(err))
	}
	return cards, nil
}
