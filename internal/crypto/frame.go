package crypto

import (
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// This file seals and opens frames (SPEC.md §6): a header in clear, then a signature over everything and the content, both
// encrypted in rooms that are. Both need a FrameKey, which is derived once for each epoch.

// Sizes and bits of frames. No frame, with everything in it, has more than MaxFrame bytes; FrameOverhead is what an
// encrypted one has beside its content.
const (
	HeaderSize    = 84
	MaxFrame      = 1 << 20
	MaxInFlight   = 18 // frames of a stream that its writer may have on their way at once (SPEC.md §6)
	FrameOverhead = HeaderSize + signatureSize + chacha20poly1305.Overhead

	SuiteSigned    = 0 // signed only, for rooms without encryption
	SuiteEncrypted = 1 // XChaCha20-Poly1305

	FlagMore    = 1 // the last message continues in the next frame
	FlagFinal   = 2 // the stream ends here
	FlagFollows = 4 // the content tells what else its writer had stored; a stream's first frame only
)

// Errors of frames: ErrHeader for bytes that are no frame, ErrOpen for one that was not sealed under the key that it names.
var (
	ErrHeader = errors.New("malformed frame header")
	ErrOpen   = errors.New("frame does not open")
)

// aead is an authenticated cipher, in a field whose name is not its type's.
type aead = cipher.AEAD

// Header is the clear part of a frame. Everything in it is authenticated.
type Header struct {
	Suite   byte
	Flags   byte
	Epoch   uint32
	At      uint64   // the room log's seq that the sender holds
	Head    [16]byte // first bytes of that entry's hash
	Stream  [16]byte // random, one per sending process and room
	Counter uint64   // from 0, one more per frame
	Nonce   [24]byte
}

// append writes a header, HeaderSize bytes.
func (h Header) append(dst []byte) []byte {
	dst = append(dst, 'u', 'b', '1', h.Suite, h.Flags, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, h.Epoch)
	dst = binary.BigEndian.AppendUint64(dst, h.At)
	dst = append(dst, h.Head[:]...)
	dst = append(dst, h.Stream[:]...)
	dst = binary.BigEndian.AppendUint64(dst, h.Counter)
	return append(dst, h.Nonce[:]...)
}

// ParseHeader reads a frame's header and checks that the frame's size fits it. The error is
// ErrHeader.
func ParseHeader(frame []byte) (Header, error) {
	var h Header
	if len(frame) < HeaderSize+signatureSize || len(frame) > MaxFrame {
		return h, fmt.Errorf("%w: %d bytes", ErrHeader, len(frame))
	}
	if string(frame[:3]) != "ub1" {
		return h, fmt.Errorf("%w: not a unibus frame", ErrHeader)
	}
	h.Suite, h.Flags = frame[3], frame[4]
	if h.Suite > SuiteEncrypted || h.Flags&^(FlagMore|FlagFinal|FlagFollows) != 0 || frame[5]|frame[6]|frame[7] != 0 {
		return h, fmt.Errorf("%w: suite, flags or reserved bytes", ErrHeader)
	}
	h.Epoch = binary.BigEndian.Uint32(frame[8:])
	h.At = binary.BigEndian.Uint64(frame[12:])
	copy(h.Head[:], frame[20:])
	copy(h.Stream[:], frame[36:])
	h.Counter = binary.BigEndian.Uint64(frame[52:])
	if h.Flags&FlagFollows != 0 && h.Counter != 0 {
		return h, fmt.Errorf("%w: it follows others in the middle of its stream", ErrHeader)
	}
	copy(h.Nonce[:], frame[60:])
	if h.Suite == SuiteEncrypted && len(frame) < FrameOverhead {
		return h, fmt.Errorf("%w: %d bytes", ErrHeader, len(frame))
	}
	if h.Suite == SuiteSigned && h.Nonce != [24]byte{} {
		return h, fmt.Errorf("%w: a nonce without encryption", ErrHeader)
	}
	return h, nil
}

// FrameKey is an epoch's key made ready for frames of one room. It is safe for concurrent use.
type FrameKey struct {
	room   ID
	epoch  uint32
	secret []byte
	aead   aead
}

// NewFrameKey derives the frame key of an epoch.
func NewFrameKey(key RoomKey, room ID, epoch uint32) (*FrameKey, error) {
	secret, err := derive(key[:], nil, roomInfo("unibus/v1 frame key\x00", room, epoch), 32)
	if err != nil {
		return nil, err
	}
	a, err := chacha20poly1305.NewX(secret)
	if err != nil {
		return nil, err
	}
	return &FrameKey{room, epoch, secret, a}, nil
}

// SealFrame signs content, encrypts it under key (nil for a room without encryption) and appends
// the frame to dst. Suite, Epoch (in encrypted rooms) and Nonce of h are filled in here. fresh is
// 32 random bytes: repeated randomness still never repeats a nonce for other content.
func (id *Identity) SealFrame(dst []byte, room ID, key *FrameKey, h Header, content []byte, fresh [32]byte) ([]byte, error) {
	sum := sha256.Sum256(content)
	h.Suite, h.Nonce = SuiteSigned, [24]byte{}
	if key != nil {
		h.Suite, h.Epoch = SuiteEncrypted, key.epoch
		info := append([]byte("unibus/v1 nonce\x00"), h.append(nil)[:60]...)
		nonce, err := derive(key.secret, fresh[:], string(append(info, sum[:]...)), len(h.Nonce))
		if err != nil {
			return nil, err
		}
		copy(h.Nonce[:], nonce)
	}
	start := len(dst)
	dst = h.append(dst)
	header := dst[start:]
	signature := id.sign(frameMessage(room, id.key, header, sum))
	if key == nil {
		return append(append(dst, signature...), content...), nil
	}
	plain := append(append(make([]byte, 0, len(signature)+len(content)), signature...), content...)
	return key.aead.Seal(dst, h.Nonce[:], plain, frameAAD(room, id.key, header)), nil
}

// OpenFrame decrypts a frame whose header parsed, checks the sender's signature and returns the
// content. key is nil for a room without encryption. The error is ErrOpen when the frame is not
// authentic at all, ErrSignature when it opens under the room's key but the named sender did not
// sign it: an insider's forgery.
func OpenFrame(frame []byte, room ID, sender PublicKey, key *FrameKey) ([]byte, error) {
	header, body := frame[:HeaderSize], frame[HeaderSize:]
	if key != nil {
		plain, err := key.aead.Open(nil, header[60:84], body, frameAAD(room, sender, header))
		if err != nil {
			return nil, ErrOpen
		}
		body = plain
	}
	signature, content := body[:signatureSize], body[signatureSize:]
	if !verify(sender, frameMessage(room, sender, header, sha256.Sum256(content)), signature) {
		return nil, ErrSignature
	}
	return content, nil
}

// frameMessage is what a sender signs of a frame. The two bytes that it begins with no NATS nonce has, so that a server
// cannot have a frame signed as a login.
func frameMessage(room ID, sender PublicKey, header []byte, sum [32]byte) []byte {
	m := make([]byte, 0, 2+16+len(room)+len(sender)+len(header)+len(sum))
	m = append(m, 0xff, 0)
	m = append(m, "unibus/v1 frame\x00"...)
	m = append(append(m, room[:]...), sender[:]...)
	return append(append(m, header...), sum[:]...)
}

// frameAAD is what a frame is bound to when it is encrypted: it opens in no other room, as no other sender's, and under no
// other header.
func frameAAD(room ID, sender PublicKey, header []byte) []byte {
	m := make([]byte, 0, 16+len(room)+len(sender)+len(header))
	m = append(m, "unibus/v1 frame\x00"...)
	return append(append(append(m, room[:]...), sender[:]...), header...)
}
