package chat

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"go.uber.org/goleak"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a bus, with alice, its admin, and bob.
type world struct {
	t          *testing.T
	ctx        context.Context
	node       *service.Node
	alice, bob *unibus.Client
}

// newWorld makes one, on real ports.
func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx}
	dir := t.TempDir()
	alice, bob := w.identity(), w.identity()
	var err error
	w.node, err = service.StartNode(ctx, service.NodeOptions{
		Listen: "127.0.0.1:0", Dir: filepath.Join(dir, "data"), Identity: alice, Founder: "alice", Log: slog.New(slog.DiscardHandler),
	})
	w.must(err)
	t.Cleanup(w.node.Stop)
	w.alice = w.connect(alice, filepath.Join(dir, "alice"))
	w.must(w.alice.AddUsers(ctx, unibus.NewUser{Key: bob.Key(), Name: "bob"}))
	w.bob = w.connect(bob, filepath.Join(dir, "bob"))
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) identity() *unibus.Identity {
	id, err := unibus.NewIdentity()
	w.must(err)
	return id
}

func (w *world) connect(id *unibus.Identity, state string) *unibus.Client {
	c, err := unibus.Connect(w.ctx, unibus.Options{Identity: id, StateDir: state, Server: w.node.URL()})
	w.must(err)
	w.t.Cleanup(func() { _ = c.Close() })
	return c
}

// room is a room of alice's with bob in it, as bob sees it.
func (w *world) room(subject string) (alices, bobs *unibus.Room) {
	w.t.Helper()
	alices, err := w.alice.CreateRoom(w.ctx, subject, unibus.DefaultPolicy())
	w.must(err)
	w.must(alices.Invite(w.ctx, unibus.RoleMember, w.bob.Key()))
	bobs, err = w.bob.Room(w.ctx, subject)
	w.must(err)
	return alices, bobs
}

// terminal runs a chat's model as a terminal does, one event after the other, without drawing it.
type terminal struct {
	w      *world
	m      *model
	feed   *feed
	events chan tea.Msg
	quit   bool
	ctx    context.Context // of what runs beside
}

// open begins a chat of alice's on a terminal of 80 columns and 24 lines.
func (w *world) open(last int, rooms ...string) *terminal {
	w.t.Helper()
	c, err := New(w.ctx, w.alice, Options{Rooms: rooms})
	w.must(err)
	ctx, stop := context.WithCancel(w.ctx)
	t := &terminal{w: w, m: newModel(c.feed, last), feed: c.feed, events: make(chan tea.Msg), ctx: ctx}
	c.feed.begin(t.tell, make(chan string))
	w.t.Cleanup(func() {
		stop()
		t.feed.stop() // ended already, if the test did
	})
	t.m.pause = 20 * time.Millisecond
	t.run(t.m.Init())
	t.event(tea.WindowSizeMsg{Width: 80, Height: 24})
	return t
}

// tell is what a program's Send does.
func (t *terminal) tell(event tea.Msg) {
	select {
	case t.events <- event:
	case <-t.ctx.Done():
	}
}

// run runs a command beside.
func (t *terminal) run(c tea.Cmd) {
	if c != nil {
		go func() { t.tell(c()) }()
	}
}

// event has the model take an event.
func (t *terminal) event(e tea.Msg) {
	switch e := e.(type) {
	case tea.BatchMsg:
		for _, c := range e {
			t.run(c)
		}
		return
	case tea.QuitMsg:
		t.quit = true
		return
	}
	_, then := t.m.Update(e)
	t.run(then)
}

// screen is what is seen.
func (t *terminal) screen() string { return ansi.Strip(t.m.View().Content) }

// until takes events until the screen is as it should be.
func (t *terminal) until(what string, is func(screen string) bool) {
	t.w.t.Helper()
	for !is(t.screen()) {
		select {
		case e := <-t.events:
			t.event(e)
		case <-t.ctx.Done():
			t.w.t.Fatalf("%s; instead:\n%s", what, t.screen())
		}
	}
}

// see waits for a text.
func (t *terminal) see(text string) {
	t.w.t.Helper()
	t.until("see "+text, func(screen string) bool { return strings.Contains(screen, text) })
}

// press presses keys, each by its name, or types a text that is none.
func (t *terminal) press(keys ...string) {
	for _, k := range keys {
		t.event(keyOf(k))
	}
}

// typed types a text.
func (t *terminal) typed(text string) {
	for _, r := range text {
		t.event(keyText(string(r)))
	}
}

// keyText is the key that types a character.
func keyText(text string) tea.KeyPressMsg { return tea.KeyPressMsg{Code: []rune(text)[0], Text: text} }

// keyOf is the key of a name.
func keyOf(name string) tea.KeyPressMsg {
	named := map[string]rune{
		"enter": tea.KeyEnter, "tab": tea.KeyTab, "esc": tea.KeyEscape, "pgup": tea.KeyPgUp, "pgdown": tea.KeyPgDown, "up": tea.KeyUp, "down": tea.KeyDown,
		"f1": tea.KeyF1, "f2": tea.KeyF2,
	}
	var k tea.KeyPressMsg
	for {
		mod, rest, found := strings.Cut(name, "+")
		if !found {
			break
		}
		k.Mod |= map[string]tea.KeyMod{"ctrl": tea.ModCtrl, "alt": tea.ModAlt, "shift": tea.ModShift}[mod]
		name = rest
	}
	if code, ok := named[name]; ok {
		k.Code = code
	} else {
		k.Code = rune(name[0])
	}
	return k
}

// end ends the chat as it ends when the screen is gone: events are taken, and do nothing.
func (t *terminal) end() Result {
	done := make(chan Result)
	go func() { done <- t.feed.end(t.w.ctx) }()
	for {
		select {
		case e := <-t.events:
			t.event(e)
		case r := <-done:
			return r
		}
	}
}
