package ledger

import (
	"github.com/unibus/unibus/internal/crypto"
)

// Found is the bus log's first entry: its author is the first admin.
type Found struct {
	Name string           `cbor:"name" json:"name"`
	Key  crypto.PublicKey `cbor:"key" json:"key"`
}

// check: a log begins with it, and with it alone. Nobody makes another the first admin: the key it names signs it.
func (f *Found) check(s *State, by crypto.PublicKey) error {
	if s.Head.Seq != 0 {
		return breaks("the bus is founded already")
	}
	if by != f.Key {
		return denied("a bus is founded by the key it names")
	}
	return ValidName(f.Name)
}

// apply begins the allowlist with its founder, who added itself.
func (f *Found) apply(s *State, e *Entry) {
	s.Bus = &Bus{
		Name: f.Name, Founded: e.Statement,
		users: map[crypto.PublicKey]*User{}, names: map[string]crypto.PublicKey{},
	}
	s.Bus.add(User{Key: f.Key, Name: f.Name, Role: RoleAdmin, AddedBy: e.By, Added: e.Time})
}

func (*Found) op() string { return "found" }

func (f *Found) touches(crypto.PublicKey) []crypto.PublicKey { return []crypto.PublicKey{f.Key} }

func (*Found) narrows(*State, *Entry) []crypto.PublicKey { return nil }

func (f *Found) words(wording) string {
	return "the bus, with " + f.Name + " as its first admin"
}

func (f *Found) names(is func(crypto.PublicKey, string)) { is(f.Key, f.Name) }
