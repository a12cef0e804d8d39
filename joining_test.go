package unibus_test

import (
	"context"
	"encoding/hex"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/remedy"
)

// notices are what somebody is told; it is safe for concurrent use.
type notices struct {
	mu   sync.Mutex
	list []string
}

func (n *notices) add(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, text)
}

// has reports whether something was told that contains a text.
func (n *notices) has(text string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, said := range n.list {
		if strings.Contains(said, text) {
			return true
		}
	}
	return false
}

// options go to the world's server, with a state directory of its own for each name.
func (w *world) options(id *unibus.Identity, state string) (unibus.Options, *notices) {
	told := new(notices)
	return unibus.Options{Identity: id, StateDir: filepath.Join(w.dir, state), Server: w.node.URL(), Name: "someone", Notice: told.add}, told
}

// TestFirstContact: the bus at an address is pinned when it is first met, and told of; so is another address of it.
func TestFirstContact(t *testing.T) {
	w := newWorld(t)
	o, told := w.options(w.bobID, "fresh")
	c, err := unibus.Connect(w.ctx, o)
	w.must(err)
	defer c.Close()
	if !told.has("first contact with " + w.node.URL() + ": the bus " + c.Bus().String() + ", founded by alice") {
		t.Errorf("told %q", told.list)
	}
	again, told := w.options(w.bobID, "fresh")
	c, err = unibus.Connect(w.ctx, again)
	w.must(err)
	c.Close()
	if len(told.list) != 0 {
		t.Errorf("told again: %q", told.list)
	}
	again.Server = strings.Replace(w.node.URL(), "127.0.0.1", "localhost", 1)
	c, err = unibus.Connect(w.ctx, again)
	w.must(err)
	defer c.Close()
	if !told.has("is an address of the bus " + c.Bus().String()) {
		t.Errorf("told %q", told.list)
	}
	if skew := c.ClockSkew(); skew < -time.Minute || skew > time.Minute {
		t.Errorf("the clock of this machine is %v off", skew)
	}
	if token, err := c.Token(time.Minute); err != nil || token == "" {
		t.Errorf("a token: %q, %v", token, err)
	}
}

// TestStranger: whoever is not on the allowlist is told so, and how it gets there; when it is, joining finds the way back.
func TestStranger(t *testing.T) {
	w := newWorld(t)
	s := &straight{T: t}
	carol := w.identity()
	o, _ := w.options(carol, "carol")
	_, err := unibus.Connect(w.ctx, o)
	s.fails(err, unibus.ErrDenied, carol.Key().String()+" is not on this bus's allowlist", remedy.AllowSelf)

	known, err := unibus.Recall(w.ctx, unibus.Options{Identity: carol, StateDir: filepath.Join(w.dir, "nobody")})
	if err != nil || known.Server != unibus.DefaultServer || !known.Bus.IsZero() || !known.Only.IsZero() {
		t.Errorf("before anything is known: %+v, %v", known, err)
	}
	_, err = unibus.Join(w.ctx, w.node.URL()+"#"+w.alice.Bus().String(), o)
	s.fails(err, unibus.ErrDenied, "", remedy.AllowSelf)
	known, err = unibus.Recall(w.ctx, unibus.Options{Identity: carol, StateDir: o.StateDir})
	if err != nil || known.Server != w.node.URL() || known.Bus != w.alice.Bus() || known.Only != w.alice.Bus() {
		t.Errorf("refused, it is the one to come back to: %+v, %v", known, err)
	}
	w.must(w.alice.AddUsers(w.ctx, unibus.NewUser{Key: carol.Key(), Name: "carol"}))
	o.Server = "" // the one joined
	c, err := unibus.Connect(w.ctx, o)
	w.must(err)
	defer c.Close()
	room, err := w.alice.CreateRoom(w.ctx, "ops", unibus.DefaultPolicy())
	w.must(err)
	w.must(room.Invite(w.ctx, unibus.RoleMember, carol.Key())) // her card is there by now
}

// TestJoin: what is no address, or no bus, or another one, is refused, and nothing of it is remembered.
func TestJoin(t *testing.T) {
	w := newWorld(t)
	s := &straight{T: t}
	for url, c := range map[string]struct {
		kind error
		says string
		help remedy.Kind
	}{
		"not a url":                               {unibus.ErrInvalid, "", remedy.None},
		w.node.URL() + "#rubbish":                 {unibus.ErrInvalid, "not the id of a bus", remedy.None},
		w.node.URL() + "#" + unibus.ID{}.String(): {unibus.ErrInvalid, "not the id of a bus", remedy.None},
		w.node.URL() + "#" + other(w):             {unibus.ErrIntegrity, "it is the bus " + w.alice.Bus().String(), remedy.CompareBus},
		"nats://127.0.0.1:1":                      {unibus.ErrUnavailable, "", remedy.StartServer},
	} {
		o, _ := w.options(w.bobID, "joining")
		o.Timeout = time.Second
		_, err := unibus.Join(w.ctx, url, o)
		s.fails(err, c.kind, c.says, c.help)
		if known, err := unibus.Recall(w.ctx, o); err != nil || known.Server != unibus.DefaultServer {
			t.Errorf("after %s: %+v, %v", url, known, err)
		}
	}
	o, _ := w.options(w.bobID, "joining")
	c, err := unibus.Join(w.ctx, w.node.URL(), o)
	w.must(err)
	defer c.Close()
	hash, err := unibus.RecallLog(w.ctx, o, c.Bus())
	w.must(err)
	log, err := c.BusLog(w.ctx)
	w.must(err)
	if h, ok := hash(1); !ok || log[0].Hash != hex.EncodeToString(h[:]) {
		t.Errorf("what is remembered of the bus log's first entry is %x, %v", h, ok)
	}
	if _, ok := hash(99); ok {
		t.Error("an entry is remembered that there is not")
	}
	o.StateDir = filepath.Join(w.dir, "nobody")
	hash, err = unibus.RecallLog(w.ctx, o, c.Bus())
	w.must(err)
	if _, ok := hash(1); ok {
		t.Error("somebody who knows nothing remembers an entry")
	}
}

// other is the id of a bus that is not the world's.
func other(w *world) string {
	id := w.alice.Bus()
	id[0] ^= 1
	return id.String()
}

// TestRevokedWhileConnected: whoever is revoked has its subscriptions ended, and does nothing more.
func TestRevokedWhileConnected(t *testing.T) {
	w := newWorld(t)
	alices, bobs := w.room("ops", unibus.DefaultPolicy())
	sub, err := bobs.Subscribe(w.ctx, unibus.SubscribeOptions{})
	w.must(err)
	p, err := bobs.Publisher(w.ctx)
	w.must(err)
	w.must(w.alice.RevokeUsers(w.ctx, "left", w.bob.Key()))
	for _, err := range sub.Messages() {
		if !errors.Is(err, unibus.ErrDenied) {
			t.Errorf("the subscription ends with %v", err)
		}
	}
	if !errors.Is(sub.Err(), unibus.ErrDenied) {
		t.Errorf("it ended with %v", sub.Err())
	}
	<-p.Done()
	if err := p.Publish([]byte("x")); err == nil {
		t.Error("it publishes still")
	}
	if err := bobs.Publish(w.ctx, []byte("x")); !errors.Is(err, unibus.ErrDenied) {
		t.Errorf("it publishes with %v", err)
	}
	w.must(alices.Publish(w.ctx, []byte("without bob")))
}

// TestKickedWhileReading: whoever is removed from a room has its subscriptions there ended, and no others.
func TestKickedWhileReading(t *testing.T) {
	w := newWorld(t)
	alices, bobs := w.room("one", unibus.DefaultPolicy())
	_, others := w.room("two", unibus.DefaultPolicy())
	sub, err := bobs.Subscribe(w.ctx, unibus.SubscribeOptions{})
	w.must(err)
	stays, err := others.Subscribe(w.ctx, unibus.SubscribeOptions{})
	w.must(err)
	defer stays.Close()
	w.must(alices.Kick(w.ctx, w.bob.Key()))
	for _, err := range sub.Messages() {
		if !errors.Is(err, unibus.ErrDenied) || !strings.Contains(err.Error(), "no longer a member") {
			t.Errorf("it ends with %v", err)
		}
	}
	if err := stays.Err(); err != nil || stays.Waiting() {
		t.Errorf("the other room: %v", err)
	}
}

// TestCalledOff: a connection whose context has ended makes no state, and says that it was called off.
func TestCalledOff(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	o, _ := w.options(w.bobID, "off")
	if _, err := unibus.Connect(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
