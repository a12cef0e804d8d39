package store

import (
	"bytes"
	"context"
	"slices"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// This file says how sealed copies of room keys are ordered and limited, for all backends alike.
//
// A member's copies of a room key are kept by sealer, each created once: whoever seals garbage for a member takes
// nobody else's place. The member tries them in order until one opens to the key that the log committed to.

// MaxSealers is how many copies of one key are kept for one member once an entry names the key: its own, that of
// the entry's author, and those of the first others. What was staged before may be more; no more are given.
const MaxSealers = 8

// MadeBy returns the copies, each with one sealer as who made it.
func MadeBy(sealer crypto.PublicKey, copies []SealedKey) []SealedKey {
	out := slices.Clone(copies)
	for i := range out {
		out[i].Sealer = sealer
	}
	return out
}

// SealedKey is one member's copy of an epoch's key.
type SealedKey struct {
	Endpoint crypto.PublicKey // the member
	Sealer   crypto.PublicKey // who made it; for PutKeys it is an argument of its own
	Sealed   []byte
}

// SealedCopy is a copy with the key that it is of: that with the commitment Commit, for an epoch of a room.
type SealedCopy struct {
	SealedKey
	Room   crypto.ID
	Epoch  uint32
	Commit crypto.Hash
}

// Keyless are the members of a room of whom no copy of its newest key is kept, with their roles: they read what is old, and
// nothing of what is written now. Whether what was sealed opens only they can tell.
func Keyless(ctx context.Context, s Inventory, state *ledger.State) (map[crypto.PublicKey]ledger.Role, error) {
	if !state.Room.Policy.Encrypted() {
		return nil, nil
	}
	members := state.Room.Members()
	for k, err := range s.Sealed(ctx, state.ID, state.Room.Epoch().Number) {
		if err != nil {
			return nil, err
		}
		if len(k.Sealed) == crypto.SealedSize { // nothing is what a server says of a record that was removed
			delete(members, k.Endpoint)
		}
	}
	return members, nil
}

// rank is a sealer's place among those of one member: the member itself, the author of the entry that began the
// epoch, others.
func rank(k SealedKey, author crypto.PublicKey) int {
	switch k.Sealer {
	case k.Endpoint:
		return 0
	case author:
		return 1
	}
	return 2
}

// InOrder returns one member's copies as they are to be tried, at most MaxSealers: its own, that of the entry's
// author, then those of others by their key.
func InOrder(copies []SealedKey, author crypto.PublicKey) []SealedKey {
	slices.SortFunc(copies, func(a, b SealedKey) int {
		if d := rank(a, author) - rank(b, author); d != 0 {
			return d
		}
		return bytes.Compare(a.Sealer[:], b.Sealer[:])
	})
	return copies[:min(len(copies), MaxSealers)]
}

// Full reports whether there is no room for one more copy of a key that an entry names, given the sealers of
// those its member has. There always is for the member's own and for the author's.
func Full(k SealedKey, author crypto.PublicKey, there []crypto.PublicKey) bool {
	if rank(k, author) < 2 || slices.Contains(there, k.Sealer) {
		return false
	}
	others := 0
	for _, sealer := range there {
		others += rank(SealedKey{Endpoint: k.Endpoint, Sealer: sealer}, author) / 2
	}
	return others >= MaxSealers-2
}
