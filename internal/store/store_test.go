package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

func identity(t testing.TB, n byte) *crypto.Identity {
	t.Helper()
	id, err := crypto.NewIdentity([32]byte{'i', n})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// shelf is a store that keeps what it is given as it is, in memory, for what stands on top of a store; whoever asks it
// for anything else panics.
type shelf struct {
	Backend
	entries []Entry
	cards   []Card
	copying bool
	left    string // what there is of an earlier bus: "user", "room" or "log"
	err     error  // what every call fails with; nil: none
}

func (s *shelf) Append(_ context.Context, c Change) error {
	s.entries = append(s.entries, Entry{Log: c.Entry.Log, Seq: c.Entry.Seq, Statement: c.Entry.Statement})
	return s.err
}

func (s *shelf) Entries(_ context.Context, log crypto.ID, after uint64) iter.Seq2[Entry, error] {
	return PageEntries(after, 2, func(after uint64) (page []Entry, err error) {
		for _, e := range s.entries {
			if e.Log == log && e.Seq > after && len(page) < 2 {
				page = append(page, e)
			}
		}
		return page, s.err
	})
}

func (s *shelf) Heads(_ context.Context, logs ...crypto.ID) ([]ledger.Head, error) {
	heads := make([]ledger.Head, len(logs))
	for i, log := range logs {
		for _, e := range s.entries {
			if e.Log == log {
				heads[i].Seq = e.Seq
			}
		}
	}
	return heads, s.err
}

func (s *shelf) Users(context.Context, crypto.PublicKey) iter.Seq2[ledger.User, error] {
	return func(yield func(ledger.User, error) bool) {
		if s.err != nil || s.left == "user" {
			yield(ledger.User{Name: "ann"}, s.err)
		}
	}
}

func (s *shelf) Rooms(context.Context, crypto.ID) iter.Seq2[Room, error] {
	return func(yield func(Room, error) bool) {
		if s.left == "room" {
			yield(Room{Subject: "ops"}, nil)
		}
	}
}

func (s *shelf) Logs(context.Context) iter.Seq2[crypto.ID, error] {
	return func(yield func(crypto.ID, error) bool) {
		if s.left == "log" {
			yield(crypto.ID{1}, nil)
		}
	}
}

func (s *shelf) Bus(context.Context) ([]byte, error) { return nil, ErrNotFound }

func (s *shelf) PutCards(_ context.Context, cards ...Card) error {
	s.cards = append(s.cards, cards...)
	return s.err
}

func (s *shelf) Cards(_ context.Context, endpoints ...crypto.PublicKey) (found []Card, err error) {
	for _, c := range s.cards {
		if slices.Contains(endpoints, c.Endpoint) {
			found = append(found, c)
		}
	}
	return found, s.err
}

func (s *shelf) Copying(context.Context) (bool, error) { return s.copying, s.err }

// founded is a shelf with a bus of three entries.
func founded(t *testing.T) (*shelf, *ledger.State) {
	t.Helper()
	s, admin := &shelf{}, identity(t, 1)
	state, err := Found(t.Context(), s, admin, "admin", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	fold := state.Fold()
	for n := byte(2); n < 4; n++ {
		add := &ledger.Add{Users: []ledger.NewUser{{Key: identity(t, n).Key(), Name: fmt.Sprint("user-", n), Role: ledger.RoleUser}}}
		statement, err := fold.State().Next(admin, add, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		c, err := Advance(fold, statement)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Append(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	return s, fold.State()
}

// TestFound: who founds a bus is its first admin, and has a card there.
func TestFound(t *testing.T) {
	s, state := founded(t)
	admin := identity(t, 1).Key()
	if u := state.Bus.User(admin); u == nil || u.Role != ledger.RoleAdmin || u.Name != "admin" {
		t.Errorf("the founder is %+v", u)
	}
	cards, err := s.Cards(t.Context(), admin)
	if err != nil || len(cards) != 1 {
		t.Fatalf("%d cards, %v", len(cards), err)
	}
	card := cards[0]
	if _, err := crypto.OpenCard(card.Statement, admin); err != nil {
		t.Errorf("the founder's card: %v", err)
	}
	for left, which := range map[string]string{"user": "users of an earlier bus (ann)", "room": "rooms of an earlier bus (ops)", "log": "logs of an earlier bus (ae"} {
		if _, err := Found(t.Context(), &shelf{left: left}, identity(t, 1), "admin", time.Now()); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), which) {
			t.Errorf("where another bus was: %v", err)
		}
	}
	broken := errors.New("broken")
	if _, err := Found(t.Context(), &shelf{err: broken}, identity(t, 1), "admin", time.Now()); !errors.Is(err, broken) {
		t.Errorf("a store that keeps nothing: %v", err)
	}
	var invalid *ledger.Invalid
	if _, err := Found(t.Context(), &shelf{}, identity(t, 1), "", time.Now()); !errors.As(err, &invalid) {
		t.Error("a bus is founded by nobody's name")
	}
}

// TestLoad: a log is what its entries say, in whole; what they do not say together is damage.
func TestLoad(t *testing.T) {
	ctx := t.Context()
	s, want := founded(t)
	got, err := Load(ctx, s, want.ID)
	if err != nil || got.Head != want.Head {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := Load(ctx, s, crypto.ID{9}); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown log: %v", err)
	}
	other := &shelf{}
	for _, e := range s.entries {
		e.Log = crypto.ID{9}
		other.entries = append(other.entries, e)
	}
	if _, err := Load(ctx, other, crypto.ID{9}); !errors.Is(err, ErrDamaged) {
		t.Errorf("a log under another's id: %v", err)
	}
	hole := &shelf{entries: slices.Delete(slices.Clone(s.entries), 1, 2)}
	if _, err := Load(ctx, hole, want.ID); !errors.Is(err, ErrDamaged) || !errors.Is(err, ErrIntegrity) {
		t.Errorf("a log with a hole: %v", err)
	}
	s.err = ErrUnavailable
	if _, err := Load(ctx, s, want.ID); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a store that does not answer: %v", err)
	}
	if _, err := Advance(want.Fold(), []byte("?")); err == nil {
		t.Error("what is no statement advances a log")
	}
}

// TestWithin: what writes much has longer, up to a bound.
func TestWithin(t *testing.T) {
	for writes, want := range map[int]time.Duration{0: time.Second, 1: time.Second + writeTime, 1 << 40: time.Second + maxWriteTime} {
		if got := Within(time.Second, writes); got != want {
			t.Errorf("%d writes: %v, want %v", writes, got, want)
		}
	}
}

// TestOne: one head and one card of what is asked for in plural; ErrNotFound for none.
func TestOne(t *testing.T) {
	ctx := t.Context()
	s, state := founded(t)
	if h, err := HeadOf(ctx, s, state.ID); err != nil || h.Seq != 3 {
		t.Errorf("head %v, %v", h, err)
	}
	if _, err := HeadOf(ctx, s, crypto.ID{9}); !errors.Is(err, ErrNotFound) {
		t.Errorf("the head of no log: %v", err)
	}
	s.err = ErrUnavailable
	if _, err := HeadOf(ctx, s, state.ID); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a head that cannot be had: %v", err)
	}
}

// TestWhole: a store is not relied on while a bus is being copied into it.
func TestWhole(t *testing.T) {
	for name, c := range map[string]struct {
		s    *shelf
		kind error
	}{"whole": {&shelf{}, nil}, "in part": {&shelf{copying: true}, ErrUnavailable}, "damaged": {&shelf{err: ErrDamaged}, ErrDamaged}} {
		if err := CheckWhole(t.Context(), c.s); !errors.Is(err, c.kind) || (err == nil) != (c.kind == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPageEntries: pages are read until one is short, from where the reader is, and no further than it reads.
func TestPageEntries(t *testing.T) {
	s, state := founded(t)
	var asked []uint64
	read := func(fail bool) iter.Seq2[Entry, error] {
		asked = nil
		return PageEntries(0, 2, func(after uint64) (page []Entry, err error) {
			asked = append(asked, after)
			if fail && after > 0 {
				return nil, ErrUnavailable
			}
			return s.entries[after:min(after+2, 3)], nil
		})
	}
	n := uint64(0)
	for e, err := range read(false) {
		if n++; err != nil || e.Seq != n || e.Log != state.ID {
			t.Errorf("entry %d at place %d, %v", e.Seq, n, err)
		}
	}
	if n != 3 || !slices.Equal(asked, []uint64{0, 2}) {
		t.Errorf("%d entries, pages after %v", n, asked)
	}
	for range read(false) {
		break
	}
	if len(asked) != 1 {
		t.Errorf("a reader that stops has asked for %v", asked)
	}
	var last error
	for _, err := range read(true) {
		last = err
	}
	if !errors.Is(last, ErrUnavailable) {
		t.Errorf("a page that cannot be read: %v", last)
	}
}

// TestKinds: each error is one of the kinds, and a kind within one is that one as well, in its words.
func TestKinds(t *testing.T) {
	for within, kind := range map[error]error{ErrDamaged: ErrIntegrity, ErrDamagedThere: ErrIntegrity, ErrShort: ErrDamaged, ErrLate: ErrUnavailable, ErrElsewhere: ErrExists} {
		if !errors.Is(within, kind) || within.Error() != kind.Error() || errors.Is(kind, within) {
			t.Errorf("%v is not a kind of %v only", within, kind)
		}
		if !IsKind(fmt.Errorf("x: %w", within)) {
			t.Errorf("%v is no kind", within)
		}
	}
	if errors.Is(ErrDamagedThere, ErrDamaged) || IsKind(errors.New("not found")) || IsKind(nil) {
		t.Error("what is another error, or none, is a kind")
	}
}

// copies are the sealed copies of a store that has nothing else.
type copies struct {
	Inventory
	list []SealedCopy
	err  error
}

// Sealed yields them, and then the error if there is one.
func (c *copies) Sealed(context.Context, crypto.ID, uint32) iter.Seq2[SealedCopy, error] {
	return func(yield func(SealedCopy, error) bool) {
		for _, k := range c.list {
			if !yield(k, nil) {
				return
			}
		}
		if c.err != nil {
			yield(SealedCopy{}, c.err)
		}
	}
}

// TestKeyless: a member is without a key unless there is a copy for it, as long as copies are; nobody is in a room without
// encryption, and of nobody is it said when not all could be read.
func TestKeyless(t *testing.T) {
	owner := identity(t, 1)
	room := func(encryption string) *ledger.State {
		t.Helper()
		create := &ledger.Create{Bus: crypto.ID{1}, Subject: "a", Policy: ledger.Policy{Encryption: encryption, History: "joined"}, Nonce: make([]byte, 16)}
		if commit := (crypto.RoomKey{1}).Commit(1); encryption == "e2e" {
			create.Commit = &commit
		}
		statement, err := new(ledger.State).Next(owner, create, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		s, err := ledger.Verify([][]byte{statement})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	own := SealedCopy{SealedKey: SealedKey{Endpoint: owner.Key(), Sealer: crypto.PublicKey{7}, Sealed: make([]byte, crypto.SealedSize)}}
	others := SealedCopy{SealedKey: SealedKey{Endpoint: crypto.PublicKey{7}, Sealer: owner.Key(), Sealed: make([]byte, crypto.SealedSize)}}
	removed := SealedCopy{SealedKey: SealedKey{Endpoint: owner.Key(), Sealer: owner.Key()}}
	for name, c := range map[string]struct {
		encryption string
		copies     copies
		want       int
		err        error
	}{
		"a copy":                {"e2e", copies{list: []SealedCopy{own}}, 0, nil},
		"another's, made by it": {"e2e", copies{list: []SealedCopy{others}}, 1, nil},
		"one that was removed":  {"e2e", copies{list: []SealedCopy{removed}}, 1, nil},
		"none":                  {"e2e", copies{}, 1, nil},
		"not all could be read": {"e2e", copies{err: ErrUnavailable}, 0, ErrUnavailable},
		"without encryption":    {"none", copies{err: ErrUnavailable}, 0, nil},
	} {
		if got, err := Keyless(t.Context(), &c.copies, room(c.encryption)); len(got) != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: got %v, %v, want %d, %v", name, got, err, c.want, c.err)
		}
	}
}

// TestRoomIs: a record says what the log says, or differs in something.
func TestRoomIs(t *testing.T) {
	commit := crypto.RoomKey{1}.Commit(1)
	owner := identity(t, 1)
	statement, err := new(ledger.State).Next(owner, &ledger.Create{Bus: crypto.ID{1}, Subject: "a", Policy: ledger.DefaultPolicy(), Nonce: make([]byte, 16), Commit: &commit}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var fold ledger.Fold
	c, err := Advance(&fold, statement)
	if err != nil || len(c.Views) == 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	room := fold.State().Room
	record := Room{Subject: "a", Epoch: 1, Policy: room.Policy, Seq: 7, Members: 9}
	if !record.Is(room) {
		t.Error("the record is not the room's")
	}
	if got, want := RoomOf(fold.State()), (Room{ID: c.Entry.Log, Subject: "a", Epoch: 1, Policy: room.Policy, Seq: 1, Members: 1}); !reflect.DeepEqual(got, want) {
		t.Errorf("the log says %+v, want %+v", got, want)
	}
	for name, change := range map[string]func(*Room){
		"subject": func(r *Room) { r.Subject = "b" }, "epoch": func(r *Room) { r.Epoch = 2 },
		"archived": func(r *Room) { r.Archived = true }, "policy": func(r *Room) { r.Policy.Encryption = "none" },
	} {
		other := record
		change(&other)
		if other.Is(room) {
			t.Errorf("a record with another %s is the room's", name)
		}
	}
}

// TestSealers draws the order of copies, and for whom there is room: m the member, a the author, and others by key.
func TestSealers(t *testing.T) {
	key := func(c byte) (k crypto.PublicKey) {
		k[0] = c
		return k
	}
	member, author := key('m'), key('a')
	for given, want := range map[string]string{
		"":           "",
		"z":          "z",
		"zam":        "maz",
		"zyam":       "mayz",
		"cbdfeghzam": "mabcdefg",
		"cbdfeghz":   "bcdefghz",
	} {
		var copies []SealedKey
		for _, c := range []byte(given) {
			copies = append(copies, SealedKey{Endpoint: member, Sealer: key(c)})
		}
		got := ""
		for _, k := range InOrder(copies, author) {
			got += string(k.Sealer[0])
		}
		if got != want {
			t.Errorf("%s > %s, want %s", given, got, want)
		}
	}
	for _, c := range []struct {
		there string
		by    byte
		full  bool
	}{
		{"", 'z', false}, {"bcdef", 'z', false}, {"bcdefg", 'z', true}, {"bcdefg", 'b', false}, {"bcdefg", 'm', false}, {"bcdefg", 'a', false}, {"mabcdef", 'z', false}, {"mabcdefg", 'z', true},
	} {
		var there []crypto.PublicKey
		for _, s := range []byte(c.there) {
			there = append(there, key(s))
		}
		if got := Full(SealedKey{Endpoint: member, Sealer: key(c.by)}, author, there); got != c.full {
			t.Errorf("%s and %c: full: %v", c.there, c.by, got)
		}
	}
	copies := []SealedKey{{Endpoint: member}}
	if by := MadeBy(author, copies); by[0].Sealer != author || copies[0].Sealer == author {
		t.Error("copies as made by one sealer are others, and theirs")
	}
}

// TestFrames: frames come off the wire as they went on it; what breaks off or is out of order is ErrUnavailable.
func TestFrames(t *testing.T) {
	frames := []Frame{{Seq: 1, Time: time.UnixMicro(5), Data: []byte("one")}, {Seq: 4, Time: time.UnixMicro(6), Sender: identity(t, 1).Key(), Data: []byte{}}}
	var wire []byte
	size := 0
	for i := range frames {
		wire = AppendFrame(wire, &frames[i])
		size += frames[i].Size()
	}
	got, err := ParseFrames(wire)
	if err != nil || !reflect.DeepEqual(got, frames) || size != len(wire) {
		t.Errorf("%+v, %v, %d bytes of %d", got, err, len(wire), size)
	}
	for cut := 1; cut < len(wire); cut++ {
		got, err := ParseFrames(wire[:cut])
		if whole := cut == frames[0].Size(); whole != (err == nil) || !whole && !errors.Is(err, ErrUnavailable) {
			t.Errorf("cut off after %d bytes: %d frames, %v", cut, len(got), err)
		}
	}
	if _, err := ParseFrames(append(slices.Clone(wire), wire...)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("out of order: %v", err)
	}
	for end, p := range map[uint64]*Past{4: {Last: 9, Frames: frames}, 9: {Last: 9}} {
		if p.End() != end {
			t.Errorf("%+v says something up to %d, want %d", p, p.End(), end)
		}
	}
}

// TestUserBody: a user comes off the wire as it went on it, whatever is not said of it.
func TestUserBody(t *testing.T) {
	at := time.UnixMilli(1e12).UTC()
	for name, u := range map[string]ledger.User{
		"all said":     {Key: identity(t, 1).Key(), Name: "a", Role: ledger.RoleAdmin, Active: true, Expires: at, Added: at, Revoked: at, AddedBy: identity(t, 2).Key()},
		"nothing said": {Key: identity(t, 1).Key()},
	} {
		raw, err := json.Marshal(NewUserBody(&u))
		var body UserBody
		if err == nil {
			err = json.Unmarshal(raw, &body)
		}
		if got := body.User(); err != nil || got != u {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, u)
		}
		if strings.Contains(string(raw), "0001-01-01") {
			t.Errorf("%s: a time that is none is written: %s", name, raw)
		}
	}
}
