package attack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/freeport"
	"github.com/unibus/unibus/internal/service"
)

// nodeOptions are those of the nodes of a bus on three.
func nodeOptions(w *world, dir string) (options []service.NodeOptions) {
	routes := []string{freeport.Local(), freeport.Local(), freeport.Local()}
	for i := range routes {
		options = append(options, service.NodeOptions{
			Store: service.JetStream, Listen: "127.0.0.1:0", Dir: fmt.Sprintf("%s/%d", dir, i), Keys: dir + "/service.nk",
			Cluster: bus.Cluster{Name: "test", Listen: routes[i], Routes: routes}, Name: fmt.Sprint("n", i),
			Identity: w.aliceID, Founder: "alice", Log: slog.New(slog.DiscardHandler),
		})
	}
	return options
}

// startCluster starts a bus on three nodes, with alice on the first.
func startCluster(t *testing.T) (w *world, nodes []*service.Node) {
	t.Helper()
	w = emptyWorld(t, service.JetStream)
	return w, w.startNodes(t, nodeOptions(w, t.TempDir()))
}

func (w *founding) startNodes(t *testing.T, options []service.NodeOptions) []*service.Node {
	t.Helper()
	nodes := make([]*service.Node, len(options))
	errs := make([]error, len(options))
	var wait sync.WaitGroup
	for i := range nodes {
		wait.Go(func() { nodes[i], errs[i] = service.StartNode(w.ctx, options[i]) })
	}
	wait.Wait()
	for i := range nodes {
		w.must(errs[i])
		t.Cleanup(nodes[i].Stop)
	}
	w.begin(nodes[0])
	return nodes
}

// TestCopies: a server of three whose disk has lost a message of a room, or some of the store, takes no part: its copy is
// current for all that the others know, and it would say of what is there that it is not. With an empty folder it copies
// what they have.
func TestCopies(t *testing.T) {
	w := emptyWorld(t, service.JetStream)
	options := nodeOptions(w, t.TempDir())
	nodes := w.startNodes(t, options)
	room, err := w.alice.CreateRoom(w.ctx, "lost", unibus.DefaultPolicy())
	w.must(err)
	for range 3 {
		w.must(room.Publish(w.ctx, []byte("here")))
	}
	streams := filepath.Join(options[2].Dir, "jetstream", "jetstream", bus.AccountStore, "streams")
	nodes[2].Stop()
	stream := bus.StreamName(room.ID())
	refused := func(says string) {
		t.Helper()
		again, err := service.StartNode(w.ctx, options[2])
		if !errors.Is(err, service.ErrOwnCopies) || !strings.Contains(err.Error(), says) {
			t.Errorf("it starts, or fails with %v, want %q", err, says)
		}
		if err == nil {
			again.Stop()
		}
	}
	cutRecord(t, filepath.Join(streams, stream, "msgs"), bus.StoredSubject(room.ID(), w.aliceID.Key()))
	refused(stream + ": it holds 1 to 3 on n0, 1 to 3 on n1, 2 to 3 on n2")
	cutRecord(t, filepath.Join(streams, "KV_unibus_log", "msgs"), "$KV.unibus_log."+room.ID().String()+".1")
	refused("KV_unibus_log has ")
	w.must(os.RemoveAll(options[2].Dir))
	again, err := service.StartNode(w.ctx, options[2])
	w.must(err)
	defer again.Stop()
	for { // until it has copied everything
		copies, err := bus.LookAtCopies(w.ctx, again.Links().Sys)
		unlike := copies.Unlike(copies)
		if err == nil && len(unlike) == 0 && len(copies[stream]) == 3 {
			return
		}
		if w.ctx.Err() != nil {
			t.Fatalf("with an empty folder: %q, %v", unlike, err)
		}
	}
}

// cutRecord removes the first record of a subject from the files of a stream that has one block, as the server writes it:
// its length, a place, a time, a subject.
func cutRecord(t *testing.T, dir, subject string) {
	t.Helper()
	file := filepath.Join(dir, "1.blk")
	block, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const before = 4 + 8 + 8 + 2
	at := bytes.Index(block, []byte(subject)) - before
	if at < 0 {
		t.Fatal("it is in another block")
	}
	size := binary.LittleEndian.Uint32(block[at:]) &^ (1 << 31)
	block = slices.Delete(block, at, at+int(size))
	if err := errors.Join(os.WriteFile(file, block, 0o600), os.Remove(filepath.Join(dir, "index.db"))); err != nil {
		t.Fatal(err)
	}
}

// TestCluster: what holds on one server holds on three, where a message is passed on by servers that see no
// client: whoever is kicked or revoked gets nothing by any of them, and neither reply subjects nor trace
// destinations arrive anywhere.
func TestCluster(t *testing.T) {
	w, nodes := startCluster(t)
	for _, end := range []ending{kicked, revoked} {
		w.part(t, string(end), func(w *world) {
			in := w.insider(string(end), unibus.RoleMember)
			for _, n := range nodes {
				p, err := in.enter(w, n, in.ids())
				w.must(err)
				defer p.Close()
			}
			if end == revoked {
				w.must(w.alice.RevokeUsers(w.ctx, "", in.id.Key()))
			} else {
				for _, r := range in.rooms {
					w.must(r.Kick(w.ctx, in.id.Key()))
				}
			}
			for _, n := range nodes {
				within := *w
				within.node = n
				in.shut(&within, end)
			}
		})
	}
	w.part(t, "reply subjects and trace destinations", func(w *world) { w.acrossServers(nodes) })
}

// acrossServers has a writer on each server name everything as a reply and as a trace destination, with someone
// on each server who sees what comes in BUS.
func (w *world) acrossServers(nodes []*service.Node) {
	v := w.writer("across", unibus.DefaultPolicy())
	w.bobID = w.add("bob")
	w.closed, w.shared, w.den = w.pair("closed"), w.pair("shared"), w.pair("den")
	w.invite(w.shared, unibus.RoleMember, w.bobID)
	w.bob = w.dial(Options{Identity: w.bobID, Rooms: w.shared.ids()})
	w.bobs = w.tap(w.bob, append(roomSubjects(w.shared), bus.InboxPrefix(w.bob.Inbox)+".>")...)
	before := w.picture()
	for _, n := range nodes {
		p, err := Dial(Options{URL: n.URL(), Bus: w.alice.Bus(), Identity: v.ID, Rooms: append(w.rooms(), v.r.ID()), Nats: []nats.Option{
			nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
		}})
		w.must(err)
		defer p.Close()
		a := &attacker{Peer: p, name: "writer", on: true}
		for _, s := range w.subjects(a) {
			m := &nats.Msg{Subject: bus.StoredSubject(v.r.ID(), v.ID.Key()), Reply: s.text, Data: v.frame}
			w.must(p.PublishMsg(m))
			api, err := p.Request(http.MethodGet, "/bus", nil)
			w.must(err)
			api.Reply = s.text
			w.must(p.PublishMsg(api))
			for _, h := range traces(s.text, bus.APISubject(a.Inbox)) {
				w.must(p.PublishMsg(&nats.Msg{Subject: m.Subject, Header: h, Data: v.frame}))
			}
		}
		w.must(p.Flush())
	}
	w.settle()
	w.unchanged(before, bus.StoredSubject(v.r.ID(), v.ID.Key()))
	for _, m := range drain(w.bobs) {
		if m.Header.Get("Status") == "" && !acknowledgement(m) {
			w.Errorf("bob is sent, on %s: %q", m.Subject, m.Data)
		}
	}
	w.must(v.r.PublishOnce(w.ctx, []byte("after")))
	if got := w.await(v.reader, 1); got[0] != "after" || len(v.findings()) > 0 {
		w.Errorf("alice reads %q, and is told of %v", got, v.findings())
	}
}
