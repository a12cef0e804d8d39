//go:build linux

// Command partition starts three servers in network namespaces that are one bus, lets admins and peers
// work on it while the leader is parted from the others and joined again, and checks what they saw
// with porcupine: the allowlist is linearizable, nobody is let in after a revocation was acknowledged,
// and no acknowledged change or message is lost. It needs root, and prints what it did as it goes.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/test/run"
)

const (
	nodes   = 3
	timeout = 4 * time.Second
)

var (
	binary  = flag.String("unibus", "bin/unibus", "the program under test")
	admins  = flag.Int("admins", 20, "people who allow and revoke users")
	peers   = flag.Int("peers", 40, "users who are allowed and revoked, and log in")
	writers = flag.Int("writers", 10, "peers who publish")
	verbose = flag.Bool("v", false, "show what the servers say")
	calm    = flag.Duration("calm", 10*time.Second, "before the partition, and after it")
	parted  = flag.Duration("parted", 20*time.Second, "how long the leader is parted from the others")
)

func main() {
	flag.Parse()
	run.Main(partition)
}

func partition(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "unibus-partition-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	w := &world{dir: dir}
	defer w.down()
	if err := w.up(ctx); err != nil {
		return err
	}
	if err := w.people(ctx); err != nil {
		return err
	}
	leader, err := w.leader(ctx)
	if err != nil {
		return err
	}
	load, cancel := context.WithCancel(ctx)
	defer cancel()
	var wait sync.WaitGroup
	w.load(load, &wait)
	run.Pause(ctx, *calm)
	w.tell("before the partition")
	log.Printf("parting n%d, which leads the log, from the others; clients still reach it", leader)
	if err := sh("ip link set ub%dr down", leader); err != nil {
		return err
	}
	run.Pause(ctx, *parted)
	w.tell("in the partition")
	log.Printf("joining n%d again", leader)
	if err := sh("ip link set ub%dr up", leader); err != nil {
		return err
	}
	run.Pause(ctx, *calm)
	cancel()
	wait.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return w.judge(ctx)
}

// sh runs a command.
func sh(format string, args ...any) error {
	line := strings.Fields(fmt.Sprintf(format, args...))
	out, err := exec.Command(line[0], line[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(line, " "), err, out)
	}
	return nil
}

// world is the servers and everyone on them.
type world struct {
	dir     string
	servers []*exec.Cmd
	root    *unibus.Identity // founded the bus
	bus     unibus.ID
	founder *unibus.Client
	admins  []*unibus.Client
	users   []*unibus.Identity
	writers []*unibus.Client

	mu      sync.Mutex
	history []porcupine.Operation
	sent    [][]string // acknowledged messages, by writer
	counts  struct{ granted, denied, unanswered, changed, refused, lost, unknown atomic.Int64 }
}

func server(i int) string { return fmt.Sprintf("nats://10.99.0.%d:4222", i) }

// up makes three hosts with two networks, one between the servers and one for clients, and a server on
// each.
func (w *world) up(ctx context.Context) error {
	w.clear()
	for _, bridge := range []string{"ubr", "ubc"} {
		if err := errors.Join(sh("ip link add %s type bridge", bridge), sh("ip link set %s up", bridge)); err != nil {
			return err
		}
	}
	if err := sh("ip addr add 10.99.0.254/24 dev ubc"); err != nil {
		return err
	}
	var err error
	if w.root, err = unibus.NewIdentity(); err != nil {
		return err
	}
	identity := filepath.Join(w.dir, "root.nk")
	if err := unibus.SaveIdentity(identity, w.root, "root"); err != nil {
		return err
	}
	keys := filepath.Join(w.dir, "service.nk")
	if _, _, err := bus.LoadOrMakeKeys(keys); err != nil {
		return err
	}
	var waits []func() (string, error)
	for i := 1; i <= nodes; i++ {
		if err := host(i); err != nil {
			return err
		}
		var routes []string
		for j := 1; j <= nodes; j++ {
			if j != i {
				routes = append(routes, fmt.Sprintf("10.98.0.%d:6222", j))
			}
		}
		cmd := exec.CommandContext(ctx, "ip", "netns", "exec", fmt.Sprintf("ub%d", i), *binary, "serve", "-q",
			"--identity", identity, "--keys", keys, "--data", filepath.Join(w.dir, fmt.Sprint(i)), "--server-name", fmt.Sprintf("n%d", i),
			"--listen", fmt.Sprintf("10.99.0.%d:4222", i), "--cluster-name", "c", "--cluster-listen", fmt.Sprintf("10.98.0.%d:6222", i), "--routes", strings.Join(routes, ","))
		if *verbose {
			cmd.Stderr = os.Stderr
		}
		ready, err := run.Serve(cmd)
		if err != nil {
			return err
		}
		w.servers = append(w.servers, cmd)
		waits = append(waits, ready)
	}
	for i, ready := range waits { // none is before most are there
		line, err := ready()
		if err != nil {
			return err
		}
		log.Printf("n%d: %s", i+1, line)
	}
	return nil
}

// host makes a namespace with a leg in each network.
func host(i int) error {
	ns := fmt.Sprintf("ub%d", i)
	if err := errors.Join(sh("ip netns add %s", ns), sh("ip -n %s link set lo up", ns)); err != nil {
		return err
	}
	for _, net := range []struct{ leg, bridge, addr string }{{"r", "ubr", "10.98.0"}, {"c", "ubc", "10.99.0"}} {
		leg := ns + net.leg
		err := errors.Join(
			sh("ip link add %s type veth peer name %si netns %s", leg, leg, ns),
			sh("ip link set %s master %s up", leg, net.bridge),
			sh("ip -n %s addr add %s.%d/24 dev %si", ns, net.addr, i, leg),
			sh("ip -n %s link set %si up", ns, leg))
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *world) clear() {
	for i := 1; i <= nodes; i++ {
		_ = sh("ip netns del ub%d", i) // what is not there need not go
	}
	_ = sh("ip link del ubr")
	_ = sh("ip link del ubc")
}

func (w *world) down() {
	for _, c := range append(append([]*unibus.Client{}, w.admins...), w.writers...) {
		c.Close()
	}
	for _, s := range w.servers {
		_ = s.Process.Signal(os.Interrupt)
	}
	for _, s := range w.servers {
		_ = s.Wait()
	}
	w.clear()
}

// connect connects an identity by way of one server.
func (w *world) connect(ctx context.Context, id *unibus.Identity, i int) (*unibus.Client, error) {
	return unibus.Connect(ctx, unibus.Options{Identity: id, StateDir: filepath.Join(w.dir, "state"), Server: server(i), Timeout: timeout})
}

// people puts everyone on the allowlist, and the writers into a room.
func (w *world) people(ctx context.Context) error {
	var err error
	if w.founder, err = w.connect(ctx, w.root, 1); err != nil {
		return err
	}
	w.bus = w.founder.Bus()
	fresh := func(n int, name string, admin bool) (ids []*unibus.Identity, err error) {
		for i := range n {
			id, err := unibus.NewIdentity()
			if err != nil {
				return nil, err
			}
			u := unibus.NewUser{Key: id.Key(), Name: fmt.Sprintf("%s%d", name, i), Admin: admin}
			if err := w.founder.AddUsers(ctx, u); err != nil {
				return nil, err
			}
			ids = append(ids, id)
		}
		return ids, nil
	}
	ids, err := fresh(*admins, "admin", true)
	if err != nil {
		return err
	}
	if w.admins, err = w.connectAll(ctx, ids); err != nil {
		return err
	}
	if w.users, err = fresh(*peers, "peer", false); err != nil {
		return err
	}
	if ids, err = fresh(*writers, "writer", false); err != nil {
		return err
	}
	room, err := w.founder.CreateRoom(ctx, "messages", unibus.DefaultPolicy())
	if err != nil {
		return err
	}
	if w.writers, err = w.connectAll(ctx, ids); err != nil {
		return err
	}
	w.sent = make([][]string, len(ids))
	for _, id := range ids {
		if err := room.Invite(ctx, unibus.RoleMember, id.Key()); err != nil {
			return err
		}
	}
	return nil
}

// connectAll connects people by way of one server after the other.
func (w *world) connectAll(ctx context.Context, ids []*unibus.Identity) (out []*unibus.Client, err error) {
	for i, id := range ids {
		c, err := w.connect(ctx, id, i%nodes+1)
		if err != nil {
			return out, err
		}
		out = append(out, c)
	}
	return out, nil
}

// leader is the server that leads the log.
func (w *world) leader(ctx context.Context) (n int, err error) {
	keys, err := bus.LoadKeys(filepath.Join(w.dir, "service.nk"))
	if err != nil {
		return 0, err
	}
	nc, err := bus.Operator(bus.DialOptions{Servers: server(1), Keys: keys, Timeout: timeout})
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return 0, err
	}
	s, err := js.Stream(ctx, "KV_unibus_log")
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscanf(s.CachedInfo().Cluster.Leader, "n%d", &n)
	return n, err
}

// The operations on one user of the allowlist.
const (
	opAdd = iota
	opRevoke
	opLogin
)

// Their outcomes.
const (
	done    = iota // it happened; a login was granted
	refused        // the rules forbid it: the user is active already, or is not; a login was denied
	unknown        // it may have happened, now or later
)

type input struct {
	user int
	op   int
}

// record notes an operation for the judge.
func (w *world) record(client int, in input, outcome int, began, ended time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := porcupine.Operation{ClientId: client, Input: in, Output: outcome, Call: began.UnixNano(), Return: ended.UnixNano()}
	if outcome == unknown {
		o.Return = 1<<62 - 1
	}
	w.history = append(w.history, o)
}

func (w *world) load(ctx context.Context, wait *sync.WaitGroup) {
	for i, c := range w.admins {
		wait.Go(func() { w.administer(ctx, i, c) })
	}
	for i, id := range w.users {
		wait.Go(func() { w.logIn(ctx, i, id) })
	}
	for i, c := range w.writers {
		wait.Go(func() { w.write(ctx, i, c) })
	}
}

// administer allows and revokes users at random.
func (w *world) administer(ctx context.Context, i int, c *unibus.Client) {
	for ctx.Err() == nil {
		in := input{user: rand.IntN(len(w.users)), op: rand.IntN(2)}
		key := w.users[in.user].Key()
		op, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*timeout)
		began := time.Now()
		var err error
		if in.op == opAdd {
			err = c.AddUsers(op, unibus.NewUser{Key: key, Name: fmt.Sprintf("peer%d", in.user)})
		} else {
			err = c.RevokeUsers(op, "", key)
		}
		cancel()
		ended := time.Now()
		switch {
		case err == nil:
			w.record(i, in, done, began, ended)
			w.counts.changed.Add(1)
		case errors.Is(err, unibus.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
			w.record(i, in, unknown, began, ended)
			w.counts.unknown.Add(1)
		case errors.Is(err, unibus.ErrConflict): // others were quicker, every time: it did not happen
			w.counts.lost.Add(1)
		case errors.Is(err, unibus.ErrIntegrity), errors.Is(err, unibus.ErrDenied):
			log.Printf("admin %d: %v", i, err)
			w.record(i, in, -1, began, ended)
		default: // a rule
			w.record(i, in, refused, began, ended)
			w.counts.refused.Add(1)
		}
		run.Pause(ctx, time.Duration(200+rand.IntN(1000))*time.Millisecond)
	}
}

// logIn logs a user in by way of one server after the other.
func (w *world) logIn(ctx context.Context, i int, id *unibus.Identity) {
	for n := i; ctx.Err() == nil; n++ {
		began := time.Now()
		c, err := bus.Dial(bus.DialOptions{Servers: server(n%nodes + 1), Identity: id, Bus: w.bus, Timeout: timeout})
		ended := time.Now()
		switch {
		case err == nil:
			c.Close()
			w.record(1000+i, input{i, opLogin}, done, began, ended)
			w.counts.granted.Add(1)
		case errors.Is(err, unibus.ErrDenied):
			w.record(1000+i, input{i, opLogin}, refused, began, ended)
			w.counts.denied.Add(1)
		default:
			w.counts.unanswered.Add(1)
		}
		run.Pause(ctx, time.Duration(400+rand.IntN(400))*time.Millisecond)
	}
}

// write publishes numbered messages, and notes those that were acknowledged.
func (w *world) write(ctx context.Context, i int, c *unibus.Client) {
	room, err := c.Room(ctx, "messages")
	for n := 0; ctx.Err() == nil; n++ {
		text := fmt.Sprintf("%d %d", i, n)
		if err == nil {
			op, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			err = room.Publish(op, []byte(text))
			cancel()
		}
		if err == nil {
			w.sent[i] = append(w.sent[i], text)
		} else {
			log.Printf("writer %d: %v", i, err)
			room, err = c.Room(ctx, "messages")
		}
		run.Pause(ctx, 20*time.Millisecond)
	}
}

// tell says what has happened so far.
func (w *world) tell(when string) {
	c := &w.counts
	log.Printf("%s: %d changes, %d refused, %d lost races, %d unknown; logins: %d granted, %d denied, %d unanswered",
		when, c.changed.Load(), c.refused.Load(), c.lost.Load(), c.unknown.Load(), c.granted.Load(), c.denied.Load(), c.unanswered.Load())
}

// judge checks what was seen.
func (w *world) judge(ctx context.Context) error {
	w.tell("at the end")
	if err := w.last(ctx); err != nil {
		return err
	}
	result := porcupine.CheckOperationsTimeout(model(), w.history, 5*time.Minute)
	log.Printf("porcupine: %d operations on %d users: %s", len(w.history), len(w.users), result)
	if result != porcupine.Ok {
		w.explain()
		return fmt.Errorf("the history is not linearizable: %s", result)
	}
	if err := w.lateGrants(); err != nil {
		return err
	}
	return w.messages(ctx)
}

// explain prints what was seen of a user whose history has no explanation.
func (w *world) explain() {
	m := model()
	for _, part := range m.Partition(w.history) {
		if porcupine.CheckOperations(m, part) {
			continue
		}
		slices.SortFunc(part, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
		first := part[0].Call
		for _, o := range part {
			fmt.Printf("%9.3fs to %9.3fs  %4d %-7s %s\n", time.Duration(o.Call-first).Seconds(), time.Duration(o.Return-first).Seconds(), o.ClientId,
				[]string{"allow", "revoke", "log in"}[o.Input.(input).op], map[int]string{done: "done", refused: "refused", unknown: "unknown", -1: "impossible"}[o.Output.(int)])
		}
		return
	}
}

// last reads, at the end, who is active, as the log has it and as servers let in.
func (w *world) last(ctx context.Context) error {
	for i, id := range w.users {
		began := time.Now()
		c, err := bus.Dial(bus.DialOptions{Servers: server(i%nodes + 1), Identity: id, Bus: w.bus, Timeout: timeout})
		switch {
		case err == nil:
			c.Close()
			w.record(5000, input{i, opLogin}, done, began, time.Now())
		case errors.Is(err, unibus.ErrDenied):
			w.record(5000, input{i, opLogin}, refused, began, time.Now())
		default:
			return fmt.Errorf("the bus has not recovered: %w", err)
		}
	}
	return nil
}

// lateGrants looks for what matters most by itself, without a model: a login that began after a
// revocation was acknowledged, with no allowing since, and was granted.
func (w *world) lateGrants() error {
	for _, r := range w.history {
		in := r.Input.(input)
		if in.op != opRevoke || r.Output != done {
			continue
		}
		allowed := int64(1<<62 - 1) // when somebody first tried to allow the user again
		for _, o := range w.history {
			if oi := o.Input.(input); oi.user == in.user && oi.op == opAdd && o.Return > r.Call {
				allowed = min(allowed, o.Call)
			}
		}
		for _, o := range w.history {
			if oi := o.Input.(input); oi.user == in.user && oi.op == opLogin && o.Output == done && o.Call > r.Return && o.Return < allowed {
				return fmt.Errorf("user %d was let in %v after the revocation was acknowledged", in.user, time.Duration(o.Call-r.Return))
			}
		}
	}
	log.Print("nobody was let in after an acknowledged revocation")
	return nil
}

// model is one user of the allowlist: active or not.
func model() porcupine.Model {
	return (&porcupine.NondeterministicModel{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			by := map[int][]porcupine.Operation{}
			for _, o := range history {
				user := o.Input.(input).user
				by[user] = append(by[user], o)
			}
			var out [][]porcupine.Operation
			for _, part := range by {
				out = append(out, part)
			}
			return out
		},
		Init: func() []any { return []any{true} },
		Step: func(state, in, out any) []any {
			active := state.(bool)
			outcome := out.(int)
			switch op := in.(input).op; {
			case outcome == -1:
				return nil
			case op == opLogin && (outcome == done) != active:
				return nil
			case op == opLogin:
				return []any{active}
			}
			after := in.(input).op == opAdd
			switch {
			case outcome == unknown && after != active:
				return []any{active, after}
			case outcome == done && after != active:
				return []any{after}
			case outcome != done && after == active:
				return []any{active}
			}
			return nil
		},
		Equal: func(a, b any) bool { return a == b },
	}).ToModel()
}

// messages reads the room from its start: every acknowledged message is there once, in its sender's
// order.
func (w *world) messages(ctx context.Context) error {
	room, err := w.founder.Room(ctx, "messages")
	if err != nil {
		return err
	}
	var findings []unibus.Notice
	sub, err := room.Subscribe(ctx, unibus.SubscribeOptions{All: true, End: true, Notice: func(n unibus.Notice) {
		if n.Finding {
			findings = append(findings, n)
		}
	}})
	if err != nil {
		return err
	}
	defer sub.Close()
	seen := map[string]int{}
	last := map[string]int{}
	for m, err := range sub.Messages() {
		if err != nil {
			return err
		}
		var writer, n int
		if _, err := fmt.Sscanf(string(m.Body), "%d %d", &writer, &n); err != nil {
			return err
		}
		seen[string(m.Body)]++
		if before, ok := last[m.Stream.String()]; ok && n <= before {
			return fmt.Errorf("message %s after %d", m.Body, before)
		}
		last[m.Stream.String()] = n
	}
	sent := 0
	for _, list := range w.sent {
		for _, text := range list {
			sent++
			if seen[text] != 1 {
				return fmt.Errorf("the acknowledged message %q is there %d times", text, seen[text])
			}
		}
	}
	if len(findings) > 0 {
		return fmt.Errorf("%d findings, the first: %v", len(findings), findings[0])
	}
	log.Printf("%d messages acknowledged, %d stored: each there once, in order", sent, len(seen))
	return nil
}
