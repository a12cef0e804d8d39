package crypto

import (
	"crypto/sha256"
	"fmt"
)

// This file signs and verifies statements: cards, tokens and entries are each a payload with a signature before it
// (SPEC.md §3). What a payload says is read where its kind is.

// Kinds of statements. A signature of one kind is worth nothing as another.
const (
	KindCard  = "card"
	KindToken = "token"
	KindEntry = "entry"
)

// signatureSize is how many bytes an Ed25519 signature has.
const signatureSize = 64

// Sign makes a statement: the signature over the kind and payload, then the payload (SPEC.md §3).
func (id *Identity) Sign(kind string, payload []byte) []byte {
	return append(id.sign(statementMessage(kind, payload)), payload...)
}

// Payload returns the part of a statement that is signed, without checking the signature.
func Payload(statement []byte) ([]byte, error) {
	if len(statement) <= signatureSize {
		return nil, fmt.Errorf("%w: a statement is longer than its signature", ErrEncoding)
	}
	if len(statement) > signatureSize+MaxStatement {
		return nil, fmt.Errorf("%w: statement of %d bytes", ErrEncoding, len(statement))
	}
	return statement[signatureSize:], nil
}

// Verify checks that key signed the statement as one of this kind. The error is ErrSignature or
// ErrEncoding.
func Verify(kind string, key PublicKey, statement []byte) error {
	payload, err := Payload(statement)
	if err != nil {
		return err
	}
	if !verify(key, statementMessage(kind, payload), statement[:signatureSize]) {
		return ErrSignature
	}
	return nil
}

// HashStatement is the hash by which a statement is known: SHA-256 of its payload.
func HashStatement(statement []byte) (Hash, error) {
	payload, err := Payload(statement)
	if err != nil {
		return Hash{}, err
	}
	return HashPayload(payload), nil
}

// HashPayload is the hash of the statements that have a payload, whoever signs them.
func HashPayload(payload []byte) Hash { return sha256.Sum256(payload) }

// statementMessage is what is signed of a statement: its kind comes first, so that a signature is worth nothing as one of
// another kind, and before it two bytes that no NATS nonce begins with.
func statementMessage(kind string, payload []byte) []byte {
	m := make([]byte, 0, 2+10+len(kind)+1+len(payload))
	m = append(m, 0xff, 0)
	m = append(m, "unibus/v1 "...)
	m = append(m, kind...)
	m = append(m, 0)
	return append(m, payload...)
}
