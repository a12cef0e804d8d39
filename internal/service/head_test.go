package service

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// TestSeen: a bus log in NATS servers that lost its end, and with it a revocation, is not served from again, until a
// person has removed what was noted.
func TestSeen(t *testing.T) {
	bob, err := crypto.NewIdentity([32]byte{'b'})
	if err != nil {
		t.Fatal(err)
	}
	o := inFolder(t)
	o.Store = JetStream
	state, kept, before := t.TempDir(), filepath.Join(o.Dir, "jetstream"), filepath.Join(t.TempDir(), "before")
	serve := func(seq uint64, change func(c *unibus.Client) error) {
		t.Helper()
		n, err := StartNode(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Stop()
		c, err := unibus.Connect(t.Context(), unibus.Options{Identity: o.Identity, StateDir: state, Server: n.URL()})
		if err == nil {
			err = errors.Join(change(c), c.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "how far the log was seen", func() bool { // it is noted a moment after
			head, err := n.seen.read()
			return err == nil && head.Seq == seq
		})
	}
	serve(2, func(c *unibus.Client) error {
		return c.AddUsers(t.Context(), unibus.NewUser{Key: bob.Key(), Name: "bob"})
	})
	if err := os.CopyFS(before, os.DirFS(kept)); err != nil {
		t.Fatal(err)
	}
	serve(3, func(c *unibus.Client) error { return c.RevokeUsers(t.Context(), "", bob.Key()) })
	if err := errors.Join(os.RemoveAll(kept), os.Rename(before, kept)); err != nil {
		t.Fatal(err)
	}
	if err := o.checkHeld(t.Context()); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("that it holds less than it did is not noticed: %v", err)
	}
	if err := os.Remove(filepath.Join(o.Dir, heldFile)); err != nil { // how far the log was seen counts by itself
		t.Fatal(err)
	}
	if n, err := StartNode(t.Context(), o); !errors.Is(err, store.ErrDamaged) {
		n.Stop()
		t.Fatalf("it is served: %v", err)
	}
	file := filepath.Join(o.Dir, headFile)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)-2] ^= 1
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := StartNode(t.Context(), o); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("what was noted is damaged, and it is served: %v", err)
		n.Stop()
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	n, err := StartNode(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	n.Stop()
}

// TestShortLog: a bus log that lost its last entry, when how far it was seen was noted before that, is not served either;
// with nothing noted it is, and whom the lost entry revoked stays out.
func TestShortLog(t *testing.T) {
	bob, err := crypto.NewIdentity([32]byte{'b'})
	if err != nil {
		t.Fatal(err)
	}
	o := inFolder(t)
	o.Store = JetStream
	n, err := StartNode(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { n.Stop() }()
	as := func(id *crypto.Identity) unibus.Options {
		return unibus.Options{Identity: id, StateDir: t.TempDir(), Server: n.URL()}
	}
	c, err := unibus.Connect(t.Context(), as(o.Identity))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddUsers(t.Context(), unibus.NewUser{Key: bob.Key(), Name: "bob"}); err != nil {
		t.Fatal(err)
	}
	file, earlier := filepath.Join(o.Dir, headFile), []byte(nil)
	eventually(t, "how far the log was seen", func() bool {
		head, err := n.seen.read()
		earlier, _ = os.ReadFile(file)
		return err == nil && head.Seq == 2
	})
	js, err := jetstream.New(n.Links().Store)
	if err != nil {
		t.Fatal(err)
	}
	log, err := js.Stream(t.Context(), "KV_unibus_log")
	if err != nil {
		t.Fatal(err)
	}
	third := jetstream.WithPurgeSubject("$KV.unibus_log." + n.Bus.String() + ".3")
	if err := errors.Join(c.RevokeUsers(t.Context(), "", bob.Key()), c.Close()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the revocation", func() bool {
		head, err := n.seen.read()
		return err == nil && head.Seq == 3
	})
	if err := log.Purge(t.Context(), third); err != nil {
		t.Fatal(err)
	}
	if err := n.seen.still(t.Context(), n.store); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("the running service finds nothing: %v", err)
	}
	if c, err := unibus.Connect(t.Context(), as(o.Identity)); !errors.Is(err, unibus.ErrIntegrity) {
		if _, err = c.BusLog(t.Context()); !errors.Is(err, unibus.ErrIntegrity) {
			t.Errorf("a newcomer is given the log without its end: %v", err)
		}
		c.Close()
	}
	n.Stop()
	if err := os.WriteFile(file, earlier, 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := StartNode(t.Context(), o); !errors.Is(err, store.ErrShort) {
		again.Stop()
		t.Fatalf("it is served: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if n, err = StartNode(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if c, err := unibus.Connect(t.Context(), as(bob)); !errors.Is(err, unibus.ErrDenied) {
		t.Errorf("bob is in: %v", err)
		c.Close()
	}
}
