package ledger

import (
	"errors"
	"fmt"

	"github.com/unibus/unibus/internal/crypto"
)

// State is the fold of one verified log: of the bus, or of a room. The zero State is an empty log
// of either kind. It is not safe for concurrent use.
type State struct {
	ID   crypto.ID
	Head Head
	Bus  *Bus  // set by the first entry of a bus log
	Room *Room // set by the first entry of a room log

	hashes []crypto.Hash // of every entry, from seq 1
}

// Apply verifies that statement is a valid next entry and folds it in. On an error, always an
// *Invalid, the state is unchanged.
func (s *State) Apply(statement []byte) (*Entry, error) {
	e, err := s.Check(statement)
	if err != nil {
		return nil, err
	}
	s.fold(e)
	return e, nil
}

// fold takes in an entry that was judged.
func (s *State) fold(e *Entry) {
	s.ID, s.Head = e.Log, Head{e.Seq, e.Hash}
	s.hashes = append(s.hashes, e.Hash)
	e.Body.apply(s, e)
}

// Check verifies, as Apply does, that statement is a valid next entry, and changes nothing.
func (s *State) Check(statement []byte) (*Entry, error) {
	e, err := s.check(statement)
	if err != nil {
		return nil, &Invalid{Log: s.ID, Seq: s.Head.Seq + 1, Why: err}
	}
	return e, nil
}

func (s *State) check(statement []byte) (*Entry, error) {
	e, p, err := decode(s.ops, statement)
	if err != nil {
		return nil, err
	}
	return e, s.judge(e, p)
}

// judge says which rule an entry breaks as the next one, whoever signed it, and fills in where it stands.
func (s *State) judge(e *Entry, p *entryPayload) error {
	if e.Seq != s.Head.Seq+1 {
		return fmt.Errorf("%w: it has seq %d", ErrPlace, e.Seq)
	}
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

// ops finds an op among those the next entry may have.
func (s *State) ops(op string) (func() Body, error) {
	var body func() Body
	switch {
	case s.Bus != nil:
		body = busOps[op]
	case s.Room != nil:
		body = roomOps[op]
	case op == "found":
		return busOps[op], nil
	case op == "create":
		return roomOps[op], nil
	}
	if body == nil {
		return nil, fmt.Errorf("%w: unknown op %q", ErrNewer, op)
	}
	return body, nil
}

// HashAt returns the hash of the entry at seq, and whether the state reaches that far.
func (s *State) HashAt(seq uint64) (crypto.Hash, bool) {
	if seq == 0 || seq > uint64(len(s.hashes)) {
		return crypto.Hash{}, false
	}
	return s.hashes[seq-1], true
}

// Fold verifies a whole log from its first entry.
func Fold(statements [][]byte) (*State, error) {
	s := new(State)
	for _, statement := range statements {
		if _, err := s.Apply(statement); err != nil {
			return s, err
		}
	}
	return s, nil
}

// ErrSnapshot says that a snapshot is not one that Snapshot made.
var ErrSnapshot = errors.New("damaged snapshot")
