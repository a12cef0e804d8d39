//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/unibus/unibus"
	keys "github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/freeport"
	"github.com/unibus/unibus/test/run"
)

const (
	limit    = 3 * time.Minute  // for any process
	timeout  = "20s"            // --timeout of every process
	recovery = 30 * time.Second // after something happened to the servers, in which a process may still end with 5
	keep     = "100GiB"         // of a room's messages: all of them
)

// bus is one of those under test.
type bus struct {
	name    string
	dir     string
	j       *judge
	clock   *clock
	founder run.Peer
	people  []run.Peer // members of every room, the founder among them
	guest   run.Peer   // who comes and goes
	three   *run.Cluster
	one     *run.Node
	keys    string // the service's file

	still sync.RWMutex // held by each round, and alone while the bus moves
	mu    sync.Mutex
	// troubles are the times at which something happens to the servers that people may notice.
	troubles []trouble
	kept     *room   // for lines that stay
	past     []*room // that were kept before it, and archived ones
	trimmed  []*room
	switched *room
	joined   *room
	shared   *room
	last     atomic.Int64 // of the names of series and rooms
}

// trouble is a time at which processes may end with 5. It has no end while it lasts.
type trouble struct{ began, ended time.Time }

// newThree is a bus of three servers.
func newThree(dir string, j *judge) (*bus, error) {
	b := &bus{name: "three", dir: dir, j: j}
	c, err := run.NewCluster(filepath.Join(dir, b.name), *binary, tell)
	if err != nil {
		return nil, err
	}
	b.three, b.founder, b.keys, b.dir = c, c.Founder, c.Keys, filepath.Join(dir, b.name)
	return b, nil
}

// newOne is a bus of one server, whose store is a file.
func newOne(dir string, j *judge) (b *bus, err error) {
	b = &bus{name: "one", dir: filepath.Join(dir, "one"), j: j}
	if err := mkdir(b.dir); err != nil {
		return nil, err
	}
	if b.founder, err = run.NewPeer(b.dir, *binary, "founder"); err != nil {
		return nil, err
	}
	b.keys = filepath.Join(b.dir, "service.nk")
	if _, _, err := keys.LoadOrMakeKeys(b.keys); err != nil {
		return nil, err
	}
	b.one = &run.Node{
		Founder: b.founder, Name: "one", Listen: freeport.Local(), Data: filepath.Join(b.dir, "data"), Args: []string{"--keys", b.keys},
		Log: run.Appender(filepath.Join(dir, "one.log")), Tell: tell,
	}
	return b, nil
}

// down stops the servers. What three of them complained of meanwhile is an error.
func (b *bus) down() error {
	switch {
	case b.three != nil:
		return errors.Join(b.three.Down(), b.three.Complaints())
	case b.one.Running():
		_, err := b.one.Stop()
		return err
	}
	return nil
}

// servers are where people connect.
func (b *bus) servers() string {
	if b.three != nil {
		return b.three.Servers()
	}
	return b.one.URL()
}

// found starts the servers, and makes people and rooms.
func (b *bus) found(ctx context.Context) error {
	if b.three != nil {
		if err := b.three.Up(ctx); err != nil {
			return err
		}
	} else if err := errors.Join(b.one.Start(), b.one.IsReady(ctx)); err != nil {
		return err
	}
	b.people = []run.Peer{b.founder}
	for _, name := range []string{"ann", "ben", "guest"} {
		p, err := run.NewPeer(b.dir, *binary, name)
		if err == nil {
			err = b.must(ctx, b.founder, "user", "add", p.Key.String(), "--name", name)
		}
		if err == nil {
			err = b.must(ctx, p, "rooms", "ls") // from now on its card is known
		}
		if err != nil {
			return err
		}
		if name == "guest" {
			b.guest = p
			continue
		}
		b.people = append(b.people, p)
	}
	var failed []error
	make := func(subject string, trimmed bool, args ...string) *room {
		r, err := b.newRoom(ctx, subject, trimmed, args...)
		failed = append(failed, err)
		return r
	}
	b.kept = make("kept", false, "--max-bytes", keep)
	b.trimmed = []*room{
		make("trim.age", true, "--retain", "5s"), make("trim.bytes", true, "--max-bytes", "64KiB"),
		make("trim.both", true, "--retain", "10s", "--max-bytes", "256KiB", "--history", "joined"),
	}
	b.switched = make("switched", true, "--max-bytes", keep)
	b.joined = make("joined", false, "--max-bytes", keep, "--history", "joined")
	b.shared = make("shared", false, "--max-bytes", keep)
	return errors.Join(failed...)
}

// newRoom makes a room with everybody in it but the guest.
func (b *bus) newRoom(ctx context.Context, subject string, trimmed bool, args ...string) (*room, error) {
	err := b.must(ctx, b.founder, append([]string{"room", "create", subject}, args...)...)
	for _, p := range b.people[1:] {
		if err == nil {
			err = b.must(ctx, b.founder, "invite", subject, p.Key.String())
		}
	}
	return newRoom(subject, trimmed), err
}

// must runs a command that has to succeed.
func (b *bus) must(ctx context.Context, p run.Peer, args ...string) error {
	if r := b.run(ctx, order{who: p, args: args}); r.code != done {
		return fmt.Errorf("%v", r)
	}
	return nil
}

// order is what is to be run.
type order struct {
	who     run.Peer
	args    []string
	env     []string
	signals <-chan syscall.Signal // sent to it as they come
	pipe    func(write func(string) error)
}

// run runs a process to its end.
func (b *bus) run(ctx context.Context, o order) result {
	cmd := o.who.Command(ctx, b.servers(), append([]string{"--timeout", timeout}, o.args...)...)
	cmd.Env = append(cmd.Env, o.env...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	who := strings.TrimSuffix(filepath.Base(o.who.Identity), ".nk")
	r := result{what: fmt.Sprintf("%s: %s: unibus %s", b.name, who, strings.Join(o.args, " ")), began: time.Now(), code: -2}
	r.said = b.process(cmd, o, &r)
	r.ended, r.out = time.Now(), out.String()
	if r.said == "" {
		r.said = said.String()
	}
	return r
}

// process starts a process, feeds and signals it, and waits for it. What it returns says why it could not be run.
func (b *bus) process(cmd *exec.Cmd, o order, r *result) string {
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return err.Error()
	}
	var overdue atomic.Bool
	late := time.AfterFunc(limit, func() {
		overdue.Store(true)
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Signal(syscall.SIGQUIT) // it says what it is doing
	})
	gone := make(chan struct{})
	var feeding sync.WaitGroup
	var signalled atomic.Bool
	feeding.Go(func() {
		if o.pipe != nil {
			o.pipe(func(text string) error {
				_, err := in.Write([]byte(text))
				return err
			})
		}
		in.Close()
	})
	feeding.Go(func() {
		for {
			select {
			case s, open := <-o.signals:
				if !open {
					return
				}
				signalled.Store(true)
				_ = cmd.Process.Signal(s) // it may have ended
			case <-gone:
				return
			}
		}
	})
	_ = cmd.Wait() // its code says how it ended
	late.Stop()
	close(gone)
	in.Close()
	feeding.Wait()
	r.code, r.signalled, r.overdue = cmd.ProcessState.ExitCode(), signalled.Load(), overdue.Load()
	return ""
}

// name is one that nobody had before.
func (b *bus) unique(prefix string) string { return prefix + strconv.FormatInt(b.last.Add(1), 10) }

// acknowledgedWords is what pub says when not everything was.
var acknowledgedWords = regexp.MustCompile(`unibus: ([0-9,]+) messages? acknowledged`)

// writing is how lines are written into a room.
type writing struct {
	lines, length int
	pace          time.Duration // between lines, at most
	kill          <-chan syscall.Signal
	until         <-chan struct{}
	env           []string
	parted        bool // several streams
}

// write publishes a series, and notes what was acknowledged of it.
func (b *bus) write(ctx context.Context, who run.Peer, r *room, w writing) result {
	name := b.unique("s")
	if w.parted {
		r.part(name)
	}
	o := order{who: who, args: []string{"pub", r.subject}, signals: w.kill, env: w.env}
	o.pipe = func(write func(string) error) {
		for i := range w.lines {
			select {
			case <-w.until:
				return
			default:
			}
			r.sent(name)
			if write(line(name, i, w.length)) != nil {
				return
			}
			run.Pause(ctx, w.pace)
		}
	}
	res := b.run(ctx, o)
	acked := 0
	if m := acknowledgedWords.FindStringSubmatch(res.said); m != nil {
		acked, _ = strconv.Atoi(strings.ReplaceAll(m[1], ",", ""))
	}
	if res.code == done {
		acked = r.snapshot()[name].sent
	}
	r.acknowledged(name, acked)
	res.acked = acked
	return res
}

// troubled reports whether something happened to the servers in a time, or not long before.
func (b *bus) troubled(from, to time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.troubles {
		if t.began.Before(to) && (t.ended.IsZero() || t.ended.Add(recovery).After(from)) {
			return true
		}
	}
	return false
}

// trouble notes that something happens to the servers while f runs.
func (b *bus) trouble(f func() error) error {
	b.mu.Lock()
	i := len(b.troubles)
	b.troubles = append(b.troubles, trouble{began: time.Now()})
	b.mu.Unlock()
	err := f()
	b.mu.Lock()
	b.troubles[i].ended = time.Now()
	b.mu.Unlock()
	return err
}

// keeping is the room whose lines stay. One that has become large is replaced.
func (b *bus) keeping(ctx context.Context) *room {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kept.total() < large {
		return b.kept
	}
	r, err := b.newRoom(ctx, b.unique("kept."), false, "--max-bytes", keep)
	if err != nil {
		tell("%v", err)
		return b.kept
	}
	b.past = append(b.past, b.kept)
	b.kept = r
	return r
}

const large = 15000 // lines

// rooms are all of those that can be read to the end.
func (b *bus) rooms() []*room {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := append([]*room{b.kept, b.switched, b.joined, b.shared}, b.trimmed...)
	return append(all, b.past...)
}

// key is a peer as commands take it.
func key(p run.Peer) string { return unibus.PublicKey(p.Key).String() }
