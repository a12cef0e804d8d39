package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/storetest"
)

// TestHangs: a node whose server hangs over its files before it answers anything ends, and says over which; its server is
// left to the end of the process.
func TestHangs(t *testing.T) {
	if dir := os.Getenv("UNIBUS_HANGS"); dir != "" {
		startHangs.starts, startHangs.hangs = 500*time.Millisecond, 500*time.Millisecond
		o := inFolder(t)
		o.Dir, o.Store = dir, JetStream
		_, err := StartNode(t.Context(), o)
		if errors.Is(err, store.ErrDamaged) && strings.Contains(err.Error(), "hangs over") && strings.Contains(err.Error(), "KV_unibus_members") {
			storetest.KillSelf()
		}
		t.Fatal(err)
	}
	o := damagedMembers(t)
	if !storetest.Killed(t, "TestHangs", "UNIBUS_HANGS="+o.Dir) {
		t.Error("it does not say over what the server hangs")
	}
}

// damagedMembers is a node that has stopped, and of whose rooms' members a record has been given a place that cannot be.
func damagedMembers(t *testing.T) NodeOptions {
	t.Helper()
	o, n := inServers(t)
	for i := range 9 {
		create := &ledger.Create{Bus: n.Bus, Subject: fmt.Sprint("room", i), Policy: plainPolicy(), Nonce: make([]byte, 16)}
		storetest.Write(t, n.store, new(ledger.State), o.Identity, create)
	}
	n.Stop()
	file := filepath.Join(o.serverDir(), "jetstream", bus.AccountStore, "streams", "KV_unibus_members", "msgs", "1.blk")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(b, []byte("$KV.unibus_members"))
	if at < 0 {
		t.Fatal("nothing is kept of members")
	}
	b[at-22+4+5] ^= 2
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return o
}

// TestWatchHang: a start is called one that hangs only if there is damage that explains it, and it is not over by then.
func TestWatchHang(t *testing.T) {
	o := damagedMembers(t)
	at := func(h hanging, o NodeOptions) error {
		hung := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stop := h.watch(ctx, &o, func(err error) { hung <- err })
		defer stop()
		if h.hangs > 0 || h.starts > 0 { // it is over first
			stop()
			select {
			case err := <-hung:
				return err
			default:
				return nil
			}
		}
		return <-hung
	}
	if err := at(hanging{}, o); !errors.Is(err, store.ErrDamaged) || errors.Is(err, ErrOwnCopies) {
		t.Errorf("with damage: %v", err)
	}
	inCluster := o
	inCluster.Cluster.Name = "c"
	if err := at(hanging{}, inCluster); !errors.Is(err, ErrOwnCopies) {
		t.Errorf("with damage in a cluster: %v", err)
	}
	for _, h := range []hanging{{starts: time.Hour}, {hangs: time.Hour}} {
		if err := at(h, o); err != nil {
			t.Errorf("it has started: %v", err)
		}
	}
}

// TestStartedAgain: a server that is alone, has started and answers nobody over what a disk has done to its files is started
// again, and is right then.
func TestStartedAgain(t *testing.T) {
	was := aloneWait
	aloneWait = time.Second
	defer func() { aloneWait = was }()
	o, n := inServers(t)
	room := new(ledger.State)
	storetest.Write(t, n.store, room, o.Identity, &ledger.Create{Bus: n.Bus, Subject: "room", Policy: plainPolicy(), Nonce: make([]byte, 16)})
	if _, err := n.store.Room(t.Context(), room.ID); err != nil { // the last record is that of who has asked
		t.Fatal(err)
	}
	n.Stop()
	file := filepath.Join(o.serverDir(), "jetstream", bus.AccountStore, "streams", "KV_unibus_members", "msgs", "1.blk")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(b, []byte("$KV.unibus_members._barrier"))
	b[at-2] ^= 4 // the length of its subject
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	n, err = StartNode(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	defer n.Stop()
	if !strings.Contains(log.String(), "it is started again") {
		t.Errorf("nothing was the matter: %s", log.String())
	}
	if r, err := n.store.Room(t.Context(), room.ID); err != nil || r.Subject != "room" {
		t.Errorf("the room is %+v, %v", r, err)
	}
}
