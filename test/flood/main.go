// Command flood measures what one who floods a bus does to others: a member's calls, publications and logins,
// and the calls over HTTP of users who ask for the first time, beside each kind of flood, before it, during it
// and two seconds after it, and the memory of unibus serve. It reports figures, and judges none.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/attack"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/test/run"
)

var (
	binary = flag.String("unibus", "bin/unibus", "the program under test")
	kind   = flag.String("store", "", "the store of the bus: sqlite if empty, or jetstream")
	acts   = flag.String("acts", "spin,slow,tokens,garbage,unread,web,logins,forged,madeup,door,hello,bus,users,steady,deaf,big,connections,subscriptions,staged,rekeys,rooms", "the floods to try")
	length = flag.Duration("for", 5*time.Second, "how long each phase lasts")
	rounds = flag.Int("rounds", 1, "how often each flood is tried")
	nice   = flag.Int("nice", 0, "niceness of the process that floods: with 19 it takes from this machine only what others leave, as from one of its own")

	// What follows is for the process that floods, which this one starts.
	act      = flag.String("act", "", "be the flooder of this kind")
	server   = flag.String("server", "", "the bus's server")
	busID    = flag.String("bus", "", "the bus")
	web      = flag.String("web", "", "where the bus's API is over HTTP")
	identity = flag.String("identity", "", "file of the flooder's identity")
	victim   = flag.String("victim", "", "file of the identity in whose name the flooder tries to log in")
)

// quotaOf is how many rooms a user may create on the bus under test: making a thousand takes longer than a
// phase.
const quotaOf = 50

// settle is how soon after a flood everything is to be as before.
const settle = 2 * time.Second

func main() {
	flag.Parse()
	run.Main(func(ctx context.Context) error {
		if *act != "" {
			return flood(ctx)
		}
		return measure(ctx)
	})
}

// bench is a bus under test.
type bench struct {
	dir    string
	url    string
	web    string
	bus    crypto.ID
	server *exec.Cmd
	admin  *unibus.Client
	member *attack.Peer
	room   *unibus.Room       // the member's
	others []*unibus.Identity // users of whom the service has seen nothing
}

func measure(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "unibus-flood-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir}
	if err := b.start(ctx); err != nil {
		return err
	}
	defer func() {
		_ = b.server.Process.Kill() // whatever state it is in
		_ = b.server.Wait()
	}()
	fmt.Printf("%-14s %-7s %9s %9s %9s %9s %9s %9s %9s %9s %8s %7s\n",
		"flood", "phase", "call p50", "p99", "pub p50", "p99", "login p50", "p99", "http p50", "p99", "calls", "MiB")
	for name := range strings.SplitSeq(*acts, ",") {
		for range *rounds {
			if err := b.try(ctx, name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// start founds a bus with a member, who is in a stored room.
func (b *bench) start(ctx context.Context) error {
	id, file, err := b.identity("admin")
	if err != nil {
		return err
	}
	args := []string{"serve", "-o", "json", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data", filepath.Join(b.dir, "data"), "--max-rooms", strconv.Itoa(quotaOf)}
	if *kind != "" {
		args = append(args, "--store", *kind)
	}
	b.server = exec.CommandContext(ctx, *binary, args...)
	b.server.Env = append(os.Environ(), "UNIBUS_IDENTITY="+file, "XDG_CONFIG_HOME="+b.dir)
	b.server.Stderr = os.Stderr
	ready, err := run.ServeJSON(b.server)
	if err != nil {
		return err
	}
	is, err := ready()
	if err != nil {
		return err
	}
	b.url, b.web, b.bus = is.Server, strings.TrimPrefix(is.HTTP, "http://"), is.Bus
	if b.admin, err = b.connect(ctx, id, "admin"); err != nil {
		return err
	}
	return b.settleIn(ctx)
}

// settleIn makes the member and its room, and users enough that listing them is work.
func (b *bench) settleIn(ctx context.Context) error {
	var others []unibus.NewUser
	for i := range 1000 {
		id, err := unibus.NewIdentity()
		if err != nil {
			return err
		}
		b.others = append(b.others, id)
		others = append(others, unibus.NewUser{Key: id.Key(), Name: fmt.Sprint("user", i)})
	}
	if err := b.admin.AddUsers(ctx, others...); err != nil {
		return err
	}
	id, err := b.user(ctx, "member")
	if err != nil {
		return err
	}
	c, err := b.connect(ctx, id, "member")
	if err != nil {
		return err
	}
	if b.room, err = c.CreateRoom(ctx, "beside", unibus.DefaultPolicy()); err != nil {
		return err
	}
	b.member, err = attack.Dial(attack.Options{URL: b.url, Identity: id, Bus: b.bus})
	return err
}

func (b *bench) identity(name string) (*unibus.Identity, string, error) {
	id, err := unibus.NewIdentity()
	if err != nil {
		return nil, "", err
	}
	file := filepath.Join(b.dir, name+".nk")
	return id, file, unibus.SaveIdentity(file, id, name)
}

// user is a new user of the bus.
func (b *bench) user(ctx context.Context, name string) (*unibus.Identity, error) {
	id, _, err := b.identity(name)
	if err != nil {
		return nil, err
	}
	card, err := id.Card()
	if err != nil {
		return nil, err
	}
	return id, b.admin.AddUsers(ctx, unibus.NewUser{Key: id.Key(), Name: name, Card: card})
}

func (b *bench) connect(ctx context.Context, id *unibus.Identity, state string) (*unibus.Client, error) {
	return unibus.Connect(ctx, unibus.Options{Identity: id, StateDir: filepath.Join(b.dir, state), Server: b.url})
}

// try measures beside one flood, by a user of its own.
func (b *bench) try(ctx context.Context, name string) error {
	flooder := fmt.Sprint("flooder-", name, "-", time.Now().UnixNano())
	if _, err := b.user(ctx, flooder); err != nil {
		return err
	}
	b.phase(ctx, name, "quiet")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	during, cancel := context.WithTimeout(ctx, *length+time.Second)
	defer cancel()
	cmd := exec.CommandContext(during, "nice", "-n", strconv.Itoa(*nice), self, "-act", name, "-server", b.url, "-bus", b.bus.String(),
		"-web", b.web, "-identity", filepath.Join(b.dir, flooder+".nk"), "-victim", filepath.Join(b.dir, "member.nk"), "-for", (*length).String())
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	b.phase(ctx, name, "during")
	_ = cmd.Wait() // it says itself what it met
	select {
	case <-time.After(settle):
	case <-ctx.Done():
	}
	b.phase(ctx, name, "after")
	return ctx.Err()
}

// phase measures what members do for a while, and prints what it took.
func (b *bench) phase(ctx context.Context, name, phase string) {
	ctx, cancel := context.WithTimeout(ctx, *length)
	defer cancel()
	var calls, pubs, logins, webs []time.Duration
	memory := 0
	var all sync.WaitGroup
	all.Go(func() {
		calls = repeat(ctx, often, func(ctx context.Context) error {
			_, status, err := b.member.Call(ctx, "GET", "/bus", nil)
			if err == nil && !attack.OK(status) {
				err = fmt.Errorf("status %d", status)
			}
			return err
		})
	})
	all.Go(func() {
		pubs = repeat(ctx, often, func(ctx context.Context) error { return b.room.PublishOnce(ctx, []byte("beside")) })
	})
	all.Go(func() { logins = repeat(ctx, seldom, func(context.Context) error { return b.login() }) })
	all.Go(func() { webs = repeat(ctx, seldom, b.callWeb) })
	all.Go(func() {
		_ = repeat(ctx, often, func(context.Context) error {
			memory = max(memory, int(run.MemoryOf(b.server.Process.Pid, "VmRSS")))
			return nil
		})
	})
	all.Wait()
	ms := func(d time.Duration) string { return fmt.Sprintf("%.2fms", float64(d.Microseconds())/1000) }
	fmt.Printf("%-14s %-7s %9s %9s %9s %9s %9s %9s %9s %9s %8d %7d\n", name, phase,
		ms(at(calls, 50)), ms(at(calls, 99)), ms(at(pubs, 50)), ms(at(pubs, 99)),
		ms(at(logins, 50)), ms(at(logins, 99)), ms(at(webs, 50)), ms(at(webs, 99)), len(calls), memory>>20)
}

// login logs the member in once more.
func (b *bench) login() error {
	p, err := attack.Dial(attack.Options{URL: b.url, Identity: b.member.ID, Bus: b.bus})
	if err == nil {
		p.Close()
	}
	return err
}

// callWeb asks the API over HTTP in the name of another user each time.
func (b *bench) callWeb(ctx context.Context) error {
	id := b.others[0]
	b.others = append(b.others[1:], id)
	p := attack.Peer{ID: id, Bus: b.bus}
	token, err := p.APIToken()
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.web+"/bus", nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	answer.Body.Close()
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("over HTTP: %s", answer.Status)
	}
	return err
}

// How long it is from the begin of one call to that of the next: the member does not flood.
const (
	often  = 5 * time.Millisecond
	seldom = 50 * time.Millisecond
)

// repeat does f again and again until ctx ends, and returns how long each time took. One that fails is
// told of, and took as long as it took.
func repeat(ctx context.Context, every time.Duration, f func(context.Context) error) (took []time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		begun := time.Now()
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		err := f(one)
		cancel()
		took = append(took, time.Since(begun))
		if err != nil {
			log.Printf("the member met: %v", err)
		}
		select {
		case <-ctx.Done():
			return took
		case <-t.C:
		}
	}
}

func at(took []time.Duration, percent int) time.Duration {
	slices.Sort(took)
	return took[len(took)*percent/100]
}
