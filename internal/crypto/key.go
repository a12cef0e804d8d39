package crypto

import (
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"filippo.io/edwards25519"
	"github.com/nats-io/nkeys"
)

// This file is the three names that everything goes by: keys of people, ids of logs, and hashes. Each is read and written
// as text for people and JSON, and as bytes in statements.

// Errors about keys and ids that people or stores supply. None of their texts contains the input,
// so that a pasted seed never reaches a log.
var (
	ErrKey  = errors.New("not a valid user key")
	ErrSeed = errors.New("that is a secret seed, not a public key")
	ErrID   = errors.New("not a valid id")
)

// PublicKey is an Ed25519 public key: canonically encoded and not of small order when it came from
// ParsePublicKey, NewPublicKey or a decoded statement (SPEC.md §1).
type PublicKey [32]byte

// NewPublicKey checks 32 bytes and returns them as a key. It refuses encodings that are not
// canonical, that are no point of the curve, and points of small order, under which a signature
// proves nothing. The error is ErrKey.
func NewPublicKey(b []byte) (PublicKey, error) {
	var k PublicKey
	if len(b) != len(k) {
		return k, fmt.Errorf("%w: %d bytes instead of 32", ErrKey, len(b))
	}
	p, err := new(edwards25519.Point).SetBytes(b)
	if err != nil {
		return k, fmt.Errorf("%w: not a point of the curve", ErrKey)
	}
	if !canonical([32]byte(b)) {
		return k, fmt.Errorf("%w: not canonically encoded", ErrKey)
	}
	if new(edwards25519.Point).MultByCofactor(p).Equal(edwards25519.NewIdentityPoint()) == 1 {
		return k, fmt.Errorf("%w: of small order", ErrKey)
	}
	return PublicKey(b), nil
}

// canonical reports whether the y of a point's encoding is less than the field's prime 2²⁵⁵-19 (RFC 8032 §5.1.3). That alone
// is looked at: writing the point anew to compare costs more than all other checks, and the one encoding that it would refuse
// besides, of a wrong sign of x = 0, is of small order.
func canonical(b [32]byte) bool {
	if b[0] < 0xed || b[31]&0x7f != 0x7f {
		return true
	}
	for _, c := range b[1:31] {
		if c != 0xff {
			return true
		}
	}
	return false
}

// ParsePublicKey reads a user nkey as people write it: surrounding space is dropped and case does
// not matter (SPEC.md §2). A seed gives ErrSeed, everything else that is not a user's public key
// ErrKey; neither error repeats the input.
func ParsePublicKey(s string) (PublicKey, error) {
	s = upper(strings.TrimSpace(s))
	if strings.HasPrefix(s, "S") && len(s) > 50 {
		return PublicKey{}, ErrSeed
	}
	if !strings.HasPrefix(s, "U") {
		if len(s) == 56 {
			if kind := nkeys.Prefix(s); kind != nkeys.PrefixByteUnknown && kind != nkeys.PrefixByteUser {
				return PublicKey{}, fmt.Errorf("%w: it is the key of a NATS %s", ErrKey, kind)
			}
		}
		return PublicKey{}, fmt.Errorf("%w: user keys begin with U", ErrKey)
	}
	if len(s) != 56 {
		return PublicKey{}, fmt.Errorf("%w: %d characters instead of 56", ErrKey, len(s))
	}
	raw, err := nkeys.Decode(nkeys.PrefixByteUser, []byte(s))
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: its checksum does not match, so a character is mistyped", ErrKey)
	}
	return NewPublicKey(raw)
}

// upper and lower change the case of ASCII letters: Unicode has others that it takes for theirs.
func upper(s string) string { return strings.Map(inCase('a', 'A'), s) }
func lower(s string) string { return strings.Map(inCase('A', 'a'), s) }

// inCase takes the letters from one A or a on to those from another on.
func inCase(from, to rune) func(rune) rune {
	return func(r rune) rune {
		if r >= from && r < from+26 {
			return r - from + to
		}
		return r
	}
}

// LooksLikeKey reports whether s was meant as a key or a seed rather than as a user's name.
func LooksLikeKey(s string) bool {
	s = strings.ToUpper(strings.TrimSpace(s))
	return len(s) > 50 && !strings.ContainsAny(s, "._-/ ")
}

// String writes the key as a user nkey, 56 characters beginning with U.
func (k PublicKey) String() string {
	s, err := nkeys.Encode(nkeys.PrefixByteUser, k[:])
	if err != nil { // cannot happen: the prefix and the length are constants
		return hex.EncodeToString(k[:])
	}
	return string(s)
}

// MarshalText writes the key as String does.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the key as ParsePublicKey does.
func (k *PublicKey) UnmarshalText(text []byte) error {
	p, err := ParsePublicKey(string(text))
	if err == nil {
		*k = p
	}
	return err
}

// UnmarshalCBOR accepts a byte string holding a valid key.
func (k *PublicKey) UnmarshalCBOR(data []byte) error {
	b, err := byteString(data, len(k))
	if err != nil {
		return err
	}
	p, err := NewPublicKey(b)
	if err == nil {
		*k = p
	}
	return err
}

// ID names a log: the first 20 bytes of the hash of its first entry (SPEC.md §4).
type ID [20]byte

// idEncoding is the base32 of RFC 4648 in lower case, as it may stand in a subject of NATS.
var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// ParseID reads 32 base32 characters, in either case.
func ParseID(s string) (ID, error) {
	var id ID
	s = lower(strings.TrimSpace(s))
	b, err := idEncoding.DecodeString(s)
	if err != nil || len(b) != len(id) || len(s) != idEncoding.EncodedLen(len(id)) { // it would pass over a character too many
		return id, fmt.Errorf("%w: an id is 32 letters and digits 2 to 7", ErrID)
	}
	return ID(b), nil
}

// String writes the id as 32 lower-case base32 characters.
func (id ID) String() string { return idEncoding.EncodeToString(id[:]) }

// Compare orders ids as they are written, which is not the order of their bytes.
func (id ID) Compare(other ID) int { return strings.Compare(id.String(), other.String()) }

// IsZero reports whether no id is set.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText writes the id as String does.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the id as ParseID does.
func (id *ID) UnmarshalText(text []byte) error {
	p, err := ParseID(string(text))
	if err == nil {
		*id = p
	}
	return err
}

// UnmarshalCBOR accepts a byte string of 20 bytes.
func (id *ID) UnmarshalCBOR(data []byte) error {
	b, err := byteString(data, len(id))
	if err == nil {
		*id = ID(b)
	}
	return err
}

// Hash is a SHA-256 hash or a key commitment.
type Hash [32]byte

// ParseHash reads 64 hexadecimal characters.
func ParseHash(s string) (Hash, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(Hash{}) {
		return Hash{}, fmt.Errorf("%w: a hash is 64 hexadecimal characters", ErrID)
	}
	return Hash(b), nil
}

// String writes the hash as lower-case hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether no hash is set.
func (h Hash) IsZero() bool { return h == Hash{} }

// MarshalText writes the hash as String does.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads the hash as ParseHash does.
func (h *Hash) UnmarshalText(text []byte) error {
	p, err := ParseHash(string(text))
	if err == nil {
		*h = p
	}
	return err
}

// UnmarshalCBOR accepts a byte string of 32 bytes.
func (h *Hash) UnmarshalCBOR(data []byte) error {
	b, err := byteString(data, len(h))
	if err == nil {
		*h = Hash(b)
	}
	return err
}
