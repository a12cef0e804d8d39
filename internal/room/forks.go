package room

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/store"
)

// Forked stops the room, for this process and all later ones: a frame proves that an owner or admin holds another history
// of it (SPEC.md §6). settled says that a person has decided about forks of that sender before, and that nothing was
// stopped. The error is that of Frozen, or of the pins.
func (r *Room) Forked(ctx context.Context, f pins.Fork) (settled bool, err error) {
	r.mu.Lock()
	for _, known := range r.forks {
		f.Settled = f.Settled || known.Settled && known.Sender == f.Sender
	}
	r.mu.Unlock()
	if err := r.Pins.Forks.Add(ctx, r.ID, f); err != nil || f.Settled {
		return f.Settled && err == nil, err
	}
	if err := r.loadForks(ctx); err != nil {
		return false, err
	}
	err = r.Frozen()
	r.End(err)
	return false, err
}

// loadForks reads what is known of forks.
func (r *Room) loadForks(ctx context.Context) error {
	forks, err := r.Pins.Forks.Of(ctx, r.ID)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.forks = forks
	r.mu.Unlock()
	return nil
}

// Frozen returns why the room is frozen; nil when it is not. A fork is over when its sender has been removed
// since by the history that this client has, also when it is back.
func (r *Room) Frozen() error {
	r.mu.Lock()
	forks := r.forks
	r.mu.Unlock()
	for _, f := range forks {
		if f.Settled {
			continue
		}
		if r.Ledger().OutSince(f.Sender, f.At) {
			continue
		}
		own, _ := r.State().HashAt(f.At)
		err := fmt.Errorf("room %s: %w: %w (%s): its entry %d is %x, and the one verified here %x; the room is frozen until a person decides",
			r.Subject(), store.ErrIntegrity, ledger.ErrForkProven, r.NameOf(f.Sender), f.At, f.Head[:8], own[:8])
		help := r.Remedy(remedy.ChooseHistory)
		help.Hash = own
		return remedy.With(err, help)
	}
	return nil
}

// AcceptHistory goes on, in a room of which two histories are proven, with the one that this client has verified:
// hash is that of its entry at which they part, or how it begins, in hexadecimal. Frames of the other are refused.
// ErrNotFound when no fork is known there, store.ErrInvalid when the hash is the other's. It does nothing in a room whose log
// ends with that hash, as one does that went back and was accepted (mirror.Peer's Accept).
func (r *Room) AcceptHistory(ctx context.Context, hash string) error {
	hash = strings.ToLower(hash)
	if len(hash) < MinHash {
		return fmt.Errorf("hash %q: %w: at least %d hexadecimal digits of it", hash, store.ErrInvalid, MinHash)
	}
	r.mu.Lock()
	forks := r.forks
	r.mu.Unlock()
	for _, f := range forks {
		own, _ := r.State().HashAt(f.At)
		if Begins(own, hash) {
			if err := r.Pins.Forks.Settle(ctx, r.ID); err != nil {
				return err
			}
			return r.loadForks(ctx)
		}
		if strings.HasPrefix(hash, hex.EncodeToString(f.Head[:])) || strings.HasPrefix(hex.EncodeToString(f.Head[:]), hash) {
			err := fmt.Errorf("hash %s: %w: that is the history of %s, which this client has not verified", hash, store.ErrInvalid, r.NameOf(f.Sender))
			return remedy.With(err, r.Remedy(remedy.JoinAnew))
		}
	}
	if Begins(r.State().Head.Hash, hash) {
		return nil
	}
	return fmt.Errorf("hash %s: %w: no two histories of %s are known that part at such an entry, nor does its log end there", hash, store.ErrNotFound, r.Subject())
}

// MinHash is how many hexadecimal digits of an entry's hash a person has to give.
const MinHash = 8

// Begins reports whether a person means a hash by how it begins.
func Begins(h crypto.Hash, digits string) bool {
	return len(digits) >= MinHash && strings.HasPrefix(hex.EncodeToString(h[:]), strings.ToLower(digits))
}
