package ledger

import (
	"slices"

	"github.com/unibus/unibus/internal/crypto"
)

// Revoke ends users' access.
type Revoke struct {
	Keys   []crypto.PublicKey `cbor:"keys" json:"keys"`
	Reason *string            `cbor:"reason,omitempty" json:"reason,omitempty"`
}

// check: an admin revokes those who are active, itself too, and never all admins.
func (r *Revoke) check(s *State, by crypto.PublicKey) error {
	if !s.Bus.isAdmin(by) {
		return denied("only an admin revokes users")
	}
	if err := distinct(r.Keys); err != nil {
		return err
	}
	admins := s.Bus.admins
	for _, key := range r.Keys {
		if !s.Bus.isActive(key) {
			return breaks("%s is not on the allowlist", key)
		}
		if s.Bus.isAdmin(key) {
			admins--
		}
	}
	if admins == 0 {
		return breaks("the last admin cannot be revoked")
	}
	return nil
}

// apply ends their access as of the time that the entry claims, and frees their names.
func (r *Revoke) apply(s *State, e *Entry) {
	for _, key := range r.Keys {
		s.Bus.change(key, func(u *User) { u.Active, u.Revoked = false, e.Time })
	}
}

func (*Revoke) op() string { return "revoke" }

func (r *Revoke) touches(crypto.PublicKey) []crypto.PublicKey { return r.Keys }

func (r *Revoke) narrows(s *State, _ *Entry) []crypto.PublicKey {
	return slices.DeleteFunc(slices.Clone(r.Keys), s.Bus.isActive) // who is in again by now
}

func (r *Revoke) words(w wording) string {
	if r.Reason != nil {
		return w.keys(r.Keys) + ": " + *r.Reason
	}
	return w.keys(r.Keys)
}
