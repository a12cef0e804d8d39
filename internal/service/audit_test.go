package service

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	servers "github.com/unibus/unibus/internal/store/jetstream"
	"github.com/unibus/unibus/internal/store/sqlite"
	"github.com/unibus/unibus/internal/store/storetest"
)

// What a start looks at depends on what a store can be asked: each is asked for all that its kind can.
var (
	_ fileStore   = (*sqlite.Store)(nil)
	_ serverStore = (*servers.Store)(nil)
)

// audited is a store in a file with a bus, its admin's room, of which bob is a member, and what an audit of it tells.
type audited struct {
	*testing.T
	path  string
	store *sqlite.Store
	bus   *ledger.State
	room  *ledger.State
	admin *crypto.Identity
	bob   *crypto.Identity
	log   bytes.Buffer
}

func newAudited(t *testing.T) *audited {
	t.Helper()
	a := &audited{T: t, path: filepath.Join(t.TempDir(), "bus.db"), room: new(ledger.State), admin: person(t, 'a'), bob: person(t, 'b')}
	a.open()
	bus, err := store.Found(t.Context(), a.store, a.admin, "admin", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a.bus = bus
	storetest.Write(t, a.store, a.room, a.admin, &ledger.Create{Bus: bus.ID, Subject: "r", Policy: plainPolicy(), Nonce: make([]byte, 16)})
	storetest.Write(t, a.store, a.room, a.admin, &ledger.Invite{Members: []ledger.NewMember{{Key: a.bob.Key(), Role: ledger.RoleMember}}})
	return a
}

// open opens the store, as a start does.
func (a *audited) open() {
	a.Helper()
	s, err := sqlite.Open(a.Context(), a.path, sqlite.Options{})
	if err != nil {
		a.Fatal(err)
	}
	a.Cleanup(func() { s.Close() })
	a.store = s
}

// damage changes the file behind the store's back.
func (a *audited) damage(statement string, args ...any) {
	a.Helper()
	db, err := sql.Open("sqlite", sqlite.DSN(a.path, longest, sqlite.Normal))
	if err != nil {
		a.Fatal(err)
	}
	defer db.Close()
	result, err := db.ExecContext(a.Context(), statement, args...)
	if err != nil {
		a.Fatal(err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		a.Fatalf("%s changes %d records, %v", statement, n, err)
	}
}

// audit looks at the store as a service does that starts.
func (a *audited) audit() *audit {
	a.log.Reset()
	return &audit{store: a.store, logs: newLogs(a.store), bus: a.bus.ID, seen: new(seen), log: slog.New(slog.NewTextHandler(&a.log, nil))}
}

// tells wants the log to have one line with a text, or none for no text.
func (a *audited) tells(text string) {
	a.Helper()
	if got := a.log.String(); strings.Count(got, "\n") != min(len(text), 1) || !strings.Contains(got, text) {
		a.Errorf("it tells %q, not %q", got, text)
	}
}

// TestAuditAllowlist: what a file lists of users, and what it has of no log, is made what the bus log says before anybody is
// let in, and told of.
func TestAuditAllowlist(t *testing.T) {
	a := newAudited(t)
	allowlist := func(text string) {
		t.Helper()
		if err := a.audit().allowlist(t.Context()); err != nil {
			t.Error(err)
		}
		a.tells(text)
	}
	allowlist("")
	a.damage(`UPDATE users SET name = 'nimda'`)
	allowlist("what the store lists of users was not what the log says")
	allowlist("")
	if u, err := a.store.User(t.Context(), a.admin.Key()); err != nil || u.Name != "admin" {
		t.Errorf("the admin is %q, %v", u.Name, err)
	}
	a.damage(`INSERT INTO members (room, endpoint, role) VALUES (zeroblob(20), zeroblob(32), 'owner')`)
	allowlist("what the store lists of users was not what the log says")
	if n, err := a.store.Differs(t.Context(), a.bus); err != nil || n != 0 {
		t.Errorf("%d records of no log are left, %v", n, err)
	}
	if err := errors.Join(a.store.Close(), os.Remove(filepath.Join(filepath.Dir(a.path), "heads.bus.db"))); err != nil {
		t.Fatal(err)
	}
	a.open()
	allowlist("nothing says what was acknowledged of some logs")
	allowlist("")
}

// TestAuditDamagedAllowlist: a bus log that cannot be read lets nobody in, nor does a store that does not answer.
func TestAuditDamagedAllowlist(t *testing.T) {
	a := newAudited(t)
	a.damage(`UPDATE entries SET statement = zeroblob(99) WHERE log = ?`, a.bus.ID[:])
	if err := a.audit().allowlist(t.Context()); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("a damaged log: %v", err)
	}
	a = newAudited(t)
	if err := a.store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.audit().allowlist(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a closed store: %v", err)
	}
}

// TestAuditShort: a bus log that ends before what was listed of it is served only where nobody has noted that it went on.
func TestAuditShort(t *testing.T) {
	a := newAudited(t)
	audit := a.audit()
	if err := audit.lostEnd(store.ErrShort); err != nil {
		t.Errorf("where nothing was noted: %v", err)
	}
	a.tells("the bus log lost its end")
	audit.seen.recorded = true
	if err := audit.lostEnd(store.ErrShort); !errors.Is(err, store.ErrShort) {
		t.Errorf("where it was noted: %v", err)
	}
}

// TestAuditRooms: of each room it is told what is wrong with its log, and what is listed of it is made what that says.
func TestAuditRooms(t *testing.T) {
	for name, c := range map[string]struct {
		damage string // of the room, if it has a place for that
		tells  string
	}{
		"nothing":        {"", ""},
		"a member":       {`UPDATE members SET role = 'owner' WHERE role = 'member' AND room = ?`, "what the store lists of a room was not what the log says"},
		"an entry":       {`UPDATE entries SET statement = zeroblob(99) WHERE seq = 1 AND log = ?`, "a room's log is damaged"},
		"the first":      {`DELETE FROM entries WHERE seq = 1 AND log = ?`, "a room's log is damaged"},
		"the last":       {`DELETE FROM entries WHERE seq = 2 AND log = ?`, "a room's log lost its end"},
		"all of the log": {`DELETE FROM entries WHERE log = ?`, "a room's log is lost"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAudited(t)
			if c.damage != "" {
				a.damage(c.damage, a.room.ID[:])
			}
			a.audit().rooms(t.Context())
			a.tells(c.tells)
			m, err := a.store.Member(t.Context(), a.room.ID, a.bob.Key())
			if name == "a member" && (err != nil || m.Role != ledger.RoleMember) {
				t.Errorf("bob is %s, %v", m.Role, err)
			}
		})
	}
	t.Run("a store that does not answer", func(t *testing.T) {
		a := newAudited(t)
		if err := a.store.Close(); err != nil {
			t.Fatal(err)
		}
		a.audit().rooms(t.Context())
		a.tells("rooms could not be looked at")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		a.audit().rooms(ctx)
		a.tells("")
	})
}

// TestAuditServers: what servers list otherwise than the logs say is told of, and left to who runs them.
func TestAuditServers(t *testing.T) {
	n, admin := node(t, JetStream)
	storetest.Write(t, n.store, new(ledger.State), admin, &ledger.Create{Bus: n.Bus, Subject: "r", Policy: plainPolicy(), Nonce: make([]byte, 16)})
	js, err := jetstream.New(n.links.Store)
	if err != nil {
		t.Fatal(err)
	}
	for bucket, c := range map[string]struct{ was, is, tells string }{
		"unibus_users": {`"admin"`, `"other"`, "the store's list of users is not what its log says, and the log counts: " + doctorRepairs},
		"unibus_rooms": {`"r"`, `"q"`, "what the store lists of rooms is not what their logs say, and those count: " + doctorRepairs},
	} {
		kv, err := js.KeyValue(t.Context(), bucket)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := kv.ListKeys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		changed := 0
		for key := range keys.Keys() {
			e, err := kv.Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			if other := bytes.Replace(e.Value(), []byte(c.was), []byte(c.is), 1); !bytes.Equal(other, e.Value()) {
				if _, err := kv.Put(t.Context(), key, other); err != nil {
					t.Fatal(err)
				}
				changed++
			}
		}
		a, log := auditOf(n)
		if err := a.allowlist(t.Context()); err != nil {
			t.Error(err)
		}
		a.rooms(t.Context())
		if changed == 0 || !strings.Contains(log.String(), c.tells) {
			t.Errorf("%s: %d records are changed, and it tells %s", bucket, changed, log)
		}
	}
}

// lookedAt is what an audit of a server's rooms tells.
func lookedAt(t *testing.T, n *Node) string {
	a, log := auditOf(n)
	a.rooms(t.Context())
	return log.String()
}

// auditOf is an audit of what a server keeps, and what it tells.
func auditOf(n *Node) (*audit, *bytes.Buffer) {
	log := new(bytes.Buffer)
	return &audit{store: n.store, logs: newLogs(n.store), bus: n.Bus, seen: new(seen), log: slog.New(slog.NewTextHandler(log, nil))}, log
}

// lose has a server lose what a bucket has by keys of a pattern.
func lose(t *testing.T, n *Node, bucket, keys string) {
	t.Helper()
	js, err := jetstream.New(n.links.Store)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := js.Stream(t.Context(), "KV_"+bucket)
	if err == nil {
		err = kept.Purge(t.Context(), jetstream.WithPurgeSubject("$KV."+bucket+"."+keys))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestAuditMembershipLost: a room of whose members servers have lost one is told of, though all else is as its log says.
func TestAuditMembershipLost(t *testing.T) {
	n, admin := node(t, JetStream)
	room, bob := new(ledger.State), person(t, 'b')
	storetest.Write(t, n.store, room, admin, &ledger.Create{Bus: n.Bus, Subject: "r", Policy: plainPolicy(), Nonce: make([]byte, 16)})
	storetest.Write(t, n.store, room, admin, &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleMember}}})
	if said := lookedAt(t, n); said != "" {
		t.Errorf("where all is well it tells %s", said)
	}
	lose(t, n, "unibus_members", room.ID.String()+"."+bob.Key().String())
	if listed, err := n.store.Members(t.Context(), room.ID); err != nil || len(listed) != 1 {
		t.Fatalf("the membership is not lost: %v, %v", listed, err)
	}
	if said := lookedAt(t, n); !strings.Contains(said, "what the store lists of rooms is not what their logs say, and those count: "+doctorRepairs) {
		t.Errorf("it tells %q", said)
	}
}

// TestAuditUnlisted: a room that its members' own lists have lost is given back to them, and told of.
func TestAuditUnlisted(t *testing.T) {
	n, admin := node(t, JetStream)
	storetest.Write(t, n.store, new(ledger.State), admin, &ledger.Create{Bus: n.Bus, Subject: "r", Policy: plainPolicy(), Nonce: make([]byte, 16)})
	if said := lookedAt(t, n); said != "" {
		t.Errorf("where all is well it tells %s", said)
	}
	lose(t, n, "unibus_rooms_by_member", ">")
	if mine, err := n.store.ListRoomsForEndpoint(t.Context(), admin.Key()); err != nil || len(mine) != 0 {
		t.Fatalf("the list is not lost: %v, %v", mine, err)
	}
	if said := lookedAt(t, n); !strings.Contains(said, "was not what the log says, and was written anew") {
		t.Errorf("it tells %q", said)
	}
	if mine, err := n.store.ListRoomsForEndpoint(t.Context(), admin.Key()); err != nil || len(mine) != 1 {
		t.Errorf("then the list is %v, %v", mine, err)
	}
	if said := lookedAt(t, n); said != "" {
		t.Errorf("then it tells %s", said)
	}
}

// TestAuditKeyless: a room of whose key a member's copy is lost is told of, until there is one again; an archived one is not,
// nor one whose key was kept from a member who was out.
func TestAuditKeyless(t *testing.T) {
	for _, kind := range []string{"", JetStream} {
		n, admin := node(t, kind)
		room, key, bob := new(ledger.State), crypto.RoomKey{1}, person(t, 'b')
		commit := key.Commit(1)
		create := storetest.Next(t, room, admin, &ledger.Create{Bus: n.Bus, Subject: "r", Policy: ledger.DefaultPolicy(), Nonce: make([]byte, 16), Commit: &commit})
		if err := n.store.Append(t.Context(), create); err != nil {
			t.Fatal(err)
		}
		tells := func(when string, want bool) {
			t.Helper()
			said := lookedAt(t, n)
			if lost := strings.Contains(said, "members of rooms have lost the key of what is written now") && strings.Contains(said, "rooms=1"); lost != want || !want && said != "" {
				t.Errorf("%q, %s: it tells %q", kind, when, said)
			}
		}
		puts := func(sealer *crypto.Identity, sealed []byte) {
			t.Helper()
			k := store.SealedKey{Endpoint: admin.Key(), Sealer: sealer.Key(), Sealed: sealed}
			if err := n.store.CopyKeys(t.Context(), room.ID, 1, commit, []store.SealedKey{k}); err != nil {
				t.Fatal(err)
			}
		}
		tells("without a copy", true)
		puts(bob, []byte{1})
		tells("with what is no copy", true)
		puts(admin, make([]byte, crypto.SealedSize))
		tells("with a copy", false)
		bus, err := store.Load(t.Context(), n.store, n.Bus)
		if err != nil {
			t.Fatal(err)
		}
		storetest.Write(t, n.store, bus, admin, &ledger.Add{Users: []ledger.NewUser{{Key: bob.Key(), Name: "bob", Role: ledger.RoleUser}}})
		storetest.Write(t, n.store, room, admin, &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleMember}}})
		tells("of who was invited without one", true)
		storetest.Write(t, n.store, bus, admin, &ledger.Revoke{Keys: []crypto.PublicKey{bob.Key()}})
		tells("of who is out", false)
		storetest.Write(t, n.store, bus, admin, &ledger.Add{Users: []ledger.NewUser{{Key: bob.Key(), Name: "bob", Role: ledger.RoleUser}}})
		tells("of who was out", false)
		storetest.Write(t, n.store, room, admin, &ledger.Rekey{Epoch: 2, Commit: crypto.RoomKey{2}.Commit(2), Previous: make([]byte, crypto.PreviousSize)})
		tells("of a new key", true)
		storetest.Write(t, n.store, room, admin, &ledger.Archive{})
		tells("archived", false)
	}
}
