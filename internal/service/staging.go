package service

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// A key is staged before the entry that names it is stored: whoever is told of the entry must find the key. What is staged
// costs room and is of use to nobody yet, so one user has only so much of it.

// What one user may have staged that no entry names: keys of one room, keys of all, and copies of them.
const (
	maxStagedInRoom = 8
	maxStaged       = 256
	maxStagedCopies = 4 * ledger.MaxMembers
	maxSealers      = 4096 // users remembered
)

// staging bounds the keys that a store keeps before an entry names them. When one user's become too many, its own
// oldest go: a rekey that lost its race, and starts again with a fresh key, has no more use for the one before.
// So nobody who makes one change at a time is ever refused.
type staging struct {
	store   stagedKeys
	sealers *recent[crypto.PublicKey, *sealer]
	now     func() time.Time
}

// stagedKeys is the part of a store that keeps keys, and drops those that no entry names.
type stagedKeys interface {
	store.Keyring
	store.Staging
}

// sealer is what one user has staged lately, by age. Whoever holds turn may use it.
type sealer struct {
	turn chan struct{}
	keys []stagedKey
}

// stagedKey is one key of which copies were staged.
type stagedKey struct {
	room   crypto.ID
	epoch  uint32
	commit crypto.Hash
	copies int
	at     time.Time
}

// is reports whether both are of the same key, however many copies each stands for.
func (k *stagedKey) is(o stagedKey) bool {
	return k.room == o.room && k.epoch == o.epoch && k.commit == o.commit
}

// newStaging knows of nothing that is staged: what a service before it has staged goes by itself within the hour.
func newStaging(s stagedKeys, now func() time.Time) *staging {
	return &staging{store: s, sealers: newRecent[crypto.PublicKey, *sealer](maxSealers), now: now}
}

// put stages copies by a sealer of a key that no entry names yet, for a room whose present epoch is given; 0: there is no such
// room yet.
func (g *staging) put(ctx context.Context, by crypto.PublicKey, room crypto.ID, present uint32, in *store.KeysBody, copies []store.SealedKey) error {
	s := g.sealers.getOrMake(by, func() *sealer { return &sealer{turn: make(chan struct{}, 1)} })
	release, err := hold(ctx, s.turn)
	if err != nil {
		return err
	}
	defer release()
	gone, ok := s.add(stagedKey{room, in.Epoch, in.Commit, len(in.Keys), g.now()}, present)
	if !ok {
		return fmt.Errorf("%w: more copies of one key than any room has members", store.ErrDenied)
	}
	for _, k := range gone {
		if err := g.store.Unstage(ctx, k.room, k.epoch, k.commit, by); err != nil {
			return err
		}
	}
	return g.store.PutKeys(ctx, room, in.Epoch, in.Commit, by, copies)
}

// add notes one more key, or more copies of one, and returns those that have to go: keys of epochs that began
// meanwhile, and the oldest of what is too much. Those of an hour ago go by themselves. ok is false for copies
// that are too many by themselves.
func (s *sealer) add(k stagedKey, present uint32) (gone []stagedKey, ok bool) {
	i := slices.IndexFunc(s.keys, k.is)
	if i >= 0 {
		k.copies += s.keys[i].copies
	}
	if k.copies > maxStagedCopies {
		return nil, false
	}
	if i >= 0 {
		s.keys = slices.Delete(s.keys, i, i+1)
	}
	kept, inRoom, copies := []stagedKey{k}, 1, k.copies
	for _, o := range slices.Backward(s.keys) {
		began := o.room == k.room && o.epoch <= present
		full := len(kept) == maxStaged || o.room == k.room && inRoom == maxStagedInRoom || copies+o.copies > maxStagedCopies
		switch {
		case k.at.Sub(o.at) >= stagedFor:
		case began || full:
			gone = append(gone, o)
		default:
			kept = append(kept, o)
			copies += o.copies
			if o.room == k.room {
				inRoom++
			}
		}
	}
	slices.Reverse(kept)
	s.keys = kept
	return gone, true
}
