package ledger

import (
	"errors"
	"fmt"

	"github.com/unibus/unibus/internal/crypto"
)

// Reasons to refuse a frame (SPEC.md §6). ErrForged counts and drops; the forks and the others
// concern the room's integrity.
var (
	ErrForged      = errors.New("frame is not authentic")
	ErrSuite       = errors.New("frame does not use the room's encryption")
	ErrWithheld    = errors.New("the room log that the frame refers to is withheld")
	ErrNotWriter   = errors.New("its sender may not write")
	ErrEpoch       = errors.New("frame is of another epoch than its place in the log")
	ErrEnded       = errors.New("frame was made after the room was archived")
	ErrForkProven  = errors.New("an owner or admin holds another history of this room")
	ErrForkClaimed = errors.New("its sender holds another history of this room")
)

// Verdict is an accepted frame.
type Verdict struct {
	Header  crypto.Header
	Content crypto.Content
	Former  bool // its sender may no longer write
}

// FrameKeys gives the frame key of an epoch that the log knows.
type FrameKeys func(epoch uint32) (*crypto.FrameKey, error)

// Judge says whether a reader whose room log is s may believe a frame from sender, and what it
// holds. live asks for what a live reader demands: that the sender may write now. Errors wrap the
// reasons above or those of package crypto; ErrWithheld asks the caller to fetch the log up to the
// frame's place and to judge again. An error of keys comes back as it is.
//
// What a stream allows (repeats, gaps, time going back) is the caller's to check, as is whether
// the bus has revoked the sender.
func (s *State) Judge(frame []byte, sender crypto.PublicKey, keys FrameKeys, live bool) (*Verdict, error) {
	h, err := crypto.ParseHeader(frame)
	if err != nil {
		return nil, err
	}
	if (h.Suite == crypto.SuiteEncrypted) != s.Room.Policy.Encrypted() {
		return nil, ErrSuite
	}
	own, ok := s.HashAt(h.At)
	if !ok {
		return nil, fmt.Errorf("%w: it is at entry %d, the log here ends at %d", ErrWithheld, h.At, s.Head.Seq)
	}
	if [16]byte(own[:16]) != h.Head {
		return nil, s.judgeFork(frame, h, sender, keys)
	}
	if s.Room.Archived != 0 && h.At >= s.Room.Archived {
		return nil, ErrEnded
	}
	if !s.Room.RoleAt(sender, h.At).Writes() {
		return nil, fmt.Errorf("%w: not at entry %d", ErrNotWriter, h.At)
	}
	if h.Epoch != s.Room.EpochAt(h.At).Number {
		return nil, ErrEpoch
	}
	former := !s.Room.Role(sender).Writes()
	if live && former {
		return nil, fmt.Errorf("%w any more", ErrNotWriter)
	}
	content, err := s.open(frame, h, sender, keys)
	if err != nil {
		return nil, err
	}
	c, err := crypto.ParseContent(content)
	if err != nil {
		return nil, err
	}
	return &Verdict{h, c, former}, nil
}

// judgeFork looks at a frame that names another entry at its place than this log has. Only if it
// is authentic is it evidence of anything.
func (s *State) judgeFork(frame []byte, h crypto.Header, sender crypto.PublicKey, keys FrameKeys) error {
	if h.Epoch < 1 || h.Epoch > s.Room.Epoch().Number {
		return fmt.Errorf("%w: unknown epoch %d", ErrForged, h.Epoch)
	}
	if _, err := s.open(frame, h, sender, keys); err != nil {
		return fmt.Errorf("%w: %v", ErrForged, err)
	}
	switch {
	case s.Room.Role(sender).Manages():
		return ErrForkProven
	case s.Room.Known(sender):
		return ErrForkClaimed
	}
	return fmt.Errorf("%w: %w", ErrForged, ErrNotWriter)
}

func (s *State) open(frame []byte, h crypto.Header, sender crypto.PublicKey, keys FrameKeys) ([]byte, error) {
	var key *crypto.FrameKey
	if s.Room.Policy.Encrypted() {
		var err error
		if key, err = keys(h.Epoch); err != nil {
			return nil, err
		}
	}
	return crypto.OpenFrame(frame, s.ID, sender, key)
}
