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
	ErrAhead       = errors.New("frame is of entries, and perhaps of a key, that the log here does not reach")
	ErrNotWriter   = errors.New("its sender may not write")
	ErrEpoch       = errors.New("frame is of another epoch than its place in the log")
	ErrEnded       = errors.New("frame was made after the room was archived")
	ErrForkProven  = errors.New("an owner or admin holds another history of this room")
	ErrForkClaimed = errors.New("its sender holds another history of this room")
)

// A frame is judged in this order: whether it can be authentic at all, whether it is, and whether its sender was allowed to
// make it where it says that it was made. Only what is authentic tells anything of anybody.

// Verdict is what there is to say of a frame that is authentic: it opens under the key of an epoch of the room,
// and the sender that its subject names has signed it.
type Verdict struct {
	Header  crypto.Header
	Content crypto.Content
	Former  bool  // its sender may no longer write
	Refused error // why nothing of it may be delivered; nil for a frame to believe
}

// FrameKeys gives the frame key of an epoch that the log knows.
type FrameKeys func(epoch uint32) (*crypto.FrameKey, error)

// Judge says whether a reader whose room log is s may believe a frame from sender, and what it
// holds. live asks for what a live reader demands: that the sender may write now.
//
// Only an authentic frame has a verdict. One without is evidence of nothing, and its error wraps ErrForged, or
// ErrAhead, which asks the caller to fetch the log and to judge again; an error of keys comes back as it is. With
// ErrWithheld, which asks the same, and with the forks there are both.
//
// What a stream allows (repeats, gaps, time going back) is the caller's to check, as is whether
// the bus has revoked the sender.
func (s *State) Judge(frame []byte, sender crypto.PublicKey, keys FrameKeys, live bool) (*Verdict, error) {
	h, err := possible(s, frame, sender)
	if err != nil {
		return nil, err
	}
	content, err := s.open(frame, h, sender, keys)
	if err != nil {
		return nil, s.elsewhere(h, err)
	}
	v := &Verdict{Header: h, Former: !s.Room.Role(sender).Writes()}
	if v.Content, err = crypto.ParseContent(h.Flags, content); err != nil {
		v.Refused = err
		return v, nil
	}
	return v, belongs(s, v, sender, live)
}

// JudgeClosed is Judge for whoever has no key of the room, as an auditor. Of a room without encryption it says all that
// Judge does. Of an encrypted one the signature of a frame is inside what is encrypted: what is held against the log then
// is what the header says, by the word of whoever keeps the frames, and under the sender whom that word names. Such a
// verdict has no content.
func JudgeClosed(s *State, frame []byte, sender crypto.PublicKey) (*Verdict, error) {
	if !s.Room.Policy.Encrypted() {
		return s.Judge(frame, sender, nil, false)
	}
	h, err := possible(s, frame, sender)
	if err != nil {
		return nil, err
	}
	v := &Verdict{Header: h, Former: !s.Room.Role(sender).Writes()}
	return v, belongs(s, v, sender, false)
}

// possible reads what a frame says of itself in clear, and refuses one that cannot be authentic, whatever is in it.
func possible(s *State, frame []byte, sender crypto.PublicKey) (crypto.Header, error) {
	h, err := crypto.ParseHeader(frame)
	if err != nil {
		return h, fmt.Errorf("%w: %w", ErrForged, err)
	}
	_, reached := s.HashAt(h.At)
	if err := s.authentic(h, sender, reached); err != nil {
		return h, s.elsewhere(h, err)
	}
	return h, nil
}

// belongs holds where a frame says that it was made against the log. It sets why nothing of the frame may be delivered; what
// the log here cannot decide, and the forks, are errors.
func belongs(s *State, v *Verdict, sender crypto.PublicKey, live bool) error {
	h := v.Header
	own, reached := s.HashAt(h.At)
	switch {
	case !reached:
		return fmt.Errorf("%w: it is at entry %d, the log here ends at %d", ErrWithheld, h.At, s.Head.Seq)
	case [16]byte(own[:16]) != h.Head && s.Room.Role(sender).Manages():
		return ErrForkProven
	case [16]byte(own[:16]) != h.Head:
		return ErrForkClaimed
	case s.Room.Archived != 0 && h.At >= s.Room.Archived:
		v.Refused = ErrEnded
	case !s.Room.RoleAt(sender, h.At).Writes():
		v.Refused = fmt.Errorf("%w: not at entry %d", ErrNotWriter, h.At)
	case h.Epoch != s.Room.EpochAt(h.At).Number:
		v.Refused = ErrEpoch
	case live && v.Former:
		v.Refused = fmt.Errorf("%w any more", ErrNotWriter)
	}
	return nil
}

// elsewhere adds to why a frame is forged that it says to be of another history: its sender may have been shown another
// log, with other keys, which people find out by comparing theirs.
func (s *State) elsewhere(h crypto.Header, why error) error {
	own, reached := s.HashAt(h.At)
	if !reached || [16]byte(own[:16]) == h.Head || !errors.Is(why, ErrForged) {
		return why
	}
	return fmt.Errorf("%w; it names another entry %d of the room's log than there is here: its sender may know another history", why, h.At)
}

// authentic says why a frame cannot be an authentic one, whatever is in it. What names entries, and with them
// members and epochs, that the log does not reach may be one when it does: ErrAhead.
func (s *State) authentic(h crypto.Header, sender crypto.PublicKey, reached bool) error {
	switch {
	case (h.Suite == crypto.SuiteEncrypted) != s.Room.Policy.Encrypted():
		return fmt.Errorf("%w: %w", ErrForged, ErrSuite)
	case h.Epoch < 1, h.At < 1:
		return fmt.Errorf("%w: it is of epoch %d, at entry %d: both are counted from 1", ErrForged, h.Epoch, h.At)
	case !reached && (h.Epoch > s.Room.Epoch().Number || !s.Room.Known(sender)):
		return fmt.Errorf("%w: it is at entry %d, the log here ends at %d", ErrAhead, h.At, s.Head.Seq)
	case h.Epoch > s.Room.Epoch().Number:
		return fmt.Errorf("%w: unknown epoch %d", ErrForged, h.Epoch)
	case !s.Room.Known(sender):
		return fmt.Errorf("%w: %w", ErrForged, ErrNotWriter)
	}
	return nil
}

// open checks the signature of a frame, and decrypts it where the room is encrypted. The error of keys comes back as it is;
// any other is ErrForged.
func (s *State) open(frame []byte, h crypto.Header, sender crypto.PublicKey, keys FrameKeys) ([]byte, error) {
	var key *crypto.FrameKey // nil: a room without encryption has frames that are only signed
	if s.Room.Policy.Encrypted() {
		var err error
		if key, err = keys(h.Epoch); err != nil {
			return nil, err
		}
	}
	content, err := crypto.OpenFrame(frame, s.ID, sender, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForged, err)
	}
	return content, nil
}
