package ledger

import (
	"strings"

	"github.com/unibus/unibus/internal/crypto"
)

// Values of a policy's Encryption and History.
const (
	EncryptionE2E  = "e2e"
	EncryptionNone = "none"
	HistoryJoined  = "joined"
	HistoryShared  = "shared"
)

// Policy is what a room's owner decides about it (SPEC.md §4).
type Policy struct {
	Encryption string     `cbor:"encryption" json:"encryption"`
	History    string     `cbor:"history" json:"history"`
	Pad        bool       `cbor:"pad" json:"pad"`
	Retain     *Retain    `cbor:"retain,omitempty" json:"retain,omitempty"` // nil: nothing is stored
	RekeyAfter RekeyAfter `cbor:"rekey_after" json:"rekey_after"`
}

// Retain limits what a room stores; 0 is no limit.
type Retain struct {
	Age   crypto.Number `cbor:"age" json:"age"` // seconds
	Bytes crypto.Number `cbor:"bytes" json:"bytes"`
}

// RekeyAfter says when an epoch has lived long enough; 0 is never.
type RekeyAfter struct {
	Age      crypto.Number `cbor:"age" json:"age"` // seconds
	Messages crypto.Number `cbor:"messages" json:"messages"`
}

// DefaultPolicy is end-to-end encryption, shared history, 30 days and 1 GiB stored.
func DefaultPolicy() Policy {
	return Policy{
		Encryption: EncryptionE2E, History: HistoryShared,
		Retain: &Retain{Age: 30 * 24 * 3600, Bytes: 1 << 30},
	}
}

// Copy returns a policy that may be changed without this one.
func (p Policy) Copy() Policy {
	if p.Retain != nil {
		retain := *p.Retain
		p.Retain = &retain
	}
	return p
}

// Encrypted reports whether messages are encrypted end to end.
func (p Policy) Encrypted() bool { return p.Encryption == EncryptionE2E }

// Stored reports whether the server keeps the room's messages.
func (p Policy) Stored() bool { return p.Retain != nil }

// check refuses values that mean nothing. Limits are any numbers: 0 is none.
func (p Policy) check() error {
	if p.Encryption != EncryptionE2E && p.Encryption != EncryptionNone {
		return breaks("encryption is e2e or none")
	}
	if p.History != HistoryJoined && p.History != HistoryShared {
		return breaks("history is joined or shared")
	}
	return nil
}

// ValidSubject checks a room's subject: printable ASCII of at most 200 bytes, dot-separated tokens none of them empty, no space,
// * or >, not starting with $ or -, and nothing that an id is written like (SPEC.md §4).
func ValidSubject(subject string) error {
	if subject == "" || len(subject) > 200 {
		return breaks("a subject has 1 to 200 characters")
	}
	if subject[0] == '$' {
		return breaks("a subject does not start with $")
	}
	if subject[0] == '-' { // programs would take it for one of their flags
		return breaks("a subject does not start with -")
	}
	if _, err := crypto.ParseID(subject); err == nil { // by which people mean another room
		return breaks("a subject is not written like an id")
	}
	// People read subjects, and type them: what looks like another, or cannot be seen, is not in one.
	for _, c := range []byte(subject) {
		if c <= ' ' || c > '~' {
			return breaks("a subject is printable ASCII without spaces")
		}
		if c == '*' || c == '>' {
			return breaks("a subject has no wildcards")
		}
	}
	for token := range strings.SplitSeq(subject, ".") {
		if token == "" {
			return breaks("a subject has no empty token between its dots")
		}
	}
	return nil
}
