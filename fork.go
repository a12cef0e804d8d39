package unibus

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/pins"
)

// forked stops the room: two histories of it are proven, for this process and all later ones. Forks about which a
// person has decided stop nothing, as is said.
func (r *Room) forked(ctx context.Context, f pins.Fork) (settled bool, err error) {
	if err := r.c.pins.Forked(ctx, r.id, f); err != nil {
		return false, err
	}
	r.smu.Lock()
	for _, known := range r.forks {
		settled = settled || known.Settled && known.Sender == f.Sender
	}
	r.smu.Unlock()
	if settled {
		return true, r.c.pins.Settle(ctx, r.id)
	}
	if err := r.loadForks(ctx); err != nil {
		return false, err
	}
	err = r.isFrozen()
	r.end(err)
	return false, err
}

// loadForks reads what is known of forks.
func (r *Room) loadForks(ctx context.Context) error {
	forks, err := r.c.pins.Forks(ctx, r.id)
	if err != nil {
		return err
	}
	r.smu.Lock()
	r.forks = forks
	r.smu.Unlock()
	return nil
}

// isFrozen returns why the room is frozen; nil when it is not. A fork is over when its sender has been removed
// since by the history that this client has, also when it is back.
func (r *Room) isFrozen() error {
	r.smu.Lock()
	forks := r.forks
	r.smu.Unlock()
	for _, f := range forks {
		if f.Settled {
			continue
		}
		if r.room().OutSince(f.Sender, f.At) {
			continue
		}
		own, _ := r.state().HashAt(f.At)
		err := fmt.Errorf("room %s: %w: %w (%s): its entry %d is %x, and the one verified here %x; the room is frozen until a person decides",
			r.Subject(), ErrIntegrity, ledger.ErrForkProven, r.c.nameOf(f.Sender), f.At, f.Head[:8], own[:8])
		return withHint(err, "compare with the others: unibus log %s; to go on with this one: unibus verify %s --accept %x", r.Subject(), r.Subject(), own[:8])
	}
	return nil
}

// AcceptHistory goes on, in a room of which two histories are proven, with the one that this client has verified:
// hash is that of its entry at which they part, or how it begins, in hexadecimal. Frames of the other are refused.
// ErrNotFound when no fork is known there, ErrInvalid when the hash is the other's. It does nothing in a room whose log
// ends with that hash, as one does that went back and was accepted (Options.Accept).
func (r *Room) AcceptHistory(ctx context.Context, hash string) error {
	hash = strings.ToLower(hash)
	if len(hash) < minHash {
		return fmt.Errorf("hash %q: %w: at least %d hexadecimal digits of it", hash, ErrInvalid, minHash)
	}
	r.smu.Lock()
	forks := r.forks
	r.smu.Unlock()
	for _, f := range forks {
		own, _ := r.state().HashAt(f.At)
		if begins(own, hash) {
			if err := r.c.pins.Settle(ctx, r.id); err != nil {
				return err
			}
			return r.loadForks(ctx)
		}
		if strings.HasPrefix(hash, hex.EncodeToString(f.Head[:])) || strings.HasPrefix(hex.EncodeToString(f.Head[:]), hash) {
			return withHint(fmt.Errorf("hash %s: %w: that is the history of %s, which this client has not verified", hash, ErrInvalid, r.c.nameOf(f.Sender)),
				"a client believes what it verified first; who wants the other history joins with a state directory of its own: --state DIR")
		}
	}
	if begins(r.head().Hash, hash) {
		return nil
	}
	return fmt.Errorf("hash %s: %w: no two histories of %s are known that part at such an entry, nor does its log end there", hash, ErrNotFound, r.Subject())
}
