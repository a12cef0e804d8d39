package crypto_test

import (
	"bytes"
	"testing"

	"filippo.io/edwards25519"

	"github.com/unibus/unibus/internal/crypto"
)

// TestCanonicalKeys: of the encodings around the field's prime those from it on are refused, and every other point that
// is not of small order is taken, as by writing it anew.
func TestCanonicalKeys(t *testing.T) {
	otherwise := 0
	for low := range 256 {
		for _, high := range []byte{0x7f, 0xff, 0x3f} {
			b := bytes.Repeat([]byte{0xff}, 32)
			b[0], b[31] = byte(low), high
			p, err := new(edwards25519.Point).SetBytes(b)
			large := err == nil && new(edwards25519.Point).MultByCofactor(p).Equal(edwards25519.NewIdentityPoint()) == 0
			good := large && bytes.Equal(p.Bytes(), b)
			if _, err := crypto.NewPublicKey(b); (err == nil) != good {
				t.Errorf("%x: %v", b, err)
			}
			if large && !good {
				otherwise++
			}
		}
	}
	if otherwise < 10 {
		t.Errorf("only %d of the points tried are written otherwise", otherwise)
	}
}
