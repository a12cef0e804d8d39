package ledger

import (
	"fmt"

	"github.com/unibus/unibus/internal/crypto"
)

// Rekey begins a new epoch: an entry of its own, or a part of one that changes who may read.
type Rekey struct {
	Epoch    uint32      `cbor:"epoch" json:"epoch"`
	Commit   crypto.Hash `cbor:"commit" json:"commit"`
	Previous []byte      `cbor:"previous,omitempty" json:"previous,omitempty"`
}

// check: an owner or admin renews the key, whenever it wants to.
func (k *Rekey) check(s *State, by crypto.PublicKey) error {
	if !s.Room.Role(by).Manages() {
		return denied("only an owner or admin rekeys")
	}
	return k.rules(s.Room, s.Room.Policy.History)
}

// rules checks a rekey in an entry after which history is as given.
func (k *Rekey) rules(r *Room, history string) error {
	if !r.Policy.Encrypted() {
		return breaks("a room without encryption has no key to change")
	}
	if k.Epoch != r.Epoch().Number+1 {
		return breaks("the next epoch is %d, not %d", r.Epoch().Number+1, k.Epoch)
	}
	shared := r.Policy.History == HistoryShared && history == HistoryShared
	if shared && len(k.Previous) != crypto.PreviousSize || !shared && len(k.Previous) != 0 {
		return breaks("a rekey carries the previous key exactly where history is shared")
	}
	return nil
}

// apply begins the epoch. Whoever left since the last one began does not have its key.
func (k *Rekey) apply(s *State, e *Entry) {
	s.Room.Left = false
	s.Room.Epochs = append(s.Room.Epochs, Epoch{
		Number: k.Epoch, Seq: e.Seq, Commit: k.Commit, Previous: k.Previous, By: e.By, Time: e.Time,
	})
}

// mayRekey checks the rekey, if there is one, of an entry after which history is as given.
func mayRekey(r *Room, k *Rekey, history string) error {
	if k == nil {
		return nil
	}
	return k.rules(r, history)
}

// mustRekey is mayRekey for an entry that an encrypted room does not take without one; what names it.
func mustRekey(r *Room, k *Rekey, history, what string) error {
	if k == nil && r.Policy.Encrypted() {
		return breaks("%s: an encrypted room must rekey in the same entry", what)
	}
	return mayRekey(r, k, history)
}

// applyRekey begins the epoch of an entry that carries a rekey; nothing happens for one that does not.
func applyRekey(s *State, e *Entry, k *Rekey) {
	if k != nil {
		k.apply(s, e)
	}
}

func (*Rekey) op() string { return "rekey" }

func (*Rekey) touches(crypto.PublicKey) []crypto.PublicKey { return nil }

func (*Rekey) narrows(*State, *Entry) []crypto.PublicKey { return nil }

func (k *Rekey) words(wording) string { return fmt.Sprintf("epoch %d", k.Epoch) }

func (k *Rekey) rekey() *Rekey { return k }

func (*Rekey) bare() any { return Rekey{} }

// also is what there is to say of a rekey that is part of something else; nothing of none.
func (k *Rekey) also() string {
	if k == nil {
		return ""
	}
	return fmt.Sprintf("; epoch %d", k.Epoch)
}
