package crypto

import (
	"fmt"
)

// This file makes and opens cards: statements by which others learn where to seal keys for an identity.

// SealingKeySize is the size of a public sealing key, in bytes.
const SealingKeySize = 1216

// Card binds an identity key to its connection and sealing keys (SPEC.md §3).
type Card struct {
	Key        PublicKey
	Connection PublicKey
	Sealing    []byte // SealingKeySize bytes
}

// cardPayload is what is signed of a card.
type cardPayload struct {
	V          Number    `cbor:"v"`
	Key        PublicKey `cbor:"key"`
	Connection PublicKey `cbor:"connection"`
	Sealing    []byte    `cbor:"sealing"`
}

// Card makes the identity's card, a signed statement: the same bytes every time.
func (id *Identity) Card() ([]byte, error) {
	payload, err := Marshal(cardPayload{1, id.key, id.ConnectionKey(), id.sealing.PublicKey().Bytes()})
	if err != nil {
		return nil, err
	}
	return id.Sign(KindCard, payload), nil
}

// OpenCard verifies a card that is to be that of a key; with the zero key whoever signed it will do. ErrEncoding for what
// is no card, ErrSignature for one that another key signed, or that is another's.
func OpenCard(card []byte, of PublicKey) (Card, error) {
	payload, err := Payload(card)
	if err != nil {
		return Card{}, fmt.Errorf("card: %w", err)
	}
	var p cardPayload
	if err := Unmarshal(payload, &p); err != nil {
		return Card{}, fmt.Errorf("card: %w", err)
	}
	if p.V != 1 || len(p.Sealing) != SealingKeySize {
		return Card{}, fmt.Errorf("card: %w: version or sealing key", ErrEncoding)
	}
	if err := Verify(KindCard, p.Key, card); err != nil {
		return Card{}, fmt.Errorf("card: %w", err)
	}
	if of != (PublicKey{}) && p.Key != of {
		return Card{}, fmt.Errorf("card: %w: it is the card of another key", ErrSignature)
	}
	return Card{p.Key, p.Connection, p.Sealing}, nil
}
