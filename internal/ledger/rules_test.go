package ledger

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
)

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

// TestSetUsers: who is called what, and until when, is an admin's to say, of whoever is on the list, also of one whose
// time is over.
func TestSetUsers(t *testing.T) {
	var words []string
	called := map[crypto.PublicKey]string{}
	s := watch(t, `
		alice found alice
		alice add bob:user carol:admin dave:user
		bob   set bob=robert             ! denied   # a user, of himself
		eve   set bob=robert             ! denied   # a stranger
		alice set                        ! rule     # nobody
		alice set bob                    ! rule     # nothing
		alice set eve=eva                ! rule     # never on the list
		alice set bob=                   ! rule
		alice set bob=two~words          ! rule
		alice set bob=carol              ! rule     # another's name
		alice set bob=bob                ! rule     # is no other
		alice set bob=carol carol=bob    ! rule     # nor do two swap theirs at once
		alice set bob=x carol=x          ! rule
		alice set bob=x bob@9            ! rule     # twice
		alice set dave@5 eve@5           ! rule     # none of a bad list
		alice set bob=robert carol@60 dave=david@5
		= alice:admin carol:admin david:user robert:user
		alice add bob=eve:user                      # the name is free
		carol set dave@never alice=al               # whose time is over is there all the same
		alice revoke dave
		alice set dave@9                 ! rule     # revoked
		alice add dave:user
		alice set dave=david                        # the name that the revoked one had
		carol user alice:user
		alice set dave=x                 ! denied   # no admin any more
		carol user carol:user            ! rule     # is the last one still
		= al:user bob:user carol:admin david:user robert:user
	`, func(_ *State, e *Entry) {
		maps.Copy(called, e.Names())
		if e.Op == "set" {
			words = append(words, e.Words(nameOf))
		}
	})
	if u := s.Bus.User(key("carol")); !u.Expires.Equal(at(60)) || !u.ActiveAt(at(59)) || u.ActiveAt(at(60)) {
		t.Errorf("carol may connect until %v", u.Expires)
	}
	if u := s.Bus.ByName("david"); u.Key != key("dave") || !u.Expires.IsZero() || u.Revoked.IsZero() {
		t.Errorf("david is %+v", u)
	}
	if s.Bus.ByName("dave") != nil || s.Bus.ByName("robert").Key != key("bob") || s.Bus.ByName("bob").Key != key("eve") {
		t.Error("names")
	}
	want := []string{
		"bob is called robert, carol may connect until 2023-11-14T23:13:20Z, dave is called david and may connect until 2023-11-14T22:18:20Z",
		"dave has no end, alice is called al", "dave is called david",
	}
	if !slices.Equal(words, want) {
		t.Errorf("%q", words)
	}
	for u := range s.Bus.Users {
		if u.Active && called[u.Key] != u.Name {
			t.Errorf("%s is called %s by the entries", u.Name, called[u.Key])
		}
	}
}

// TestCreateRoom: what a room may begin with.
func TestCreateRoom(t *testing.T) {
	play(t, `
		alice create ops..x              ! rule
		alice create ops.x without-commit ! rule
		alice create ops.x none with-commit ! rule
		alice create ops.x with-short-nonce ! rule
		alice create ops.x nonsense      ! rule
		alice create ops.x rot13         ! rule
		alice create ops.x
		alice create ops.x               ! rule
		= alice:owner
	`)
}

// TestMembers: who invites and removes whom, and that whoever is removed reads no further.
func TestMembers(t *testing.T) {
	s := play(t, `
		alice create ops.x
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
	`)
	r := s.Room
	if !r.Known(key("eve")) || r.Known(crypto.PublicKey{}) {
		t.Error("who was a member")
	}
	if r.RoleAt(key("eve"), 1) != "" || r.RoleAt(key("eve"), 3) != RoleMember || r.RoleAt(key("eve"), s.Head.Seq) != "" || r.RoleAt(key("bob"), 2) != RoleAdmin {
		t.Error("RoleAt")
	}
	if r.EpochAt(1).Number != 1 || r.EpochAt(s.Head.Seq).Number != r.Epoch().Number {
		t.Error("EpochAt")
	}
}

// TestRoles: only owners change roles, and one owner stays.
func TestRoles(t *testing.T) {
	s := play(t, `
		alice create ops.x
		alice invite bob:admin carol:member dave:reader
		bob   role carol:reader          ! denied
		alice role eve:member            ! rule
		alice role carol:king            ! rule
		alice role alice:member          ! rule     # the last owner
		alice leave                      ! rule
		alice remove alice rekey         ! rule
		alice role bob:owner
		alice role alice:member
		= alice:member bob:owner carol:member dave:reader
	`)
	if r := s.Room; r.RoleAt(key("bob"), 2) != RoleAdmin || r.RoleAt(key("bob"), s.Head.Seq) != RoleOwner {
		t.Error("RoleAt")
	}
}

// TestPolicies: who changes the policy, and that nobody is given by it what was before.
func TestPolicies(t *testing.T) {
	s := play(t, `
		bob   create ops.x
		bob   invite alice:member carol:member
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
		= alice:member bob:owner carol:member
	`)
	if !s.Room.Policy.Pad || s.Room.Left {
		t.Error("what it folded to")
	}
}

// TestArchived: who ends a room, and that nothing follows.
func TestArchived(t *testing.T) {
	s := play(t, `
		bob   create ops.x
		bob   invite alice:admin
		alice archive                    ! denied
		bob   frobnicate                 ! newer
		bob   add carol:user             ! newer
		bob   archive
		bob   rekey                      ! rule     # final
		bob   archive                    ! rule
		= alice:admin bob:owner
	`)
	if s.Room.Archived != s.Head.Seq {
		t.Errorf("archived at %d, not at %d", s.Room.Archived, s.Head.Seq)
	}
}

// TestNoKeys: a room without encryption has no keys to change, and needs none to be changed.
func TestNoKeys(t *testing.T) {
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
}

// TestHas: a log has its entries, each at its place, and no others.
func TestHas(t *testing.T) {
	s, other := play(t, "alice create r\nalice invite bob:member"), play(t, "alice create other\nalice invite bob:member\nalice archive")
	if h, ok := s.HashAt(0); ok || !h.IsZero() {
		t.Error("there is no entry 0")
	}
	if _, ok := s.HashAt(3); ok {
		t.Error("there is no entry 3 yet")
	}
	first, _ := s.HashAt(1)
	for name, v := range map[string]struct {
		head Head
		has  bool
	}{
		"the last":           {s.Head, true},
		"the first":          {Head{1, first}, true},
		"the first, as last": {Head{2, first}, false},
		"that of another":    {Head{2, hashAt(t, other, 2)}, false},
		"one beyond":         {other.Head, false},
		"none, at none":      {Head{}, false},
	} {
		if s.Has(v.head) != v.has {
			t.Errorf("%s: it has it is %v", name, !v.has)
		}
	}
}

// hashAt is the hash of an entry that is there.
func hashAt(t *testing.T, s *State, seq uint64) crypto.Hash {
	t.Helper()
	h, ok := s.HashAt(seq)
	if !ok {
		t.Fatalf("there is no entry %d", seq)
	}
	return h
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
		"a": true, "ops.alerts": true, strings.Repeat("x", 200): true, "a$b": true, "a-b": true, strings.Repeat("a", 31): true, strings.Repeat("1", 32): true, strings.Repeat("a", 33): true,
		strings.Repeat("a", 32): false, strings.Repeat("A7", 16): false, "-": false, "--all": false,
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

// TestWasOut: whose access was ever ended by a revocation was out, back or not, and so was who never had any; an end is none.
func TestWasOut(t *testing.T) {
	s := play(t, `
		alice found alice
		alice add bob:user carol:user dave:user
		alice revoke bob carol
		alice add carol:user
		alice set dave@1
	`)
	for who, out := range map[string]bool{"alice": false, "bob": true, "carol": true, "dave": false, "eve": true} {
		if s.Bus.WasOut(key(who)) != out {
			t.Errorf("%s was out: %v, want %v", who, !out, out)
		}
	}
}
