package reader

import (
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/inbox"
)

// Message is a message as the inbox gave it, and where it is from.
type Message struct {
	inbox.Message
	Room    crypto.ID
	Subject string
	Name    string // the sender's on the allowlist; its key if it has none there
}

// Size is how many bytes the body has, in Body or in Parts.
func (m *Message) Size() int {
	size := len(m.Body)
	for _, p := range m.Parts {
		size += len(p)
	}
	return size
}

// cost is about how many bytes of memory the message takes.
func (m *Message) cost() int { return 64 + m.Size() + 32*len(m.Headers) }

// Kinds of notices beside those of the inbox.
const (
	RolledBack inbox.Kind = "rolled-back" // the room reached further before, From and To are places, or had another frame at one
	Gone       inbox.Kind = "gone"        // the servers have nothing any more in which the room's messages were stored
	Forged     inbox.Kind = "forged"      // a frame does not authenticate, and was dropped
	Refused    inbox.Kind = "refused"     // an authentic frame that its sender was not allowed
	Fork       inbox.Kind = "fork"        // a sender holds another history of the room
	Withheld   inbox.Kind = "withheld"    // a frame refers to log entries the store does not give
	Ahead      inbox.Kind = "ahead"       // so many frames, From 1 To n, did so and could not be verified
	Key        inbox.Kind = "key"         // the key of an epoch, which the log says is for this client, is not to be had
)

// Notice is something a reader should know about what it was, or was not, given.
type Notice struct {
	inbox.Notice
	Room    crypto.ID
	Subject string
	Name    string // the sender's, as the subject of the frame says
}
