package service

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// logbook is a node that keeps its bus in its own servers, the folder where it notes how far it has seen the bus log, and
// somebody who is to be revoked.
type logbook struct {
	t   *testing.T
	o   NodeOptions
	bob *crypto.Identity
}

func newLogbook(t *testing.T) *logbook {
	t.Helper()
	b := &logbook{t: t, o: inFolder(t), bob: person(t, 'b')}
	b.o.Store = JetStream
	return b
}

// file is where it is noted.
func (b *logbook) file() string { return filepath.Join(b.o.Dir, headFile) }

// start starts the node.
func (b *logbook) start() *Node {
	b.t.Helper()
	n, err := StartNode(b.t.Context(), b.o)
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// refused starts the node in vain, which says why.
func (b *logbook) refused(kind error, why string) {
	b.t.Helper()
	n, err := StartNode(b.t.Context(), b.o)
	if err == nil {
		n.Stop()
		b.t.Fatalf("it starts, and does not say that %s", why)
	}
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), why) {
		b.t.Fatalf("it ends with %v, and does not say that %s", err, why)
	}
}

// as connects someone with a state directory that is new.
func (b *logbook) as(n *Node, id *crypto.Identity) (*unibus.Client, error) {
	return unibus.Connect(b.t.Context(), unibus.Options{Identity: id, StateDir: b.t.TempDir(), Server: n.URL()})
}

// changes has the admin change the bus, of which the node has noted the log up to an entry when that is acknowledged.
func (b *logbook) changes(n *Node, seq uint64, change func(c *unibus.Client) error) {
	b.t.Helper()
	c, err := b.as(n, b.o.Identity)
	if err == nil {
		err = errors.Join(change(c), c.Close())
	}
	if err != nil {
		b.t.Fatal(err)
	}
	if head, err := n.seen.read(); err != nil || head.Seq != seq {
		b.t.Errorf("the log is noted up to entry %d, not %d: %v", head.Seq, seq, err)
	}
}

// adds puts bob on the allowlist, and revokes takes him off it again.
func (b *logbook) adds(n *Node) {
	b.t.Helper()
	b.changes(n, 2, func(c *unibus.Client) error {
		return c.AddUsers(b.t.Context(), unibus.NewUser{Key: b.bob.Key(), Name: "bob"})
	})
}

func (b *logbook) revokes(n *Node) {
	b.t.Helper()
	b.changes(n, 3, func(c *unibus.Client) error { return c.RevokeUsers(b.t.Context(), "", b.bob.Key()) })
}

// TestSeen: a bus log in NATS servers that lost its end, and with it a revocation, is not served from again, until a
// person has removed what was noted.
func TestSeen(t *testing.T) {
	b := newLogbook(t)
	kept, before := filepath.Join(b.o.Dir, "jetstream"), filepath.Join(t.TempDir(), "before")
	n := b.start()
	b.adds(n)
	n.Stop()
	if err := os.CopyFS(before, os.DirFS(kept)); err != nil {
		t.Fatal(err)
	}
	n = b.start()
	b.revokes(n)
	n.Stop()
	if err := errors.Join(os.RemoveAll(kept), os.Rename(before, kept)); err != nil {
		t.Fatal(err)
	}
	if err := b.o.checkHeld(t.Context()); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("that it holds less than it did is not noticed: %v", err)
	}
	if err := os.Remove(filepath.Join(b.o.Dir, heldFile)); err != nil { // how far the log was seen counts by itself
		t.Fatal(err)
	}
	b.refused(ErrLostEnd, "it ends at entry 2")
	text, err := os.ReadFile(b.file())
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)-2] ^= 1
	if err := os.WriteFile(b.file(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	b.refused(store.ErrDamaged, headFile+" is damaged")
	if err := os.Remove(b.file()); err != nil {
		t.Fatal(err)
	}
	b.start().Stop()
}

// loseEntry removes an entry from the bus log that a node's server keeps.
func loseEntry(t *testing.T, n *Node, seq int) {
	t.Helper()
	lose(t, n, "unibus_log", fmt.Sprintf("%s.%d", n.Bus, seq))
}

// TestShortLog: a bus log that lost its last entry, when how far it was seen was noted before that, is not served either;
// with nothing noted it is, and whom the lost entry revoked stays out.
func TestShortLog(t *testing.T) {
	b := newLogbook(t)
	n := b.start()
	b.adds(n)
	earlier, err := os.ReadFile(b.file())
	if err != nil {
		t.Fatal(err)
	}
	b.revokes(n)
	loseEntry(t, n, 3)
	if err := n.seen.hasLast(t.Context(), n.store); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("the running service finds nothing: %v", err)
	}
	if c, err := b.as(n, b.o.Identity); !errors.Is(err, unibus.ErrIntegrity) {
		if _, err = c.BusLog(t.Context()); !errors.Is(err, unibus.ErrIntegrity) {
			t.Errorf("a newcomer is given the log without its end: %v", err)
		}
		c.Close()
	}
	n.Stop()
	if err := os.WriteFile(b.file(), earlier, 0o600); err != nil {
		t.Fatal(err)
	}
	b.refused(store.ErrShort, "allowlist")
	if err := os.Remove(b.file()); err != nil {
		t.Fatal(err)
	}
	n = b.start()
	defer n.Stop()
	if c, err := b.as(n, b.bob); !errors.Is(err, unibus.ErrDenied) {
		t.Errorf("bob is in: %v", err)
		c.Close()
	}
}

// TestSeenHead: what was noted of another bus is nothing, and never fewer entries are noted than were.
func TestSeenHead(t *testing.T) {
	file := SeenFile(t.TempDir())
	s := &seen{file: file, bus: crypto.ID{1}}
	for _, step := range []struct {
		by     *seen
		record uint64
		want   uint64
	}{
		{s, 0, 0}, {s, 7, 7}, {s, 3, 7}, {s, 9, 9},
		{&seen{file: file, bus: crypto.ID{2}}, 0, 0}, // which has noted nothing yet
		{&seen{file: file, bus: crypto.ID{2}}, 4, 4},
		{s, 0, 0},
		{new(seen), 5, 0}, // it has no file to note anything in
	} {
		if err := step.by.record(ledger.Head{Seq: step.record}); err != nil {
			t.Fatal(err)
		}
		if head, err := step.by.read(); err != nil || head.Seq != step.want {
			t.Errorf("after entry %d: %d, %v, want %d", step.record, head.Seq, err, step.want)
		}
	}
	if err := os.WriteFile(file, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"noted over": s.record(ledger.Head{Seq: 99}), "gone on from": s.hasLast(t.Context(), nil)} {
		if !errors.Is(err, store.ErrDamaged) {
			t.Errorf("what is damaged is %s: %v", what, err)
		}
	}
}
