package ledger

import (
	"fmt"

	"github.com/unibus/unibus/internal/crypto"
)

// Create is a room log's first entry; its author becomes the owner.
type Create struct {
	Bus     crypto.ID    `cbor:"bus" json:"bus"`
	Subject string       `cbor:"subject" json:"subject"`
	Policy  Policy       `cbor:"policy" json:"policy"`
	Nonce   []byte       `cbor:"nonce" json:"nonce"` // 16 bytes, so that no two rooms share an id
	Commit  *crypto.Hash `cbor:"commit,omitempty" json:"commit,omitempty"`
}

// check: a log begins with it, and with it alone; who creates a room may be anybody. What it says of the bus is for
// readers to compare with theirs, since a log does not know the bus it is on.
func (c *Create) check(s *State, _ crypto.PublicKey) error {
	if s.Head.Seq != 0 {
		return breaks("the room is created already")
	}
	if err := ValidSubject(c.Subject); err != nil {
		return err
	}
	if err := c.Policy.check(); err != nil {
		return err
	}
	if len(c.Nonce) != 16 {
		return breaks("the nonce has 16 bytes")
	}
	if (c.Commit != nil) != c.Policy.Encrypted() {
		return breaks("an encrypted room, and no other, begins with a key commitment")
	}
	return nil
}

// apply begins the first epoch and the first term, and makes the author the owner.
func (c *Create) apply(s *State, e *Entry) {
	first := Epoch{Number: 1, Seq: 1, By: e.By, Time: e.Time}
	if c.Commit != nil {
		first.Commit = *c.Commit
	}
	s.Room = &Room{
		Bus: c.Bus, Subject: c.Subject, Epochs: []Epoch{first}, Anew: 1,
		roster: newRoster(),
	}
	s.Room.setPolicy(c.Policy, 1)
	s.Room.set(e.By, RoleOwner, 1)
}

func (*Create) op() string { return "create" }

func (*Create) touches(by crypto.PublicKey) []crypto.PublicKey { return []crypto.PublicKey{by} }

func (*Create) narrows(*State, *Entry) []crypto.PublicKey { return nil }

func (c *Create) words(wording) string {
	return fmt.Sprintf("%s: %s", c.Subject, c.Policy)
}
