package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/storetest"
)

// TestInTurns: a log that grows without a pause holds up no other by more than one entry, each log's entries are
// done in their order, and what is left undone is done again.
func TestInTurns(t *testing.T) {
	notices := make(chan store.Notice, 100)
	for seq := range uint64(50) {
		notices <- store.Notice{Log: crypto.ID{1}, Seq: seq + 1}
	}
	notices <- store.Notice{Log: crypto.ID{2}, Seq: 1}
	notices <- store.Notice{Log: crypto.ID{2}, Seq: 2}
	var done []string
	inTurns(notices, func(n store.Notice, a attempt) bool {
		if a == again {
			done = append(done, "again")
			close(notices)
			return false
		}
		done = append(done, fmt.Sprintf("%d/%d", n.Log[0], n.Seq))
		return n.Log[0] == 2 && n.Seq == 1
	})
	if got := strings.Join(done[:5], " "); got != "1/1 2/1 1/2 2/2 1/3" {
		t.Errorf("done as %s", got)
	}
	if len(done) != 53 || done[51] != "1/50" || done[52] != "again" {
		t.Errorf("%d done, the last %v", len(done), done[max(0, len(done)-2):])
	}
}

// set changes one user.
func set(c ledger.UserChange) ledger.Body { return &ledger.SetUsers{Users: []ledger.UserChange{c}} }

// called are keys by their names, in order.
func called(keys []crypto.PublicKey, names map[crypto.PublicKey]string) string {
	set := map[string]bool{}
	for _, key := range keys {
		set[names[key]] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(set)), " ")
}

// TestAffected: whose connections an entry ends: of those who may do less than before, or write where they did not, and
// never of its author while that waits for its answer.
func TestAffected(t *testing.T) {
	admin, bob, carol := person(t, 'a'), person(t, 'b'), person(t, 'c')
	people := map[crypto.PublicKey]string{admin.Key(): "admin", bob.Key(): "bob", carol.Key(): "carol"}
	role := func(of *crypto.Identity, r ledger.Role) *ledger.MemberRole {
		return &ledger.MemberRole{Key: of.Key(), Role: r}
	}
	renamed, never, past, tomorrow := "caroline", crypto.Number(0), crypto.Number(1), crypto.Number(time.Now().Add(24*time.Hour).UnixMilli())
	padded, live := plainPolicy(), plainPolicy()
	padded.Pad, live.Retain = true, nil
	for name, c := range map[string]struct {
		by               *crypto.Identity
		body             ledger.Body
		others, everyone string
	}{
		"a member who may only read from now on": {admin, role(bob, ledger.RoleReader), "bob", "bob"},
		"a reader who may write":                 {admin, role(carol, ledger.RoleMember), "", ""},
		"a member who manages":                   {admin, role(bob, ledger.RoleAdmin), "", ""},
		"a member who is removed":                {admin, &ledger.Remove{Keys: []crypto.PublicKey{bob.Key()}}, "bob", "bob"},
		"all others who are removed":             {admin, &ledger.Remove{Keys: []crypto.PublicKey{bob.Key(), carol.Key()}}, "bob carol", "bob carol"},
		"a member who leaves":                    {bob, &ledger.Leave{}, "", "bob"},
		"padding":                                {admin, &ledger.SetPolicy{Policy: padded}, "", ""},
		"what is not stored any more":            {admin, &ledger.SetPolicy{Policy: live}, "bob", "admin bob"},
		"an archived room":                       {admin, &ledger.Archive{}, "bob", "admin bob"},
		"a user who is revoked":                  {admin, &ledger.Revoke{Keys: []crypto.PublicKey{carol.Key()}}, "carol", "carol"},
		"a user who has another name":            {admin, set(ledger.UserChange{Key: carol.Key(), Name: &renamed}), "", ""},
		"a user who may connect until a time":    {admin, set(ledger.UserChange{Key: carol.Key(), Expires: &tomorrow}), "carol", "carol"},
		"a user whose time is over":              {admin, set(ledger.UserChange{Key: carol.Key(), Expires: &past}), "carol", "carol"},
		"a user who may connect for good":        {admin, set(ledger.UserChange{Key: carol.Key(), Expires: &never}), "", ""},
		"a user who is added":                    {admin, &ledger.Add{Users: []ledger.NewUser{{Key: person(t, 'd').Key(), Name: "dave", Role: ledger.RoleUser}}}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAudited(t)
			storetest.Write(t, a.store, a.bus, admin, &ledger.Add{Users: []ledger.NewUser{{Key: bob.Key(), Name: "bob", Role: ledger.RoleUser}, {Key: carol.Key(), Name: "carol", Role: ledger.RoleUser}}})
			storetest.Write(t, a.store, a.room, admin, &ledger.Invite{Members: []ledger.NewMember{{Key: carol.Key(), Role: ledger.RoleReader}}})
			log := a.room
			switch c.body.(type) {
			case *ledger.Revoke, *ledger.Add, *ledger.SetUsers:
				log = a.bus
			}
			before := *log
			storetest.Write(t, a.store, log, c.by, c.body)
			r := &reconciler{store: a.store, logs: newLogs(a.store), bus: a.bus.ID}
			s, e, err := r.entry(t.Context(), store.Notice{Log: log.ID, Seq: log.Head.Seq})
			if err != nil {
				t.Fatal(err)
			}
			if costs := costsOthers(&before, s, e); costs != (log == a.room && c.others != "") {
				t.Errorf("it costs others: %v", costs)
			}
			for w, want := range map[whom]string{others: c.others, everyone: c.everyone} {
				if got := called(affected(s, e, w), people); got != want {
					t.Errorf("of %d: %q, want %q", w, got, want)
				}
			}
			if s, e, err := r.entry(t.Context(), store.Notice{Log: log.ID, Seq: log.Head.Seq + 1}); err != nil || e != nil || len(affected(s, e, everyone)) > 0 {
				t.Errorf("an entry that is not there ends connections: %v, %v", e, err)
			}
		})
	}
}

// TestReports: what cannot be done about an entry is told, unless everything ends.
func TestReports(t *testing.T) {
	a := newAudited(t)
	if err := a.store.Close(); err != nil {
		t.Fatal(err)
	}
	r := &reconciler{store: a.store, logs: newLogs(a.store), bus: a.bus.ID, log: a.audit().log}
	if err := r.catchUp(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a start with a store that does not answer: %v", err)
	}
	if !r.ensureStream(t.Context(), store.Notice{Log: a.room.ID, Seq: 1}) {
		t.Error("a stream of a room that cannot be read is not tried again")
	}
	a.tells("reconcile")
	ending, end := context.WithCancel(t.Context())
	end()
	a.log.Reset()
	r.ensureStream(ending, store.Notice{Log: a.room.ID, Seq: 1})
	a.tells("")
}
