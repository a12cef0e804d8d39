package ledger

import (
	"fmt"
	"math"
	"reflect"

	"github.com/unibus/unibus/internal/crypto"
)

// Body is what an entry does (SPEC.md §4). Each op is a type in a file of its own, op_TYPE.go, with all there is to say of
// it: what it carries, its rules, its effect, whom it touches, who has less by it and how it reads to people. To add one, write
// such a file and name its type in the vocabulary of its log's kind; what it sets in the state is kept by snapshot.go.
type Body interface {
	// op is its name in entries.
	op() string
	// check says which rule the body breaks as the next entry of s, by by. It changes nothing.
	check(s *State, by crypto.PublicKey) error
	// apply changes s as the entry says, after check has passed; s.Head is the entry's place already.
	apply(s *State, e *Entry)
	// touches lists those whose standing changes by it, when by is its author.
	touches(by crypto.PublicKey) []crypto.PublicKey
	// narrows lists those who by it may do less than before, or what they did elsewhere, or until another time; s has applied it,
	// and perhaps what came later.
	narrows(s *State, e *Entry) []crypto.PublicKey
	// words tells in a few words what it does.
	words(w wording) string
}

// rekeying is the Body of an entry that begins an epoch, or may.
type rekeying interface {
	// rekey is the epoch that it begins; nil for none.
	rekey() *Rekey
	// bare is what else it does, as a value to encode.
	bare() any
}

// naming is the Body of an entry that says what users are called.
type naming interface {
	names(is func(key crypto.PublicKey, name string))
}

// busOps and roomOps are the two vocabularies; an op is looked up in that of its log's kind.
var (
	busOps  = vocabulary(blank[Found], blank[Add], blank[Revoke], blank[UserRole], blank[SetUsers])
	roomOps = vocabulary(
		blank[Create], blank[Invite], blank[Remove], blank[Leave], blank[MemberRole], blank[Rekey], blank[SetPolicy], blank[Archive],
	)
)

// blank returns a body of a type to decode into.
func blank[T any, P interface {
	*T
	Body
}]() Body {
	return P(new(T))
}

// vocabulary lists bodies by their ops.
func vocabulary(bodies ...func() Body) map[string]func() Body {
	ops := make(map[string]func() Body, len(bodies))
	for _, body := range bodies {
		ops[body().op()] = body
	}
	return ops
}

// ops finds an op among those the next entry may have.
func (s *State) ops(op string) (func() Body, error) {
	var body func() Body
	switch {
	case s.Bus != nil:
		body = busOps[op]
	case s.Room != nil:
		body = roomOps[op]
	case op == new(Found).op():
		return busOps[op], nil
	case op == new(Create).op():
		return roomOps[op], nil
	}
	if body == nil {
		return nil, fmt.Errorf("%w: unknown op %q", ErrNewer, op)
	}
	return body, nil
}

// Touches lists the keys whose standing the entry changes.
func (e *Entry) Touches() []crypto.PublicKey { return e.Body.touches(e.By) }

// Narrows lists those whose connections may do what by the entry they may not any more, or not so: they may do less than before,
// or what they did elsewhere, or until another time. s is a state of its log that has applied it.
func (e *Entry) Narrows(s *State) []crypto.PublicKey { return e.Body.narrows(s, e) }

// Words tells in a few words what the entry does, for people; empty where the op's name says it all. name gives a key
// the name that people know it by.
func (e *Entry) Words(name func(crypto.PublicKey) string) string {
	return e.Body.words(wording{name: name, most: math.MaxInt})
}

// Brief is Words for a line: of a long list it has the first few, and how many more there are.
func (e *Entry) Brief(name func(crypto.PublicKey) string) string {
	return e.Body.words(wording{name: name, most: briefList})
}

// Names are what users are called from an entry of the bus log on, as far as it says.
func (e *Entry) Names() map[crypto.PublicKey]string {
	names := map[crypto.PublicKey]string{}
	if b, ok := e.Body.(naming); ok {
		b.names(func(key crypto.PublicKey, name string) { names[key] = name })
	}
	return names
}

// NewEpoch returns the epoch that an entry after a room's first begins; nil when it begins none.
func (e *Entry) NewEpoch() *Rekey {
	if b, ok := e.Body.(rekeying); ok {
		return b.rekey()
	}
	return nil
}

// SameChange reports whether two bodies change the same, whatever keys they hand out.
func SameChange(a, b Body) bool { return reflect.DeepEqual(withoutKey(a), withoutKey(b)) }

// withoutKey is what a body changes besides the key.
func withoutKey(b Body) any {
	if r, ok := b.(rekeying); ok {
		return r.bare()
	}
	return b
}

// distinct checks that a list names someone, and nobody twice.
func distinct(keys []crypto.PublicKey) error {
	if len(keys) == 0 {
		return breaks("it names nobody")
	}
	seen := make(map[crypto.PublicKey]bool, len(keys))
	for _, key := range keys {
		if seen[key] {
			return breaks("%s stands twice in it", key)
		}
		seen[key] = true
	}
	return nil
}
