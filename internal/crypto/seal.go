package crypto

import (
	"crypto/hmac"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// This file seals the keys of rooms (SPEC.md §5). The log publishes a commitment to each epoch's key; each member is handed a
// copy that only it opens; and with each key comes that of the epoch before, so that one copy opens a shared history.

// Sizes of a sealed copy, and of the key before as SealPrevious writes it, in bytes.
const (
	SealedSize   = 1168
	PreviousSize = 24 + 32 + 16
)

// Errors of room keys: ErrSealed for a copy that is another's, or of something else; ErrCommitment for one that its sealer
// made of another key than the log says.
var (
	ErrSealed     = errors.New("sealed key does not open")
	ErrCommitment = errors.New("key is not the committed one")
)

// RoomKey is the secret of one epoch of one room.
type RoomKey [32]byte

// Commit is the commitment that the log publishes for an epoch's key (SPEC.md §5).
func (k RoomKey) Commit(epoch uint32) Hash {
	m := hmac.New(sha256.New, k[:])
	m.Write([]byte("unibus/v1 key commitment\x00"))
	m.Write(binary.BigEndian.AppendUint32(nil, epoch))
	return Hash(m.Sum(nil))
}

// SealKey seals an epoch's key to a member's sealing key with HPKE base mode (RFC 9180 §5.1,
// X-Wing, HKDF-SHA256, AES-256-GCM). The result has SealedSize bytes and differs every time.
func SealKey(key RoomKey, room ID, epoch uint32, member PublicKey, sealing []byte) ([]byte, error) {
	public, err := hpke.MLKEM768X25519().NewPublicKey(sealing)
	if err != nil {
		return nil, fmt.Errorf("seal for %s: %w", member, err)
	}
	info := sealInfo(room, epoch, key.Commit(epoch), member)
	return hpke.Seal(public, hpke.HKDFSHA256(), hpke.AES256GCM(), info, key[:])
}

// OpenKey opens the identity's own sealed copy of an epoch's key. It fails with ErrSealed when it
// was sealed for anyone or anything else, and with ErrCommitment when it holds another key than
// the log committed to.
func (id *Identity) OpenKey(sealed []byte, room ID, epoch uint32, commit Hash) (RoomKey, error) {
	if len(sealed) != SealedSize {
		return RoomKey{}, fmt.Errorf("%w: %d bytes", ErrSealed, len(sealed))
	}
	info := sealInfo(room, epoch, commit, id.key)
	plain, err := hpke.Open(id.sealing, hpke.HKDFSHA256(), hpke.AES256GCM(), info, sealed)
	if err != nil {
		return RoomKey{}, ErrSealed
	}
	return checkCommit(RoomKey(plain), epoch, commit) // SealedSize leaves it 32 bytes
}

// checkCommit returns a key that is the committed one; of any other, nothing.
func checkCommit(key RoomKey, epoch uint32, commit Hash) (RoomKey, error) {
	if got := key.Commit(epoch); !hmac.Equal(got[:], commit[:]) {
		return RoomKey{}, ErrCommitment
	}
	return key, nil
}

// sealInfo is what a sealed copy is bound to: it opens for no other room, epoch, key or member.
func sealInfo(room ID, epoch uint32, commit Hash, member PublicKey) []byte {
	info := append([]byte("unibus/v1 room key\x00"), room[:]...)
	info = binary.BigEndian.AppendUint32(info, epoch)
	info = append(info, commit[:]...)
	return append(info, member[:]...)
}

// SealPrevious encrypts the key of the epoch before under the key of epoch, so that one sealed
// copy opens a shared history. nonce must be fresh.
func SealPrevious(key RoomKey, room ID, epoch uint32, old RoomKey, nonce [24]byte) ([]byte, error) {
	aead, err := roomAEAD(key, "unibus/v1 previous key\x00", room, epoch)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nonce[:], nonce[:], old[:], nil), nil
}

// OpenPrevious returns the key of the epoch before, checked against its own commitment. The error
// is ErrSealed or ErrCommitment.
func OpenPrevious(key RoomKey, room ID, epoch uint32, previous []byte, commit Hash) (RoomKey, error) {
	if len(previous) != PreviousSize {
		return RoomKey{}, ErrSealed
	}
	aead, err := roomAEAD(key, "unibus/v1 previous key\x00", room, epoch)
	if err != nil {
		return RoomKey{}, err
	}
	plain, err := aead.Open(nil, previous[:24], previous[24:], nil)
	if err != nil {
		return RoomKey{}, ErrSealed
	}
	return checkCommit(RoomKey(plain), epoch-1, commit)
}

// roomInfo is the purpose of a key that is derived for an epoch of a room.
func roomInfo(label string, room ID, epoch uint32) string {
	return string(binary.BigEndian.AppendUint32(append([]byte(label), room[:]...), epoch))
}

// roomAEAD is the cipher of a key that is derived from an epoch's for a purpose.
func roomAEAD(key RoomKey, label string, room ID, epoch uint32) (aead, error) {
	k, err := derive(key[:], nil, roomInfo(label, room, epoch), 32)
	if err != nil {
		return nil, err
	}
	return chacha20poly1305.NewX(k)
}
