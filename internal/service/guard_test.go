package service

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/storetest"
)

// TestCutOff: on a server that half of all or more do not answer any more, and without a quorum, every peer is
// dropped, after a while and once; with a quorum, or while most are there, nobody is.
func TestCutOff(t *testing.T) {
	n, admin := node(t, "")
	p := mustDial(t, n, admin, n.Bus)
	closed := make(chan struct{})
	p.SetClosedHandler(func(*nats.Conn) { close(closed) })
	servers := bus.NewServers(n.Links().Sys)
	if err := servers.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	log := new(bytes.Buffer)
	g := &guard{store: n.store, servers: servers, own: n.Links().Users(), changes: newChanges(slog.New(slog.NewTextHandler(log, nil)))}
	before := time.Now().Add(-time.Minute)
	g.judge(t.Context(), before)
	if !g.cutSince.IsZero() {
		t.Error("cut off with every server there")
	}
	servers.Heard("OTHER1", "other1")
	half := time.Now()
	if err := servers.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if g.judge(t.Context(), half); g.cutSince.IsZero() {
		t.Error("not cut off with one of two there: the other half may be as sure of itself")
	}
	g.cutSince = time.Time{}
	// Two others were there, and do not answer.
	servers.Heard("OTHER1", "other1")
	servers.Heard("OTHER2", "other2")
	since := time.Now()
	if err := servers.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.judge(t.Context(), since)
	if g.cutSince.IsZero() || g.dropped {
		t.Error("not cut off, or dropped at once")
	}
	g.cutSince = since.Add(-cutOffAfter)
	g.judge(t.Context(), since)
	if g.dropped {
		t.Error("dropped although the store has a quorum")
	}
	n.store.Close() // now it proves nothing
	g.judge(t.Context(), since)
	if !g.dropped {
		t.Error("nobody was dropped")
	}
	<-closed
	if ok := n.Links().API.IsConnected() && n.Links().Notify.IsConnected(); !ok {
		t.Error("the service itself was dropped")
	}
	servers.Heard("OTHER1", "other1")
	g.judge(t.Context(), since)
	if g.dropped || !g.cutSince.IsZero() {
		t.Error("still cut off when most are back")
	}
	if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "all connections were dropped") || !strings.Contains(got, "are there again") || strings.Contains(got, "nil") {
		t.Errorf("log: %s", got)
	}
}

// TestSlept: when the process did not run for long enough that others may have counted on it, every peer here is dropped
// at once, if there are others.
func TestSlept(t *testing.T) {
	n, admin := node(t, "")
	p := mustDial(t, n, admin, n.Bus)
	closed := make(chan struct{})
	p.SetClosedHandler(func(*nats.Conn) { close(closed) })
	servers := bus.NewServers(n.Links().Sys)
	if err := servers.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	log := new(bytes.Buffer)
	g := &guard{
		servers: servers, here: n.Links().Sys.ConnectedServerId, own: n.Links().Users(), changes: newChanges(slog.New(slog.NewTextHandler(log, nil))),
	}
	now := time.Now()
	g.slept(t.Context(), now.Add(-time.Hour), now) // by itself
	servers.Heard("OTHER1", "other1")
	g.slept(t.Context(), now.Add(-asleepAfter/2), now)
	if p.IsClosed() || log.Len() > 0 {
		t.Errorf("dropped: %v, %s", p.IsClosed(), log)
	}
	g.slept(t.Context(), now.Add(-asleepAfter), now)
	<-closed
	if !n.Links().API.IsConnected() || strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "did not run for a while: all") {
		t.Errorf("log: %s", log)
	}
}

// TestSilent: a server that is known to be there and does not answer is a failure, which names it; one that
// was started again under its name takes its place.
func TestSilent(t *testing.T) {
	n, admin := node(t, "")
	servers := bus.NewServers(n.Links().Sys)
	if err := servers.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	kick := bus.NewKick(servers)
	if err := kick.User(t.Context(), admin.Key(), bus.All); err != nil || !kick.Due() {
		t.Fatalf("%v, due %v", err, kick.Due())
	}
	servers.Heard("GONE", "other")
	var silent *bus.Silent
	if err := kick.User(t.Context(), admin.Key(), bus.All); !errors.As(err, &silent) || len(silent.Servers) != 1 || silent.Servers[0].Name != "other" {
		t.Fatalf("a silent server: %v", err)
	}
	if kick.Due() {
		t.Error("due while the server is as silent as it was")
	}
	servers.Heard("BACK", "other")
	if !kick.Due() {
		t.Error("not due when the server was started again")
	}
	if list := servers.List(); len(list) != 2 {
		t.Errorf("known are %v", list)
	}
}

// TestDropOthersWaits: a change that ends somebody's access is not acknowledged while a server that may have its connections
// says nothing; it is once every server that is there has dropped them.
func TestDropOthersWaits(t *testing.T) {
	n, admin := node(t, "")
	bob := person(t, 'b')
	addUser(t, n, admin, bob)
	s, err := store.Load(t.Context(), n.store, n.Bus)
	if err != nil {
		t.Fatal(err)
	}
	storetest.Write(t, n.store, s, admin, &ledger.Revoke{Keys: []crypto.PublicKey{bob.Key()}})
	servers := bus.NewServers(n.links.Sys)
	if err := servers.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	revoked := store.Notice{Log: n.Bus, Seq: s.Head.Seq}
	r := &reconciler{store: n.store, logs: newLogs(n.store), bus: n.Bus, kicks: newKicks(servers)}
	if err := r.dropOthers(t.Context(), revoked); err != nil {
		t.Errorf("with every server there: %v", err)
	}
	servers.Heard("GONE", "other")
	r.kicks = newKicks(servers)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.dropOthers(ctx, revoked) }()
	kick := r.kicks.of(revoked)
	eventually(t, "the server was asked in vain", func() bool { return !kick.Due() })
	cancel()
	if err := <-ended; !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, context.Canceled) {
		t.Errorf("with a server that is silent, when nobody waits any more: %v", err)
	}
}

// TestKicksBounded: as many entries' kicks are remembered as may be, and the latest of them.
func TestKicksBounded(t *testing.T) {
	k := newKicks(bus.NewServers(nil))
	first := k.of(store.Notice{Seq: 1})
	if k.of(store.Notice{Seq: 1}) != first {
		t.Error("one entry has two")
	}
	for seq := range uint64(maxKicks) {
		k.of(store.Notice{Seq: seq + 2})
	}
	if len(k.known) != maxKicks || len(k.order) != maxKicks || k.known[store.Notice{Seq: 1}] != nil || k.known[store.Notice{Seq: maxKicks + 1}] == nil {
		t.Errorf("%d are remembered, %d in order", len(k.known), len(k.order))
	}
}
