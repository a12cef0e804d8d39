package chat

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/unibus/unibus"
)

// TestChat: what was said is there, what is said comes, what is written is stored, and others' rooms count what is new.
func TestChat(t *testing.T) {
	w := newWorld(t)
	_, bobs := w.room("ops.alerts")
	_, other := w.room("general")
	w.must(bobs.Publish(w.ctx, []byte("disk full")))
	c := w.open(200)
	c.see("general  2 members · epoch 1 · end-to-end encrypted")
	c.press("tab")
	c.see("bob disk full")
	c.see("alice invited bob (member)")

	c.typed("which one?")
	c.press("alt+enter")
	c.typed("and where?")
	c.press("enter")
	c.see("alice which one?")
	c.see("and where? (stored)")
	w.must(other.Publish(w.ctx, []byte("hello")))
	c.until("count one message", func(s string) bool { return strings.Contains(s, "general         1") })
	c.press("shift+tab")
	c.see("hello")
	if screen := c.screen(); strings.Contains(screen, "general         1") {
		t.Errorf("still new:\n%s", screen)
	}
	c.typed("half a mess")
	c.press("tab")
	if got := c.m.line.Value(); got != "" {
		t.Errorf("another room's draft: %q", got)
	}
	c.press("shift+tab")
	if got := c.m.line.Value(); got != "half a mess" {
		t.Errorf("draft %q", got)
	}
	c.press("f2")
	c.see("alice        owner")
	c.press("f2", "ctrl+c")
	c.until("end", func(string) bool { return c.quit })
	if r := c.end(); r.Sent != 1 || r.Unsent != 0 || r.Reading != nil {
		t.Errorf("%+v", r)
	}
	var got []string
	s, err := bobs.Subscribe(w.ctx, unibus.SubscribeOptions{All: true, End: true})
	w.must(err)
	for m, err := range s.Messages() {
		w.must(err)
		got = append(got, string(m.Body))
	}
	if want := []string{"disk full", "which one?\nand where?"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("stored %q", got)
	}
}

// TestHelp: all of the help can be read on a small screen, and any key that does not move it ends it.
func TestHelp(t *testing.T) {
	w := newWorld(t)
	w.room("ops")
	c := w.open(200)
	c.see("write to ops")
	c.press("f1")
	c.see("alt+enter, ctrl+j")
	c.see("any key ends this help")
	c.event(tea.WindowSizeMsg{Width: 80, Height: 10})
	c.see("down the rest")
	c.press("up", "down", "pgdown", "pgdown")
	c.see("promise: unibus verify.")
	c.see("\nup back · any other key ends this help")
	c.event(tea.WindowSizeMsg{Width: 30, Height: 10})
	c.press("pgup", "pgup", "pgup", "pgup", "pgup")
	c.see(" enter\n   send\n")
	c.event(tea.WindowSizeMsg{Width: 80, Height: 10})
	c.press("pgup", "pgup")
	c.see("alt+enter, ctrl+j")
	c.press("x")
	c.see("write to ops")
	c.end()
}

// TestOthersText: nothing that others write acts on the terminal, wherever it is shown.
func TestOthersText(t *testing.T) {
	w := newWorld(t)
	_, bobs := w.room("ops")
	const evil = "a\x1b[31mred\x1b]0;title\x07\u202eb\r\n\x9b2Jc\tz"
	w.must(bobs.Publish(w.ctx, []byte(evil)))
	w.must(bobs.Publish(w.ctx, []byte{0xff, 0xfe, '!'}))
	c := w.open(200)
	c.see(`a\x1b[31mred\x1b]0;title\x07\u202eb\x0d`)
	c.see(`\x9b2Jc    z`)
	c.see(`\xff\xfe!`)
	c.event(noticed{unibus.Notice{Kind: unibus.NoticeForged, Finding: true, Room: bobs.ID(), Subject: "ops", Why: "\x1b[2J"}})
	c.event(told{"\x1b[2Jstatus"})
	c.see(`\x1b[2Jstatus`)
	content := c.m.View().Content
	for _, raw := range []string{"\x1b[31mred", "\x1b]0;", "\x07", "\u202e", "\x1b[2J", "\x9b"} {
		if strings.Contains(content, raw) {
			t.Errorf("%q is on the screen", raw)
		}
	}
	c.end()
}

// TestPast: the past is read on when one comes to its beginning, and by a search; entries of the log stand among it.
func TestPast(t *testing.T) {
	w := newWorld(t)
	alices, bobs := w.room("ops")
	p, err := bobs.Publisher(w.ctx)
	w.must(err)
	for n := range 100 {
		w.must(p.Publish(fmt.Appendf(nil, "line %d", n)))
	}
	w.must(p.Close(w.ctx))
	c := w.open(10, "ops")
	c.see("line 99")
	if len(c.m.on.items) != 10 {
		t.Errorf("%d items, of 10 that were asked for", len(c.m.on.items))
	}
	c.press("ctrl+f")
	c.typed("LINE 7")
	c.press("enter")
	c.see("bob line 79")
	c.see("match 1 of 10, the newest first")
	c.until("find the oldest", func(s string) bool {
		if !c.m.on.loading {
			c.press("up")
		}
		return strings.Contains(s, "no older match")
	})
	if at := c.m.line.search.at.text; at != "line 7" {
		t.Errorf("the oldest that was found: %q", at)
	}
	c.press("down")
	if c.m.line.search.at.text != "line 70" {
		t.Errorf("newer: %q", c.m.line.search.at.text)
	}
	c.press("esc")
	for range 10 {
		c.press("pgup", "pgup")
	}
	c.see("the beginning of what is stored")
	c.see("alice made this room:")
	c.see("line 0")
	if n := len(c.m.on.items); n != 102 {
		t.Errorf("%d items, of 100 messages and 2 entries", n)
	}
	at := c.m.on.offset
	w.must(alices.Publish(w.ctx, []byte("news")))
	c.until("stay", func(string) bool { return c.m.on.offset == at+1 })
	c.see("line 0")
	c.press("esc")
	c.see("news")
	c.end()
}

// TestChanges: what happens to a room is said in words, as it happens; who is not a member any more cannot write.
func TestChanges(t *testing.T) {
	w := newWorld(t)
	alices, bobs := w.room("ops")
	c := w.open(200)
	c.see("alice invited bob (member)")
	w.must(alices.Rekey(w.ctx))
	c.see("alice gave the room a new key: epoch 2")
	c.see("epoch 2 · end-to-end")
	w.must(alices.SetRole(w.ctx, w.bob.Key(), unibus.RoleOwner))
	c.see("bob is now owner")
	w.must(bobs.Refresh(w.ctx))
	w.must(bobs.SetRole(w.ctx, w.alice.Key(), unibus.RoleReader))
	c.see("alice is now reader")
	c.until("be told", func(string) bool {
		c.typed("x")
		c.press("enter")
		return c.m.status == "you are a reader of this room"
	})
	w.must(bobs.Kick(w.ctx, w.alice.Key()))
	c.until("be told", func(string) bool {
		c.press("enter")
		return c.m.status == "you are not a member of this room any more"
	})
	w.room("another") // beside which there is a list
	c.see("ops           out")
	// A room that one is invited to later is there then.
	_, err := w.bob.CreateRoom(w.ctx, "later", unibus.DefaultPolicy())
	w.must(err)
	later, err := w.bob.Room(w.ctx, "later")
	w.must(err)
	w.must(later.Invite(w.ctx, unibus.RoleMember, w.alice.Key()))
	w.must(later.Publish(w.ctx, []byte("welcome")))
	c.see("later")
	c.press("tab")
	c.until("be there", func(s string) bool {
		if c.m.on.Subject() != "later" {
			c.press("tab")
		}
		return strings.Contains(s, "welcome")
	})
	c.end()
}

// TestLeft: of rooms that were named, one that may not be read any more leaves the others as they are, and is read again when it may.
func TestLeft(t *testing.T) {
	w := newWorld(t)
	alices, one := w.room("one")
	_, two := w.room("two")
	w.must(alices.SetRole(w.ctx, w.bob.Key(), unibus.RoleOwner))
	w.must(one.Refresh(w.ctx))
	c := w.open(200, "one", "two")
	c.see("bob is now owner")
	w.must(one.Kick(w.ctx, w.alice.Key()))
	c.see("one           out")
	c.press("tab")
	w.must(two.Publish(w.ctx, []byte("still here")))
	c.see("bob still here")
	w.must(one.Invite(w.ctx, unibus.RoleMember, w.alice.Key()))
	w.must(one.Publish(w.ctx, []byte("and again")))
	c.press("tab")
	c.see("bob and again")
	if r := c.end(); r.Reading != nil {
		t.Errorf("it ended with %v", r.Reading)
	}
}

// TestNoneYet: who is in none of the rooms that were named reads that, and that what they write goes nowhere yet.
func TestNoneYet(t *testing.T) {
	w := newWorld(t)
	w.room("ops")
	c := w.open(200, "zz.>", "ops.*")
	c.see("no room of yours is zz.> or ops.*; this goes on as soon as one is")
	c.typed("hello")
	c.press("enter")
	c.see("there is no room yet to write in: what you typed stays")
	if got := c.m.line.Value(); got != "hello" {
		t.Errorf("what was typed is %q", got)
	}
	c.end()
}

// TestEnded: who may read no more is told so, in words that stay and that a narrow screen has whole.
func TestEnded(t *testing.T) {
	w := newWorld(t)
	_, bobs := w.room("ops")
	_ = bobs
	w.must(w.alice.SetUsers(w.ctx, unibus.UserChange{Key: w.bob.Key(), Role: unibus.RoleAdmin}))
	c := w.open(200)
	c.m.hint = func(err error) string {
		return fmt.Sprintf("again: %v", errors.Is(err, unibus.ErrDenied))
	}
	c.event(tea.WindowSizeMsg{Width: 44, Height: 24})
	c.see("alice invited bob")
	w.must(w.bob.RevokeUsers(w.ctx, "gone", w.alice.Key()))
	c.see("nothing more is read")
	c.see("mended")
	c.see("again: true")
	for range statusStays + 2 {
		c.event(looked{})
	}
	if screen := c.screen(); !strings.Contains(screen, "── nothing more is read") {
		t.Errorf("it is forgotten:\n%s", screen)
	}
	// What becomes of the connection, and of what is written now, is not told any more.
	c.event(told{"connection lost (EOF); reconnecting"})
	c.event(listed{err: errors.New("not to be listed")})
	c.typed("late")
	c.press("enter")
	c.see("nothing more is sent")
	if screen := c.screen(); strings.Contains(screen, "connection lost") || strings.Contains(screen, "not every room") || c.m.line.Value() != "late" || c.feed.unsent() > 0 {
		t.Errorf("after its end:\n%s", screen)
	}
	c.end()
	if !errors.Is(c.m.ended, unibus.ErrDenied) {
		t.Errorf("it ended with %v", c.m.ended)
	}
}

// TestNews: one gets to the rooms with something new at once, is told what is about no room, and for a while only.
func TestNews(t *testing.T) {
	w := newWorld(t)
	for _, subject := range []string{"r1", "r2", "r9"} {
		w.room(subject)
	}
	_, bobs := w.room("r10")
	c := w.open(200)
	c.m.bus = "work"
	c.see("work ") // the bus
	if screen := c.screen(); strings.Index(screen, "r9") > strings.Index(screen, "r10") {
		t.Errorf("r10 stands before r9:\n%s", screen)
	}
	c.press("ctrl+n")
	c.see("nothing is new in other rooms")
	w.must(bobs.Publish(w.ctx, []byte("hello")))
	c.see("r10             1")
	w.must(bobs.Publish(w.ctx, []byte("and more")))
	c.see("r10             2")
	c.press("ctrl+n")
	c.see("bob and more")
	if screen := c.screen(); strings.Count(screen, "— new —") != 1 || strings.Index(screen, "— new —") > strings.Index(screen, "bob hello") {
		t.Errorf("it does not say where what is new begins:\n%s", screen)
	}
	c.press("tab", "shift+tab")
	if screen := c.screen(); strings.Contains(screen, "— new —") {
		t.Errorf("it is new for ever:\n%s", screen)
	}
	c.event(told{"connection lost"})
	c.event(listed{nil, unibus.ErrUnavailable})
	c.see("── connection lost")
	c.see("· connection lost")
	c.until("forget it", func(screen string) bool {
		c.event(looked{})
		return !strings.Contains(screen, "── connection lost")
	})
	c.typed("/quit")
	c.press("enter")
	c.until("end", func(string) bool { return c.quit })
	if r := c.end(); r.Sent != 0 {
		t.Error("/quit was sent")
	}
}

// TestFindings: what breaks a promise is said once, and marks the room where it is not on the screen.
func TestFindings(t *testing.T) {
	w := newWorld(t)
	_, a := w.room("a")
	_, b := w.room("b")
	c := w.open(200)
	c.see("alice invited bob")
	for range 2 {
		for _, r := range []*unibus.Room{a, b} {
			c.event(noticed{unibus.Notice{Kind: unibus.NoticeForged, Finding: true, Room: r.ID(), Subject: r.Subject(), Sender: "U1", Why: "it does not authenticate"}})
		}
	}
	c.see("forged: ")
	if n := strings.Count(c.screen(), "forged: "); n != 1 {
		t.Errorf("told %d times", n)
	}
	c.see("b               !")
	c.press("tab")
	c.until("no mark", func(s string) bool { return !strings.Contains(s, "b               !") })
	c.end()
}

// TestNotStored: a message that cannot be delivered says so, can be taken back, and is counted.
func TestNotStored(t *testing.T) {
	w := newWorld(t)
	w.room("ops")
	c := w.open(200)
	c.see("write to ops")
	c.typed("lost")
	c.press("enter")
	c.see("(stored)")
	room := c.m.on.Room
	c.m.on.add(&item{kind: own, at: time.Now(), from: c.m.self, name: "alice", text: "not stored", number: 99})
	c.event(sent{room: room.ID(), number: 99, state: failed, err: errors.New("why it was not")})
	c.see("NOT STORED")
	c.see("why it was not")
	c.press("ctrl+r")
	if got := c.m.line.Value(); got != "not stored" {
		t.Errorf("taken back: %q", got)
	}
	if strings.Contains(c.screen(), "NOT STORED") {
		t.Error("it is still there")
	}
	c.press("ctrl+r")
	c.see("is stored, or on its way")

	// Nobody takes what is written: so much waits, and more is refused.
	w.node.Stop()
	for n := range maxUnsent + 2 {
		c.m.line.SetValue(fmt.Sprint("waiting ", n))
		c.press("enter")
	}
	c.see(errUnsent.Error())
	c.typed("more")
	c.press("enter")
	if got, want := c.m.line.Value(), fmt.Sprintf("waiting %d\nmore\n", maxUnsent+1); got != want {
		t.Errorf("what was refused is %q, not %q", got, want)
	}
	if n := c.feed.unsent(); n < maxUnsent {
		t.Errorf("%d are on their way", n)
	}
	expired, cancel := context.WithTimeout(w.ctx, time.Millisecond)
	defer cancel()
	done := make(chan Result)
	go func() { done <- c.feed.end(expired) }()
	for {
		select {
		case e := <-c.events:
			c.event(e)
			continue
		case r := <-done:
			if r.Sent != 1 || r.Unsent < maxUnsent || r.Abandoned == nil {
				t.Errorf("%+v", r)
			}
		}
		break
	}
}

// TestOwn: what another program of one's own says in the same words is not the message that is on its way.
func TestOwn(t *testing.T) {
	w := newWorld(t)
	w.room("ops")
	c := w.open(200)
	c.see("write to ops")
	room := c.m.on.Room
	c.m.on.write(&item{kind: own, at: time.Now(), from: c.m.self, name: "alice", text: "approve", number: 98, state: sealed, stream: unibus.StreamID{1}})
	w.must(room.PublishOnce(w.ctx, []byte("approve")))
	c.see("alice approve\n")
	if mine := c.m.on.mine(); len(mine) != 1 || mine[0].state != sealed {
		t.Errorf("on its way are %d", len(mine))
	}
	own := unibus.Message{Room: room.ID(), Sender: c.m.self, Name: "alice", Time: time.Now(), Stream: unibus.StreamID{1}, Body: []byte("approve")}
	c.event(arrived{[]message{{own, 7}}})
	c.see("approve (sealed)") // that it was read says nothing of where it was kept
	if mine := c.m.on.mine(); len(mine) != 0 {
		t.Errorf("on its way are still %d", len(mine))
	}
	c.event(sent{room: room.ID(), number: 98, state: stored})
	c.see("approve (stored)")
	c.event(sent{room: room.ID(), number: 98, state: failed, err: errors.New("no answer")})
	if screen := c.screen(); strings.Contains(screen, "NOT STORED") || strings.Contains(screen, "no answer") {
		t.Errorf("what was read is said not to be there:\n%s", screen)
	}
	c.end()
}

// TestLarge: a message of one's own that is more than what is shown is there once.
func TestLarge(t *testing.T) {
	w := newWorld(t)
	w.room("ops")
	c := w.open(200)
	c.see("write to ops")
	c.m.line.set(strings.Repeat("x", maxShown) + "end")
	c.press("enter")
	c.see("cut off here, stored)")
	if n := len(c.m.on.mine()); n != 0 {
		t.Errorf("it is there %d times more", n)
	}
	c.end()
}

// TestTyped: what is typed is gathered, and is in the line before any other key means something to it; in between nothing is
// drawn.
func TestTyped(t *testing.T) {
	w := newWorld(t)
	w.room("ops")
	c := w.open(200)
	c.see("write to ops")
	_, then := c.m.Update(keyText("o"))
	if then == nil {
		t.Fatal("nothing has it taken")
	}
	if _, more := c.m.Update(keyText("k")); more != nil {
		t.Error("each has it taken")
	}
	if text := c.m.line.Value(); text != "" || strings.Contains(c.screen(), "› o") {
		t.Errorf("%q is in the line, and drawn, at once", text)
	}
	c.run(then)
	c.see("› ok")
	c.typed("x?")
	c.event(tea.KeyPressMsg{Code: tea.KeyBackspace})
	c.typed("y")
	c.event(tea.PasteMsg{Content: "z"})
	c.press("f1", "esc") // which is no text, nor is what ends the help
	c.typed("!")
	c.press("enter")
	c.see("alice okxyz! (stored)")
	c.end()
}

// TestStreamChanges: a message is there once, though the room ceases to store, or begins to, and its stream is another then; what
// is not stored is not said to be.
func TestStreamChanges(t *testing.T) {
	w := newWorld(t)
	w.room("ops")
	c := w.open(200)
	c.see("write to ops")
	say := func(text, mark string) {
		t.Helper()
		c.typed(text)
		c.press("enter")
		c.see(text + " (" + mark + ")")
	}
	set := func(retain *unibus.Retain) {
		t.Helper()
		room, err := w.alice.Room(w.ctx, "ops")
		w.must(err)
		w.must(room.SetPolicy(w.ctx, func(p *unibus.PolicyChange) { p.Retain = retain }))
	}
	say("first", "stored")
	set(nil)
	say("second", "sent")
	say("third", "sent")
	set(&unibus.Retain{Age: 3600})
	say("fourth", "stored")
	say("fifth", "stored")
	c.until("settle", func(string) bool { return len(c.m.on.mine()) == 0 })
	for _, text := range []string{"first", "second", "third", "fourth", "fifth"} {
		if n := strings.Count(c.screen(), text); n != 1 {
			t.Errorf("%s is there %d times:\n%s", text, n, c.screen())
		}
	}
	c.end()
}

// TestSlips: what looks like a command is sent when it is said twice, and what was said of one room is not said of another.
func TestSlips(t *testing.T) {
	w := newWorld(t)
	w.room("a")
	w.room("b")
	c := w.open(200)
	c.see("write to a")
	c.typed("/quti now")
	c.press("enter")
	c.see("/quti now is no command")
	c.press("tab")
	c.see("write to b")
	if strings.Contains(c.screen(), "is no command") {
		t.Error("it is said of another room")
	}
	c.press("shift+tab", "enter", "enter")
	c.see("/quti now (stored)")
	c.event(tea.WindowSizeMsg{Width: 40, Height: 24})
	c.press("f2")
	c.see("too narrow for the members")
	c.press("ctrl+f")
	c.typed("nowhere")
	c.press("enter")
	c.see("no match")
	c.end()
}

// TestSizes: on a screen of any size there are as many lines as it has, none is wider, and nothing fails.
func TestSizes(t *testing.T) {
	w := newWorld(t)
	_, bobs := w.room("a.room.with.a.name.that.is.wider.than.its.column")
	w.room("other")
	w.must(bobs.Publish(w.ctx, []byte("日本語のテキスト 👩‍👩‍👧 "+strings.Repeat("wide ", 50)+strings.Repeat("x", 200))))
	c := w.open(200)
	c.see("wide")
	c.press("f2")
	c.m.status = strings.Repeat("a long status ", 20)
	for _, help := range []bool{false, true} {
		c.m.help.on = help
		for width := 1; width <= 130; width += 3 {
			for _, height := range []int{1, 4, 5, 8, 24, 60} {
				c.event(tea.WindowSizeMsg{Width: width, Height: height})
				lines := strings.Split(c.m.View().Content, "\n")
				if len(lines) > max(height, 5) {
					t.Fatalf("%d lines on a screen of %dx%d", len(lines), width, height)
				}
				for _, l := range lines {
					if ansi.StringWidth(l) > max(width, 6) {
						t.Fatalf("%q is wider than %d", ansi.Strip(l), width)
					}
				}
			}
		}
	}
	c.end()
}

// TestBounded: the texts that are kept have a limit, and what was let go can be read again.
func TestBounded(t *testing.T) {
	w := newWorld(t)
	_, bobs := w.room("ops")
	c := w.open(200)
	c.see("write to ops")
	body := strings.Repeat("x", maxShown)
	const n = maxKept/(3*maxShown) + 100
	for i := range n {
		m := unibus.Message{Room: bobs.ID(), Sender: w.bob.Key(), Name: "bob", Time: time.Now(), Counter: uint64(i), Body: []byte(body)}
		c.event(arrived{[]message{{m, len(body)}}})
	}
	if r := c.m.on; r.bytes > maxKept || len(r.seen) != len(r.items) || len(r.items) >= n {
		t.Errorf("%d bytes of %d messages are kept, %d known", r.bytes, len(r.items), len(r.seen))
	}
	c.end()
}

// TestRefused: a room that is not there is not waited for.
func TestRefused(t *testing.T) {
	w := newWorld(t)
	if _, err := New(w.ctx, w.alice, Options{Rooms: []string{"nowhere"}}); !errors.Is(err, unibus.ErrNotFound) {
		t.Errorf("%v", err)
	}
}
