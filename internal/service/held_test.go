package service

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/storetest"
)

// heldNode is a node that has stopped, with what its server kept of the bus log: file, good, and where in it the second
// record of a barrier begins, which has others behind it.
func heldNode(t *testing.T) (o NodeOptions, file string, good []byte, at int) {
	t.Helper()
	o, n := inServers(t)
	for range 20 { // barriers, of which only the last counts
		if _, err := n.store.Bus(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	n.Stop()
	file = filepath.Join(o.Dir, "jetstream", "jetstream", bus.AccountStore, "streams", "KV_unibus_log", "msgs", "1.blk")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	barrier := []byte("$KV.unibus_log._barrier")
	at = bytes.Index(good, barrier)
	return o, file, good, at + 1 + bytes.Index(good[at+1:], barrier) - 22
}

// TestHeld: a node does not start its server on files that have lost some of the store, or over which it would hang.
func TestHeld(t *testing.T) {
	o, file, good, at := heldNode(t)
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		says   string
	}{
		"a length":       {func(b []byte) []byte { b[at] ^= 0x10; return b }, "hang over"},
		"a long length":  {func(b []byte) []byte { b[at+2] ^= 0x10; return b }, "hang over"},
		"a place":        {func(b []byte) []byte { b[at+10] ^= 1; return b }, "hang over"},
		"its beginning":  {func(b []byte) []byte { return b[at+int(binary.LittleEndian.Uint32(b[at:])):] }, ""},
		"half of it":     {func(b []byte) []byte { return b[len(b)/2:] }, "KV_unibus_log"},
		"all of it":      {func([]byte) []byte { return nil }, "has lost some"},
		"the log itself": {func(b []byte) []byte { return bytes.Replace(b, []byte(".1"), []byte(".2"), 1) }, "has lost some"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, c.change(bytes.Clone(good)), 0o600); err != nil {
				t.Fatal(err)
			}
			err := o.checkHeld(t.Context())
			if c.says == "" {
				if err != nil {
					t.Errorf("what nobody misses: %v", err)
				}
				return
			}
			if !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
			n, err := StartNode(t.Context(), o)
			if err == nil {
				n.Stop()
			}
			if !errors.Is(err, store.ErrDamaged) {
				t.Errorf("it starts, or fails with %v", err)
			}
		})
	}
	t.Run("whole again", func(t *testing.T) {
		if err := os.WriteFile(file, good, 0o600); err != nil {
			t.Fatal(err)
		}
		n, err := StartNode(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		n.Stop()
	})
	t.Run("what is remembered is damaged itself", func(t *testing.T) { // it says nothing then
		if err := os.WriteFile(filepath.Join(o.Dir, heldFile), []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := o.checkHeld(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestHeldNoted: how much there is of the log, of rooms and of users is noted before an entry is acknowledged, and a bucket
// that is gone altogether is missed by a node that is alone; others would copy it.
func TestHeldNoted(t *testing.T) {
	o, n := inServers(t)
	before, err := loadHeld(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	storetest.Write(t, n.store, new(ledger.State), o.Identity, &ledger.Create{Bus: n.Bus, Subject: "room", Policy: plainPolicy(), Nonce: make([]byte, 16)})
	if err := n.held.logged(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := loadHeld(o.Dir)
	if err != nil || after["KV_unibus_log"] <= before["KV_unibus_log"] || after["KV_unibus_rooms"] <= before["KV_unibus_rooms"] {
		t.Errorf("noted are %v, and were %v: %v", after, before, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.held.logged(ended); err == nil {
		t.Error("what could not be asked is noted")
	}
	n.Stop()
	if err := os.RemoveAll(filepath.Join(o.serverDir(), "jetstream", bus.AccountStore, "streams", "KV_unibus_rooms")); err != nil {
		t.Fatal(err)
	}
	if err := o.checkHeld(t.Context()); !errors.Is(err, store.ErrDamaged) || errors.Is(err, ErrOwnCopies) {
		t.Errorf("alone: %v", err)
	}
	o.Cluster.Name = "c"
	if err := o.checkHeld(t.Context()); err != nil {
		t.Errorf("in a cluster: %v", err)
	}
}
