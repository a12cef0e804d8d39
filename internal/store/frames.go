package store

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

// This file is the past of a stored room as a service gives it: what is asked for (FramesQuery), what comes (Past), and
// how its frames are written for the wire (SPEC.md §7, The past of a stored room).

// FramesType is the media type of the past of a room: frames one after the other, each
// seq u64 || time u64 (Unix µs) || sender(32) || length u32 || frame.
const FramesType = "application/vnd.unibus.frames"

// frameHead is what stands before each frame.
const frameHead = 8 + 8 + 32 + 4

// Frame is one frame of a stored room, as the server keeps it. Nothing in it is verified.
type Frame struct {
	Seq    uint64           // its place in the room's stream
	Time   time.Time        // when it was stored, by the server's clock
	Sender crypto.PublicKey // by the subject; zero when that names nobody
	Data   []byte
}

// Size is how many bytes the frame takes on the wire.
func (f *Frame) Size() int { return frameHead + len(f.Data) }

// Stream is what a room has stored, by the word of the server that leads its stream.
type Stream struct {
	First  uint64     `json:"first"` // the first place; after the last in an empty room
	Last   uint64     `json:"last"`
	Frames uint64     `json:"frames"`
	Bytes  uint64     `json:"bytes"` // that they take on the server's disk
	Began  *time.Time `json:"first_time,omitempty"`
	Time   *time.Time `json:"time,omitempty"` // of the last
	// Writers are who has sent what is stored, by key; of more than MaxWriters those who sent most.
	Writers []Writer `json:"writers"`
}

// Writer is somebody whose frames a room has stored.
type Writer struct {
	Endpoint crypto.PublicKey `json:"endpoint"`
	Frames   uint64           `json:"frames"`
	Time     *time.Time       `json:"time,omitempty"` // of the last; nil: the server did not say
}

// MaxWriters is how many writers a Stream names at most.
const MaxWriters = 1000

// FramesQuery says which frames of a room's past are wanted: those after a place, or with Last set the
// last so many, or those stored at Since or later. The zero value is all of them.
type FramesQuery struct {
	After uint64
	Since time.Time
	Last  uint64
	None  bool // no frame at all, only how far the room reaches
	Bytes int  // at most so many in one answer, though always one frame; 0: as many as fit
}

// Past is a part of a room's past: frames by place, without one twice.
type Past struct {
	First, Last uint64 // the room's first and last place, by the leader of its stream; First is after Last in an empty room
	Frames      []Frame
	Lost        uint64 // no server holds anything behind the frames, up to this place; 0: that is not known
}

// End is the last place that Past says something about: frames missing up to there are not to be had.
func (p *Past) End() uint64 {
	if n := len(p.Frames); n > 0 {
		return p.Frames[n-1].Seq
	}
	return p.Last
}

// AppendFrame writes a frame for the wire.
func AppendFrame(b []byte, f *Frame) []byte {
	b = binary.BigEndian.AppendUint64(b, f.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(f.Time.UnixMicro()))
	b = append(b, f.Sender[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.Data)))
	return append(b, f.Data...)
}

// ParseFrames reads frames off the wire; they share b. ErrUnavailable when they are cut short or out of
// order: whoever answers so cannot be relied on.
func ParseFrames(b []byte) ([]Frame, error) {
	var out []Frame
	for after := uint64(0); len(b) > 0; {
		if len(b) < frameHead {
			return nil, fmt.Errorf("%w: frames that break off", ErrUnavailable)
		}
		f := Frame{
			Seq: binary.BigEndian.Uint64(b), Time: time.UnixMicro(int64(binary.BigEndian.Uint64(b[8:]))),
			Sender: crypto.PublicKey(b[16:48]),
		}
		size := int64(binary.BigEndian.Uint32(b[48:]))
		b = b[frameHead:]
		if size > int64(len(b)) || f.Seq <= after {
			return nil, fmt.Errorf("%w: frames that break off or are out of order", ErrUnavailable)
		}
		f.Data, b, after = b[:size:size], b[size:], f.Seq
		out = append(out, f)
	}
	return out, nil
}
