package cli

import (
	"bytes"
	"compress/gzip"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/service"
)

// opticks is Isaac Newton's Opticks, in the public domain: something real to send.
//
//go:embed demo/opticks.txt.gz
var opticks []byte

func (a *app) demoCmd() *cobra.Command {
	var input string
	c := &cobra.Command{
		Use: "demo", Short: "Show the whole story on this machine, checking every step", Args: cobra.NoArgs,
		Long: "Found a bus in a temporary directory, allowlist alice and bob, make an encrypted room, send a\nbook through it, look at what the server kept of it, and revoke bob. Every step is checked; it\nends with 0 only if all went as told.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			lines, err := demoInput(input)
			if err != nil {
				return err
			}
			dir, err := os.MkdirTemp("", "unibus-demo-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			d := &demo{a: a, ctx: cmd.Context(), dir: dir, lines: lines, facts: map[string]any{}, keys: map[string]*unibus.Identity{}}
			defer d.close()
			return d.run()
		},
	}
	c.Flags().StringVar(&input, "input", "", "send the lines of `FILE` instead of a book")
	return c
}

func demoInput(file string) ([][]byte, error) {
	var in io.Reader
	if file != "" {
		f, err := os.Open(file)
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("--input: %w: there is no file %s", unibus.ErrNotFound, file)
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	} else {
		z, err := gzip.NewReader(bytes.NewReader(opticks))
		if err != nil {
			return nil, err
		}
		in = z
	}
	var lines [][]byte
	f := pubFlags{}
	_, err := f.messages(in, func(body []byte) error {
		lines = append(lines, bytes.Clone(body))
		return nil
	})
	if err == nil && len(lines) == 0 {
		err = usage("--input %s: it has no lines", file)
	}
	return lines, err
}

// demo is one run of the story. Its steps build on one another.
type demo struct {
	a     *app
	ctx   context.Context
	dir   string
	lines [][]byte
	facts map[string]any // what was measured

	node         *service.Node
	alice, bob   *unibus.Client
	keys         map[string]*unibus.Identity
	room, theirs *unibus.Room // alice's and bob's view of it
	got          [][]byte
}

func (d *demo) close() {
	for _, c := range []*unibus.Client{d.alice, d.bob} {
		if c != nil {
			_ = c.Close() // what it sent was acknowledged, or the demo failed already
		}
	}
	if d.node != nil {
		d.node.Stop()
	}
}

// failed is a step that did not go as told.
func failed(format string, args ...any) error { return fmt.Errorf("demo: "+format, args...) }

func (d *demo) run() error {
	out := d.a.out
	if !out.json {
		fmt.Fprintln(out, "unibus demo: two people, one bus, one private room, a server that is not trusted")
		fmt.Fprintln(out)
	}
	steps := []struct {
		name string
		do   func() (string, error)
	}{
		{"found a bus", d.found},
		{"allowlist alice and bob", d.allow},
		{"make an encrypted, stored room", d.create},
		{"invite bob", d.invite},
		{"send lines from alice", d.send},
		{"read them as bob", d.receive},
		{"search the server's files for them", d.search},
		{"renew the room's key", d.rekey},
		{"revoke bob, who is connected", d.revoke},
		{"turn bob away at the door", d.refuse},
		{"shut bob out of what comes after", d.shutOut},
		{"verify both logs", d.verify},
	}
	for i, s := range steps {
		began := time.Now()
		detail, err := s.do()
		if err != nil {
			return fmt.Errorf("step %d, %s: %w", i+1, s.name, err)
		}
		if d.ctx.Err() != nil {
			return d.ctx.Err()
		}
		d.tell(s.name, detail, time.Since(began))
	}
	d.facts["steps"], d.facts["passed"] = len(steps), true
	return out.value(d.facts, func() {
		fmt.Fprintf(out, "\nall %d checks passed: %s lines, %s\nsent and acknowledged in %s, %s lines/s; read in %s, %s lines/s\n",
			len(steps), humanize.Comma(int64(len(d.lines))), humanize.Bytes(d.facts["bytes"].(uint64)),
			d.facts["send"], humanize.Comma(d.facts["send_rate"].(int64)), d.facts["read"], humanize.Comma(d.facts["read_rate"].(int64)))
	})
}

// tell prints a step that is done.
func (d *demo) tell(name, detail string, took time.Duration) {
	out := d.a.out
	if out.json {
		return
	}
	mark := "✓"
	if !out.plain {
		mark = text.FgGreen.Sprint(mark)
	}
	first, rest, _ := strings.Cut(detail, "\n")
	fmt.Fprintf(out, " %s %-35s %s\n", mark, name, first)
	for line := range strings.Lines(rest) {
		fmt.Fprint(out, "     ", line)
	}
	if rest != "" {
		fmt.Fprintln(out)
	}
	out.Flush()
}

func (d *demo) connect(name string) (*unibus.Client, error) {
	return unibus.Connect(d.ctx, unibus.Options{
		Identity: d.keys[name], Name: name, StateDir: filepath.Join(d.dir, name), Server: d.node.URL(),
	})
}

func (d *demo) found() (string, error) {
	for _, name := range []string{"operator", "alice", "bob"} {
		id, err := unibus.NewIdentity()
		if err != nil {
			return "", err
		}
		d.keys[name] = id
	}
	var err error
	d.node, err = service.StartNode(d.ctx, service.NodeOptions{
		Listen: "127.0.0.1:0", Dir: filepath.Join(d.dir, "server"), Identity: d.keys["operator"], Founder: "operator",
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return "", err
	}
	if !d.node.Founded {
		return "", failed("the bus was not founded")
	}
	return d.node.URL(), nil
}

func (d *demo) allow() (string, error) {
	if _, err := d.connect("alice"); !errors.Is(err, unibus.ErrDenied) {
		return "", failed("alice got in before being allowlisted (%v)", err)
	}
	operator, err := d.connect("operator")
	if err != nil {
		return "", err
	}
	defer operator.Close()
	err = operator.AddUsers(d.ctx, unibus.NewUser{Key: d.keys["alice"].Key(), Name: "alice"}, unibus.NewUser{Key: d.keys["bob"].Key(), Name: "bob"})
	if err != nil {
		return "", err
	}
	if d.alice, err = d.connect("alice"); err != nil {
		return "", err
	}
	d.bob, err = d.connect("bob")
	return "before that alice was refused", err
}

func (d *demo) create() (string, error) {
	var err error
	if d.room, err = d.alice.CreateRoom(d.ctx, "demo.opticks", unibus.DefaultPolicy()); err != nil {
		return "", err
	}
	if _, err := d.bob.Room(d.ctx, "demo.opticks"); !errors.Is(err, unibus.ErrNotFound) {
		return "", failed("bob sees a room that he is not in (%v)", err)
	}
	return "demo.opticks, which to bob does not exist", nil
}

func (d *demo) invite() (string, error) {
	if err := d.room.Invite(d.ctx, unibus.RoleMember, d.bob.Key()); err != nil {
		return "", err
	}
	refs, err := d.bob.ListMyRooms(d.ctx)
	if err != nil {
		return "", err
	}
	if len(refs) != 1 || refs[0].Role != unibus.RoleMember {
		return "", failed("bob's rooms are %v", refs)
	}
	d.theirs, err = d.bob.Room(d.ctx, refs[0].ID.String())
	return "he finds it in his list", err
}

func (d *demo) send() (string, error) {
	began := time.Now()
	p, err := d.room.Publisher(d.ctx)
	if err != nil {
		return "", err
	}
	size := uint64(0)
	for _, line := range d.lines {
		size += uint64(len(line)) + 1
		if err := p.Publish(line); err != nil {
			return "", err
		}
	}
	if err := p.Close(d.ctx); err != nil {
		return "", err
	}
	if p.Acked() != uint64(len(d.lines)) {
		return "", failed("%d of %d lines acknowledged", p.Acked(), len(d.lines))
	}
	d.measure("send", time.Since(began))
	d.facts["lines"], d.facts["bytes"] = len(d.lines), size
	return fmt.Sprintf("%s lines, %s, all acknowledged", humanize.Comma(int64(len(d.lines))), humanize.Bytes(size)), nil
}

func (d *demo) measure(what string, took time.Duration) {
	d.facts[what] = took.Round(100 * time.Microsecond).String()
	d.facts[what+"_rate"] = int64(float64(len(d.lines)) / took.Seconds())
}

func (d *demo) receive() (string, error) {
	began := time.Now()
	s, err := d.theirs.Subscribe(d.ctx, unibus.SubscribeOptions{All: true, End: true})
	if err != nil {
		return "", err
	}
	for m, err := range s.Messages() {
		if err != nil {
			return "", err
		}
		d.got = append(d.got, m.Body)
	}
	d.measure("read", time.Since(began))
	if len(d.got) != len(d.lines) {
		return "", failed("bob read %d lines of %d", len(d.got), len(d.lines))
	}
	for i := range d.lines {
		if !bytes.Equal(d.lines[i], d.got[i]) {
			return "", failed("line %d differs", i+1)
		}
	}
	return "the same lines in the same order", nil
}

// search looks through everything the server wrote, byte by byte, and shows a piece of it.
func (d *demo) search() (string, error) {
	seen := map[string]bool{}
	for _, line := range d.lines {
		if len(line) >= 24 { // shorter ones could be found by chance
			seen[string(line[:24])] = true
		}
	}
	var files int
	var size uint64
	var stored []byte
	err := filepath.WalkDir(filepath.Join(d.dir, "server"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil // a temporary file of the server's
		}
		if err != nil {
			return err
		}
		files++
		size += uint64(len(raw))
		for i := 0; i+24 <= len(raw); i++ {
			if seen[string(raw[i:i+24])] {
				return failed("line %q lies open in %s", raw[i:i+24], filepath.Base(path))
			}
		}
		if i := bytes.Index(raw, []byte("ub1\x01")); i >= 0 && len(raw) > i+84+80 && stored == nil {
			stored = raw[i+84:]
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	if stored == nil {
		return "", failed("the server stored no frame")
	}
	return fmt.Sprintf("%s in %d files: not one of them\n%s", humanize.Bytes(size), files, d.sideBySide(stored)), nil
}

// sideBySide shows the first bytes the server stored beside what bob read.
func (d *demo) sideBySide(stored []byte) string {
	const rows, width = 5, 8
	var b strings.Builder
	fmt.Fprintf(&b, "%-26s %s\n", "the server stored", "bob read")
	shown := 0
	for _, line := range d.got {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%-26s %s\n", fmt.Sprintf("% x", stored[shown*width:(shown+1)*width]), text.Trim(visible(string(line)), 44))
		if shown++; shown == rows {
			break
		}
	}
	return b.String()
}

func (d *demo) rekey() (string, error) {
	before := d.room.Info().Epoch
	if err := d.room.Rekey(d.ctx); err != nil {
		return "", err
	}
	if err := d.theirs.Refresh(d.ctx); err != nil {
		return "", err
	}
	after := d.theirs.Info().Epoch
	held, err := d.theirs.HoldsKey(d.ctx)
	if err != nil {
		return "", err
	}
	if after != before+1 || !held {
		return "", failed("epoch %d after %d; bob holds its key: %v", after, before, held)
	}
	return fmt.Sprintf("epoch %d, and bob was handed its key", after), nil
}

func (d *demo) revoke() (string, error) {
	live, err := d.theirs.Subscribe(d.ctx, unibus.SubscribeOptions{})
	if err != nil {
		return "", err
	}
	defer live.Close()
	operator, err := d.connect("operator")
	if err != nil {
		return "", err
	}
	defer operator.Close()
	if err := operator.RevokeUsers(d.ctx, "the demo's end", d.bob.Key()); err != nil {
		return "", err
	}
	began := time.Now()
	guard := time.AfterFunc(5*time.Second, func() { _ = live.Close() }) // else a failure here would hang
	defer guard.Stop()
	var ended error
	for _, err := range live.Messages() {
		ended = err
	}
	if !errors.Is(ended, unibus.ErrDenied) {
		return "", failed("bob's subscription ended with: %v", ended)
	}
	took := time.Since(began)
	d.facts["revoke_drop"] = took.Round(time.Millisecond).String()
	return fmt.Sprintf("his subscription ended %d ms later", took.Milliseconds()), nil
}

func (d *demo) refuse() (string, error) {
	c, err := d.connect("bob")
	if !errors.Is(err, unibus.ErrDenied) {
		if c != nil {
			_ = c.Close()
		}
		return "", failed("bob was not refused (%v)", err)
	}
	return "not on the allowlist (any more)", nil
}

// shutOut lets alice publish, which renews the key of a room that a revoked member still holds, and
// then gives bob the server's own files.
func (d *demo) shutOut() (string, error) {
	if _, err := d.alice.BusLog(d.ctx); err != nil { // a process that starts now would look, too
		return "", err
	}
	before := d.room.Info().Epoch
	if err := d.room.PublishOnce(d.ctx, []byte("for alice's eyes only")); err != nil {
		return "", err
	}
	info := d.room.Info()
	if info.Epoch != before+1 || info.Members != 1 {
		return "", failed("epoch %d and %d members after alice's next message", info.Epoch, info.Members)
	}
	thief, err := unibus.Connect(d.ctx, unibus.Options{
		Identity: d.keys["bob"], StateDir: filepath.Join(d.dir, "thief"), Store: "sqlite:" + filepath.Join(d.dir, "server", "unibus.db"),
	})
	if err != nil {
		return "", err
	}
	defer thief.Close()
	room, err := thief.Room(d.ctx, info.ID.String())
	if err != nil {
		return "", err
	}
	held, err := room.HoldsKey(d.ctx)
	if err != nil {
		return "", err
	}
	if held {
		return "", failed("bob can open epoch %d", info.Epoch)
	}
	return fmt.Sprintf("no key of epoch %d for him on the server", info.Epoch), nil
}

func (d *demo) verify() (string, error) {
	bus, err := d.alice.BusLog(d.ctx)
	if err != nil {
		return "", err
	}
	room, err := d.room.Log(d.ctx)
	if err != nil {
		return "", err
	}
	last := room[len(room)-1]
	if len(bus) != 3 || last.Op != "remove" {
		return "", failed("the bus log has %d entries, and the room's ends with %s", len(bus), last.Op)
	}
	return fmt.Sprintf("bus %d and room %d entries, all of them", len(bus), len(room)), nil
}
