// Package storetest is the conformance suite that every store passes.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// Backend is a store under test.
type Backend struct {
	// Admin founded, or is to found, the bus; the store is Open's to found if Founded is false.
	Admin *crypto.Identity
	// As opens the store as one user sees it; a backend without users returns the same store always.
	// The suite does not close it.
	As func(id *crypto.Identity) store.Store
	// Break makes the backend unable to answer, for good.
	Break func()
	// Staged counts the sealed copies of a key, committed or not; nil where only the store itself knows.
	Staged func(t *testing.T, room crypto.ID, epoch uint32, commit crypto.Hash) int
	// OpTimeout is the backend's.
	OpTimeout time.Duration
	// Founded says that the bus stands already.
	Founded bool
	// OwnKeysOnly says that a user is given only its own sealed keys.
	OwnKeysOnly bool
}

// KillSelf kills the test's process as SIGKILL does, for a test that runs itself again by Killed.
func KillSelf() {
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Kill()
	}
	select {}
}

// Killed runs one test again, in a process of its own with more environment, and reports whether it was
// killed; it must not fail otherwise.
func Killed(t *testing.T, test string, env ...string) bool {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$")
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	if err != nil && !killed {
		t.Fatalf("%v\n%s", err, out)
	}
	return killed
}

// Run runs the suite; open makes a fresh backend for each part.
func Run(t *testing.T, open func(t *testing.T) Backend) {
	for name, f := range map[string]func(*testing.T, *world){
		"room round trip": testRoom,
		"racing keys":     testRacingKeys,
		"allowlist":       testAllowlist,
		"not found":       testNotFound,
		"rooms of":        testRoomsOf,
		"created":         testCreated,
		"copying":         testCopying,
		"race":            testRace,
		"append":          testAppend,
		"heads":           testHeads,
		"cards":           testCards,
		"kept keys":       testKeptKeys,
		"sealers":         testSealers,
		"many sealers":    testManySealers,
		"staged keys":     testStagedKeys,
		"unstaged keys":   testUnstagedKeys,
		"watch":           testWatch,
		"paging":          testPaging,
		"broken":          testBroken,
		"cancelled":       testCancelled,
	} {
		t.Run(name, func(t *testing.T) { f(t, newWorld(t, open(t))) })
	}
}

// world is a founded bus with some people.
type world struct {
	Backend
	t   *testing.T
	ctx context.Context
	s   store.Store // as the admin
	bus *ledger.State
}

func identity(t *testing.T, n byte) *crypto.Identity {
	t.Helper()
	id, err := crypto.NewIdentity([32]byte{'s', 't', n})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func newWorld(t *testing.T, b Backend) *world {
	t.Helper()
	w := &world{Backend: b, t: t, ctx: t.Context(), s: b.As(b.Admin)}
	if !b.Founded {
		if _, err := w.s.Bus(w.ctx); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("the bus of an empty store: %v", err)
		}
		if ok, err := w.s.HasAdmin(w.ctx); ok || err != nil {
			t.Fatalf("an empty store has an admin: %v, %v", ok, err)
		}
		var err error
		if w.bus, err = store.Found(w.ctx, w.s, b.Admin, "admin", time.Now()); err != nil {
			t.Fatal(err)
		}
		return w
	}
	founded, err := w.s.Bus(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if w.bus, err = ledger.Verify([][]byte{founded}); err != nil {
		t.Fatal(err)
	}
	return w
}

// must fails the test on an error.
func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// is fails the test unless err is of a kind.
func (w *world) is(err, kind error) {
	w.t.Helper()
	if !errors.Is(err, kind) {
		w.t.Fatalf("got %v, want %v", err, kind)
	}
}

// append writes the next entry of a log, as its author.
func (w *world) append(s *ledger.State, by *crypto.Identity, body ledger.Body) error {
	w.t.Helper()
	return w.As(by).Append(w.ctx, Next(w.t, s, by, body))
}

func (w *world) allow(ids ...*crypto.Identity) {
	w.t.Helper()
	add := &ledger.Add{}
	for _, id := range ids {
		add.Users = append(add.Users, ledger.NewUser{Key: id.Key(), Name: "user-" + strings.ToLower(id.Key().String()[:8]), Role: ledger.RoleUser})
	}
	w.must(w.append(w.bus, w.Admin, add))
}

// room makes an encrypted room and stages its owner's key.
func (w *world) room(owner *crypto.Identity, subject string) (*ledger.State, crypto.RoomKey) {
	w.t.Helper()
	key := crypto.RoomKey{byte(len(subject)), 1}
	commit := key.Commit(1)
	s := new(ledger.State)
	create := &ledger.Create{Bus: w.bus.ID, Subject: subject, Policy: ledger.DefaultPolicy(), Nonce: []byte("0123456789abcdef"), Commit: &commit}
	statement, err := s.Next(owner, create, time.Now())
	w.must(err)
	id, _, _, err := ledger.Place(statement)
	w.must(err)
	w.must(w.As(owner).PutKeys(w.ctx, id, 1, commit, owner.Key(), []store.SealedKey{w.seal(key, id, 1, owner)}))
	c, err := Advance(s, statement)
	w.must(err)
	w.must(w.As(owner).Append(w.ctx, c))
	return s, key
}

func (w *world) seal(key crypto.RoomKey, room crypto.ID, epoch uint32, to *crypto.Identity) store.SealedKey {
	w.t.Helper()
	raw, err := to.Card()
	w.must(err)
	card, err := crypto.OpenCard(raw, to.Key())
	w.must(err)
	sealed, err := crypto.SealKey(key, room, epoch, to.Key(), card.Sealing)
	w.must(err)
	return store.SealedKey{Endpoint: to.Key(), Sealed: sealed}
}

// opens checks that the first of an endpoint's copies in the store opens to a key.
func (w *world) opens(id *crypto.Identity, room crypto.ID, epoch, want uint32, key crypto.RoomKey) {
	w.t.Helper()
	copies, err := w.As(id).Key(w.ctx, room, epoch, id.Key())
	w.must(err)
	got, err := id.OpenKey(copies[0].Sealed, room, want, key.Commit(want))
	if err != nil || got != key || copies[0].Endpoint != id.Key() {
		w.t.Fatalf("asked for epoch %d: the key does not open: %v", epoch, err)
	}
}

func testRoom(t *testing.T, w *world) {
	owner, bob := identity(t, 1), identity(t, 2)
	w.allow(owner, bob)
	s, key := w.room(owner, "ops.alerts")
	w.opens(owner, s.ID, 0, 1, key)
	w.opens(owner, s.ID, 1, 1, key)

	mine := w.As(owner)
	r, err := mine.Room(w.ctx, s.ID)
	w.must(err)
	if r.Subject != "ops.alerts" || r.Epoch != 1 || r.Seq != 1 || r.Members != 1 || r.Archived || r.Policy.Retain == nil || !r.Policy.Encrypted() {
		t.Errorf("room is %+v", r)
	}
	w.must(mine.PutKeys(w.ctx, s.ID, 1, key.Commit(1), owner.Key(), []store.SealedKey{w.seal(key, s.ID, 1, bob)}))
	w.must(w.append(s, owner, &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleMember}}}))
	w.opens(bob, s.ID, 0, 1, key)
	m, err := w.As(bob).Member(w.ctx, s.ID, bob.Key())
	w.must(err)
	if m.Role != ledger.RoleMember {
		t.Errorf("bob is %s", m.Role)
	}
	list, err := w.As(bob).Members(w.ctx, s.ID)
	w.must(err)
	want := []store.Member{{Endpoint: owner.Key(), Role: ledger.RoleOwner}, {Endpoint: bob.Key(), Role: ledger.RoleMember}}
	slices.SortFunc(want, func(a, b store.Member) int { return bytes.Compare(a.Endpoint[:], b.Endpoint[:]) })
	if !slices.Equal(list, want) {
		t.Errorf("members are %v", list)
	}

	// A rekey: the latest epoch is another one only when the entry stands, whatever was staged.
	next, losing := crypto.RoomKey{2}, crypto.RoomKey{3}
	for _, k := range []crypto.RoomKey{next, losing} {
		w.must(mine.PutKeys(w.ctx, s.ID, 2, k.Commit(2), owner.Key(), []store.SealedKey{w.seal(k, s.ID, 2, owner), w.seal(k, s.ID, 2, bob)}))
	}
	w.opens(bob, s.ID, 0, 1, key)
	_, err = w.As(bob).Key(w.ctx, s.ID, 2, bob.Key())
	w.is(err, store.ErrNotFound)
	previous, err := crypto.SealPrevious(next, s.ID, 2, key, [24]byte{1})
	w.must(err)
	w.must(w.append(s, owner, &ledger.Rekey{Epoch: 2, Commit: next.Commit(2), Previous: previous}))
	w.opens(bob, s.ID, 0, 2, next)
	w.opens(bob, s.ID, 1, 1, key)
	// The loser's copies do not replace the winner's, even when they come late.
	_ = mine.PutKeys(w.ctx, s.ID, 2, losing.Commit(2), owner.Key(), []store.SealedKey{w.seal(losing, s.ID, 2, bob)}) // some backends refuse it
	w.opens(bob, s.ID, 2, 2, next)

	w.must(w.append(s, owner, &ledger.MemberRole{Key: bob.Key(), Role: ledger.RoleAdmin}))
	w.must(w.append(s, bob, &ledger.Leave{}))
	_, err = mine.Member(w.ctx, s.ID, bob.Key())
	w.is(err, store.ErrNotFound)
	r, err = mine.RoomBySubject(w.ctx, "ops.alerts")
	w.must(err)
	if r.Epoch != 2 || r.Seq != 5 || r.Members != 1 {
		t.Errorf("after bob left, room is %+v", r)
	}
	w.must(w.append(s, owner, &ledger.Archive{}))
	r, err = mine.Room(w.ctx, s.ID)
	w.must(err)
	if !r.Archived {
		t.Errorf("room is %+v", r)
	}
}

func testAllowlist(t *testing.T, w *world) {
	bob, carol := identity(t, 2), identity(t, 3)
	authorized := func(id *crypto.Identity, want bool) {
		t.Helper()
		ok, err := w.s.IsAuthorized(w.ctx, id.Key())
		w.must(err)
		if ok != want {
			t.Fatalf("authorized: %v", ok)
		}
	}
	authorized(w.Admin, true)
	authorized(bob, false)
	if ok, err := w.s.HasAdmin(w.ctx); !ok || err != nil {
		t.Fatalf("has admin: %v, %v", ok, err)
	}
	w.allow(bob)
	authorized(bob, true)
	// The admin gate is the ledger's: an entry of anyone else is none.
	if _, err := w.bus.Next(bob, &ledger.Add{Users: []ledger.NewUser{{Key: carol.Key(), Name: "carol", Role: ledger.RoleUser}}}, time.Now()); !errors.Is(err, ledger.ErrNotAllowed) {
		t.Errorf("a user adds a user: %v", err)
	}
	// One key is one user, in whatever case it was typed.
	lower, err := crypto.ParsePublicKey("  " + strings.ToLower(bob.Key().String()) + "\n")
	w.must(err)
	u, err := w.s.User(w.ctx, lower)
	w.must(err)
	if u.Key != bob.Key() || u.Role != ledger.RoleUser || !u.Active || u.AddedBy != w.Admin.Key() || u.Added.IsZero() {
		t.Errorf("bob is %+v", u)
	}
	if _, err := w.bus.Next(w.Admin, &ledger.Add{Users: []ledger.NewUser{{Key: lower, Name: "again", Role: ledger.RoleUser}}}, time.Now()); !errors.Is(err, ledger.ErrRule) {
		t.Errorf("one key twice: %v", err)
	}
	past := crypto.Number(time.Now().Add(-time.Minute).UnixMilli())
	w.must(w.append(w.bus, w.Admin, &ledger.Add{Users: []ledger.NewUser{{Key: carol.Key(), Name: "carol", Role: ledger.RoleUser, Expires: &past}}}))
	authorized(carol, false)
	w.must(w.append(w.bus, w.Admin, &ledger.Revoke{Keys: []crypto.PublicKey{bob.Key()}}))
	authorized(bob, false)
	u, err = w.s.User(w.ctx, bob.Key())
	w.must(err)
	if u.Active || u.Revoked.IsZero() {
		t.Errorf("revoked, bob is %+v", u)
	}
	var keys []string
	for u, err := range w.s.Users(w.ctx, crypto.PublicKey{}) {
		w.must(err)
		keys = append(keys, string(u.Key[:]))
	}
	if len(keys) != 3 || !slices.IsSorted(keys) {
		t.Errorf("%d users, sorted %v", len(keys), slices.IsSorted(keys))
	}
	w.must(w.append(w.bus, w.Admin, &ledger.Add{Users: []ledger.NewUser{{Key: bob.Key(), Name: "bob", Role: ledger.RoleAdmin}}}))
	authorized(bob, true)
}

func testNotFound(t *testing.T, w *world) {
	bob := identity(t, 2)
	w.allow(bob)
	s, key := w.room(w.Admin, "there")
	unknown, nobody := crypto.ID{1}, identity(t, 9).Key()
	errs := map[string]error{}
	note := func(name string, err error) { errs[name] = err }
	_, err := store.HeadOf(w.ctx, w.s, unknown)
	note("HeadOf", err)
	_, err = w.s.Room(w.ctx, unknown)
	note("Room", err)
	_, err = w.s.RoomBySubject(w.ctx, "nowhere")
	note("RoomBySubject", err)
	_, err = w.s.Members(w.ctx, unknown)
	note("Members", err)
	_, err = w.s.Member(w.ctx, unknown, nobody)
	note("Member of no room", err)
	_, err = w.s.Member(w.ctx, s.ID, nobody)
	note("Member", err)
	_, err = w.s.Key(w.ctx, unknown, 1, w.Admin.Key())
	note("Key of no room", err)
	_, err = w.s.Key(w.ctx, s.ID, 2, w.Admin.Key())
	note("Key of no epoch", err)
	_, err = w.As(bob).Key(w.ctx, s.ID, 0, bob.Key())
	note("Key of no member", err)
	_, err = store.CardOf(w.ctx, w.s, nobody)
	note("CardOf", err)
	_, err = w.s.User(w.ctx, nobody)
	note("User", err)
	for name, err := range errs {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, err := range w.s.Entries(w.ctx, unknown, 0) {
		t.Errorf("an unknown log has entries (%v)", err)
	}
	for range w.s.Entries(w.ctx, s.ID, 1) {
		t.Error("there is an entry after the last")
	}
	if ok, err := w.s.IsAuthorized(w.ctx, nobody); ok || err != nil {
		t.Errorf("nobody is authorized: %v, %v", ok, err)
	}
	w.opens(w.Admin, s.ID, 0, 1, key)
	if w.OwnKeysOnly {
		_, err := w.s.Key(w.ctx, s.ID, 1, bob.Key())
		w.is(err, store.ErrDenied)
	}
	card, err := bob.Card()
	w.must(err)
	w.must(w.As(bob).PutCards(w.ctx, store.Card{Endpoint: bob.Key(), Statement: card}))
	got, err := store.CardOf(w.ctx, w.s, bob.Key())
	w.must(err)
	if !bytes.Equal(got.Statement, card) || got.Endpoint != bob.Key() {
		t.Error("the card comes back altered")
	}
}

func testRoomsOf(t *testing.T, w *world) {
	owner, bob, stranger := identity(t, 1), identity(t, 2), identity(t, 3)
	w.allow(owner, bob, stranger)
	var ids []string
	for _, subject := range []string{"a", "b", "c", "d"} {
		s, key := w.room(owner, subject)
		ids = append(ids, s.ID.String())
		if subject == "c" {
			w.must(w.As(owner).PutKeys(w.ctx, s.ID, 1, key.Commit(1), owner.Key(), []store.SealedKey{w.seal(key, s.ID, 1, bob)}))
			w.must(w.append(s, owner, &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleReader}}}))
		}
	}
	of := func(id *crypto.Identity) []store.RoomRef {
		t.Helper()
		refs, err := w.As(id).ListRoomsForEndpoint(w.ctx, id.Key())
		w.must(err)
		return refs
	}
	slices.Sort(ids)
	var got []string
	for _, r := range of(owner) {
		got = append(got, r.ID.String())
		if r.Role != ledger.RoleOwner || r.Epoch != 1 || r.Subject == "" {
			t.Errorf("%+v", r)
		}
	}
	if !slices.Equal(got, ids) {
		t.Errorf("the owner's rooms are %v, want %v by id", got, ids)
	}
	if refs := of(bob); len(refs) != 1 || refs[0].Subject != "c" || refs[0].Role != ledger.RoleReader {
		t.Errorf("bob's rooms are %v", refs)
	}
	if refs := of(stranger); len(refs) != 0 {
		t.Errorf("a stranger's rooms are %v", refs)
	}
}

// testCopying: that a bus is being copied into the store is remembered until it is not, and its logs are what they are.
func testCopying(t *testing.T, w *world) {
	v, ok := w.s.(store.Backend)
	if !ok {
		return // what stands behind it passes this by itself
	}
	for _, under := range []bool{true, true, false} {
		w.must(v.SetCopying(w.ctx, under))
		if err := store.Whole(w.ctx, v); under != errors.Is(err, store.ErrUnavailable) || !under && err != nil {
			t.Errorf("a bus is being copied: %v; %v", under, err)
		}
		if behind, err := v.Behind(w.ctx); err != nil || len(behind) > 0 {
			t.Errorf("behind are %v, %v", behind, err)
		}
		for log, err := range v.Logs(w.ctx) {
			if err != nil {
				t.Errorf("log %s: %v", log, err)
			}
		}
	}
}

// testCreated: a room counts for who created it until it is archived, whoever is in it.
func testCreated(t *testing.T, w *world) {
	v, ok := w.s.(store.Backend)
	if !ok {
		return // what stands behind it passes this by itself
	}
	alice, bob := identity(t, 1), identity(t, 2)
	w.allow(alice, bob)
	is := func(what string, alices, bobs int) {
		t.Helper()
		for id, want := range map[*crypto.Identity]int{alice: alices, bob: bobs} {
			if n, err := v.Created(w.ctx, id.Key()); err != nil || n != want {
				t.Errorf("%s: %d rooms created by %s, want %d (%v)", what, n, map[*crypto.Identity]string{alice: "alice", bob: "bob"}[id], want, err)
			}
		}
	}
	is("at first", 0, 0)
	one, _ := w.room(alice, "one")
	two, _ := w.room(alice, "two")
	w.room(bob, "three")
	is("three rooms", 2, 1)
	for _, s := range []*ledger.State{one, two} {
		w.must(w.append(s, alice, &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleOwner}}}))
	}
	is("bob is an owner", 2, 1)
	w.must(w.append(one, alice, &ledger.Leave{}))
	is("alice left one", 2, 1)
	w.must(w.append(two, bob, &ledger.MemberRole{Key: alice.Key(), Role: ledger.RoleReader}))
	is("alice only reads the other", 2, 1)
	w.must(w.append(one, bob, &ledger.Invite{Members: []ledger.NewMember{{Key: alice.Key(), Role: ledger.RoleMember}}}))
	is("alice was invited again", 2, 1)
	for _, s := range []*ledger.State{one, two} {
		if wrong, err := v.Rebuild(w.ctx, s, true); wrong > 0 || err != nil {
			t.Errorf("%d records are not what the log says, %v", wrong, err)
		}
	}
	w.must(w.append(one, alice, &ledger.Leave{}))
	w.must(w.append(one, bob, &ledger.Archive{}))
	is("one is archived", 1, 1)
	if wrong, err := v.Rebuild(w.ctx, one, false); wrong > 0 || err != nil {
		t.Errorf("without alice %d records are not what the log says, %v", wrong, err)
	}
	is("written anew", 1, 1)
}

// testRace lets two admins write the same place: one wins, the other is told, nothing is mixed.
func testRace(t *testing.T, w *world) {
	other := identity(t, 1)
	w.must(w.append(w.bus, w.Admin, &ledger.Add{Users: []ledger.NewUser{{Key: other.Key(), Name: "other", Role: ledger.RoleAdmin}}}))
	const rounds = 8
	for round := range byte(rounds) {
		snapshot, err := w.bus.Snapshot()
		w.must(err)
		var states [2]*ledger.State
		var changes [2]store.Change
		var errs [2]error
		for i, by := range []*crypto.Identity{w.Admin, other} {
			states[i], err = ledger.LoadSnapshot(snapshot)
			w.must(err)
			add := &ledger.Add{Users: []ledger.NewUser{{Key: identity(t, 100+2*round+byte(i)).Key(), Name: "n" + string('a'+rune(round)) + string('a'+rune(i)), Role: ledger.RoleUser}}}
			statement, err := states[i].Next(by, add, time.Now())
			w.must(err)
			changes[i], err = Advance(states[i], statement)
			w.must(err)
		}
		var wait sync.WaitGroup
		for i, by := range []*crypto.Identity{w.Admin, other} {
			s := w.As(by)
			wait.Go(func() { errs[i] = s.Append(w.ctx, changes[i]) })
		}
		wait.Wait()
		winner := 0
		if errs[0] != nil {
			winner = 1
		}
		w.must(errs[winner])
		w.is(errs[1-winner], store.ErrConflict)
		w.bus = states[winner]
		h, err := store.HeadOf(w.ctx, w.s, w.bus.ID)
		w.must(err)
		if h != w.bus.Head {
			t.Fatalf("head %v, the winner wrote %v", h, w.bus.Head)
		}
		loser := changes[1-winner].Entry.Body.(*ledger.Add).Users[0].Key
		if _, err := w.s.User(w.ctx, loser); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("the loser's view was written: %v", err)
		}
	}
}

// testRacingKeys: of two who rekey at once, the winner's keys are given out, and the loser's are gone.
func testRacingKeys(t *testing.T, w *world) {
	owner, admin, member := identity(t, 1), identity(t, 2), identity(t, 3)
	w.allow(owner, admin, member)
	room, key := w.room(owner, "race")
	w.must(w.As(owner).PutKeys(w.ctx, room.ID, 1, key.Commit(1), owner.Key(), []store.SealedKey{w.seal(key, room.ID, 1, admin), w.seal(key, room.ID, 1, member)}))
	w.must(w.append(room, owner, &ledger.Invite{Members: []ledger.NewMember{{Key: admin.Key(), Role: ledger.RoleAdmin}, {Key: member.Key(), Role: ledger.RoleMember}}}))
	before, err := room.Snapshot()
	w.must(err)
	behind, err := ledger.LoadSnapshot(before)
	w.must(err)
	sealed := map[crypto.RoomKey][]store.SealedKey{}
	stage := func(by *crypto.Identity, next crypto.RoomKey, of ...*crypto.Identity) ledger.Body {
		keys := sealed[next]
		if keys == nil {
			for _, id := range of {
				keys = append(keys, w.seal(next, room.ID, 2, id))
			}
			sealed[next] = keys
		}
		w.must(w.As(by).PutKeys(w.ctx, room.ID, 2, next.Commit(2), by.Key(), keys))
		previous, err := crypto.SealPrevious(next, room.ID, 2, key, [24]byte{1})
		w.must(err)
		return &ledger.Rekey{Epoch: 2, Commit: next.Commit(2), Previous: previous}
	}
	won, lost := crypto.RoomKey{7}, crypto.RoomKey{8}
	winner := stage(owner, won, owner, admin, member)
	loser := stage(admin, lost, owner, admin, member)
	w.must(w.append(room, owner, winner))
	if w.Staged != nil { // over the service this would be refused
		stage(admin, lost, owner, admin, member)
	}
	w.is(w.append(behind, admin, loser), store.ErrConflict)
	for _, id := range []*crypto.Identity{owner, admin, member} {
		w.opens(id, room.ID, 0, 2, won)
	}
	if w.Staged == nil {
		return // what stands behind it passes this by itself
	}
	if n := w.Staged(t, room.ID, 1, key.Commit(1)); n != 3 {
		t.Errorf("%d keys of epoch 1", n)
	}
	if n := w.Staged(t, room.ID, 2, lost.Commit(2)); n != 0 {
		t.Errorf("%d of the loser's keys are still there", n)
	}
}

func testAppend(t *testing.T, w *world) {
	bob := identity(t, 2)
	w.allow(bob)
	before, err := w.bus.Snapshot()
	w.must(err)
	statement, err := w.bus.Next(w.Admin, &ledger.Revoke{Keys: []crypto.PublicKey{bob.Key()}}, time.Now())
	w.must(err)
	c, err := Advance(w.bus, statement)
	w.must(err)
	w.must(w.s.Append(w.ctx, c))
	w.must(w.s.Append(w.ctx, c)) // the same bytes again: it was not heard the first time
	behind, err := ledger.LoadSnapshot(before)
	w.must(err)
	other, err := behind.Next(w.Admin, &ledger.UserRole{Key: bob.Key(), Role: ledger.RoleAdmin}, time.Now())
	w.must(err)
	late, err := Advance(behind, other)
	w.must(err)
	w.is(w.s.Append(w.ctx, late), store.ErrConflict)

	// What comes back is what went in, from any place on.
	var all [][]byte
	for e, err := range w.s.Entries(w.ctx, w.bus.ID, 0) {
		w.must(err)
		if e.Seq != uint64(len(all)+1) {
			t.Fatalf("entry %d after %d", e.Seq, len(all))
		}
		all = append(all, e.Statement)
	}
	s, err := ledger.Verify(all)
	w.must(err)
	if s.Head != w.bus.Head {
		t.Errorf("folds to %v, want %v", s.Head, w.bus.Head)
	}
	for e, err := range w.s.Entries(w.ctx, w.bus.ID, 2) {
		w.must(err)
		if e.Seq != 3 {
			t.Errorf("entry %d after 2", e.Seq)
		}
		break // a reader may stop
	}
	// A subject is one room's, a store one bus's.
	room, _ := w.room(w.Admin, "taken")
	twin := new(ledger.State)
	commit := crypto.RoomKey{}.Commit(1)
	statement, err = twin.Next(w.Admin, &ledger.Create{Bus: w.bus.ID, Subject: "taken", Policy: ledger.DefaultPolicy(), Nonce: make([]byte, 16), Commit: &commit}, time.Now())
	w.must(err)
	c, err = Advance(twin, statement)
	w.must(err)
	w.is(w.s.Append(w.ctx, c), store.ErrExists)
	if r, err := w.s.RoomBySubject(w.ctx, "taken"); err != nil || r.ID != room.ID {
		t.Errorf("the subject now means %v (%v)", r.ID, err)
	}
	if _, err := store.HeadOf(w.ctx, w.s, twin.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the refused room has a log: %v", err)
	}
	if !w.Founded {
		_, err = store.Found(w.ctx, w.s, bob, "bob", time.Now())
		w.is(err, store.ErrExists)
	}
}

// testHeads: where many logs end is answered at once, in the order asked, for those whom it concerns.
func testHeads(t *testing.T, w *world) {
	owner, bob, stranger := identity(t, 1), identity(t, 2), identity(t, 3)
	w.allow(owner, bob, stranger)
	const rooms = 12
	var logs []crypto.ID
	want := map[crypto.ID]ledger.Head{w.bus.ID: w.bus.Head}
	for i := range rooms {
		s, key := w.room(owner, "h"+string('a'+rune(i)))
		if i == 0 { // bob is in this one, was in the next, and knows nothing of the others
			w.must(w.As(owner).PutKeys(w.ctx, s.ID, 1, key.Commit(1), owner.Key(), []store.SealedKey{w.seal(key, s.ID, 1, bob)}))
		}
		if i < 2 {
			w.must(w.append(s, owner, &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleMember}}}))
		}
		if i == 1 {
			w.must(w.append(s, bob, &ledger.Leave{}))
		}
		for n := range i * i { // some logs are long, as far as looking for their end goes
			role := []ledger.Role{ledger.RoleAdmin, ledger.RoleMember}[n%2]
			if i > 1 {
				if n == 0 {
					w.must(w.append(s, owner, &ledger.Invite{Members: []ledger.NewMember{{Key: stranger.Key(), Role: ledger.RoleMember}}}))
				}
				w.must(w.append(s, owner, &ledger.MemberRole{Key: stranger.Key(), Role: role}))
			}
		}
		logs, want[s.ID] = append(logs, s.ID), s.Head
	}
	is := func(who *crypto.Identity, asked []crypto.ID, known func(i int) bool) {
		t.Helper()
		heads, err := w.As(who).Heads(w.ctx, asked...)
		w.must(err)
		if len(heads) != len(asked) {
			t.Fatalf("%d heads of %d logs", len(heads), len(asked))
		}
		for i, log := range asked {
			expected := ledger.Head{}
			if known(i) {
				expected = want[log]
			}
			if heads[i] != expected {
				t.Errorf("log %d of %d ends at %v, want %v", i, len(asked), heads[i], expected)
			}
		}
	}
	all := func(int) bool { return true }
	is(owner, logs, all)
	is(owner, []crypto.ID{logs[5], w.bus.ID, {7}, logs[1], logs[5]}, all) // zero for the unknown, twice for who asks twice
	is(owner, nil, all)
	if w.Founded { // by way of a service, which knows who asks
		is(bob, logs, func(i int) bool { return i < 2 })
		is(bob, []crypto.ID{w.bus.ID}, all)
	}
	many := make([]crypto.ID, 2500)
	for i := range many {
		many[i] = crypto.ID{1, byte(i), byte(i >> 8)}
	}
	is(owner, append(append(many[:1000:1000], logs...), many[1000:]...), all)
}

// testKeptKeys: a copy that is there is never replaced, and whoever tries keeps nobody from their own.
func testKeptKeys(t *testing.T, w *world) {
	owner, bob, carol := identity(t, 1), identity(t, 2), identity(t, 3)
	w.allow(owner, bob, carol)
	s, key := w.room(owner, "kept")
	put := func(keys ...store.SealedKey) error {
		return w.As(owner).PutKeys(w.ctx, s.ID, 1, key.Commit(1), owner.Key(), keys)
	}
	bobs := w.seal(key, s.ID, 1, bob)
	w.must(put(bobs))
	w.must(put(bobs)) // the same bytes again: it was not heard the first time
	w.must(w.append(s, owner, &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleMember}, {Key: carol.Key(), Role: ledger.RoleMember}}}))
	rubbish := store.SealedKey{Endpoint: bob.Key(), Sealed: make([]byte, crypto.SealedSize)}
	w.is(put(rubbish), store.ErrExists)
	w.is(put(rubbish, w.seal(key, s.ID, 1, carol)), store.ErrExists)
	w.opens(bob, s.ID, 1, 1, key)
	w.opens(carol, s.ID, 1, 1, key)
	w.given(bob, s.ID, 1, owner)
	copies, err := w.As(bob).Key(w.ctx, s.ID, 1, bob.Key())
	w.must(err)
	if !bytes.Equal(copies[0].Sealed, bobs.Sealed) {
		t.Error("bob's copy was replaced")
	}
}

// given checks whose copies of a key an endpoint is given, and in which order.
func (w *world) given(id *crypto.Identity, room crypto.ID, epoch uint32, sealers ...*crypto.Identity) {
	w.t.Helper()
	copies, err := w.As(id).Key(w.ctx, room, epoch, id.Key())
	w.must(err)
	var got, want []crypto.PublicKey
	for _, k := range copies {
		got = append(got, k.Sealer)
	}
	for _, sealer := range sealers {
		want = append(want, sealer.Key())
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("given copies by %v, want those by %v", got, want)
	}
}

// garbage is a copy that opens to nothing.
func garbage(of byte, to *crypto.Identity) []store.SealedKey {
	return []store.SealedKey{{Endpoint: to.Key(), Sealed: bytes.Repeat([]byte{of}, crypto.SealedSize)}}
}

// byKey are identities by their key.
func byKey(ids ...*crypto.Identity) []*crypto.Identity {
	slices.SortFunc(ids, func(a, b *crypto.Identity) int {
		x, y := a.Key(), b.Key()
		return bytes.Compare(x[:], y[:])
	})
	return ids
}

// testSealers: each sealer has a place of its own, staged or not, and writes it once; a member is given its own
// copy first, then that of the entry's author.
func testSealers(t *testing.T, w *world) {
	owner, admin, bob := identity(t, 1), identity(t, 2), identity(t, 3)
	w.allow(owner, admin, bob)
	s, key := w.room(owner, "sealers")
	put := func(by *crypto.Identity, epoch uint32, key crypto.RoomKey, keys ...store.SealedKey) error {
		return w.As(by).PutKeys(w.ctx, s.ID, epoch, key.Commit(epoch), by.Key(), keys)
	}
	w.must(put(owner, 1, key, w.seal(key, s.ID, 1, admin), w.seal(key, s.ID, 1, bob)))
	w.must(w.append(s, owner, &ledger.Invite{Members: []ledger.NewMember{{Key: admin.Key(), Role: ledger.RoleAdmin}, {Key: bob.Key(), Role: ledger.RoleMember}}}))

	// An admin's garbage takes nobody's place, the owner's own no more than another member's.
	zeros := append(garbage(0, owner), garbage(0, bob)...)
	w.must(put(admin, 1, key, zeros...))
	w.must(put(admin, 1, key, zeros...)) // the same bytes again: it was not heard the first time
	w.given(owner, s.ID, 1, owner, admin)
	w.opens(owner, s.ID, 1, 1, key)
	w.given(bob, s.ID, 1, owner, admin)
	w.opens(bob, s.ID, 0, 1, key)
	w.is(put(admin, 1, key, garbage(1, owner)...), store.ErrExists)
	w.is(put(admin, 1, key, append(garbage(1, bob), w.seal(key, s.ID, 1, admin))...), store.ErrExists)
	w.given(admin, s.ID, 1, admin, owner) // its own was kept all the same
	if copies, err := w.As(owner).Key(w.ctx, s.ID, 1, owner.Key()); err != nil || !bytes.Equal(copies[1].Sealed, zeros[0].Sealed) {
		t.Errorf("the admin's copy was replaced, %v", err)
	}
	w.must(put(bob, 1, key, w.seal(key, s.ID, 1, bob)))
	w.given(bob, s.ID, 1, bob, owner, admin)

	// Staged it is the same, also when others know the key that is to be.
	next := crypto.RoomKey{2}
	w.must(put(owner, 2, next, garbage(3, bob)...))
	w.must(put(admin, 2, next, w.seal(next, s.ID, 2, bob), w.seal(next, s.ID, 2, admin)))
	w.is(put(owner, 2, next, garbage(4, bob)...), store.ErrExists)
	previous, err := crypto.SealPrevious(next, s.ID, 2, key, [24]byte{1})
	w.must(err)
	w.must(w.append(s, admin, &ledger.Rekey{Epoch: 2, Commit: next.Commit(2), Previous: previous}))
	w.given(bob, s.ID, 2, admin, owner)
	w.opens(bob, s.ID, 0, 2, next)
	_, err = w.As(owner).Key(w.ctx, s.ID, 2, owner.Key()) // the admin left the owner out
	w.is(err, store.ErrNotFound)
	w.given(bob, s.ID, 1, bob, owner, admin)

	if !w.Founded {
		return // who may seal is a service's to say
	}
	w.is(put(bob, 2, next, garbage(5, owner)...), store.ErrDenied)
	w.is(put(bob, 2, next, append(garbage(5, bob), garbage(5, owner)...)...), store.ErrDenied)
	w.is(put(bob, 3, crypto.RoomKey{3}, garbage(5, bob)...), store.ErrDenied)
	w.is(put(bob, 2, crypto.RoomKey{3}, garbage(5, bob)...), store.ErrConflict)
	w.is(w.As(bob).PutKeys(w.ctx, s.ID, 2, next.Commit(2), owner.Key(), garbage(5, bob)), store.ErrDenied)
	w.given(bob, s.ID, 2, admin, owner)
}

// testManySealers: of those who are neither the member nor the author a few are kept, the first; the two always are.
func testManySealers(t *testing.T, w *world) {
	owner, bob := identity(t, 1), identity(t, 2)
	admins := byKey(identity(t, 3), identity(t, 4), identity(t, 5), identity(t, 6), identity(t, 7), identity(t, 8), identity(t, 9))
	w.allow(append(slices.Clone(admins), owner, bob)...)
	s, key := w.room(owner, "many")
	invite := &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleMember}}}
	for _, id := range admins {
		invite.Members = append(invite.Members, ledger.NewMember{Key: id.Key(), Role: ledger.RoleAdmin})
	}
	w.must(w.append(s, owner, invite))
	put := func(by *crypto.Identity, copies ...store.SealedKey) error {
		return w.As(by).PutKeys(w.ctx, s.ID, 1, key.Commit(1), by.Key(), copies)
	}
	const others = store.MaxSealers - 2
	for i, id := range admins[:others] {
		w.must(put(id, garbage(byte(i), bob)...))
	}
	late := admins[others]
	w.is(put(late, append(garbage(7, bob), w.seal(key, s.ID, 1, late))...), store.ErrExists)
	w.must(put(admins[0], garbage(0, bob)...)) // the same bytes again
	w.given(late, s.ID, 1, late)
	w.given(bob, s.ID, 1, admins[:others]...)
	w.must(put(owner, w.seal(key, s.ID, 1, bob)))
	w.must(put(bob, w.seal(key, s.ID, 1, bob)))
	w.given(bob, s.ID, 1, append([]*crypto.Identity{bob, owner}, admins[:others]...)...)

	v, ok := w.s.(store.Backend)
	if !ok {
		return // what stands behind it passes this by itself
	}
	// Before an entry names the key nobody knows its author, and all are kept; no more are given.
	next := crypto.RoomKey{2}
	for i, id := range append(slices.Clone(admins), owner, bob) {
		w.must(v.PutKeys(w.ctx, s.ID, 2, next.Commit(2), id.Key(), garbage(byte(i), bob)))
	}
	if n := w.Staged(t, s.ID, 2, next.Commit(2)); n != len(admins)+2 {
		t.Errorf("%d copies are staged", n)
	}
	previous, err := crypto.SealPrevious(next, s.ID, 2, key, [24]byte{1})
	w.must(err)
	w.must(w.append(s, late, &ledger.Rekey{Epoch: 2, Commit: next.Commit(2), Previous: previous}))
	rest := byKey(append(slices.Clone(admins[:others]), owner)...)
	w.given(bob, s.ID, 2, append([]*crypto.Identity{bob, late}, rest[:others]...)...)
	// Another store takes all of them over.
	extra := append(garbage(9, bob), garbage(9, bob)...)
	extra[0].Sealer, extra[1].Sealer = identity(t, 10).Key(), identity(t, 11).Key()
	before := w.Staged(t, s.ID, 1, key.Commit(1))
	w.must(v.CopyKeys(w.ctx, s.ID, 1, key.Commit(1), extra))
	if n := w.Staged(t, s.ID, 1, key.Commit(1)); n != before+2 {
		t.Errorf("%d copies, want %d", n, before+2)
	}
}

// testStagedKeys: what was staged and no entry names goes after a time, and nothing else does.
func testStagedKeys(t *testing.T, w *world) {
	v, ok := w.s.(store.Backend)
	if !ok {
		return // what stands behind it passes this by itself
	}
	owner, bob := identity(t, 1), identity(t, 2)
	w.allow(owner, bob)
	s, key := w.room(owner, "staged")
	next, never := crypto.RoomKey{2}, crypto.RoomKey{3}
	w.must(v.PutKeys(w.ctx, s.ID, 1, key.Commit(1), owner.Key(), []store.SealedKey{w.seal(key, s.ID, 1, bob)})) // named already
	for _, k := range []crypto.RoomKey{next, never} {
		w.must(v.PutKeys(w.ctx, s.ID, 2, k.Commit(2), owner.Key(), []store.SealedKey{w.seal(k, s.ID, 2, owner), w.seal(k, s.ID, 2, bob)}))
	}
	nowhere := crypto.ID{1} // a room that nobody made in the end
	w.must(v.PutKeys(w.ctx, nowhere, 1, never.Commit(1), owner.Key(), []store.SealedKey{w.seal(never, nowhere, 1, owner)}))
	card, err := bob.Card()
	w.must(err)
	w.must(v.PutCards(w.ctx, store.Card{Endpoint: bob.Key(), Statement: card}))
	expire := func(before time.Time, want int) {
		t.Helper()
		removed, err := v.ExpireStaged(w.ctx, before)
		w.must(err)
		if removed != want {
			t.Errorf("%d copies were removed, want %d", removed, want)
		}
	}
	count := func(room crypto.ID, epoch uint32, k crypto.RoomKey, want int) {
		t.Helper()
		if n := w.Staged(t, room, epoch, k.Commit(epoch)); n != want {
			t.Errorf("%d copies of epoch %d, want %d", n, epoch, want)
		}
	}
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	expire(past, 0)
	count(nowhere, 1, never, 1)
	count(s.ID, 2, never, 2)
	expire(future, 5)
	expire(future, 0)
	count(nowhere, 1, never, 0)
	count(s.ID, 2, never, 0)
	count(s.ID, 1, key, 2)

	w.must(v.PutKeys(w.ctx, s.ID, 2, next.Commit(2), owner.Key(), []store.SealedKey{w.seal(next, s.ID, 2, owner), w.seal(next, s.ID, 2, bob)}))
	previous, err := crypto.SealPrevious(next, s.ID, 2, key, [24]byte{1})
	w.must(err)
	w.must(w.append(s, owner, &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleMember}}}))
	w.must(w.append(s, owner, &ledger.Rekey{Epoch: 2, Commit: next.Commit(2), Previous: previous}))
	expire(future, 0)
	w.opens(bob, s.ID, 1, 1, key)
	w.opens(bob, s.ID, 2, 2, next)
	_, err = store.CardOf(w.ctx, v, bob.Key())
	w.must(err)
}

// testUnstagedKeys: one sealer's copies of a key go when they are of no use any more, and stay once an entry names
// it. Those of others stay.
func testUnstagedKeys(t *testing.T, w *world) {
	v, ok := w.s.(store.Backend)
	if !ok {
		return // what stands behind it passes this by itself
	}
	owner, bob := identity(t, 1), identity(t, 2)
	w.allow(owner, bob)
	s, key := w.room(owner, "staged")
	keep, drop := crypto.RoomKey{2}, crypto.RoomKey{3}
	for _, k := range []crypto.RoomKey{keep, drop} {
		w.must(v.PutKeys(w.ctx, s.ID, 2, k.Commit(2), owner.Key(), []store.SealedKey{w.seal(k, s.ID, 2, owner), w.seal(k, s.ID, 2, bob)}))
	}
	nowhere := crypto.ID{1}
	w.must(v.PutKeys(w.ctx, nowhere, 1, keep.Commit(1), owner.Key(), []store.SealedKey{w.seal(keep, nowhere, 1, owner)}))
	w.must(v.PutKeys(w.ctx, s.ID, 2, drop.Commit(2), bob.Key(), garbage(1, bob)))
	has := func(epoch uint32, k crypto.RoomKey, endpoint, sealer *crypto.Identity, want bool) {
		t.Helper()
		of := store.SealedCopy{Room: s.ID, Epoch: epoch, Commit: k.Commit(epoch), SealedKey: store.SealedKey{Endpoint: endpoint.Key(), Sealer: sealer.Key()}}
		if got, err := v.HasCopy(w.ctx, of); got != want || err != nil {
			t.Errorf("a copy of epoch %d for %s by %s: %v, %v", epoch, endpoint.Key(), sealer.Key(), got, err)
		}
	}
	has(1, key, owner, owner, true)
	has(1, key, bob, owner, false)
	has(2, keep, bob, owner, true)
	has(2, keep, bob, bob, false)
	has(2, drop, bob, bob, true)
	has(3, keep, bob, owner, false)
	w.must(v.Unstage(w.ctx, s.ID, 1, key.Commit(1), owner.Key()))
	w.must(v.Unstage(w.ctx, s.ID, 2, drop.Commit(2), owner.Key()))
	w.must(v.Unstage(w.ctx, s.ID, 2, drop.Commit(2), owner.Key()))
	has(2, drop, bob, owner, false)
	w.must(v.Unstage(w.ctx, nowhere, 1, keep.Commit(1), owner.Key()))
	for name, c := range map[string]struct {
		room  crypto.ID
		epoch uint32
		key   crypto.RoomKey
		want  int
	}{
		"the room's own": {s.ID, 1, key, 1}, "another": {s.ID, 2, keep, 2}, "another's of the one that was to go": {s.ID, 2, drop, 1}, "one of no room": {nowhere, 1, keep, 0},
	} {
		if n := w.Staged(t, c.room, c.epoch, c.key.Commit(c.epoch)); n != c.want {
			t.Errorf("%s: %d copies, want %d", name, n, c.want)
		}
	}
	w.opens(owner, s.ID, 0, 1, key)
}

// testCards: many cards are put, and asked for, at once; of those not known nothing is said.
func testCards(t *testing.T, w *world) {
	const many = 520 // more than one request carries
	want := map[crypto.PublicKey][]byte{}
	var cards []store.Card
	asked := []crypto.PublicKey{identity(t, 9).Key()}
	for i := range many {
		id, err := crypto.NewIdentity([32]byte{'c', byte(i), byte(i >> 8)})
		w.must(err)
		statement, err := id.Card()
		w.must(err)
		cards, asked = append(cards, store.Card{Endpoint: id.Key(), Statement: statement}), append(asked, id.Key())
		want[id.Key()] = statement
	}
	w.must(w.s.PutCards(w.ctx, cards...))
	w.must(w.s.PutCards(w.ctx))
	got, err := w.s.Cards(w.ctx, asked...)
	w.must(err)
	if len(got) != many {
		t.Errorf("%d of %d cards", len(got), many)
	}
	for _, c := range got {
		if !bytes.Equal(c.Statement, want[c.Endpoint]) {
			t.Fatalf("the card of %s comes back altered", c.Endpoint)
		}
	}
	for _, none := range [][]crypto.PublicKey{nil, asked[:1]} {
		if got, err := w.s.Cards(w.ctx, none...); err != nil || len(got) > 0 {
			t.Errorf("%d cards of nobody, %v", len(got), err)
		}
	}
	if !w.Founded {
		return // a store itself knows no callers
	}
	bob := identity(t, 2)
	w.allow(bob)
	own, err := bob.Card()
	w.must(err)
	w.is(w.As(bob).PutCards(w.ctx, store.Card{Endpoint: bob.Key(), Statement: own}, cards[0]), store.ErrDenied)
	if got, err := w.s.Cards(w.ctx, bob.Key()); err != nil || len(got) > 0 {
		t.Errorf("a part of what was refused was kept: %d cards, %v", len(got), err)
	}
	w.is(w.s.PutCards(w.ctx, store.Card{Endpoint: bob.Key(), Statement: cards[0].Statement}), store.ErrInvalid)
}

func testWatch(t *testing.T, w *world) {
	ctx, cancel := context.WithCancel(w.ctx)
	notices, err := w.s.Watch(ctx)
	w.must(err)
	await := func(log crypto.ID, seq uint64) {
		t.Helper()
		for {
			select {
			case n, ok := <-notices:
				if !ok {
					t.Fatal("the watch ended")
				}
				if n.Log == log && n.Seq >= seq {
					return
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("no notice of entry %d", seq)
			}
		}
	}
	w.allow(identity(t, 2))
	await(w.bus.ID, 2)
	s, _ := w.room(w.Admin, "watched")
	await(s.ID, 1)
	w.allow(identity(t, 3))
	await(w.bus.ID, 3)
	cancel()
	for range notices { // it ends
	}
}

// testPaging goes past the size of a page.
func testPaging(t *testing.T, w *world) {
	const many = 300
	add := &ledger.Add{}
	for i := range many {
		var seed [32]byte
		seed[0], seed[1], seed[2] = 'p', byte(i), byte(i>>8)
		id, err := crypto.NewIdentity(seed)
		w.must(err)
		add.Users = append(add.Users, ledger.NewUser{Key: id.Key(), Name: "p" + strings.ToLower(id.Key().String()[:10]), Role: ledger.RoleUser})
	}
	w.must(w.append(w.bus, w.Admin, add))
	var last crypto.PublicKey
	n := 0
	for u, err := range w.s.Users(w.ctx, crypto.PublicKey{}) {
		w.must(err)
		if bytes.Compare(u.Key[:], last[:]) <= 0 {
			t.Fatal("users are not in order")
		}
		last = u.Key
		n++
	}
	if n != many+1 {
		t.Errorf("%d users", n)
	}
	for u, err := range w.s.Users(w.ctx, last) {
		t.Errorf("a user after the last: %v, %v", u, err)
	}
	for i := range many {
		role := ledger.RoleAdmin
		if i%2 == 1 {
			role = ledger.RoleUser
		}
		w.must(w.append(w.bus, w.Admin, &ledger.UserRole{Key: add.Users[0].Key, Role: role}))
	}
	seq := uint64(1)
	for e, err := range w.s.Entries(w.ctx, w.bus.ID, seq) {
		w.must(err)
		if seq++; e.Seq != seq {
			t.Fatalf("entry %d at place %d", e.Seq, seq)
		}
	}
	if seq != w.bus.Head.Seq {
		t.Errorf("entries up to %d of %d", seq, w.bus.Head.Seq)
	}
	var ids []crypto.ID
	for _, subject := range []string{"x", "y", "z"} {
		s, _ := w.room(w.Admin, subject)
		ids = append(ids, s.ID)
	}
	slices.SortFunc(ids, func(a, b crypto.ID) int { return bytes.Compare(a[:], b[:]) })
	var got []crypto.ID
	for r, err := range w.s.Rooms(w.ctx, ids[0]) {
		w.must(err)
		got = append(got, r.ID)
	}
	if !slices.Equal(got, ids[1:]) {
		t.Errorf("rooms after the first are %v, want %v", got, ids[1:])
	}
}

// testBroken: a backend that cannot answer denies, in time.
func testBroken(t *testing.T, w *world) {
	if ok, err := w.s.IsAuthorized(w.ctx, w.Admin.Key()); !ok || err != nil {
		t.Fatalf("before: %v, %v", ok, err)
	}
	w.Break()
	ctx, cancel := context.WithTimeout(w.ctx, w.OpTimeout+10*time.Second)
	defer cancel()
	for range 3 {
		ok, err := w.s.IsAuthorized(ctx, w.Admin.Key())
		if ok || err == nil {
			t.Errorf("IsAuthorized: %v, %v", ok, err)
		}
		ok, err = w.s.HasAdmin(ctx)
		if ok || err == nil {
			t.Errorf("HasAdmin: %v, %v", ok, err)
		}
	}
	_, err := store.HeadOf(ctx, w.s, w.bus.ID)
	w.is(err, store.ErrUnavailable)
	if ctx.Err() != nil {
		t.Error("the calls outlived OpTimeout")
	}
}

func testCancelled(t *testing.T, w *world) {
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	if ok, err := w.s.IsAuthorized(ctx, w.Admin.Key()); ok || err == nil {
		t.Errorf("IsAuthorized: %v, %v", ok, err)
	}
	if _, err := w.s.Room(ctx, crypto.ID{}); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("Room: %v", err)
	}
}
