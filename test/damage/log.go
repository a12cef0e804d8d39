package main

import (
	"context"
	bin "encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/freeport"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/sqlite"
)

var (
	commits = flag.Int("commits", 20, "log: changes in the write-ahead log")
	every   = flag.Int("every", 1, "log: of their bytes, one in so many is flipped")
	serves  = flag.Int("serves", 30, "log: flips after which the server is started")
)

// The parts of a write-ahead log: https://sqlite.org/fileformat2.html#walformat.
const (
	walHeader   = 32
	frameHeader = 24
)

// acknowledged is what a store said that it has.
type acknowledged struct {
	log   crypto.ID
	head  ledger.Head
	there []crypto.PublicKey // users
	out   []crypto.PublicKey // who were revoked
}

// damagedLog flips the bytes that the last changes wrote to the write-ahead log of a SQLite store.
func damagedLog(ctx context.Context, dir string) error {
	began := time.Now()
	from := filepath.Join(dir, "first", "data")
	founder := filepath.Join(dir, "first", writers[0])
	if err := errors.Join(os.MkdirAll(from, 0o700), os.MkdirAll(founder, 0o700)); err != nil {
		return err
	}
	acked, err := changes(ctx, from, filepath.Join(founder, "identity.nk"))
	if err != nil {
		return err
	}
	wal, err := os.ReadFile(filepath.Join(from, walFile))
	if err != nil {
		return err
	}
	start, err := lastCommits(wal, *commits)
	if err != nil {
		return err
	}
	log.Printf("log: %d changes take %d bytes of the write-ahead log", *commits, len(wal)-start)
	f := &flipper{dir: dir, from: from, wal: wal, acked: acked, ends: map[string]int{}}
	err = f.flipAll(ctx, start)
	if err == nil {
		err = f.serveSome(ctx, start)
	}
	log.Printf("log: %v; done after %v", f.ends, time.Since(began).Round(time.Second))
	if err == nil && len(f.wrong) > 0 {
		err = fmt.Errorf("%d are not as promised:\n  %s", len(f.wrong), strings.Join(f.wrong[:min(len(f.wrong), 50)], "\n  "))
	}
	return err
}

const (
	dbFile    = "unibus.db"
	walFile   = dbFile + "-wal"
	headsFile = "heads." + dbFile
)

// changes makes a store, and leaves it as a power failure would: every second of the last changes revokes whom the
// one before it had added.
func changes(ctx context.Context, dir, identity string) (*acknowledged, error) {
	admin, err := unibus.NewIdentity()
	if err != nil {
		return nil, err
	}
	if err := unibus.SaveIdentity(identity, admin, writers[0]); err != nil {
		return nil, err
	}
	work := filepath.Join(dir, "work")
	path := filepath.Join(work, dbFile)
	s, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		return nil, err
	}
	state, err := store.Found(ctx, s, admin, writers[0], time.Now())
	if err = errors.Join(err, s.Close()); err != nil { // which empties the write-ahead log
		return nil, err
	}
	if s, err = sqlite.Open(ctx, path, sqlite.Options{}); err != nil {
		return nil, err
	}
	defer s.Close()
	fold := state.Fold()
	a := &acknowledged{log: state.ID, there: []crypto.PublicKey{admin.Key()}}
	for n := range *commits {
		body, err := a.change(n)
		if err != nil {
			return nil, err
		}
		statement, err := fold.State().Next(admin, body, time.Now())
		if err != nil {
			return nil, err
		}
		c, err := store.Advance(fold, statement)
		if err == nil {
			err = s.Append(ctx, c)
		}
		if err != nil {
			return nil, err
		}
	}
	a.head = fold.Head()
	for _, name := range []string{dbFile, walFile, headsFile} { // while it is open
		data, err := os.ReadFile(filepath.Join(work, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			return nil, err
		}
	}
	return a, nil
}

// change is the nth.
func (a *acknowledged) change(n int) (ledger.Body, error) {
	if n%2 == 1 {
		last := len(a.there) - 1
		key := a.there[last]
		a.there, a.out = a.there[:last], append(a.out, key)
		return &ledger.Revoke{Keys: []crypto.PublicKey{key}}, nil
	}
	var users []ledger.NewUser
	for i := range 2 { // the second is revoked
		id, err := unibus.NewIdentity()
		if err != nil {
			return nil, err
		}
		a.there = append(a.there, id.Key())
		users = append(users, ledger.NewUser{Key: id.Key(), Name: fmt.Sprintf("user%d.%d", n, i), Role: ledger.RoleUser})
	}
	return &ledger.Add{Users: users}, nil
}

// lastCommits is where the last transactions begin in a write-ahead log.
func lastCommits(wal []byte, n int) (int, error) {
	size := frameHeader + int(bin.BigEndian.Uint32(wal[8:]))
	starts := []int{walHeader}
	for at := walHeader; at+size <= len(wal); at += size {
		if bin.BigEndian.Uint32(wal[at+4:]) != 0 { // the last page of a transaction
			starts = append(starts, at+size)
		}
	}
	if len(starts) <= n {
		return 0, fmt.Errorf("%d transactions in the write-ahead log", len(starts)-1)
	}
	return starts[len(starts)-1-n], nil
}

// flipper flips bytes of a write-ahead log.
type flipper struct {
	dir, from string
	wal       []byte
	acked     *acknowledged

	mu    sync.Mutex
	ends  map[string]int // how often what came of it
	wrong []string
}

func (f *flipper) came(end string, at int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ends[end]++
	if err != nil {
		f.wrong = append(f.wrong, fmt.Sprintf("byte %d of the write-ahead log: %v", at, err))
	}
}

// lay puts what the store left into a folder, with some bits of a byte of the write-ahead log flipped.
func (f *flipper) lay(dir string, at int, bits byte) error {
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return err
	}
	for _, name := range []string{dbFile, headsFile} {
		data, err := os.ReadFile(filepath.Join(f.from, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, walFile), f.wal, 0o600); err != nil {
		return err
	}
	return flip(walFile, int64(at), bits)(dir)
}

// flipAll opens the store with each byte flipped.
func (f *flipper) flipAll(ctx context.Context, start int) error {
	places := make(chan int)
	var working sync.WaitGroup
	for n := range *workers {
		working.Go(func() {
			dir := filepath.Join(f.dir, fmt.Sprint("store", n))
			for at := range places {
				if err := f.lay(dir, at, 0xff); err != nil {
					f.came("error", at, err)
					continue
				}
				end, err := f.acked.opened(ctx, filepath.Join(dir, dbFile))
				f.came(end, at, err)
			}
		})
	}
	defer working.Wait()
	defer close(places)
	for at := start; at < len(f.wal); at += *every {
		select {
		case places <- at:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// opened opens a store: it has all that was acknowledged, or is not opened at all.
func (a *acknowledged) opened(ctx context.Context, path string) (end string, err error) {
	s, err := sqlite.Open(ctx, path, sqlite.Options{})
	if errors.Is(err, store.ErrDamaged) && !strings.Contains(err.Error(), "\n") {
		return "refused", nil
	}
	if err != nil {
		return "failed", err
	}
	defer s.Close()
	heads, err := s.Heads(ctx, a.log)
	if err != nil {
		return "failed", err
	}
	if len(heads) != 1 || heads[0] != a.head {
		return "behind", fmt.Errorf("it opens, and its log ends at %v", heads)
	}
	for _, key := range a.out {
		if in, err := s.IsAuthorized(ctx, key); in || err != nil {
			return "undone", fmt.Errorf("it opens, and %s, who was revoked: %v, %v", key, in, err)
		}
	}
	for _, key := range a.there {
		if in, err := s.IsAuthorized(ctx, key); !in || err != nil {
			return "lost", fmt.Errorf("it opens, and %s, who was added: %v, %v", key, in, err)
		}
	}
	return "whole", nil
}

// serveSome starts the server on some of them.
func (f *flipper) serveSome(ctx context.Context, start int) error {
	r := rand.New(rand.NewPCG(*seed, 2))
	listen := freeport.Local()
	for range *serves {
		at, bit := start+r.IntN(len(f.wal)-start), byte(1)<<r.IntN(8)
		s := &site{dir: filepath.Join(f.dir, "serve"), listen: listen}
		if err := errors.Join(os.RemoveAll(s.dir), copyTree(filepath.Join(f.dir, "first", writers[0]), filepath.Join(s.dir, writers[0])), f.lay(s.data(), at, bit)); err != nil {
			return err
		}
		end, err := f.served(ctx, s)
		f.came("serve "+end, at, err)
	}
	return nil
}

// served starts the server: it lets the founder in, who sees everything, or lets nobody in and says why, in one line.
func (f *flipper) served(ctx context.Context, s *site) (end string, err error) {
	started := s.start(writers[0])
	defer s.stop(syscall.SIGTERM)
	said, err := os.ReadFile(s.serverLog())
	if err != nil {
		return "failed", err
	}
	if started != nil {
		tell("serve: %s", strings.TrimSpace(string(said)))
		if n := strings.Count(string(said), "unibus: "); n != 1 || !strings.Contains(string(said), ": integrity: ") {
			return "refused", fmt.Errorf("serve says: %s", said)
		}
		return "refused", nil
	}
	users, err := s.run(ctx, writers[0], "user", "ls", "--timeout", "3s")
	if err != nil {
		return "failed", err
	}
	if users.code != 0 {
		return "denied", nil
	}
	for _, key := range f.acked.there {
		if !strings.Contains(users.out, key.String()) {
			return "lost", fmt.Errorf("%s, who was added, is not there", key)
		}
	}
	for _, key := range f.acked.out {
		user, err := s.run(ctx, writers[0], "user", "show", key.String(), "-o", "json")
		if err != nil || !strings.Contains(user.out, `"active":false`) {
			return "undone", fmt.Errorf("%s, who was revoked: %s %v", key, user.out, err)
		}
	}
	return "whole", nil
}
