package inbox

import "github.com/unibus/unibus/internal/crypto"

// This file is what an inbox tells of: what is missing, and what breaks the protocol.

// Kind says what a Notice is about.
type Kind string

// Kinds of notices.
const (
	Gap            Kind = "gap"            // frames of a stream are missing
	Missing        Kind = "missing"        // frames whose writer says that they were stored
	Expired        Kind = "expired"        // missing, but old enough, or behind enough others, to have expired
	Unreadable     Kind = "unreadable"     // missing, of epochs whose key the reader was never owed
	Unstored       Kind = "unstored"       // missing, of a time when the room stored nothing
	Unacknowledged Kind = "unacknowledged" // missing, and their writer says that it never knew them stored
	Replayed       Kind = "replayed"       // a stream repeats itself with other content, goes back, or goes on after its end
	Dropped        Kind = "dropped"        // a message that is too large, or was given up for others
	Open           Kind = "open"           // a message is not whole yet
	Lost           Kind = "lost"           // From and To are places of the room's stream, before what the server says comes first
)

// Notice tells of the frames From to To of a stream. A Finding breaks a promise of the protocol.
type Notice struct {
	Kind     Kind
	Finding  bool
	Sender   crypto.PublicKey
	Stream   [16]byte
	From, To uint64
	Place    uint64 // of the frame that it is about; 0 for none
	By       uint64 // of the frame that tells of it, if that is another; else 0
	Why      string
}

// About completes a notice about a frame: whose it is, its header as far as it could be read, its place, and why.
func (n Notice) About(sender crypto.PublicKey, h crypto.Header, place uint64, why error) Notice {
	n.Sender, n.Stream, n.From, n.To, n.Place, n.Why = sender, h.Stream, h.Counter, h.Counter, place, why.Error()
	return n
}

// teller is told notices.
type teller func(Notice)

// of tells a notice of a stream.
func (t teller) of(k key, n Notice) {
	n.Sender, n.Stream = k.sender, k.stream
	t(n)
}

// replayed tells that a stream repeats itself, goes back or goes on after its end with a frame.
func (t teller) replayed(s *stream, f Frame, why string) {
	t.of(s.key, Notice{Kind: Replayed, Finding: true, From: f.Header.Counter, To: f.Header.Counter, Place: f.Place, Why: why})
}
