// Package remedy says beside an error what would help: a kind, such as "the room's key has to be renewed", and facts, such
// as which room. The library adds remedies with With; whoever talks to people reads them with Of and makes a sentence, or a
// command, of them (package cli). So no package below that one knows a command line, or a language.
package remedy

import (
	"errors"

	"github.com/unibus/unibus/internal/crypto"
)

// Kind says what would help.
type Kind int

// Kinds of remedies. Beside each: the fields of Remedy that it sets, if any, and the situation that it helps in.
const (
	None             Kind = iota
	MakeIdentity          // Path: there is none yet
	MakePrivate           // Path: others may read it
	StartServer           // nobody answers
	NameServer            // there is no host of that name
	LookAtService         // the server answers, its service does not
	LookAtStore           // what the store keeps contradicts itself
	LookAtStream          // the servers answer, and nothing takes what a room is to store
	NameStore             // what was given is not the URL of a store
	StoreCredentials      // a store is for who runs the servers
	UseServer             // messages need one
	AllowSelf             // Key, User: who asks is not on the allowlist
	AskWhy                // User: who asks was on the allowlist when it was seen last
	AllowAgain            // Key, User: who asks was revoked
	Extend                // User: whose time is over
	ExtendSelf            // User: who asks, and whose time is over
	AllowUser             // Key: somebody else is not
	AllowFormer           // Key, User: somebody else was revoked
	AskAdmin              // of the bus
	ListRooms             // one's own; Room: what was looked for
	ListUsers             // of the bus; User: who was looked for
	NameOtherwise         // a user: the name is taken
	ConfirmName           // User: its name meant another key before
	ConfirmSubject        // Room: its subject meant another room before
	ConfirmEntry          // one that was signed long ago is still meant
	LookAgain             // Room: whether it was made all the same
	ListMembers           // Room: who is in it
	LetIn                 // Room, User: into a room, by who manages it
	LetWrite              // Room, User: a reader
	LeaveOut              // members who are in the room already
	RenewKey              // Room: its key has served too long
	HandOutKey            // Room: nobody gave this user its key
	HandOutOrMend         // Room: what was given does not open, by somebody's or a disk's fault
	PublishCard           // User: it has not connected yet
	MendCard              // User: its card is damaged
	AskOperator           // a log went back, and its store has nothing of it
	AcceptLoss            // Room: a log that was verified is not there at all
	AcceptLog             // Room, or none for the bus, and Hash: a log went back
	AcceptPlace           // Room, Place: a room's messages went back
	ChooseHistory         // Room, Hash: two are proven
	ForgetBus             // Path: an address where another bus was before
	LeaveOutUser          // in a server's address
	CompareBus            // the one that is there is not the one that was asked for
	ServersOfOne          // Path: a server in a list with one where another bus was met
	ListBuses             // that this identity knows by name
	ChooseBus             // one of several, none of which is in use
	JoinAnew              // the history is another's, which this state directory has not verified
	ReadFewer             // rooms at once
	AskOwner              // Room: its owners and admins may do it, or its owners alone
	NameOwner             // Room: the last owner cannot stop being one
	NameAdmin             // the last admin of the bus cannot stop being one
	MakeOther             // Room: it is archived for good

	// Of a bus as a whole, for who runs it.

	KeepClocks          // in step
	SyncAlways          // a server acknowledges what it has not written to its disk
	StartMostServers    // of a cluster: there is no quorum
	StartMissingServers // of a cluster: the next loss may cost the quorum
	UseTLS              // servers are reached from other machines
	CopyAgain           // servers lack some of what the others hold
	CopyAgainFirst      // the same, before anything else: the others may hold what is missing
	AwaitCopies         // some of them are behind
	Scale               // streams are kept on different numbers of servers
	MakeStreams         // rooms have none
	RemakeStreams       // a stream has a setting that servers do not change
	RestoreOrRemove     // InServers: streams are of no room that the service has, or has any more
	LeaveStreams        // InServers: streams are of no room in this store, which may not be the service's
	RestoreStreams      // Path: those of a service that went back; or they are accepted
	RestoreOrCopyAgain  // a server's files lack something, which other servers, if there are any, may hold
	Repair              // what can be written anew
	RepairLater         // the servers did not answer
	RepairFirst         // the views, which do not say which rooms there are
	RestoreStore        // InServers: it is damaged
	RestoreDamaged      // InServers: it is damaged, and a repair does not help
	RestoreOrAccept     // InServers: it lacks something, or that is accepted
	StartService        // it records what is not recorded yet
	FreeDisk            // it is full, or nearly
	RaiseDescriptors    // nearly all that may be open are
	MendCards           // some are damaged
	RenewKeys           // members have no copy of a room's
	RenewStale          // keys that have served too long
	LookLater           // it is being looked at
	AddOwner            // a room has a single one
)

// Remedy is what would help, and the facts for it; which of them are set depends on the kind.
type Remedy struct {
	Kind   Kind
	Room   string    // its subject
	RoomID crypto.ID // the same room's id
	User   string    // a name, or the key of someone who has none
	Key    crypto.PublicKey
	Path   string
	Hash   crypto.Hash
	Place  uint64
	// InServers says that a store is kept in NATS servers, not in a file.
	InServers bool
}

// remedied is an error with what would help.
type remedied struct {
	error
	remedy Remedy
}

// Unwrap lets the error be of the kinds that it is of without a remedy.
func (r *remedied) Unwrap() error { return r.error }

// With returns the error with a remedy, which takes the place of one that it has.
func With(err error, r Remedy) error { return &remedied{err, r} }

// Of returns what would help with an error, the outermost remedy of several; kind None when there is none.
func Of(err error) Remedy {
	var r *remedied
	if errors.As(err, &r) {
		return r.remedy
	}
	return Remedy{}
}
