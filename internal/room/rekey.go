package room

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
	"github.com/unibus/unibus/internal/store"
)

// rekey makes the next epoch's key, and what the entry says of it: a commitment, and, where history is and stays shared, the
// present key sealed under the next one (SPEC.md §5). history is the policy's after the entry.
func (r Changes) rekey(ctx context.Context, s *ledger.State, history string) (*ledger.Rekey, *mirror.Key, error) {
	old := s.Room.Epoch()
	key := NewKey()
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
func (r Changes) rekeyWithout(ctx context.Context, s *ledger.State, gone []crypto.PublicKey) (*mirror.Proposal, error) {
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
func (r Changes) sealPrevious(ctx context.Context, epochs []ledger.Epoch, next crypto.RoomKey) ([]byte, error) {
	present := epochs[len(epochs)-1]
	key, err := r.Keys.Get(ctx, epochs, present.Number)
	switch {
	case errors.Is(err, ErrNoKey), errors.Is(err, store.ErrIntegrity):
		r.Tell("%s, who began epoch %d of %s, handed you no key of it: whoever comes later cannot read by yours what was written before",
			r.NameOf(present.By), present.Number, r.Subject())
		return noPrevious, nil
	case err != nil:
		return nil, err
	}
	var nonce [24]byte
	_, _ = rand.Read(nonce[:])
	return crypto.SealPrevious(next, r.ID, present.Number+1, key, nonce)
}
