package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// This file is store.Keyring over the API: of sealed keys only what the caller made, and what was made for it. What is
// refused in any case is refused here, without a request.

// keysPerRequest keeps a request of sealed keys well under 1 MiB.
const keysPerRequest = 400

// keyring is store.Keyring.
type keyring struct {
	*client
	self crypto.PublicKey // the caller
}

// PutKeys keeps copies that the caller made, in as many requests as it takes; those of any other sealer are ErrDenied.
func (k *keyring) PutKeys(ctx context.Context, room crypto.ID, epoch uint32, commit crypto.Hash, sealer crypto.PublicKey, keys []store.SealedKey) error {
	if sealer != k.self {
		return fmt.Errorf("put keys: %w: only whoever sealed a key hands it out", store.ErrDenied)
	}
	var exists error
	for chunk := range slices.Chunk(keys, keysPerRequest) {
		in := store.KeysBody{Epoch: epoch, Commit: commit, Keys: make([]store.MembersCopy, len(chunk))}
		for i, c := range chunk {
			in.Keys[i] = store.MembersCopy{Endpoint: c.Endpoint, Sealed: c.Sealed}
		}
		err := k.write(ctx, len(chunk), "PUT", "/rooms/"+room.String()+"/keys", in, nil)
		if errors.Is(err, store.ErrExists) {
			exists = err // the others are staged still
		} else if err != nil {
			return err
		}
	}
	return exists
}

// Key returns the caller's own copies of an epoch's key; any other endpoint is ErrDenied.
func (k *keyring) Key(ctx context.Context, room crypto.ID, epoch uint32, endpoint crypto.PublicKey) ([]store.SealedKey, error) {
	if endpoint != k.self {
		return nil, fmt.Errorf("key of room %s: %w: a sealed key is given to its owner only", room, store.ErrDenied)
	}
	which := "latest"
	if epoch > 0 {
		which = strconv.FormatUint(uint64(epoch), 10)
	}
	var b store.KeyBody
	if err := k.call(ctx, "GET", "/rooms/"+room.String()+"/keys/"+which, nil, &b); err != nil {
		return nil, err
	}
	copies := make([]store.SealedKey, min(len(b.Sealed), store.MaxSealers))
	for i := range copies {
		copies[i] = store.SealedKey{Endpoint: endpoint, Sealer: b.Sealed[i].Sealer, Sealed: b.Sealed[i].Sealed}
	}
	return copies, nil
}

// PutCards publishes cards, in as many requests as it takes.
func (k *keyring) PutCards(ctx context.Context, cards ...store.Card) error {
	for chunk := range slices.Chunk(cards, store.MaxCards) {
		if err := k.write(ctx, len(chunk), "POST", "/cards", store.CardsBody{Cards: chunk}, nil); err != nil {
			return err
		}
	}
	return nil
}

// Cards returns the cards of endpoints, in as many requests as it takes.
func (k *keyring) Cards(ctx context.Context, endpoints ...crypto.PublicKey) (cards []store.Card, err error) {
	for chunk := range slices.Chunk(endpoints, store.MaxCards) {
		var b store.CardsBody
		if err := k.call(ctx, "POST", "/cards/query", store.EndpointsBody{Endpoints: chunk}, &b); err != nil {
			return nil, err
		}
		cards = append(cards, b.Cards...)
	}
	return cards, nil
}
