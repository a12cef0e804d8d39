// Package crypto holds the cryptography of the unibus protocol (SPEC.md): identities and the keys
// derived from them, signed statements, cards and tokens, sealed room keys, and frames.
//
// It is pure: bytes in, bytes out. It opens no file, knows no clock and draws no randomness of its
// own but what HPKE's encapsulation needs; times and fresh bytes are passed in. Whether a valid
// signer was allowed to sign is not its business: that is package ledger's.
package crypto

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/nats-io/nkeys"
)

// ErrSignature says that a signature does not verify.
var ErrSignature = errors.New("signature does not verify")

// Identity is everything one 32-byte seed gives (SPEC.md §2). It is safe for concurrent use.
type Identity struct {
	seed       [32]byte
	key        PublicKey
	signing    ed25519.PrivateKey
	connection ed25519.PrivateKey
	sealing    hpke.PrivateKey
}

// NewIdentity derives an identity from 32 random bytes.
func NewIdentity(seed [32]byte) (*Identity, error) {
	connection, err := derive(seed[:], nil, "unibus/v1 connection key", 32)
	if err != nil {
		return nil, err
	}
	private, err := derive(seed[:], nil, "unibus/v1 sealing key", 32)
	if err != nil {
		return nil, err
	}
	sealing, err := hpke.MLKEM768X25519().NewPrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("derive the sealing key: %w", err)
	}
	id := &Identity{
		seed:       seed,
		signing:    ed25519.NewKeyFromSeed(seed[:]),
		connection: ed25519.NewKeyFromSeed(connection),
		sealing:    sealing,
	}
	id.key = PublicKey(id.signing.Public().(ed25519.PublicKey))
	return id, nil
}

// ParseIdentity reads a user nkey seed (SU…), as Seed writes it. Its error is ErrKey and never
// repeats the input.
func ParseIdentity(text []byte) (*Identity, error) {
	prefix, raw, err := nkeys.DecodeSeed(bytes.TrimSpace(text))
	if err != nil || prefix != nkeys.PrefixByteUser {
		return nil, fmt.Errorf("%w: not a user nkey seed", ErrKey)
	}
	return NewIdentity([32]byte(raw)) // DecodeSeed takes no other size
}

// Seed writes the seed as a user nkey seed: the secret itself.
func (id *Identity) Seed() ([]byte, error) {
	return nkeys.EncodeSeed(nkeys.PrefixByteUser, id.seed[:])
}

// Key is the public identity key, by which everyone knows this identity.
func (id *Identity) Key() PublicKey { return id.key }

// ConnectionKey is the public half of the key that signs NATS nonces.
func (id *Identity) ConnectionKey() PublicKey {
	return PublicKey(id.connection.Public().(ed25519.PublicKey))
}

// SignNonce signs a NATS server's nonce with the connection key. The identity key never signs what
// a server chose.
func (id *Identity) SignNonce(nonce []byte) []byte { return ed25519.Sign(id.connection, nonce) }

// sign signs with the identity key; every message begins FF 00, which no nonce does.
func (id *Identity) sign(message []byte) []byte { return ed25519.Sign(id.signing, message) }

// VerifyNonce checks what SignNonce made.
func VerifyNonce(connection PublicKey, nonce, signature []byte) error {
	if !verify(connection, nonce, signature) {
		return ErrSignature
	}
	return nil
}

// verify checks an Ed25519 signature. Which keys may be used is checked when they are read (NewPublicKey).
func verify(key PublicKey, message, signature []byte) bool {
	return len(signature) == ed25519.SignatureSize && ed25519.Verify(key[:], message, signature)
}

// derive is HKDF-SHA256 (RFC 5869): length bytes for a purpose, which info names. All keys of an identity and of a room
// come from their one secret by it (SPEC.md §2, §5).
func derive(secret, salt []byte, info string, length int) ([]byte, error) {
	return hkdf.Key(sha256.New, secret, salt, info, length)
}
