package ledger

import (
	"slices"
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

// What follows tells a log as an audit asks for it: who was in when, as what, on whose word, and what people were called
// then. It judges nothing: entries go in that a Fold has taken in.

// Tenure is a time during which somebody had one role, on the bus or in a room.
type Tenure struct {
	Key   crypto.PublicKey
	Role  Role
	From  *Entry // by which it began
	Until *Entry // by which it ended; nil: by none
}

// Tenures collects those of one log. The zero Tenures are of an empty one.
type Tenures struct {
	all  []Tenure
	open map[crypto.PublicKey]int // who has a role now, and where that stands in all
}

// Add takes note of what an entry, which the fold has taken in last, changed.
func (t *Tenures) Add(f *Fold, e *Entry) {
	if t.open == nil {
		t.open = map[crypto.PublicKey]int{}
	}
	for _, key := range e.Touches() {
		role := f.role(key)
		i, had := t.open[key]
		if had && t.all[i].Role == role { // only a name, or an end, was changed
			continue
		}
		if had {
			t.all[i].Until = e
			delete(t.open, key)
		}
		if role != "" {
			t.open[key] = len(t.all)
			t.all = append(t.all, Tenure{Key: key, Role: role, From: e})
		}
	}
}

// All are the tenures so far, in the order in which they began.
func (t *Tenures) All() []Tenure { return t.all }

// role is what somebody is by what the fold has taken in so far; empty for nothing.
func (f *Fold) role(key crypto.PublicKey) Role {
	if s := f.state; s.Room != nil {
		return s.Room.Role(key)
	}
	if f.state.Bus.isActive(key) {
		return f.state.Bus.users[key].Role
	}
	return ""
}

// Names are what users were called at each time, as the bus log says.
type Names struct{ of map[crypto.PublicKey][]named }

// named says that from an entry on somebody had a name.
type named struct {
	seq  uint64
	when time.Time
	name string
}

// Add takes note of what an entry of the bus log calls people.
func (n *Names) Add(e *Entry) {
	if n.of == nil {
		n.of = map[crypto.PublicKey][]named{}
	}
	for key, name := range e.Names() {
		n.of[key] = append(n.of[key], named{e.Seq, e.Time, name})
	}
}

// Before is what somebody was called when an entry of the bus log was made; of whoever had no name then, the first one.
func (n *Names) Before(key crypto.PublicKey, seq uint64) string {
	return n.last(key, func(one named) bool { return one.seq < seq })
}

// At is what somebody was called at a time, as entries of other logs claim one: those do not say where the bus log was.
func (n *Names) At(key crypto.PublicKey, when time.Time) string {
	return n.last(key, func(one named) bool { return !one.when.After(when) })
}

// Called are all who ever had a name.
func (n *Names) Called(name string) (keys []crypto.PublicKey) {
	for key, all := range n.of {
		if slices.ContainsFunc(all, func(one named) bool { return one.name == name }) {
			keys = append(keys, key)
		}
	}
	return keys
}

// last is the last name of somebody that was given by then, else the first; the key for who has none.
func (n *Names) last(key crypto.PublicKey, then func(named) bool) string {
	all := n.of[key]
	for _, one := range slices.Backward(all) {
		if then(one) {
			return one.name
		}
	}
	if len(all) > 0 {
		return all[0].name
	}
	return key.String()
}
