package unibus

import (
	"fmt"
	"strings"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/inbox"
	"github.com/unibus/unibus/internal/reader"
)

// Header is one header of a message; keys may repeat.
type Header = crypto.Field

// StreamID names the frames of one sending process in one room.
type StreamID [16]byte

// String writes the stream id as hexadecimal.
func (s StreamID) String() string { return fmt.Sprintf("%x", s[:]) }

// Message is one authenticated message. Its text is somebody else's: before it goes to a terminal,
// control characters have to be made visible.
type Message struct {
	Room    ID
	Subject string
	Sender  PublicKey
	Name    string    // the sender's on the allowlist; its key if it has none there
	Time    time.Time // when it was sealed, by its sender's clock, which the signature covers
	Epoch   uint32
	Stream  StreamID
	Counter uint64 // of the frame it begins in
	Index   int    // of the message, or its first part, in that frame, from 0
	Headers []Header
	Body    []byte
	Parts   [][]byte // the body instead, with SubscribeOptions.Parts, of a message that came in several frames
	Former  bool     // its sender may no longer write
	Late    bool     // it came as new, but was sealed more than ten minutes before
	Unsure  bool     // the frame before it was not read, so that it may be only the end of a message
}

// ID names the message, the same for everyone who reads it, and nobody else's: "STREAM.COUNTER.INDEX".
func (m *Message) ID() string { return fmt.Sprintf("%x.%d.%d", m.Stream[:], m.Counter, m.Index) }

// Size is how many bytes the body has, in Body or in Parts.
func (m *Message) Size() int {
	size := len(m.Body)
	for _, p := range m.Parts {
		size += len(p)
	}
	return size
}

// NoticeKind says what a Notice is about.
type NoticeKind string

// Kinds of notices. Those that are Findings concern the room's integrity.
const (
	NoticeGap            = NoticeKind(inbox.Gap)            // frames of a stream are missing
	NoticeMissing        = NoticeKind(inbox.Missing)        // frames are missing whose writer says that they were stored
	NoticeExpired        = NoticeKind(inbox.Expired)        // missing, and they may have expired
	NoticeUnreadable     = NoticeKind(inbox.Unreadable)     // frames of epochs whose key is not for this client
	NoticeUnstored       = NoticeKind(inbox.Unstored)       // missing, of a time when the room stored nothing
	NoticeUnacknowledged = NoticeKind(inbox.Unacknowledged) // missing, and their writer never knew them stored
	NoticeReplayed       = NoticeKind(inbox.Replayed)       // a stream repeats itself with other content, goes back, or goes on after its end
	NoticeDropped        = NoticeKind(inbox.Dropped)        // a message that is too large, or will not be whole
	NoticeOpen           = NoticeKind(inbox.Open)           // a message was not whole when everything stored was read
	NoticeLost           = NoticeKind(inbox.Lost)           // the room's stream itself lacks places; From and To are these

	NoticeRolledBack = NoticeKind(reader.RolledBack) // the room reached further before, From and To are places, or had another frame at one
	NoticeGone       = NoticeKind(reader.Gone)       // the servers have nothing any more in which the room's messages were stored

	NoticeForged              = NoticeKind(reader.Forged)   // a frame does not authenticate, and was dropped
	NoticeRefused             = NoticeKind(reader.Refused)  // an authentic frame that its sender was not allowed
	NoticeFork                = NoticeKind(reader.Fork)     // a sender holds another history of the room
	NoticeWithheld            = NoticeKind(reader.Withheld) // a frame refers to log entries the store does not give
	NoticeAhead               = NoticeKind(reader.Ahead)    // so many frames, From 1 To n, did so and could not be verified
	NoticeKey                 = NoticeKind(reader.Key)      // the key of an epoch, which the log says is for this client, is not to be had
	NoticeView     NoticeKind = "view"                      // the store lists something that the log does not bear out
)

// Notice is something a reader should know about what it was, or was not, given.
type Notice struct {
	Kind    NoticeKind
	Finding bool // it breaks a promise of the protocol: ErrIntegrity at the end
	Room    ID
	Subject string
	Sender  string // as the subject of the frame says
	Stream  StreamID
	From    uint64 // the first counter concerned
	To      uint64 // the last
	Seq     uint64 // the frame's place in the room's stream; 0 in a live room
	By      uint64 // that of the frame which tells of it, if that is another; else 0
	Why     string
}

// String tells the notice in one line.
func (n Notice) String() string {
	frames := fmt.Sprintf("frame %d", n.From)
	if n.To > n.From {
		frames = fmt.Sprintf("frames %d to %d", n.From, n.To)
	}
	switch {
	case n.Kind == NoticeRolledBack, n.Kind == NoticeGone, n.Kind == NoticeView:
		return fmt.Sprintf("%s: %s", n.Subject, n.Why)
	case n.Kind == NoticeAhead:
		return fmt.Sprintf("%s: %d frame(s) by %s %s", n.Subject, n.To, n.Sender, n.Why)
	case n.Kind == NoticeForged && n.To > n.From: // of whatever streams
		return fmt.Sprintf("%s: %d more frames by %s %s", n.Subject, n.To, n.Sender, n.Why)
	case n.Kind == NoticeUnreadable && n.Stream == StreamID{}: // of whatever streams
		return fmt.Sprintf("%s: %d frame(s), %s", n.Subject, n.To-n.From+1, n.Why)
	}
	if n.Kind == NoticeLost {
		return fmt.Sprintf("%s: %s of the room's stream: %s", n.Subject, strings.Replace(frames, "frame", "message", 1), n.Why)
	}
	place := ""
	if n.Seq > 0 {
		place = fmt.Sprintf(" (message %d of the room's stream)", n.Seq)
	}
	return fmt.Sprintf("%s: %s of stream %s by %s%s: %s", n.Subject, frames, n.Stream, n.Sender, place, n.Why)
}
