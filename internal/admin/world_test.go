package admin

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/freeport"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/open"
	"github.com/unibus/unibus/internal/store/sqlite"
	"github.com/unibus/unibus/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet(int64, int64) {}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func identity(t testing.TB, n byte) *crypto.Identity {
	t.Helper()
	id, err := crypto.NewIdentity([32]byte{'u', n})
	must(t, err)
	return id
}

func openAt(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{OpTimeout: 20 * time.Second})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func write(t testing.TB, s store.Store, state *ledger.State, body ledger.Body) {
	t.Helper()
	statement, err := state.Next(identity(t, 0), body, time.UnixMilli(1e12))
	must(t, err)
	c, err := storetest.Advance(state, statement)
	must(t, err)
	must(t, s.Append(t.Context(), c))
}

// filled is a bus of three rooms, with some history: members come and go, keys change.
func filled(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s := openAt(t, path)
	admin, bob := identity(t, 0), identity(t, 1)
	bus, err := store.Found(t.Context(), s, admin, "admin", time.UnixMilli(1e12))
	must(t, err)
	write(t, s, bus, &ledger.Add{Users: []ledger.NewUser{{Key: bob.Key(), Name: "bob", Role: ledger.RoleUser}}})
	for i := range byte(3) {
		state := new(ledger.State)
		put := func(epoch uint32, to ...*crypto.Identity) crypto.RoomKey {
			key := crypto.RoomKey{i, byte(epoch)}
			create := &ledger.Create{Bus: bus.ID, Subject: "r." + strconv.Itoa(int(i)), Policy: ledger.DefaultPolicy(), Nonce: make([]byte, 16)}
			commit := key.Commit(epoch)
			create.Commit = &commit
			id := state.ID
			if epoch == 1 {
				statement, err := new(ledger.State).Next(admin, create, time.UnixMilli(1e12))
				must(t, err)
				id, _, _, err = ledger.Place(statement)
				must(t, err)
			}
			own := make([]byte, crypto.SealedSize) // the member's, of its own making
			must(t, s.PutKeys(t.Context(), id, epoch, commit, bob.Key(), []store.SealedKey{{Endpoint: bob.Key(), Sealed: own}}))
			var sealed []store.SealedKey
			for _, m := range to {
				sealed = append(sealed, store.SealedKey{Endpoint: m.Key(), Sealed: bytes.Repeat([]byte{byte(epoch), m.Key()[0]}, crypto.SealedSize/2)})
			}
			must(t, s.PutKeys(t.Context(), id, epoch, commit, admin.Key(), sealed))
			if epoch == 1 {
				write(t, s, state, create)
			}
			return key
		}
		first := put(1, admin, bob)
		write(t, s, state, &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleMember}}})
		second := put(2, admin)
		previous, err := crypto.SealPrevious(second, state.ID, 2, first, [24]byte{1})
		must(t, err)
		write(t, s, state, &ledger.Remove{Keys: []crypto.PublicKey{bob.Key()}, Rekey: &ledger.Rekey{Epoch: 2, Commit: second.Commit(2), Previous: previous}})
	}
	return s
}

// migrated is another store with what a filled one has, and its rooms.
func migrated(t *testing.T, to store.Backend) (from *sqlite.Store, rooms []*ledger.State) {
	t.Helper()
	from = filled(t, filepath.Join(t.TempDir(), "from.db"))
	_, err := Migrate(t.Context(), from, to, quiet)
	must(t, err)
	must(t, store.CheckWhole(t.Context(), to))
	return from, roomsIn(t, to)
}

// roomsIn are the rooms of a store, as their logs say.
func roomsIn(t testing.TB, s store.Backend) (rooms []*ledger.State) {
	t.Helper()
	for log, err := range s.Logs(t.Context()) {
		must(t, err)
		state, err := store.Load(t.Context(), s, log)
		must(t, err)
		if state.Room != nil {
			rooms = append(rooms, state)
		}
	}
	return rooms
}

// otherBus is a store with a bus of its own, and nothing else.
func otherBus(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s := openAt(t, path)
	_, err := store.Found(t.Context(), s, identity(t, 9), "other", time.UnixMilli(1e12))
	must(t, err)
	return s
}

// newRoom makes a room that is not encrypted, and so needs no keys.
func newRoom(t testing.TB, s store.Store, bus crypto.ID, subject string, retain *ledger.Retain) *ledger.State {
	t.Helper()
	state := new(ledger.State)
	policy := ledger.Policy{Encryption: ledger.EncryptionNone, History: ledger.HistoryShared, Retain: retain}
	write(t, s, state, &ledger.Create{Bus: bus, Subject: subject, Policy: policy, Nonce: make([]byte, 16)})
	return state
}

// change changes the database at a path behind everyone's back.
func change(t testing.TB, path, statement string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	must(t, err)
	r, err := db.ExecContext(t.Context(), statement, args...)
	must(t, errors.Join(err, db.Close()))
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		t.Fatalf("%s: changes nothing, %v", statement, err)
	}
}

// How a store is looked at.
var (
	onlyLook = Look{}
	repair   = Look{Repair: true}
)

// finding is what is expected of a check: its name and status, what helps, and a part of what it tells.
type finding struct {
	name, status string
	help         remedy.Kind
	tells        string
}

// finds fails unless an examination reports just the checks that are expected, in this order.
func finds(t testing.TB, what string, examine func(report func(Check)), want ...finding) {
	t.Helper()
	var got []Check
	examine(func(c Check) { got = append(got, c) })
	for i, c := range got {
		if i >= len(want) {
			t.Errorf("%s: and %+v", what, c)
			continue
		}
		if w := want[i]; c.Name != w.name || c.Status != w.status || c.Help.Kind != w.help || !strings.Contains(c.Detail, w.tells) {
			t.Errorf("%s:\n%+v, not\n%+v", what, c, w)
		}
	}
	for _, w := range want[min(len(got), len(want)):] {
		t.Errorf("%s: nothing is said of %s", what, w.name)
	}
}

// node is a server of a bus, and how its operator gets at it.
type node struct {
	*bus.Server
	acc Access
}

// startNode starts a server by itself.
func startNode(t testing.TB) *node {
	t.Helper()
	keys, err := bus.NewKeys()
	must(t, err)
	return launch(t, keys, bus.ServerOptions{Listen: "127.0.0.1:0"})
}

// startCluster starts servers that are one cluster.
func startCluster(t testing.TB, n int) []*node {
	t.Helper()
	keys, err := bus.NewKeys()
	must(t, err)
	var routes []string
	for range n {
		routes = append(routes, freeport.Local())
	}
	nodes := make([]*node, n)
	for i := range nodes {
		nodes[i] = launch(t, keys, bus.ServerOptions{
			Listen: "127.0.0.1:0", Name: string(rune('a' + i)), Cluster: bus.Cluster{Name: "c", Listen: routes[i], Routes: routes},
		})
	}
	return nodes
}

// launch starts a server, which ends with the test.
func launch(t testing.TB, keys *bus.Keys, o bus.ServerOptions) *node {
	t.Helper()
	o.Dir, o.Keys, o.Log = filepath.Join(t.TempDir(), "jetstream"), keys, slog.New(slog.DiscardHandler)
	s, err := bus.StartServer(t.Context(), o)
	must(t, err)
	t.Cleanup(func() { s.Stop() })
	return &node{s, Access{Keys: keys, Timeout: 20 * time.Second}}
}

// open opens the store in the servers, and makes it, kept on so many of them.
func (n *node) open(t testing.TB, replicas int) store.Backend {
	t.Helper()
	s, done, err := Open(t.Context(), fmt.Sprintf("%s?replicas=%d", n.URL(), replicas), n.acc, open.Make)
	must(t, err)
	t.Cleanup(done)
	return s
}

// streams are what the servers keep, as their operator sees it.
func (n *node) streams(t testing.TB) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(n.Links.Store)
	must(t, err)
	return js
}

// answers has someone else answer what servers or services are asked over the system account, beside those that do.
func (n *node) answers(t testing.TB, subject string, answer any) {
	t.Helper()
	data, err := json.Marshal(answer)
	must(t, err)
	sub, err := n.Links.Sys.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond(data) })
	must(t, err)
	must(t, n.Links.Sys.Flush())
	t.Cleanup(func() { _ = sub.Unsubscribe() })
}
