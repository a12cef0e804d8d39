// Command store measures what the choice of a store costs: logins a second with static keys, with
// the service on SQLite, and on three servers; listing one's rooms with few and many in the store; and
// moving a large bus from one store to the other and back.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/unibus/unibus/internal/admin"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
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

// run measures the parts that are asked for, each in a folder of its own.
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

// newTable is a table that is printed when it is rendered.
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
