package crypto

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// This file is the encoding of everything that is signed: of each value there is one, so that two who hold the same value
// hash and sign the same bytes, and nobody can write it another way (SPEC.md §3).

// ErrEncoding says that bytes are not the one valid encoding of what they claim to be.
var ErrEncoding = errors.New("invalid encoding")

// MaxStatement is the most bytes a statement's payload may have.
const MaxStatement = 900 << 10

// MaxNumber is the largest number in a statement: what every language's numbers hold exactly.
const MaxNumber = 1<<53 - 1

// The modes of the CBOR library: what Marshal writes, and what Unmarshal takes before it compares.
var (
	encoding = must(func() (cbor.EncMode, error) {
		o := cbor.CoreDetEncOptions()
		o.NilContainers = cbor.NilContainerAsEmpty
		o.TextMarshaler = cbor.TextMarshalerNone
		return o.EncMode()
	}())
	decoding = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		MaxNestedLevels:   8,
	}.DecMode())
)

// must returns what is made of constants, which cannot fail.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // constant options: wrong at the first run of any test or not at all
	}
	return v
}

// Marshal encodes v as core-deterministic CBOR (RFC 8949 §4.2.1).
func Marshal(v any) ([]byte, error) { return encoding.Marshal(v) }

// Unmarshal decodes data into v and refuses, with ErrEncoding, every encoding of it but the one
// that Marshal makes: duplicate or unknown fields, trailing bytes, indefinite lengths, longer
// forms, nulls, wrong sizes, and numbers above MaxNumber.
func Unmarshal(data []byte, v any) error {
	if len(data) > MaxStatement {
		return fmt.Errorf("%w: %d bytes, the limit is %d", ErrEncoding, len(data), MaxStatement)
	}
	if err := decoding.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %v", ErrEncoding, err)
	}
	// What v is written as again has to be the very bytes that were read. If it cannot be written it is nothing, which data
	// is not.
	again, _ := encoding.Marshal(v)
	if !bytes.Equal(again, data) {
		return fmt.Errorf("%w: not the deterministic encoding", ErrEncoding)
	}
	return nil
}

// Number is an unsigned integer of a statement, at most MaxNumber.
type Number uint64

// UnmarshalCBOR accepts an unsigned integer up to MaxNumber.
func (n *Number) UnmarshalCBOR(data []byte) error {
	var u uint64
	if len(data) == 0 || data[0]>>5 != 0 {
		return fmt.Errorf("%w: not an unsigned integer", ErrEncoding)
	}
	if err := decoding.Unmarshal(data, &u); err != nil {
		return err
	}
	if u > MaxNumber {
		return fmt.Errorf("%w: number above 2^53-1", ErrEncoding)
	}
	*n = Number(u)
	return nil
}

// byteString returns the contents of a CBOR byte string of exactly n bytes.
func byteString(data []byte, n int) ([]byte, error) {
	if len(data) == 0 || data[0]>>5 != 2 {
		return nil, fmt.Errorf("%w: not a byte string", ErrEncoding)
	}
	var b []byte
	if err := decoding.Unmarshal(data, &b); err != nil {
		return nil, err
	}
	if len(b) != n {
		return nil, fmt.Errorf("%w: %d bytes instead of %d", ErrEncoding, len(b), n)
	}
	return b, nil
}
