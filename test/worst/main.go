// Command worst feeds readers the worst frames that a member can make, gigabytes of them, and looks at the memory of
// unibus sub while it reads them, and of unibus serve. Every kind is stored in a room of its own and read from the
// first to the last; the program fails when a reader takes more than -limit.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/attack"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/test/run"
)

var (
	binary = flag.String("unibus", "bin/unibus", "the program under test")
	size   = flag.Int64("mib", 10<<10, "how much is stored, in MiB, of all kinds together")
	limit  = flag.Int64("limit", 200, "the most memory a reader may take, in MiB")
	only   = flag.String("only", "", "only the kinds with these names, separated by commas")
	folder = flag.String("dir", "", "an empty folder to work in, which is kept (default one that is removed)")
)

func main() {
	flag.Parse()
	run.Main(func(ctx context.Context) error {
		return run.In(*folder, "unibus-worst-", func(dir string) error { return feed(ctx, dir) })
	})
}

// bench is a bus, with a member who makes frames, and one who reads them.
type bench struct {
	url    string
	bus    crypto.ID
	server *exec.Cmd
	memory *run.Memory // of the server
	admin  *unibus.Client
	maker  *unibus.Identity
	reader run.Peer
}

func feed(ctx context.Context, dir string) error {
	b := &bench{}
	defer b.stop()
	if err := b.start(ctx, dir); err != nil {
		return err
	}
	chosen := slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool {
		return *only != "" && !slices.Contains(strings.Split(*only, ","), k.name)
	})
	total := 0.0
	for _, k := range chosen {
		total += k.share
	}
	fmt.Printf("%-12s %9s %9s %12s %8s %10s %10s  %s\n", "frames", "stored", "MiB", "written in", "read in", "sub MiB", "serve MiB", "exit")
	var over []string
	for _, k := range chosen {
		taken, err := b.try(ctx, k, int64(float64(*size<<20)*k.share/total))
		if err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		if taken > *limit {
			over = append(over, fmt.Sprintf("%s: %d MiB", k.name, taken))
		}
	}
	if len(over) > 0 {
		return fmt.Errorf("worst: FAILED: readers took more than %d MiB: %s", *limit, strings.Join(over, ", "))
	}
	fmt.Printf("worst: ok: no reader took more than %d MiB\n", *limit)
	return nil
}

// try stores frames of a kind, and has them read. It returns how many MiB the reader took.
func (b *bench) try(ctx context.Context, k kind, bytes int64) (taken int64, err error) {
	policy := unibus.DefaultPolicy()
	policy.Retain.Bytes = 0
	room, err := b.admin.CreateRoom(ctx, k.name, policy)
	if err != nil {
		return 0, err
	}
	if err := room.Invite(ctx, unibus.RoleMember, b.maker.Key()); err != nil {
		return 0, err
	}
	if err := room.Invite(ctx, unibus.RoleReader, b.reader.Key); err != nil {
		return 0, err
	}
	began := time.Now()
	m, err := b.make(ctx, room.ID())
	if err != nil {
		return 0, err
	}
	err = m.all(k, bytes)
	m.peer.Close()
	if err != nil {
		return 0, err
	}
	written := time.Since(began)
	began = time.Now()
	cmd := b.reader.Command(ctx, b.url, "sub", k.name, "--all", "--end")
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	memory := run.Watch(cmd.Process.Pid)
	_ = cmd.Wait() // how it ends is told; what must not be is memory
	taken = memory.Stop()
	fmt.Printf("%-12s %9d %9d %12v %8v %10d %10d  %d\n", k.name, m.frames, m.bytes>>20, written.Round(time.Second), time.Since(began).Round(time.Second), taken, b.memory.Most(), cmd.ProcessState.ExitCode())
	return taken, ctx.Err()
}

// start founds a bus with its two members.
func (b *bench) start(ctx context.Context, dir string) error {
	person := func(name string) (*unibus.Identity, run.Peer, error) {
		id, err := unibus.NewIdentity()
		if err != nil {
			return nil, run.Peer{}, err
		}
		p := run.Peer{Binary: *binary, Identity: filepath.Join(dir, name+".nk"), State: filepath.Join(dir, name), Home: dir, Key: id.Key()}
		return id, p, unibus.SaveIdentity(p.Identity, id, name)
	}
	founder, process, err := person("founder")
	if err != nil {
		return err
	}
	b.server = process.Command(ctx, "", "serve", "-o", "json", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--sync", "10s")
	b.server.Stderr = os.Stderr
	ready, err := run.ServeJSON(b.server)
	if err != nil {
		return err
	}
	b.memory = run.Watch(b.server.Process.Pid)
	is, err := ready()
	if err != nil {
		return err
	}
	b.url, b.bus = is.Server, is.Bus
	if b.admin, err = unibus.Connect(ctx, unibus.Options{Identity: founder, StateDir: process.State, Server: b.url}); err != nil {
		return err
	}
	user := func(name string) (*unibus.Identity, run.Peer, error) {
		id, p, err := person(name)
		if err != nil {
			return nil, p, err
		}
		card, err := id.Card()
		if err != nil {
			return nil, p, err
		}
		return id, p, b.admin.AddUsers(ctx, unibus.NewUser{Key: id.Key(), Name: name, Card: card})
	}
	if b.maker, _, err = user("maker"); err != nil {
		return err
	}
	_, b.reader, err = user("reader")
	return err
}

func (b *bench) stop() {
	if b.admin != nil {
		_ = b.admin.Close() // whatever state it is in
	}
	if b.memory != nil {
		_ = b.server.Process.Kill() // likewise
		_ = b.server.Wait()
		b.memory.Stop()
	}
}

// make logs the maker in, with the room's key in hand.
func (b *bench) make(ctx context.Context, room crypto.ID) (*maker, error) {
	peer, err := attack.Dial(attack.Options{URL: b.url, Identity: b.maker, Bus: b.bus, Rooms: []crypto.ID{room}})
	if err != nil {
		return nil, err
	}
	return newMaker(ctx, peer, room)
}
