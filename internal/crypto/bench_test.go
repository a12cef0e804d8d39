package crypto_test

import (
	"fmt"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
)

// BenchmarkFrame is what it costs to seal and sign a frame, and to verify and open it.
func BenchmarkFrame(b *testing.B) {
	id, room := person(b, 1), crypto.ID{5}
	key := must[*crypto.FrameKey](b)(crypto.NewFrameKey(crypto.RoomKey{7}, room, 1))
	for _, size := range []int{128, 256 << 10} {
		content := make([]byte, size)
		frame := must[[]byte](b)(id.SealFrame(nil, room, key, crypto.Header{Epoch: 1, At: 1}, content, [32]byte{9}))
		b.Run(fmt.Sprintf("seal/%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			dst := make([]byte, 0, len(frame))
			for b.Loop() {
				if _, err := id.SealFrame(dst, room, key, crypto.Header{Epoch: 1, At: 1}, content, [32]byte{9}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("open/%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := crypto.OpenFrame(frame, room, id.Key(), key); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
