package admin

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/sqlite"
	"github.com/unibus/unibus/internal/store/storetest"
)

// views examines a store's logs and views.
func views(ctx context.Context, s store.Backend, look Look) func(func(Check)) {
	return func(report func(Check)) {
		look.Report = report
		Views(ctx, s, look)
	}
}

// Of a filled store nothing is wrong with keys and rooms, but that each has a single owner.
var roomsWell = []finding{{"room keys", Pass, 0, "every member"}, {"stale rooms", Pass, 0, "none of 3"}, {"owners", Warn, remedy.AddOwner, "nobody can change them: r.0, r.1, r.2"}}

// withRooms are the findings of rooms after that of views.
func withRooms(views finding, rooms []finding) []finding { return append([]finding{views}, rooms...) }

// TestViews: each thing that can be wrong with logs and views is told, the worst one alone, and what can be repaired is.
func TestViews(t *testing.T) {
	damaged := finding{"views", Fail, remedy.RestoreDamaged, ""}
	for name, c := range map[string]struct {
		statement    string // that changes the database
		told, mended []finding
	}{
		"a view": {
			`UPDATE members SET role = 'reader'`,
			withRooms(finding{"views", Fail, remedy.Repair, "3 records are not what the logs say; 0 of 4 logs are ahead of their views"}, roomsWell),
			withRooms(finding{"views", Pass, 0, "3 records were wrong and are right now, in 4 logs"}, roomsWell),
		},
		"a view behind": {
			`UPDATE rooms SET seq = 1 WHERE subject = 'r.1'`,
			withRooms(finding{"views", Fail, remedy.Repair, "1 of 4 logs are ahead"}, roomsWell),
			withRooms(finding{"views", Pass, 0, "were wrong and are right now"}, roomsWell),
		},
		"an entry, in the middle": {
			`UPDATE entries SET statement = zeroblob(200) WHERE seq = 2 AND log = (SELECT id FROM rooms WHERE subject = 'r.1')`,
			withRooms(damaged, []finding{{"room keys", Pass, 0, ""}, {"stale rooms", Pass, 0, "none of 2"}, {"owners", Warn, remedy.AddOwner, "nobody can change them: r.0, r.2"}}),
			withRooms(damaged, []finding{{"room keys", Pass, 0, ""}, {"stale rooms", Pass, 0, "none of 2"}, {"owners", Warn, remedy.AddOwner, "2 of 2"}}),
		},
		"a key": {
			`DELETE FROM room_keys WHERE epoch = 2 AND room = (SELECT id FROM rooms WHERE subject = 'r.1')`,
			withRooms(finding{"views", Pass, 0, "all of 4 logs"}, withRooms(finding{"room keys", Fail, remedy.RenewKeys, "1 member without a copy of their room's key: r.1"}, roomsWell[1:])),
			withRooms(finding{"views", Pass, 0, "all of 4 logs"}, withRooms(finding{"room keys", Fail, remedy.RenewKeys, "1 member without"}, roomsWell[1:])),
		},
		"which keys there are": { // so that nothing is said of who has none
			`DELETE FROM epochs WHERE room = (SELECT id FROM rooms WHERE subject = 'r.1')`,
			withRooms(finding{"views", Fail, remedy.Repair, "2 records are not"}, roomsWell),
			withRooms(finding{"views", Pass, 0, "2 records were wrong"}, roomsWell),
		},
		"an old key": { // which is for reading what is old alone
			`DELETE FROM room_keys WHERE epoch = 1`,
			withRooms(finding{"views", Pass, 0, "all of 4 logs"}, roomsWell), withRooms(finding{"views", Pass, 0, "all of 4 logs"}, roomsWell),
		},
		"a log, all of it": {
			`DELETE FROM entries WHERE log = (SELECT id FROM rooms WHERE subject = 'r.1')`,
			withRooms(finding{"views", Fail, remedy.RestoreDamaged, "the log of the room r.1 is lost, which is listed as of entry 3"}, []finding{{"room keys", Pass, 0, ""}, {"stale rooms", Pass, 0, "none of 2"}, {"owners", Warn, remedy.AddOwner, "nobody can change them: r.0, r.2"}}),
			// A file's records of no log go with a repair, which takes what is there for all there is.
			withRooms(finding{"views", Pass, 0, "4 records were wrong"}, []finding{{"room keys", Pass, 0, ""}, {"stale rooms", Pass, 0, "none of 2"}, {"owners", Warn, remedy.AddOwner, "2 of 2"}}),
		},
		"the bus": {
			`UPDATE entries SET statement = zeroblob(200) WHERE seq = 2 AND log = (SELECT log FROM bus)`,
			[]finding{damaged}, []finding{damaged},
		},
		"the bus's beginning": {
			`DELETE FROM bus`,
			[]finding{{"views", Fail, remedy.RestoreDamaged, "not found"}}, []finding{{"views", Fail, remedy.RestoreDamaged, "not found"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.db")
			s := filled(t, path)
			finds(t, "whole", views(t.Context(), s, onlyLook), withRooms(finding{"views", Pass, 0, "all of 4 logs as they say"}, roomsWell)...)
			change(t, path, c.statement)
			finds(t, "damaged", views(t.Context(), s, onlyLook), c.told...)
			finds(t, "repaired", views(t.Context(), s, repair), c.mended...)
		})
	}
}

// TestViewsListed: whether the views list every room is known once they are right.
func TestViewsListed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	s := filled(t, path)
	change(t, path, `DELETE FROM rooms`)
	for i, want := range []bool{false, true, true} { // looked at, repaired, looked at again
		if got := Views(t.Context(), s, Look{Repair: i == 1, Report: func(Check) {}}); got != want {
			t.Errorf("look %d: %t", i, got)
		}
	}
	change(t, path, `UPDATE entries SET statement = zeroblob(200) WHERE seq = 2 AND log = (SELECT id FROM rooms WHERE subject = 'r.1')`)
	change(t, path, `DELETE FROM rooms WHERE subject = 'r.1'`)
	for _, look := range []Look{onlyLook, repair} { // it is of a log that nothing can be made from
		if look.Report = func(Check) {}; Views(t.Context(), s, look) {
			t.Errorf("%+v: a damaged room is listed", look.Repair)
		}
	}
	change(t, path, `DELETE FROM bus`)
	if Views(t.Context(), s, Look{Report: func(Check) {}}) {
		t.Error("of a store without a bus it is known which rooms there are")
	}
}

// TestViewsShort: a log in servers that ends before what is listed of it may be restored, or taken for all there is; only
// a person can say which.
func TestViewsShort(t *testing.T) {
	n := startNode(t)
	s := n.open(t, 1)
	_, rooms := migrated(t, s)
	log, err := n.streams(t).Stream(t.Context(), "KV_unibus_log")
	must(t, err)
	must(t, log.Purge(t.Context(), jetstream.WithPurgeSubject(fmt.Sprintf("$KV.unibus_log.%s.3", rooms[1].ID))))
	var got []Check
	views(t.Context(), s, onlyLook)(func(c Check) { got = append(got, c) })
	if len(got) != 4 || got[0].Status != Fail || got[0].Help != (remedy.Remedy{Kind: remedy.RestoreOrAccept, InServers: true}) {
		t.Errorf("short: %+v", got)
	}
	finds(t, "repaired", views(t.Context(), s, repair), withRooms(finding{"views", Pass, 0, "were wrong and are right now"}, []finding{
		{"room keys", Pass, 0, ""}, {"stale rooms", Pass, 0, "none of 3"}, {"owners", Warn, remedy.AddOwner, "3 of 3"},
	})...)
	finds(t, "after the repair", views(t.Context(), s, onlyLook), withRooms(finding{"views", Pass, 0, "all of 4"}, []finding{
		{"room keys", Pass, 0, ""}, {"stale rooms", Pass, 0, "none of 3"}, {"owners", Warn, remedy.AddOwner, "3 of 3"},
	})...)
}

// TestViewsOfRooms: of rooms that are archived nothing is told; stale ones, and those with one owner, are counted.
func TestViewsOfRooms(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	s := filled(t, path)
	rooms := roomsIn(t, s)
	write(t, s, rooms[0], &ledger.Archive{})
	write(t, s, rooms[1], &ledger.Invite{Members: []ledger.NewMember{{Key: identity(t, 1).Key(), Role: ledger.RoleOwner}}})
	bus, err := store.Load(t.Context(), s, rooms[0].Room.Bus)
	must(t, err)
	finds(t, "an archived room, and two owners", views(t.Context(), s, onlyLook),
		finding{"views", Pass, 0, "all of 4"}, finding{"room keys", Pass, 0, ""},
		finding{"stale rooms", Pass, 0, "none of 2"}, finding{"owners", Warn, remedy.AddOwner, "1 of 2"})
	write(t, s, bus, &ledger.Revoke{Keys: []crypto.PublicKey{identity(t, 1).Key()}})
	finds(t, "an owner who is revoked", views(t.Context(), s, onlyLook),
		finding{"views", Pass, 0, "all of 4"}, finding{"room keys", Pass, 0, ""},
		finding{"stale rooms", Warn, remedy.RenewStale, "1 of 2: " + rooms[1].Room.Subject}, finding{"owners", Warn, remedy.AddOwner, "1 of 2"})
}

// TestViewsUnanswered: a store that does not answer is not well, and nothing is said of its rooms.
func TestViewsUnanswered(t *testing.T) {
	s := filled(t, filepath.Join(t.TempDir(), "a.db"))
	over, end := context.WithCancel(t.Context())
	end()
	finds(t, "nobody waits", views(over, s, onlyLook), finding{"views", Fail, remedy.RestoreDamaged, "context canceled"})
	ctx, end := context.WithCancel(t.Context())
	defer end()
	finds(t, "it ends meanwhile", views(ctx, &interrupted{s, end}, onlyLook), finding{"views", Fail, 0, "context canceled"})
}

// interrupted is a store that is not waited for any more once its views are compared.
type interrupted struct {
	*sqlite.Store
	end func()
}

func (i *interrupted) Differs(ctx context.Context, state *ledger.State) (int, error) {
	i.end()
	return i.Store.Differs(ctx, state)
}

// TestViewsGrowing: a log that grows while it is looked at is not damaged.
func TestViewsGrowing(t *testing.T) {
	s := filled(t, filepath.Join(t.TempDir(), "a.db"))
	room := roomsIn(t, s)[1]
	grown := storetest.Next(t, room, identity(t, 0), &ledger.Invite{Members: []ledger.NewMember{{Key: identity(t, 1).Key(), Role: ledger.RoleReader}}})
	finds(t, "an entry comes meanwhile", views(t.Context(), &growing{s, grown}, onlyLook), withRooms(
		finding{"views", Pass, 0, "all of 4 logs"},
		[]finding{{"room keys", Pass, 0, ""}, {"stale rooms", Pass, 0, "none of 2"}, {"owners", Warn, remedy.AddOwner, "2 of 2"}})...)
	if h, err := store.HeadOf(t.Context(), s, room.ID); err != nil || h != room.Head {
		t.Errorf("nothing came: %v, %v", h, err)
	}
}

// growing is a store of which a log grows by an entry between being read and being compared.
type growing struct {
	*sqlite.Store
	by store.Change
}

func (g *growing) Differs(ctx context.Context, state *ledger.State) (int, error) {
	if state.ID == g.by.Entry.Log {
		if err := g.Append(ctx, g.by); err != nil {
			return 0, err
		}
	}
	return g.Store.Differs(ctx, state)
}
