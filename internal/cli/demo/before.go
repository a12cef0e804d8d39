package demo

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/service"
)

// The steps while both are members: each returns what was found, or what was not as promised.

// found founds a bus with an identity that is nobody's but the operator's.
func (d *demo) found() (string, error) {
	for _, name := range []string{"operator", "alice", "bob"} {
		id, err := unibus.NewIdentity()
		if err != nil {
			return "", err
		}
		d.keys[name] = id
	}
	var err error
	// A node as serve starts it, on a port that is free; what it would log is not part of the story.
	d.node, err = service.StartNode(d.ctx, service.NodeOptions{
		Listen: "127.0.0.1:0", Dir: filepath.Join(d.dir, "server"), Identity: d.keys["operator"], Founder: "operator",
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return "", err
	}
	if !d.node.Founded {
		return "", mismatch("the bus was not founded")
	}
	return d.node.URL(), nil
}

// allow puts alice and bob on the allowlist, who were refused before.
func (d *demo) allow() (string, error) {
	// Before anything else: who is not on the allowlist does not get in, whatever identity they bring.
	if _, err := d.connect("alice"); !errors.Is(err, unibus.ErrDenied) {
		return "", mismatch("alice got in before being allowlisted (%v)", err)
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

// create makes the room, which does not exist for bob.
func (d *demo) create() (string, error) {
	var err error
	if d.room, err = d.alice.CreateRoom(d.ctx, "demo.opticks", unibus.DefaultPolicy()); err != nil {
		return "", err
	}
	// bob is on the bus, and not in the room: to him it is as if there were none.
	if _, err := d.bob.Room(d.ctx, "demo.opticks"); !errors.Is(err, unibus.ErrNotFound) {
		return "", mismatch("bob sees a room that he is not in (%v)", err)
	}
	return "demo.opticks, which to bob does not exist", nil
}

// invite lets bob in, who finds the room in his list.
func (d *demo) invite() (string, error) {
	if err := d.room.Invite(d.ctx, unibus.RoleMember, d.bob.Key()); err != nil {
		return "", err
	}
	// Nobody told bob: he finds the room as any client would.
	refs, err := d.bob.ListMyRooms(d.ctx)
	if err != nil {
		return "", err
	}
	if len(refs) != 1 || refs[0].Role != unibus.RoleMember {
		return "", mismatch("bob's rooms are %v", refs)
	}
	d.theirs, err = d.bob.Room(d.ctx, refs[0].ID.String())
	return "he finds it in his list", err
}

// send publishes every line as alice, and waits until all are acknowledged.
func (d *demo) send() (string, error) {
	began := time.Now()
	// As pub does it: many lines to a frame, and an end only when all are acknowledged.
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
		return "", mismatch("%d of %d lines acknowledged", p.Acked(), len(d.lines))
	}
	d.facts.Send, d.facts.SendRate = d.measure(began)
	d.facts.Lines, d.facts.Bytes = len(d.lines), size
	return fmt.Sprintf("%s lines, %s, all acknowledged", humanize.Comma(int64(len(d.lines))), humanize.Bytes(size)), nil
}

// measure is how long the lines took since a time, and how many that was a second.
func (d *demo) measure(began time.Time) (took string, rate int64) {
	passed := time.Since(began)
	return passed.Round(100 * time.Microsecond).String(), int64(float64(len(d.lines)) / passed.Seconds())
}

// receive reads every line as bob, and compares them.
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
	d.facts.Read, d.facts.ReadRate = d.measure(began)
	if len(d.got) != len(d.lines) {
		return "", mismatch("bob read %d lines of %d", len(d.got), len(d.lines))
	}
	for i := range d.lines {
		if !bytes.Equal(d.lines[i], d.got[i]) {
			return "", mismatch("line %d differs", i+1)
		}
	}
	return "the same lines in the same order", nil
}

// search looks through everything the server wrote, byte by byte, and shows a piece of it.
func (d *demo) search() (string, error) {
	// The beginning of a line is enough to find it by, and it is looked for at every byte of every file.
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
				return mismatch("line %q lies open in %s", raw[i:i+24], filepath.Base(path))
			}
		}
		// A frame begins with its magic and a header in clear (SPEC.md §6); what is shown are sealed bytes behind it.
		if i := bytes.Index(raw, []byte("ub1\x01")); i >= 0 && len(raw) > i+84+80 && stored == nil {
			stored = raw[i+84:]
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	if stored == nil {
		return "", mismatch("the server stored no frame")
	}
	return fmt.Sprintf("%s in %d files: not one of them\n%s", humanize.Bytes(size), files, d.sideBySide(stored)), nil
}

// sideBySide shows the first bytes the server stored beside what bob read.
func (d *demo) sideBySide(stored []byte) string {
	const rows, width = 5, 8
	var b strings.Builder
	fmt.Fprintf(&b, "%-26s %s\n", "the server stored", "bob read")
	// Empty lines would show nothing beside the bytes.
	shown := 0
	for _, line := range d.got {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%-26s %s\n", fmt.Sprintf("% x", stored[shown*width:(shown+1)*width]), text.Trim(d.visible(string(line)), 44))
		if shown++; shown == rows {
			break
		}
	}
	return b.String()
}
