package ledger

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"go.uber.org/goleak"

	"github.com/unibus/unibus/internal/crypto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// people are identities by name, from fixed seeds.
var people = map[string]*crypto.Identity{}

func init() {
	for i, name := range []string{"alice", "bob", "carol", "dave", "eve"} {
		id, err := crypto.NewIdentity([32]byte{'p', byte(i)})
		if err != nil {
			panic(err)
		}
		people[name] = id
	}
}

func key(name string) crypto.PublicKey { return people[name].Key() }

func nameOf(k crypto.PublicKey) string {
	for name, id := range people {
		if id.Key() == k {
			return name
		}
	}
	return k.String()
}

// t0 is when the tests' entries begin; each is a minute later than the one before.
var t0 = time.UnixMilli(1_700_000_000_000).UTC()

func at(seq uint64) time.Time { return t0.Add(time.Duration(seq) * time.Minute) }

// sign makes an entry that says whatever it is told to, as an attacker can.
func sign(t testing.TB, s *State, by *crypto.Identity, op string, body any, change func(p *entryPayload)) []byte {
	t.Helper()
	raw, err := crypto.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	p := entryPayload{
		V: 1, Seq: crypto.Number(s.Head.Seq + 1), Time: crypto.Number(at(s.Head.Seq + 1).UnixMilli()), By: by.Key(), Op: op, Body: raw,
	}
	if s.Head.Seq > 0 {
		p.Log, p.Prev = s.ID[:], s.Head.Hash[:]
	}
	if change != nil {
		change(&p)
	}
	payload, err := crypto.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return by.Sign(crypto.KindEntry, payload)
}

// verdicts are the words for how an entry ends.
var verdicts = map[string]error{
	"denied": ErrNotAllowed, "rule": ErrRule, "place": ErrPlace, "newer": ErrNewer, "encoding": crypto.ErrEncoding,
}

// play folds a log drawn as text, an entry a line:
//
//	WHO OP ARGS…            an entry that must be accepted
//	WHO OP ARGS… ! VERDICT  one that must be refused
//	= WHO:ROLE …            what the log must have folded to by then
//
// Room ops take NAME:ROLE or names, and "rekey" (or "rekey:EPOCH", "rekey:noprev") where the entry
// carries one. What follows # is a comment.
func play(t *testing.T, text string) *State {
	t.Helper()
	return watch(t, text, func(*State, *Entry) {})
}

// watch is play, with a look at every entry that is accepted.
func watch(t *testing.T, text string, look func(s *State, e *Entry)) *State {
	t.Helper()
	s := new(State)
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		line, verdict, refused := strings.Cut(strings.TrimSpace(line), "!")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if words[0] == "=" {
			slices.Sort(words[1:])
			if got := standing(s); got != strings.Join(words[1:], " ") {
				t.Errorf("after entry %d it is %s, want %s", s.Head.Seq, got, strings.Join(words[1:], " "))
			}
			continue
		}
		op, body := drawn(t, s, words[1], words[2:])
		statement := sign(t, s, people[words[0]], op, body, nil)
		before := s.Head
		e, err := apply(s, statement)
		if !refused {
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if e.Op != op || e.By != key(words[0]) || e.Log != s.ID || s.Head != (Head{e.Seq, e.Hash}) || e.Prev != before.Hash {
				t.Fatalf("%q: entry %+v", line, e)
			}
			look(s, e)
			continue
		}
		var invalid *Invalid
		if want := verdicts[strings.TrimSpace(verdict)]; want == nil || !errors.As(err, &invalid) || !errors.Is(err, want) || invalid.Seq != before.Seq+1 {
			t.Fatalf("%q: %v, want %q", line, err, verdict)
		}
		if s.Head != before {
			t.Fatalf("%q: a refused entry changed the state", line)
		}
	}
	return s
}

// standing tells who has which role.
func standing(s *State) string {
	var out []string
	if s.Bus != nil {
		for u := range s.Bus.Users {
			role := string(u.Role)
			if !u.Active {
				role = "revoked"
			}
			out = append(out, u.Name+":"+role)
		}
	} else {
		for k, r := range s.Room.Members() {
			out = append(out, nameOf(k)+":"+string(r))
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// drawn reads one entry of a drawn log.
func drawn(t *testing.T, s *State, op string, args []string) (string, any) {
	t.Helper()
	var k *Rekey
	var rest []string
	for _, a := range args {
		if word, ok := strings.CutPrefix(a, "rekey"); ok {
			k = drawnRekey(s, strings.TrimPrefix(word, ":"))
		} else {
			rest = append(rest, a)
		}
	}
	pairs := func(f func(name, role string)) {
		for _, a := range rest {
			name, role, _ := strings.Cut(a, ":")
			f(name, role)
		}
	}
	keys := func() []crypto.PublicKey {
		out := []crypto.PublicKey{}
		pairs(func(name, _ string) { out = append(out, key(name)) })
		return out
	}
	switch op {
	case "found":
		return op, Found{Name: rest[0], Key: key(rest[0])}
	case "add":
		add := Add{Users: []NewUser{}}
		pairs(func(name, role string) {
			as, _, _ := strings.Cut(name, "=")
			who := strings.TrimPrefix(name, as+"=")
			add.Users = append(add.Users, NewUser{Key: key(who), Name: as, Role: Role(role)})
		})
		return op, add
	case "revoke":
		return op, Revoke{Keys: keys()}
	case "user":
		name, role, _ := strings.Cut(rest[0], ":")
		return "role", UserRole{Key: key(name), Role: Role(role)}
	case "create":
		return op, drawnCreate(rest)
	case "invite":
		in := Invite{Members: []NewMember{}, Rekey: k}
		pairs(func(name, role string) { in.Members = append(in.Members, NewMember{key(name), Role(role)}) })
		return op, in
	case "remove":
		return op, Remove{Keys: keys(), Rekey: k}
	case "leave":
		return op, Leave{}
	case "role":
		name, role, _ := strings.Cut(rest[0], ":")
		return op, MemberRole{Key: key(name), Role: Role(role)}
	case "rekey":
		return op, drawnRekey(s, strings.Join(rest, ""))
	case "policy":
		p := s.Room.Policy
		edit(&p, rest)
		return op, SetPolicy{Policy: p, Rekey: k, Anew: slices.Contains(rest, "anew")}
	case "archive":
		return op, Archive{}
	}
	return op, Leave{}
}

func edit(p *Policy, words []string) {
	for _, w := range words {
		switch w {
		case HistoryJoined, HistoryShared:
			p.History = w
		case EncryptionE2E, EncryptionNone:
			p.Encryption = w
		case "pad":
			p.Pad = true
		case "rot13":
			p.Encryption = w
		case "anew":
		case "live":
			p.Retain = nil
		case "stored":
			p.Retain = DefaultPolicy().Retain
		default:
			if limits, ok := strings.CutPrefix(w, "retain="); ok {
				p.Retain = retention(limits)
				continue
			}
			p.History = w
		}
	}
}

func drawnCreate(words []string) Create {
	c := Create{Bus: crypto.ID{1}, Subject: words[0], Policy: DefaultPolicy(), Nonce: make([]byte, 16)}
	commit := crypto.RoomKey{1}.Commit(1)
	c.Commit = &commit
	edit(&c.Policy, slices.DeleteFunc(slices.Clone(words[1:]), func(w string) bool { return strings.HasPrefix(w, "with") }))
	if !c.Policy.Encrypted() {
		c.Commit = nil
	}
	switch {
	case slices.Contains(words, "with-commit"):
		c.Commit = &commit
	case slices.Contains(words, "without-commit"):
		c.Commit = nil
	case slices.Contains(words, "with-short-nonce"):
		c.Nonce = c.Nonce[1:]
	}
	return c
}

// drawnRekey is the right next one, unless told otherwise.
func drawnRekey(s *State, how string) *Rekey {
	epoch := s.Room.Epoch().Number + 1
	k := &Rekey{Epoch: epoch, Previous: make([]byte, crypto.PreviousSize)}
	if s.Room.Policy.History == HistoryJoined {
		k.Previous = nil
	}
	switch how {
	case "":
	case "noprev":
		k.Previous = nil
	case "prev":
		k.Previous = make([]byte, crypto.PreviousSize)
	case "shortprev":
		k.Previous = make([]byte, crypto.PreviousSize-1)
	default:
		n, err := strconv.ParseUint(how, 10, 32)
		if err != nil {
			panic(err)
		}
		k.Epoch = uint32(n)
	}
	k.Commit = crypto.RoomKey{byte(k.Epoch)}.Commit(k.Epoch)
	return k
}

func TestBusLog(t *testing.T) {
	s := play(t, `
		bob   found alice                ! denied   # a bus is founded by the key it names
		alice found alice
		= alice:admin
		alice found alice                ! rule
		bob   add carol:user             ! denied   # a stranger
		alice add                        ! rule
		alice add bob:user carol:admin
		= alice:admin bob:user carol:admin
		bob   add dave:user              ! denied   # a user
		alice add bob:user               ! rule     # again
		alice add bobby=bob:user         ! rule     # under another name
		alice add bob=dave:user          ! rule     # another under its name
		alice add dave:user dave2=dave:user ! rule
		alice add x=dave:user x=eve:user ! rule
		alice add dave:owner             ! rule
		alice add two~words=dave:user    ! rule
		alice add bob:user dave:user     ! rule     # none of a bad list
		carol add dave:user
		carol user alice:user                       # two admins, then one
		alice add eve:user               ! denied
		carol user carol:user            ! rule     # the last admin
		carol revoke carol               ! rule
		carol revoke                     ! rule
		carol revoke bob bob             ! rule
		carol revoke eve                 ! rule     # never on it
		alice revoke bob                 ! denied
		carol revoke bob alice
		= alice:revoked bob:revoked carol:admin dave:user
		carol revoke bob                 ! rule     # twice
		carol user bob:admin             ! rule     # revoked
		carol user dave:king             ! rule
		bob   user bob:admin             ! denied
		carol user dave:admin
		carol add bob=alice:user                    # a name is free again, a key may come back
		carol add robert=bob:user
		= bob:user carol:admin dave:admin robert:user
		carol revoke carol
		carol add eve:user               ! denied
		carol invite bob:member          ! newer    # no op of a bus log
		dave  frobnicate                 ! newer
	`)
	if s.Bus.ByName("bob").Key != key("alice") || s.Bus.ByName("carol") != nil || s.Bus.User(key("eve")) != nil {
		t.Error("names")
	}
	if s.Bus.User(key("bob")).Revoked.IsZero() {
		t.Error("whoever was revoked once forgets it when added again")
	}
	for range s.Bus.Users { // a reader may stop
		break
	}
}

func TestRoomLog(t *testing.T) {
	s := play(t, `
		alice create ops..x              ! rule
		alice create ops.x without-commit ! rule
		alice create ops.x none with-commit ! rule
		alice create ops.x with-short-nonce ! rule
		alice create ops.x nonsense      ! rule
		alice create ops.x rot13         ! rule
		alice create ops.x
		alice create ops.x               ! rule
		= alice:owner
		bob   invite carol:member        ! denied
		alice invite                     ! rule
		alice invite bob:king            ! rule
		alice invite bob:member bob:reader ! rule
		alice invite alice:member        ! rule
		alice invite bob:admin carol:member dave:reader
		= alice:owner bob:admin carol:member dave:reader
		carol invite eve:reader          ! denied
		bob   invite eve:admin           ! denied   # an admin makes no admins
		bob   invite eve:owner           ! denied
		bob   invite eve:member rekey               # may rekey where it need not
		bob   remove alice rekey         ! denied
		bob   remove eve                 ! rule     # without a rekey it would read on
		bob   remove eve rekey:2         ! rule
		bob   remove eve rekey:4         ! rule
		bob   remove eve rekey:noprev    ! rule
		bob   remove eve rekey:shortprev ! rule
		bob   remove eve eve rekey       ! rule
		bob   remove rekey               ! rule
		eve   remove carol rekey         ! denied
		bob   remove eve rekey
		bob   remove eve rekey           ! rule     # gone already
		= alice:owner bob:admin carol:member dave:reader
		bob   role carol:reader          ! denied
		alice role eve:member            ! rule
		alice role carol:king            ! rule
		alice role alice:member          ! rule     # the last owner
		alice leave                      ! rule
		alice remove alice rekey         ! rule
		alice role bob:owner
		alice role alice:member
		= alice:member bob:owner carol:member dave:reader
		alice policy joined rekey        ! denied
		bob   policy joined              ! rule     # a change of history rekeys
		bob   policy nonsense            ! rule
		bob   policy none                ! rule     # encryption never changes
		bob   policy joined rekey        ! rule     # ... and does not show what was before
		bob   policy joined rekey:noprev
		bob   invite eve:reader          ! rule     # with history joined newcomers begin with a key of their own
		bob   invite eve:reader rekey
		bob   rekey prev                 ! rule
		bob   rekey
		carol rekey                      ! denied
		eve   leave
		eve   leave                      ! denied
		bob   policy pad
		bob   policy shared rekey:noprev
		bob   rekey
		alice archive                    ! denied
		bob   frobnicate                 ! newer
		bob   add carol:user             ! newer
		bob   archive
		bob   rekey                      ! rule     # final
		bob   archive                    ! rule
	`)
	r := s.Room
	if r.Archived != s.Head.Seq || !r.Policy.Pad || !r.Known(key("eve")) || r.Known(crypto.PublicKey{}) {
		t.Error("what it folded to")
	}
	if r.RoleAt(key("eve"), 1) != "" || r.RoleAt(key("bob"), 2) != RoleAdmin || r.RoleAt(key("bob"), s.Head.Seq) != RoleOwner {
		t.Error("RoleAt")
	}
	if r.EpochAt(1).Number != 1 || r.EpochAt(s.Head.Seq).Number != r.Epoch().Number {
		t.Error("EpochAt")
	}
	plain := play(t, `
		alice create clear none
		alice rekey                      ! rule
		alice invite bob:member rekey    ! rule
		alice invite bob:member
		alice policy joined
		alice invite carol:member
		alice remove bob
		carol leave
		= alice:owner
	`)
	if plain.Room.Left || Stale(plain.Room, nil, t0) {
		t.Error("a room without a key is stale")
	}
}

// TestPlaces: an entry is valid in one place of one log, by its author, as it was signed.
func TestPlaces(t *testing.T) {
	s := play(t, "alice create r\nalice invite bob:member")
	other := play(t, "alice create other")
	for name, change := range map[string]func(p *entryPayload){
		"seq too high": func(p *entryPayload) { p.Seq++ },
		"seq again":    func(p *entryPayload) { p.Seq-- },
		"another log":  func(p *entryPayload) { p.Log = other.ID[:] },
		"no log":       func(p *entryPayload) { p.Log = nil },
		"another prev": func(p *entryPayload) { p.Prev = other.Head.Hash[:] },
		"no prev":      func(p *entryPayload) { p.Prev = nil },
		"short log":    func(p *entryPayload) { p.Log = p.Log[:19] },
	} {
		if _, err := apply(s, sign(t, s, people["alice"], "leave", Leave{}, change)); !errors.Is(err, ErrPlace) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := apply(new(State), sign(t, new(State), people["alice"], "create", drawnCreate([]string{"x"}), func(p *entryPayload) { p.Log = other.ID[:] })); !errors.Is(err, ErrPlace) {
		t.Errorf("a first entry of a log: %v", err)
	}
	if _, err := apply(s, sign(t, s, people["alice"], "leave", Leave{}, func(p *entryPayload) { p.V = 2 })); !errors.Is(err, ErrNewer) {
		t.Errorf("version 2: %v", err)
	}
	if _, err := apply(s, sign(t, s, people["alice"], "leave", Leave{}, func(p *entryPayload) { p.By = key("bob") })); !errors.Is(err, crypto.ErrSignature) {
		t.Errorf("signed by another: %v", err)
	}
	if _, err := apply(s, sign(t, s, people["alice"], "leave", map[string]any{"x": 1}, nil)); !errors.Is(err, crypto.ErrEncoding) {
		t.Errorf("a body with more in it: %v", err)
	}
	if _, err := apply(s, []byte("short")); !errors.Is(err, crypto.ErrEncoding) {
		t.Errorf("no statement: %v", err)
	}
	if _, err := apply(s, people["alice"].Sign(crypto.KindEntry, []byte("x"))); !errors.Is(err, crypto.ErrEncoding) {
		t.Errorf("no entry: %v", err)
	}
	first := new(State)
	if _, err := apply(first, sign(t, first, people["alice"], "invite", Invite{}, nil)); !errors.Is(err, ErrNewer) {
		t.Errorf("a log that begins with an invitation: %v", err)
	}
	var invalid *Invalid
	_, err := apply(first, nil)
	if !errors.As(err, &invalid) || !strings.HasPrefix(invalid.Error(), "entry 1 is not valid: ") {
		t.Errorf("%v", err)
	}
	_, err = apply(s, nil)
	if !errors.As(err, &invalid) || !strings.Contains(invalid.Error(), "entry 3 of log "+s.ID.String()) {
		t.Errorf("%v", err)
	}
	if h, ok := s.HashAt(0); ok || !h.IsZero() {
		t.Error("there is no entry 0")
	}
	if _, ok := s.HashAt(3); ok {
		t.Error("there is no entry 3 yet")
	}
}

func TestPlace(t *testing.T) {
	s := new(State)
	first, err := s.Next(people["alice"], &Create{Subject: "x", Policy: Policy{Encryption: EncryptionNone, History: HistoryShared}, Nonce: make([]byte, 16)}, t0)
	if err != nil {
		t.Fatal(err)
	}
	log, seq, hash, err := Place(first)
	if err != nil || seq != 1 {
		t.Fatal(err)
	}
	if _, err := apply(s, first); err != nil || s.ID != log || s.Head.Hash != hash {
		t.Errorf("it is log %s: %v", s.ID, err)
	}
	next, err := s.Next(people["alice"], &Archive{}, t0)
	if err != nil {
		t.Fatal(err)
	}
	if log, seq, _, err := Place(next); err != nil || log != s.ID || seq != 2 {
		t.Errorf("%s %d %v", log, seq, err)
	}
	for name, b := range map[string][]byte{
		"nothing":        nil,
		"no entry":       people["alice"].Sign(crypto.KindEntry, []byte("x")),
		"seq 1 of a log": sign(t, s, people["alice"], "archive", Archive{}, func(p *entryPayload) { p.Seq = 1 }),
		"seq 2 of none":  sign(t, s, people["alice"], "archive", Archive{}, func(p *entryPayload) { p.Log = nil }),
	} {
		if _, _, _, err := Place(b); !errors.Is(err, crypto.ErrEncoding) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Next(people["bob"], &Archive{}, t0); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("Next signs what is not allowed: %v", err)
	}
	for _, b := range []Body{&Found{}, &Add{}, &Revoke{}, &UserRole{}, &Create{}, &Invite{}, &Remove{}, &Leave{}, &MemberRole{}, &Rekey{}, &SetPolicy{}, &Archive{}} {
		op := b.op()
		if busOps[op] == nil && roomOps[op] == nil {
			t.Errorf("%T is %q", b, op)
		}
	}
}

// TestViews: the views of every entry, one after the other, are those of the whole log.
func TestViews(t *testing.T) {
	rooms, members, epochs, users := map[crypto.ID]RoomView{}, map[crypto.PublicKey]Role{}, map[uint32]crypto.Hash{}, map[crypto.PublicKey]UserView{}
	collect := func(views []View) {
		for _, v := range views {
			v.isView()
			switch v := v.(type) {
			case RoomView:
				rooms[v.ID] = v
			case MemberView:
				members[v.Endpoint] = v.Role
			case EpochView:
				epochs[v.Epoch] = v.Commit
			case UserView:
				users[v.Key] = v
			}
		}
	}
	look := func(s *State, e *Entry) {
		collect(s.Views(e))
		again, err := s.Read(e.Statement)
		if err != nil || again.Op != e.Op || again.By != e.By || again.Log != s.ID || !reflect.DeepEqual(again.Body, e.Body) {
			t.Errorf("entry %d read again: %+v, %v", e.Seq, again, err)
		}
		if _, err := s.Read(e.Statement[1:]); err == nil {
			t.Errorf("entry %d cut short is read", e.Seq)
		}
	}
	// whole checks that a finished log gives at once what its entries gave one after the other.
	whole := func(s *State) {
		t.Helper()
		r, m, e, u := maps.Clone(rooms), maps.Clone(members), maps.Clone(epochs), maps.Clone(users)
		clear(rooms)
		clear(members)
		clear(epochs)
		clear(users)
		collect(s.AllViews())
		if !reflect.DeepEqual(rooms, r) || !maps.Equal(members, m) || !maps.Equal(epochs, e) || !reflect.DeepEqual(users, u) {
			t.Errorf("all views of the log: %v %v %v %v", rooms, members, epochs, users)
		}
	}
	r := watch(t, "alice create r\nalice invite bob:admin carol:member\nbob rekey\nalice role carol:reader\ncarol leave\nalice remove bob rekey\nalice policy pad\nalice archive\n", look)
	v := rooms[r.ID]
	if v.Subject != "r" || v.Epoch != 3 || v.Seq != r.Head.Seq || !v.Archived || !v.Policy.Pad || !v.Policy.Stored() {
		t.Errorf("%+v", v)
	}
	maps.DeleteFunc(members, func(_ crypto.PublicKey, role Role) bool { return role == "" })
	if !maps.Equal(members, r.Room.Members()) {
		t.Errorf("members %v", members)
	}
	if len(epochs) != 3 || epochs[3] != r.Room.Epoch().Commit {
		t.Errorf("epochs %v", epochs)
	}
	whole(r)
	clear(rooms)
	clear(members)
	clear(epochs)
	whole(watch(t, "alice create r none\nalice invite bob:member\n", look))
	if len(epochs) != 0 {
		t.Errorf("epochs of a room without keys: %v", epochs)
	}
	clear(rooms)
	clear(members)
	clear(epochs)
	b := watch(t, "alice found alice\nalice add bob:user carol:admin\nalice user bob:admin\ncarol revoke alice\n", look)
	if len(users) != 3 || users[key("alice")].Active || users[key("bob")].Role != RoleAdmin || b.Bus.Name != "alice" {
		t.Errorf("users %v", users)
	}
	whole(b)
}

func TestStale(t *testing.T) {
	bus := play(t, "alice found alice\nalice add bob:user carol:user dave:user eve:user")
	room := play(t, "alice create r\nalice invite bob:admin carol:member dave:owner")
	now := at(100)
	if Stale(room.Room, bus.Bus, now) || len(Removable(room.Room, bus.Bus, key("alice"), now)) != 0 {
		t.Error("stale without a cause")
	}
	apply := func(s *State, by string, op string, body any) {
		t.Helper()
		if _, err := apply(s, sign(t, s, people[by], op, body, func(p *entryPayload) { p.Time = crypto.Number(at(50 + s.Head.Seq).UnixMilli()) })); err != nil {
			t.Fatal(err)
		}
	}
	apply(bus, "alice", "revoke", Revoke{Keys: []crypto.PublicKey{key("carol")}})
	if !Stale(room.Room, bus.Bus, now) {
		t.Error("a revoked member holds the key")
	}
	if got := Removable(room.Room, bus.Bus, key("bob"), now); !slices.Equal(got, []crypto.PublicKey{key("carol")}) {
		t.Errorf("an admin may remove %v", got)
	}
	if got := Removable(room.Room, bus.Bus, key("carol"), now); got != nil {
		t.Errorf("a member may remove %v", got)
	}
	apply(room, "alice", "remove", Remove{Keys: []crypto.PublicKey{key("carol")}, Rekey: drawnRekey(room, "")})
	if Stale(room.Room, bus.Bus, now) {
		t.Error("stale after the cure")
	}
	apply(bus, "alice", "revoke", Revoke{Keys: []crypto.PublicKey{key("bob"), key("dave")}})
	if got := Removable(room.Room, bus.Bus, key("bob"), now); len(got) != 0 {
		t.Errorf("an admin may remove %v", got) // dave is an owner
	}
	if got := Removable(room.Room, bus.Bus, key("alice"), now); len(got) != 2 {
		t.Errorf("an owner may remove %v", got)
	}
	if got := Removable(room.Room, bus.Bus, key("dave"), now); !slices.Equal(got, []crypto.PublicKey{key("bob")}) {
		t.Errorf("the other owner may remove %v", got)
	}
	// Where all owners but oneself are gone, one of them stays: a room has an owner.
	lonely := play(t, "dave create r\ndave invite bob:owner alice:admin")
	if got := Removable(lonely.Room, bus.Bus, key("dave"), now); len(got) != 1 {
		t.Errorf("%d removable", len(got))
	}
	// Whoever lost access before the key was made never had it, and of one unknown to the bus there is nothing to say.
	apply(room, "alice", "rekey", drawnRekey(room, ""))
	if !Stale(room.Room, bus.Bus, now) {
		t.Error("bob and dave were revoked, and hold the key")
	}
	later := play(t, "alice create r")
	later.Room.Epochs[0].Time = at(99)
	later.Room.set(key("bob"), RoleMember, 1)
	later.Room.set(crypto.PublicKey{1}, RoleMember, 1)
	if Stale(later.Room, bus.Bus, now) {
		t.Error("stale because of one who was revoked before, or whom the bus does not know")
	}
	// Expiry.
	soon := crypto.Number(at(60).UnixMilli())
	apply(bus, "alice", "add", Add{Users: []NewUser{{Key: key("carol"), Name: "carol", Role: RoleUser, Expires: &soon}}})
	temp := play(t, "alice create r\nalice invite carol:member")
	if Stale(temp.Room, bus.Bus, at(59)) || !Stale(temp.Room, bus.Bus, at(61)) {
		t.Error("expiry")
	}
	if u := bus.Bus.User(key("carol")); !u.ActiveAt(at(59)) || u.ActiveAt(at(61)) || (*User)(nil).ActiveAt(t0) {
		t.Error("ActiveAt")
	}
	left := play(t, "alice create r\nalice invite eve:member\neve leave")
	if !Stale(left.Room, bus.Bus, now) {
		t.Error("someone left")
	}
	apply(left, "alice", "archive", Archive{})
	if Stale(left.Room, bus.Bus, now) {
		t.Error("an archived room needs no key")
	}
}

func TestNamesAndSubjects(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "Alice.B_c-d/9": true, strings.Repeat("x", 64): true,
		"": false, strings.Repeat("x", 65): false, "ä": false, "a b": false, "a\n": false,
	} {
		if (ValidName(name) == nil) != ok {
			t.Errorf("name %q", name)
		}
	}
	for subject, ok := range map[string]bool{
		"a": true, "ops.alerts": true, strings.Repeat("x", 200): true, "a$b": true,
		"": false, strings.Repeat("x", 201): false, "$SYS": false, "a b": false, "a.*": false, "a.>": false, ".a": false, "a.": false, "a..b": false, "ä": false, "a\x7f": false,
	} {
		if (ValidSubject(subject) == nil) != ok {
			t.Errorf("subject %q", subject)
		}
	}
}

func TestManyMembers(t *testing.T) {
	s := play(t, "alice create r none")
	var batch []NewMember
	for i := range MaxMembers {
		id, err := crypto.NewIdentity([32]byte{'m', byte(i), byte(i >> 8)})
		if err != nil {
			t.Fatal(err)
		}
		if batch = append(batch, NewMember{id.Key(), RoleReader}); i == MaxMembers-2 {
			break // alice is one too
		}
	}
	if _, err := apply(s, sign(t, s, people["alice"], "invite", Invite{Members: batch}, nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := apply(s, sign(t, s, people["alice"], "invite", Invite{Members: []NewMember{{key("bob"), RoleReader}}}, nil)); !errors.Is(err, ErrRule) {
		t.Errorf("one too many: %v", err)
	}
}

func TestSnapshots(t *testing.T) {
	s := play(t, "alice create r\nalice invite bob:member\nbob leave")
	good, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	back, err := LoadSnapshot(good)
	if err != nil || fmt.Sprint(back.Room.Members()) != fmt.Sprint(s.Room.Members()) || !back.Room.Left {
		t.Errorf("%v", err)
	}
	b := play(t, "alice found alice\nalice add bob:admin\nalice revoke bob\nalice add bob=carol:user")
	if raw, err := b.Snapshot(); err != nil {
		t.Error(err)
	} else if again, err := LoadSnapshot(raw); err != nil || again.Bus.ByName("bob").Key != key("carol") || again.Bus.admins != 1 || standing(again) != standing(b) {
		t.Errorf("one who was revoked counts again: %v", err)
	}
	for n := range good {
		if _, err := LoadSnapshot(good[:n]); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("cut to %d: %v", n, err)
		}
		if n < len(good)-sha256.Size {
			if _, err := LoadSnapshot(withSum(bytes.Clone(good[:n]))); !errors.Is(err, ErrSnapshot) {
				t.Fatalf("cut to %d, with a checksum: %v", n, err)
			}
		}
		flipped := bytes.Clone(good)
		flipped[n] ^= 1
		if _, err := LoadSnapshot(flipped); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("flipped at %d: %v", n, err)
		}
	}
	if _, err := LoadSnapshot(withSum([]byte{0xa0})); !errors.Is(err, ErrSnapshot) {
		t.Errorf("an empty one: %v", err)
	}
	for name, change := range map[string]func(in *snapshot){
		"of another version":    func(in *snapshot) { in.V++ },
		"with a part of a hash": func(in *snapshot) { in.Hashes = in.Hashes[1:] },
		"without hashes":        func(in *snapshot) { in.Hashes = nil },
		"of no log":             func(in *snapshot) { in.Room = nil },
		"of two kinds of log":   func(in *snapshot) { in.Bus = &busSnapshot{} },
		"without an epoch":      func(in *snapshot) { in.Room.Epochs = nil },
		"without a policy":      func(in *snapshot) { in.Room.Terms = nil },
	} {
		var in snapshot
		if err := cbor.Unmarshal(good[:len(good)-sha256.Size], &in); err != nil {
			t.Fatal(err)
		}
		change(&in)
		bad, err := cbor.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := LoadSnapshot(withSum(bad)); !errors.Is(err, ErrSnapshot) {
			t.Errorf("one %s: %v", name, err)
		}
	}
}

// TestDraft: an entry is judged, and what it does is known, before it is signed; one that is too large is refused on
// both sides.
func TestDraft(t *testing.T) {
	by := people["alice"]
	s, err := Verify(nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.Draft(by.Key(), &Found{Name: "alice", Key: by.Key()}, t0)
	if err != nil || s.Head.Seq != 0 || d.After.Head.Seq != 1 || d.After.Bus.User(by.Key()) == nil || d.Entry.Statement != nil {
		t.Fatalf("%+v, %v", d, err)
	}
	if _, err := apply(s, d.Sign(by)); err != nil || s.Head != d.After.Head || s.ID != d.After.ID {
		t.Errorf("signed, it is another: %v, %v", s.Head, err)
	}
	var invalid *Invalid
	if _, err := s.Draft(people["bob"].Key(), &Add{Users: []NewUser{{Key: people["carol"].Key(), Name: "carol", Role: RoleUser}}}, t0); !errors.As(err, &invalid) || !errors.Is(err, ErrNotAllowed) {
		t.Errorf("by who may not: %v", err)
	}
	if _, err := s.Draft(by.Key(), &Create{}, t0); !errors.Is(err, ErrNewer) {
		t.Errorf("of another kind of log: %v", err)
	}
	if _, err := s.Draft(by.Key(), &Revoke{Keys: []crypto.PublicKey{{1}}}, t0); !errors.Is(err, crypto.ErrEncoding) {
		t.Errorf("with a key that is none: %v", err)
	}
	large := strings.Repeat("x", MaxEntry)
	if _, err := s.Draft(by.Key(), &Revoke{Keys: []crypto.PublicKey{by.Key()}, Reason: &large}, t0); !errors.Is(err, crypto.ErrEncoding) {
		t.Errorf("too large: %v", err)
	}
	if _, err := s.Check(by.Sign(crypto.KindEntry, make([]byte, MaxEntry+1))); !errors.Is(err, crypto.ErrEncoding) || !strings.Contains(err.Error(), "at most") {
		t.Errorf("too large, signed: %v", err)
	}
}
