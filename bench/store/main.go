// Command store measures what the choice of a store costs: logins a second with static keys, with
// the service on SQLite, and on three servers; listing one's rooms with few and many in the store; and
// moving a large bus from one store to the other and back.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/unibus/unibus/internal/admin"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/freeport"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/service"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/jetstream"
	"github.com/unibus/unibus/internal/store/sqlite"
)

var (
	connects = flag.Int("connects", 1000, "logins to measure")
	users    = flag.Int("users", 100_000, "users of the bus that is moved")
	rooms    = flag.Int("rooms", 10_000, "rooms of the bus that is moved")
	lists    = flag.Int("lists", 500, "listings to measure")
	only     = flag.String("only", "", "auth, list or move")
)

func main() {
	flag.Parse()
	dir, err := os.MkdirTemp("", "unibus-bench-")
	if err != nil {
		log.Fatal(err)
	}
	err = run(context.Background(), dir)
	os.RemoveAll(dir)
	if err != nil {
		log.Fatal("bench: ", err)
	}
}

func run(ctx context.Context, dir string) error {
	for _, part := range []struct {
		name string
		do   func(ctx context.Context, dir string) error
	}{{"auth", auth}, {"list", list}, {"move", move}} {
		if *only == "" || *only == part.name {
			if err := part.do(ctx, filepath.Join(dir, part.name)); err != nil {
				return fmt.Errorf("%s: %w", part.name, err)
			}
		}
	}
	return nil
}

func newTable(header ...any) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(os.Stdout)
	t.AppendHeader(header)
	return t
}

// identity is the nth of a series.
func identity(n int) (*crypto.Identity, error) {
	return crypto.NewIdentity(sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n))))
}

// auth measures logins, eight at a time.
func auth(ctx context.Context, dir string) error {
	t := newTable("who answers logins", "logins", "logins/s", "a login, alone")
	for _, kind := range []struct {
		name  string
		start func(ctx context.Context, dir string) (dial func() (func(), error), stop func(), err error)
	}{
		{"the server: static nkeys", static},
		{"unibus, SQLite", func(ctx context.Context, dir string) (func() (func(), error), func(), error) {
			return callout(ctx, dir, 1, "")
		}},
		{"unibus, JetStream, one server", func(ctx context.Context, dir string) (func() (func(), error), func(), error) {
			return callout(ctx, dir, 1, service.JetStream)
		}},
		{"unibus, JetStream, three servers", func(ctx context.Context, dir string) (func() (func(), error), func(), error) {
			return callout(ctx, dir, 3, service.JetStream)
		}},
	} {
		dial, stop, err := kind.start(ctx, filepath.Join(dir, kind.name))
		if err != nil {
			return err
		}
		one := func() error {
			end, err := dial()
			if err == nil {
				end()
			}
			return err
		}
		const alone = 100
		began := time.Now()
		for range alone {
			if err := one(); err != nil {
				return err
			}
		}
		each := time.Since(began) / alone
		var wait sync.WaitGroup
		var failed atomic.Value
		began = time.Now()
		for range 8 {
			wait.Go(func() {
				for range *connects / 8 {
					if err := one(); err != nil {
						failed.Store(err)
					}
				}
			})
		}
		wait.Wait()
		rate := float64(*connects) / time.Since(began).Seconds()
		stop()
		if err, ok := failed.Load().(error); ok {
			return err
		}
		t.AppendRow(table.Row{kind.name, *connects, fmt.Sprintf("%.0f", rate), each.Round(10 * time.Microsecond)})
	}
	t.Render()
	return nil
}

func static(context.Context, string) (func() (func(), error), func(), error) {
	user, err := nkeys.CreateUser()
	if err != nil {
		return nil, nil, err
	}
	name, err := user.PublicKey()
	if err != nil {
		return nil, nil, err
	}
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, Nkeys: []*server.NkeyUser{{Nkey: name}}})
	if err != nil {
		return nil, nil, err
	}
	s.Start()
	s.ReadyForConnections(10 * time.Second)
	dial := func() (func(), error) {
		nc, err := nats.Connect(s.ClientURL(), nats.Nkey(name, user.Sign))
		return func() { nc.Close() }, err
	}
	return dial, s.Shutdown, nil
}

func callout(ctx context.Context, dir string, n int, kind string) (func() (func(), error), func(), error) {
	nodes, id, err := start(ctx, dir, n, kind)
	if err != nil {
		return nil, nil, err
	}
	var next atomic.Int64
	dial := func() (func(), error) {
		node := nodes[int(next.Add(1))%len(nodes)]
		c, err := bus.Dial(bus.DialOptions{Servers: node.URL(), Identity: id, Bus: node.Bus, Timeout: 10 * time.Second})
		if err != nil {
			return nil, err
		}
		return c.Close, nil
	}
	return dial, func() { stopAll(nodes) }, nil
}

func stopAll(nodes []*service.Node) {
	for _, n := range nodes {
		n.Stop()
	}
}

// start starts n servers that are one bus.
func start(ctx context.Context, dir string, n int, kind string) ([]*service.Node, *crypto.Identity, error) {
	id, err := identity(0)
	if err != nil {
		return nil, nil, err
	}
	var routes []string
	for range n {
		routes = append(routes, freeport.Local())
	}
	nodes := make([]*service.Node, n)
	errs := make([]error, n)
	var wait sync.WaitGroup
	for i := range n {
		o := service.NodeOptions{
			Listen: "127.0.0.1:0", Dir: filepath.Join(dir, fmt.Sprint(i)), Store: kind, Keys: filepath.Join(dir, "service.nk"),
			Identity: id, Founder: "bench", Log: slog.New(slog.DiscardHandler),
		}
		if n > 1 {
			o.Cluster = bus.Cluster{Name: "bench", Listen: routes[i], Routes: routes}
		}
		wait.Go(func() { nodes[i], errs[i] = service.StartNode(ctx, o) })
	}
	wait.Wait()
	return nodes, id, errors.Join(errs...)
}

// fill makes a bus with users and rooms, ten of them with one user in it as a member.
func fill(ctx context.Context, s store.Store, users, rooms int) (*crypto.Identity, error) {
	admin, err := identity(0)
	if err != nil {
		return nil, err
	}
	state, err := store.Found(ctx, s, admin, "admin", time.Now())
	if err != nil {
		return nil, err
	}
	member, err := identity(1)
	if err != nil {
		return nil, err
	}
	log := state.Fold()
	for i := 1; i <= users; {
		add := &ledger.Add{}
		for ; i <= users && len(add.Users) < 1000; i++ {
			id, err := identity(i)
			if err != nil {
				return nil, err
			}
			add.Users = append(add.Users, ledger.NewUser{Key: id.Key(), Name: fmt.Sprintf("user-%d", i), Role: ledger.RoleUser})
		}
		if err := appendTo(ctx, s, log, admin, add); err != nil {
			return nil, err
		}
	}
	for i := range rooms {
		key := crypto.RoomKey(sha256.Sum256([]byte{byte(i), byte(i >> 8)}))
		commit := key.Commit(1)
		create := &ledger.Create{Bus: state.ID, Subject: fmt.Sprintf("room.%d", i), Policy: ledger.DefaultPolicy(), Nonce: make([]byte, 16), Commit: &commit}
		room := new(ledger.Fold)
		statement, err := room.State().Next(admin, create, time.Now())
		if err != nil {
			return nil, err
		}
		id, _, _, err := ledger.Place(statement)
		if err != nil {
			return nil, err
		}
		sealed := []store.SealedKey{{Endpoint: admin.Key(), Sealed: make([]byte, crypto.SealedSize)}}
		if err := s.PutKeys(ctx, id, 1, commit, admin.Key(), sealed); err != nil {
			return nil, err
		}
		c, err := store.Advance(room, statement)
		if err == nil {
			err = s.Append(ctx, c)
		}
		if err == nil && i%max(rooms/10, 1) == 0 {
			err = appendTo(ctx, s, room, admin, &ledger.Invite{Members: []ledger.NewMember{{Key: member.Key(), Role: ledger.RoleMember}}})
		}
		if err != nil {
			return nil, err
		}
	}
	return member, nil
}

func appendTo(ctx context.Context, s store.Store, log *ledger.Fold, by *crypto.Identity, body ledger.Body) error {
	statement, err := log.State().Next(by, body, time.Now())
	if err != nil {
		return err
	}
	c, err := store.Advance(log, statement)
	if err != nil {
		return err
	}
	return s.Append(ctx, c)
}

// onNATS is an empty store in one plain NATS server.
func onNATS(ctx context.Context, dir string) (*jetstream.Store, func(), error) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, JetStream: true, StoreDir: dir, SyncAlways: true})
	if err != nil {
		return nil, nil, err
	}
	s.Start()
	s.ReadyForConnections(10 * time.Second)
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.Open(ctx, nc, jetstream.Options{OpTimeout: time.Minute})
	return js, func() { js.Close(); nc.Close(); s.Shutdown(); s.WaitForShutdown() }, err
}

// list measures ListRoomsForEndpoint for someone in ten rooms.
func list(ctx context.Context, dir string) error {
	t := newTable("store", "rooms in it", "rooms of the caller", "a listing")
	for _, n := range []int{100, 10_000} {
		file, err := sqlite.Open(ctx, filepath.Join(dir, fmt.Sprint(n)+".db"), sqlite.Options{OpTimeout: time.Minute})
		if err != nil {
			return err
		}
		js, stop, err := onNATS(ctx, filepath.Join(dir, fmt.Sprint(n)))
		if err != nil {
			return err
		}
		for _, s := range []struct {
			name string
			store.Store
		}{{"SQLite", file}, {"JetStream", js}} {
			member, err := fill(ctx, s.Store, 1, n)
			if err != nil {
				return err
			}
			count := 0
			began := time.Now()
			for range *lists {
				refs, err := s.ListRoomsForEndpoint(ctx, member.Key())
				if err != nil {
					return err
				}
				count = len(refs)
			}
			t.AppendRow(table.Row{s.name, n, count, (time.Since(began) / time.Duration(*lists)).Round(time.Microsecond)})
		}
		stop()
		if err := file.Close(); err != nil {
			return err
		}
	}
	t.Render()
	return nil
}

// move migrates a large bus to JetStream and back.
func move(ctx context.Context, dir string) error {
	first, err := sqlite.Open(ctx, filepath.Join(dir, "first.db"), sqlite.Options{OpTimeout: time.Minute})
	if err != nil {
		return err
	}
	defer first.Close()
	if _, err := fill(ctx, first, *users, *rooms); err != nil {
		return err
	}
	js, stop, err := onNATS(ctx, filepath.Join(dir, "js"))
	if err != nil {
		return err
	}
	defer stop()
	second, err := sqlite.Open(ctx, filepath.Join(dir, "second.db"), sqlite.Options{OpTimeout: time.Minute})
	if err != nil {
		return err
	}
	defer second.Close()
	t := newTable("migrate", "users", "rooms", "seconds", "most memory in use")
	for _, m := range []struct {
		name     string
		from, to store.Backend
	}{{"SQLite to JetStream", first, js}, {"JetStream to SQLite", js, second}} {
		most := watchMemory()
		began := time.Now()
		if _, err := admin.Migrate(ctx, m.from, m.to, func(int64, int64) {}); err != nil {
			return err
		}
		t.AppendRow(table.Row{m.name, *users, *rooms, fmt.Sprintf("%.1f", time.Since(began).Seconds()), fmt.Sprintf("%d MiB", most()>>20)})
	}
	began := time.Now()
	path := filepath.Join(dir, "archive")
	if _, err := admin.Backup(ctx, js, path, time.Now(), func(int64, int64) {}); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	t.AppendRow(table.Row{"backup from JetStream", *users, *rooms, fmt.Sprintf("%.1f", time.Since(began).Seconds()), fmt.Sprintf("file of %d MiB", info.Size()>>20)})
	t.Render()
	return nil
}

// watchMemory looks at the heap until it is asked for the most it saw. The embedded server's is in it.
func watchMemory() func() uint64 {
	var most atomic.Uint64
	stop := make(chan struct{})
	go func() {
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most.Store(max(most.Load(), m.HeapInuse))
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return func() uint64 { close(stop); return most.Load() }
}
