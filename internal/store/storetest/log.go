package storetest

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file tries store.Log: of each place in a log there is one entry, ever, whoever writes at the same time.

// testAppend appends an entry, the same one again, as a writer does who got no answer, and another at its place.
func testAppend(t *testing.T, w *world) {
	w.promise("Log.Append: the same bytes again succeed, and another entry at the place is ErrConflict")
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

	w.promise("Log.Entries: what was appended, in order, from any place on")
	// What comes back is what went in, from any place on.
	var all [][]byte
	for e, err := range w.s.Entries(w.ctx, w.bus.ID, 0) {
		w.must(err)
		if e.Seq != uint64(len(all)+1) {
			w.fatalf("entry %d after %d", e.Seq, len(all))
		}
		all = append(all, e.Statement)
	}
	s, err := ledger.Verify(all)
	w.must(err)
	if s.Head != w.bus.Head {
		w.errorf("folds to %v, want %v", s.Head, w.bus.Head)
	}
	for e, err := range w.s.Entries(w.ctx, w.bus.ID, 2) {
		w.must(err)
		if e.Seq != 3 {
			w.errorf("entry %d after 2", e.Seq)
		}
		break // a reader may stop
	}
}

// testRace lets two admins write the same place: one wins, the other is told, nothing is mixed.
func testRace(t *testing.T, w *world) {
	w.promise("Log.Append: of two for one place one wins, and nothing of the other is written")
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
			w.fatalf("head %v, the winner wrote %v", h, w.bus.Head)
		}
		loser := changes[1-winner].Entry.Body.(*ledger.Add).Users[0].Key
		if _, err := w.s.User(w.ctx, loser); !errors.Is(err, store.ErrNotFound) {
			w.fatalf("the loser's view was written: %v", err)
		}
	}
}

// testNames: a subject is one room's and a store is one bus's, and whoever comes second changes nothing.
func testNames(t *testing.T, w *world) {
	bob := identity(t, 2)
	w.allow(bob)
	w.promise("Log.Append: a subject is one room's, a store one bus's: ErrExists")
	// A subject is one room's, a store one bus's.
	room, _ := w.room(w.Admin, "taken")
	twin := new(ledger.State)
	commit := crypto.RoomKey{}.Commit(1)
	statement, err := twin.Next(w.Admin, &ledger.Create{Bus: w.bus.ID, Subject: "taken", Policy: ledger.DefaultPolicy(), Nonce: make([]byte, 16), Commit: &commit}, time.Now())
	w.must(err)
	c, err := Advance(twin, statement)
	w.must(err)
	w.is(w.s.Append(w.ctx, c), store.ErrExists)
	if r, err := w.s.RoomBySubject(w.ctx, "taken"); err != nil || r.ID != room.ID {
		w.errorf("the subject now means %v (%v)", r.ID, err)
	}
	if _, err := store.HeadOf(w.ctx, w.s, twin.ID); !errors.Is(err, store.ErrNotFound) {
		w.errorf("the refused room has a log: %v", err)
	}
	if !w.Founded {
		_, err = store.Found(w.ctx, w.s, bob, "bob", time.Now())
		w.is(err, store.ErrExists)
	}
}

// testHeads: where many logs end is answered at once, in the order asked, for those whom it concerns.
func testHeads(t *testing.T, w *world) {
	w.promise("Log.Heads: where each log ends, in the order asked, the zero head for an unknown one")
	owner, bob, stranger := identity(t, 1), identity(t, 2), identity(t, 3)
	w.allow(owner, bob, stranger)
	lengths := [...]int{0, 1, 2, 3, 5, 8, 13, 21, 121} // some are long, as far as looking for their end goes
	var logs []crypto.ID
	want := map[crypto.ID]ledger.Head{w.bus.ID: w.bus.Head}
	for i, length := range lengths {
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
		for n := range length {
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
			w.fatalf("%d heads of %d logs", len(heads), len(asked))
		}
		for i, log := range asked {
			expected := ledger.Head{}
			if known(i) {
				expected = want[log]
			}
			if heads[i] != expected {
				w.errorf("log %d of %d ends at %v, want %v", i, len(asked), heads[i], expected)
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

// testForked appends an entry that goes on from another one than the log has there.
func testForked(t *testing.T, w *world) {
	w.promise("Log.Append: an entry that goes on from another than the one before it is ErrConflict")
	bob, carol, dave := identity(t, 2), identity(t, 3), identity(t, 4)
	before, err := w.bus.Snapshot()
	w.must(err)
	w.allow(bob)
	end := w.bus.Head
	forked, err := ledger.LoadSnapshot(before)
	w.must(err)
	for i, id := range []*crypto.Identity{carol, dave} {
		statement, err := forked.Next(w.Admin, &ledger.Add{Users: []ledger.NewUser{{Key: id.Key(), Name: "n" + string('a'+rune(i)), Role: ledger.RoleUser}}}, time.Now())
		w.must(err)
		c, err := Advance(forked, statement)
		w.must(err)
		w.is(w.s.Append(w.ctx, c), store.ErrConflict) // the first because its place is taken
	}
	if h, err := store.HeadOf(w.ctx, w.s, w.bus.ID); err != nil || h != end {
		w.errorf("the log ends at %v, %v", h, err)
	}
	if _, err := w.s.User(w.ctx, dave.Key()); !errors.Is(err, store.ErrNotFound) {
		w.errorf("what it says is listed: %v", err)
	}
}
