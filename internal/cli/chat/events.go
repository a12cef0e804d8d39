package chat

import (
	"github.com/unibus/unibus"
)

// What the feed tells the model. Everything in them was verified.

// message is a message, or what can be shown of it.
type message struct {
	unibus.Message
	size int // in bytes, of its whole body
}

// arrived are messages that came, in order.
type arrived struct{ messages []message }

// noticed is something that a reader should know about what it was, or was not, given.
type noticed struct{ notice unibus.Notice }

// past is what a room has stored, from so many messages before its end on, and its log.
type past struct {
	room     unibus.ID
	asked    int // how many messages were asked for; there are no others when there are fewer
	messages []message
	notices  []unibus.Notice
	entries  []unibus.LogEntry
	err      error // of reading the messages, which may be there all the same
}

// grown are the entries of a room's log, all of them, since it has more than before.
type grown struct {
	room    unibus.ID
	entries []unibus.LogEntry
	err     error
}

// listed are the rooms that there are to see.
type listed struct {
	rooms []*unibus.Room
	err   error
}

// sent is how far a message of one's own has come.
type sent struct {
	room   unibus.ID
	number int             // as the model gave it
	stream unibus.StreamID // in which it is sent; zero: none could be begun
	state  sendState
	live   bool  // with stored: the room stores nothing
	err    error // with failed
}

// sendState is how far a message of one's own has come.
type sendState int

const (
	waiting sendState = iota // for those before it
	sealed                   // encrypted, signed and on its way
	stored                   // acknowledged
	failed                   // or not, for all that is known
)

// told is a text of the client's for people.
type told struct{ text string }

// ended says that nothing more will be read, and why.
type ended struct{ err error }

// looked is told again and again: it is time to look at what the client knows of rooms.
type looked struct{}
