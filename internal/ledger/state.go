package ledger

import (
	"errors"
	"fmt"
	"slices"

	"github.com/unibus/unibus/internal/crypto"
)

// State is what a verified log says, of the bus or of a room, up to an entry: a value, which never changes. The zero State
// is an empty log of either kind. An entry goes through Check, which decodes it (entry.go) and asks its Body for the rules
// (op.go), and then through With or a Fold, where its Body changes a copy.
type State struct {
	ID   crypto.ID
	Head Head
	Bus  *Bus  // set by the first entry of a bus log
	Room *Room // set by the first entry of a room log

	chain
}

// With returns the state once e stands, which Check or Draft of this state has returned. It takes as long as the state is
// large; to fold many entries there is a Fold.
func (s *State) With(e *Entry) *State {
	next := s.copy()
	next.fold(e)
	return next
}

// copy returns a state that may be changed.
func (s *State) copy() *State {
	next := &State{ID: s.ID, Head: s.Head, chain: slices.Clone(s.chain)}
	if s.Bus != nil {
		next.Bus = s.Bus.copy()
	}
	if s.Room != nil {
		next.Room = s.Room.copy()
	}
	return next
}

// fold takes in an entry that was judged.
func (s *State) fold(e *Entry) {
	s.ID, s.Head = e.Log, Head{e.Seq, e.Hash}
	s.chain = append(s.chain, e.Hash)
	e.Body.apply(s, e)
}

// Fold takes in entries one after the other. The zero Fold begins with an empty log. It is not safe for concurrent use;
// the states that it gives are.
type Fold struct {
	state *State
	given bool // to others, so that it must not change any more
}

// Fold begins with what s says.
func (s *State) Fold() *Fold { return &Fold{state: s, given: true} }

// Add verifies that a statement is a valid next entry, and takes it in. On an error, always an *Invalid, nothing changes.
func (f *Fold) Add(statement []byte) (*Entry, error) {
	if f.state == nil {
		f.state = new(State)
	}
	e, err := f.state.Check(statement)
	if err != nil {
		return nil, err
	}
	if f.given {
		f.state, f.given = f.state.copy(), false
	}
	f.state.fold(e)
	return e, nil
}

// Head is the last entry that was taken in.
func (f *Fold) Head() Head {
	if f.state == nil {
		return Head{}
	}
	return f.state.Head
}

// Views returns the view changes of e, the entry that was taken in last.
func (f *Fold) Views(e *Entry) []View { return f.state.Views(e) }

// State returns what the log says so far.
func (f *Fold) State() *State {
	if f.state == nil {
		f.state = new(State)
	}
	f.given = true
	return f.state
}

// Check verifies that a statement is a valid next entry. The error is always an *Invalid.
func (s *State) Check(statement []byte) (*Entry, error) {
	e, err := s.check(statement)
	if err != nil {
		return nil, &Invalid{Log: s.ID, Seq: s.Head.Seq + 1, Why: err}
	}
	return e, nil
}

// check is Check, with an error that does not say which entry it is.
func (s *State) check(statement []byte) (*Entry, error) {
	e, p, err := decode(s.ops, statement)
	if err != nil {
		return nil, err
	}
	return e, s.checkNext(e, p)
}

// checkNext says which rule an entry breaks as the next one, whoever signed it, and fills in where it stands.
func (s *State) checkNext(e *Entry, p *entryPayload) error {
	if e.Seq != s.Head.Seq+1 {
		return fmt.Errorf("%w: it has seq %d", ErrPlace, e.Seq)
	}
	// A first entry names no log, and follows none: both are then empty.
	var log, prev []byte
	if s.Head.Seq > 0 {
		log, prev = s.ID[:], s.Head.Hash[:]
	}
	if string(p.Log) != string(log) {
		return fmt.Errorf("%w: it names another log", ErrPlace)
	}
	if string(p.Prev) != string(prev) {
		return fmt.Errorf("%w: it follows another entry", ErrPlace)
	}
	e.Log, e.Prev = s.ID, s.Head.Hash
	if e.Seq == 1 {
		e.Log = crypto.ID(e.Hash[:20])
	}
	if s.Room != nil && s.Room.Archived != 0 {
		return breaks("the room was archived by entry %d", s.Room.Archived)
	}
	return e.Body.check(s, e.By)
}

// Read decodes and authenticates a statement as an entry of this log, without judging its place or
// the rules: for looking again at entries that were accepted.
func (s *State) Read(statement []byte) (*Entry, error) {
	e, _, err := decode(s.ops, statement)
	if err != nil {
		return nil, &Invalid{Log: s.ID, Seq: s.Head.Seq, Why: err}
	}
	e.Log = s.ID
	return e, nil
}

// chain is the hashes of a log's entries: that of seq 1 comes first.
type chain []crypto.Hash

// HashAt returns the hash of the entry at seq, and whether the log reaches that far.
func (c chain) HashAt(seq uint64) (crypto.Hash, bool) {
	if seq == 0 || seq > uint64(len(c)) {
		return crypto.Hash{}, false
	}
	return c[seq-1], true
}

// Has reports whether the log has an entry with this hash at this place.
func (c chain) Has(h Head) bool {
	hash, reached := c.HashAt(h.Seq)
	return reached && hash == h.Hash
}

// head is the last entry of a log that has one.
func (c chain) head() Head { return Head{uint64(len(c)), c[len(c)-1]} }

// Verify folds a whole log from its first entry. The error, an *Invalid, comes with the state before the entry that
// breaks a rule.
func Verify(statements [][]byte) (*State, error) {
	var f Fold
	for _, statement := range statements {
		if _, err := f.Add(statement); err != nil {
			return f.State(), err
		}
	}
	return f.State(), nil
}

// ErrSnapshot says that a snapshot is not one that Snapshot made.
var ErrSnapshot = errors.New("damaged snapshot")
