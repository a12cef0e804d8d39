// Package remedy puts what would help beside an error: a kind and facts, of which whoever talks to people makes a
// sentence. It knows no command line and no language.
package remedy

import (
	"errors"

	"github.com/unibus/unibus/internal/crypto"
)

// Kind says what would help.
type Kind int

// Kinds of remedies, with the facts that each has.
const (
	None             Kind = iota
	MakeIdentity          // there is none yet
	MakePrivate           // Path: others may read it
	StartServer           // nobody answers
	LookAtService         // the server answers, its service does not
	NameStore             // what was given is not the URL of a store
	StoreCredentials      // a store is for who runs the servers
	UseServer             // messages need one
	AllowSelf             // Key, User: who asks is not on the allowlist
	AllowUser             // Key: somebody else is not
	AskAdmin              // of the bus
	ListRooms             // one's own
	ListUsers             // of the bus
	NameOtherwise         // a user: the name is taken
	ConfirmName           // User: its name meant another key before
	ConfirmSubject        // Room: its subject meant another room before
	ConfirmEntry          // one that was signed long ago is still meant
	LookAgain             // Room: whether it was made all the same
	LetIn                 // Room, User: into a room, by who manages it
	LetWrite              // Room, User: a reader
	LeaveOut              // members who are in the room already
	RenewKey              // Room: its key has served too long
	HandOutKey            // Room: nobody gave this user its key
	HandOutOrMend         // Room: what was given does not open, by somebody's or a disk's fault
	PublishCard           // User: it has not connected yet
	MendCard              // User: its card is damaged
	AskOperator           // a log went back, and its store has nothing of it
	AcceptLog             // Room, or none for the bus, and Hash: a log went back
	AcceptPlace           // Room, Place: a room's messages went back
	ChooseHistory         // Room, Hash: two are proven
	JoinAnew              // the history is another's, which this state directory has not verified
	ReadFewer             // rooms at once
)

// Remedy is what would help, and of what.
type Remedy struct {
	Kind   Kind
	Room   string    // its subject
	RoomID crypto.ID // the same room's id
	User   string    // a name, or the key of someone who has none
	Key    crypto.PublicKey
	Path   string
	Hash   crypto.Hash
	Place  uint64
}

// remedied is an error with what would help.
type remedied struct {
	error
	remedy Remedy
}

func (r *remedied) Unwrap() error { return r.error }

// With puts a remedy beside an error, before any that it has.
func With(err error, r Remedy) error { return &remedied{err, r} }

// Of returns what would help with an error; of kind None when nothing is known to.
func Of(err error) Remedy {
	var r *remedied
	if errors.As(err, &r) {
		return r.remedy
	}
	return Remedy{}
}
