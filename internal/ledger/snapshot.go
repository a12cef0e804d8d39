package ledger

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/unibus/unibus/internal/crypto"
)

// snapshot is a State as it is kept between runs. It is read back only by whoever wrote it, so
// keys are plain bytes, checked when they first came in.
type snapshot struct {
	V      int
	ID     [20]byte
	Hashes []byte // all, one after the other
	Bus    *busSnapshot
	Room   *roomSnapshot
}

// busSnapshot is a Bus; what can be counted from the users is not in it.
type busSnapshot struct {
	Name    string
	Founded []byte
	Users   []userSnapshot
}

// userSnapshot is a User. Times are Unix ms, 0 for none.
type userSnapshot struct {
	_                       struct{} `cbor:",toarray"`
	Key, AddedBy            [32]byte
	Name, Role              string
	Active                  bool
	Expires, Added, Revoked int64
}

// roomSnapshot is a Room; the policy in force is the last of its terms, and roles are the last of each member's spans.
type roomSnapshot struct {
	Bus      [20]byte
	Subject  string
	Terms    []Term
	Archived uint64
	Left     bool
	Anew     uint64
	AnewTime int64
	Epochs   []epochSnapshot
	Members  []memberSnapshot
}

// epochSnapshot is an Epoch; its number is its place in the list.
type epochSnapshot struct {
	_        struct{} `cbor:",toarray"`
	Seq      uint64
	Commit   [32]byte
	Previous []byte
	By       [32]byte
	Time     int64
}

// memberSnapshot is the history of someone who is or was a member.
type memberSnapshot struct {
	_     struct{} `cbor:",toarray"`
	Key   [32]byte
	Spans []span
}

// Every client has snapshots in its pins, and takes one of a form that it does not know for damaged: whoever changes the
// form has to go on reading the one before.

// Snapshot encodes the state so that LoadSnapshot gives it back.
func (s *State) Snapshot() ([]byte, error) {
	out := snapshot{V: 4, ID: s.ID, Hashes: make([]byte, 0, 32*len(s.chain))}
	for _, h := range s.chain {
		out.Hashes = append(out.Hashes, h[:]...)
	}
	if b := s.Bus; b != nil {
		out.Bus = &busSnapshot{Name: b.Name, Founded: b.Founded}
		for u := range b.Users {
			out.Bus.Users = append(out.Bus.Users, userSnapshot{
				Key: u.Key, AddedBy: u.AddedBy, Name: u.Name, Role: string(u.Role), Active: u.Active,
				Expires: millis(u.Expires), Added: millis(u.Added), Revoked: millis(u.Revoked),
			})
		}
		slices.SortFunc(out.Bus.Users, func(a, b userSnapshot) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	}
	if r := s.Room; r != nil {
		out.Room = r.snapshot()
	}
	data, err := cbor.Marshal(out)
	return withSum(data), err
}

// withSum is a snapshot with its checksum: a disk may forget, and nobody looks at all of this again.
func withSum(data []byte) []byte {
	sum := sha256.Sum256(data)
	return append(data, sum[:]...)
}

// snapshot is the room as it is kept; members come in the order of their keys, so that equal rooms have equal snapshots.
func (r *Room) snapshot() *roomSnapshot {
	out := &roomSnapshot{Bus: r.Bus, Subject: r.Subject, Terms: r.Terms, Archived: r.Archived, Left: r.Left, Anew: r.Anew, AnewTime: millis(r.AnewTime)}
	for _, e := range r.Epochs {
		out.Epochs = append(out.Epochs, epochSnapshot{Seq: e.Seq, Commit: e.Commit, Previous: e.Previous, By: e.By, Time: millis(e.Time)})
	}
	for key, spans := range r.history {
		out.Members = append(out.Members, memberSnapshot{Key: key, Spans: spans})
	}
	slices.SortFunc(out.Members, func(a, b memberSnapshot) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	return out
}

// LoadSnapshot decodes what Snapshot wrote. The error is ErrSnapshot: nothing in it is believed that may be damaged.
func LoadSnapshot(data []byte) (*State, error) {
	end := max(len(data)-sha256.Size, 0)
	if !bytes.Equal(data, withSum(slices.Clip(data[:end]))) {
		return nil, fmt.Errorf("%w: its checksum is wrong", ErrSnapshot)
	}
	var in snapshot
	if err := cbor.Unmarshal(data[:end], &in); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrSnapshot, err)
	}
	if in.V != 4 || len(in.Hashes)%32 != 0 || (in.Bus == nil) == (in.Room == nil) || len(in.Hashes) == 0 {
		return nil, ErrSnapshot
	}
	s := &State{ID: in.ID}
	for h := range slices.Chunk(in.Hashes, 32) {
		s.chain = append(s.chain, crypto.Hash(h))
	}
	s.Head = s.chain.head()
	if in.Bus != nil {
		s.Bus = in.Bus.load()
		return s, nil
	}
	s.Room = in.Room.load()
	if len(s.Room.Epochs) == 0 || len(s.Room.Terms) == 0 {
		return nil, ErrSnapshot
	}
	return s, nil
}

// load gives the Bus back, with its names and admins counted again.
func (in *busSnapshot) load() *Bus {
	b := &Bus{
		Name: in.Name, Founded: in.Founded,
		users: make(map[crypto.PublicKey]*User, len(in.Users)), names: map[string]crypto.PublicKey{},
	}
	for _, u := range in.Users {
		b.users[u.Key] = &User{
			Key: u.Key, Name: u.Name, Role: Role(u.Role), Active: u.Active, AddedBy: u.AddedBy,
			Expires: fromMillis(u.Expires), Added: fromMillis(u.Added), Revoked: fromMillis(u.Revoked),
		}
		if u.Active {
			b.names[u.Name] = u.Key
			if Role(u.Role) == RoleAdmin {
				b.admins++
			}
		}
	}
	return b
}

// load gives the Room back by what made it: its terms, and the roles that were given, in the order of their entries.
func (in *roomSnapshot) load() *Room {
	r := &Room{
		Bus: in.Bus, Subject: in.Subject, Archived: in.Archived, Left: in.Left, Anew: in.Anew, AnewTime: fromMillis(in.AnewTime),
		roster: newRoster(),
	}
	for _, t := range in.Terms {
		r.setPolicy(t.Policy, t.Seq)
	}
	for i, e := range in.Epochs {
		r.Epochs = append(r.Epochs, Epoch{
			Number: uint32(i + 1), Seq: e.Seq, Commit: e.Commit, Previous: e.Previous, By: e.By, Time: fromMillis(e.Time),
		})
	}
	for _, m := range in.Members {
		slices.SortFunc(m.Spans, func(a, b span) int { return cmp.Compare(a.Seq, b.Seq) })
		for _, sp := range m.Spans {
			r.set(m.Key, sp.Role, sp.Seq)
		}
	}
	return r
}

// millis is a time as a snapshot has it; fromMillis gives it back.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
