package ledger

import (
	"github.com/unibus/unibus/internal/crypto"
)

// SetPolicy replaces the whole policy. With Anew it says as well that what was stored is gone, and that this was
// meant.
type SetPolicy struct {
	Policy Policy `cbor:"policy" json:"policy"`
	Rekey  *Rekey `cbor:"rekey,omitempty" json:"rekey,omitempty"`
	Anew   bool   `cbor:"anew,omitempty" json:"anew,omitempty"`
}

// check: an owner changes the policy, but never whether a room is encrypted: its members took part in what it was. A change
// of the history renews the key, so that it says of whole epochs who may read them.
func (p *SetPolicy) check(s *State, by crypto.PublicKey) error {
	if s.Room.Role(by) != RoleOwner {
		return denied("only an owner changes the policy")
	}
	if err := p.Policy.check(); err != nil {
		return err
	}
	if p.Policy.Encryption != s.Room.Policy.Encryption {
		return breaks("encryption never changes")
	}
	if p.Policy.History != s.Room.Policy.History {
		return mustRekey(s.Room, p.Rekey, p.Policy.History, "changing the history")
	}
	return mayRekey(s.Room, p.Rekey, p.Policy.History)
}

// apply begins a term, and with Anew what is stored as well.
func (p *SetPolicy) apply(s *State, e *Entry) {
	s.Room.setPolicy(p.Policy, e.Seq)
	if p.Anew {
		s.Room.Anew, s.Room.AnewTime = e.Seq, e.Time
	}
	applyRekey(s, e, p.Rekey)
}

func (*SetPolicy) op() string { return "policy" }

func (*SetPolicy) touches(crypto.PublicKey) []crypto.PublicKey { return nil }

// narrows: where a room's frames go depends on whether they are stored; of all else writers notice nothing.
func (*SetPolicy) narrows(s *State, e *Entry) []crypto.PublicKey {
	if s.Room.PolicyAt(e.Seq-1).Stored() == s.Room.PolicyAt(e.Seq).Stored() {
		return nil
	}
	return s.Room.writers()
}

func (p *SetPolicy) words(wording) string {
	if p.Anew {
		return p.Policy.String() + "; what is stored begins anew" + p.Rekey.also()
	}
	return p.Policy.String() + p.Rekey.also()
}

func (p *SetPolicy) rekey() *Rekey { return p.Rekey }

func (p *SetPolicy) bare() any { return SetPolicy{Policy: p.Policy, Anew: p.Anew} }
