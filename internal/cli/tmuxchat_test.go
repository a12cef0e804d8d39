package cli

import (
	"regexp"
	"strings"
	"testing"
)

// TestChat: a chat on a real terminal, as people see it.
func TestChat(t *testing.T) {
	b := newPeopleBus(t)
	b.roomOf("ops.alerts")
	b.roomOf("ops.deploys")
	b.play(t,
		scene{"rooms", seeChatRooms}, scene{"writing", seeChatWriting}, scene{"hostile", seeChatHostile}, scene{"narrow", seeChatNarrow}, scene{"plain", seeChatPlain},
		scene{"members", seeChatMembers}, scene{"no terminal", seeChatWithout},
	)
}

var minutes = regexp.MustCompile(`\b\d\d:\d\d\b`)

// seesChat compares a chat's screen with what it has to be.
func (p *person) seesChat(want string) {
	p.t.Helper()
	screen := minutes.ReplaceAllString(p.screen(), "12:00")
	var lines []string
	for line := range strings.SplitSeq(screen, "\n") {
		lines = append(lines, strings.TrimRight(line, " "))
	}
	if got := "\n" + strings.Join(lines, "\n"); got != want {
		p.t.Errorf("the screen is\n%s\n\ninstead of\n%s", got, want)
	}
}

// seeChatRooms: all rooms beside each other, with what is new in those that are not on the screen; what happened stands
// among what was said.
func seeChatRooms(t *testing.T, b *testBus) {
	b.must(exitDone, "bob", "pub", "ops.alerts", "disk full on db1:\n  12 MB left")
	p := b.sitDown(t, "admin", 80)
	p.types("unibus chat")
	p.waits("12 MB left")
	b.must(exitDone, "bob", "pub", "ops.deploys", "2.4.1 is out")
	p.waits("ops.deploys     1│")
	p.seesChat(`
 ops.alerts  2 members · epoch 1 · end-to-end encrypted
 ops.alerts       │
 ops.deploys     1│
                  │
                  │
                  │
                  │
                  │
                  │
                  │
                  │
                  │
                  │
                  │
                  │ — the beginning of what is stored —
                  │ — Friday, 2 January 2026 —
                  │ 12:00 · alice made this room: ops.alerts: encryption e2e;
                  │         history shared; stores 30d, at most 1.0 GiB
                  │ 12:00 · alice invited bob (member)
                  │ 12:00 bob disk full on db1:
                  │             12 MB left
────────────────────────────────────────────────────────────────────────────────
› write to ops.alerts
f1 help · enter send · tab next room · ctrl+c end · ctrl+f search · f2 members`)
	p.presses("Tab")
	p.waits("2.4.1 is out")
	b.must(exitDone, "admin", "rekey", "ops.deploys")
	p.waits("alice gave the room a new key: epoch 2")
	p.presses("C-c")
	p.waitsForPrompt()
	p.types("echo $?")
	p.waits("0\n$")
}

// seeChatWriting: what is written is sealed and stored, in as many lines as one likes; others get it whole.
func seeChatWriting(t *testing.T, b *testBus) {
	p := b.sitDown(t, "bob", 80)
	p.types("unibus chat ops.deploys")
	p.waits("write to ops.deploys")
	p.must(p.Type("rolling back"))
	p.presses("Enter")
	p.waits("rolling back (stored)")
	p.must(p.Type("two"))
	p.presses("M-Enter")
	p.must(p.Type("lines"))
	p.presses("Enter")
	p.waits("lines (stored)")
	p.presses("F2")
	p.waits("alice        owner")
	p.presses("C-f")
	p.waits("search in ops.deploys")
	p.must(p.Type("BACK"))
	p.presses("Enter")
	p.waits("match 1 of 1")
	p.presses("Escape")
	p.waits("write to ops.deploys")
	p.presses("C-c")
	p.waits("2 messages sent")
	if got := b.must(exitDone, "admin", "sub", "ops.deploys", "--last", "2", "--end", "--null"); got != "rolling back\x00two\nlines\x00" {
		t.Errorf("%q was sent", got)
	}
}

// seeChatHostile: nothing that others wrote acts on the terminal.
func seeChatHostile(t *testing.T, b *testBus) {
	b.roomOf("hostile")
	b.must(exitDone, "bob", "pub", "hostile", "a\x1b[31mred\x1b]0;title\x07\x1b[2Jb")
	p := b.sitDown(t, "admin", 100)
	p.types("unibus chat hostile")
	p.waits(`a\x1b[31mred\x1b]0;title\x07\x1b[2Jb`)
	if styled := p.styled(); strings.Contains(styled, "\x1b[31mred") {
		t.Errorf("it acts: %q", styled)
	}
	p.presses("C-c")
	p.waitsForPrompt()
}

// seeChatNarrow: a chat fits the terminal, also when that changes its size.
func seeChatNarrow(t *testing.T, b *testBus) {
	p := b.sitDown(t, "admin", 40)
	p.types("unibus chat ops.alerts ops.deploys")
	p.waits("disk full on db1:")
	if screen := p.screen(); strings.Contains(screen, "│") {
		t.Errorf("there is a list of rooms in\n%s", screen)
	}
	p.must(p.Resize(100, 30))
	p.waits(" ops.deploys      │")
	p.must(p.Resize(30, 8))
	p.must(p.AwaitScreen(p.ctx, "a small chat", func(screen string) bool {
		return strings.Count(screen, "\n") == 7 && !strings.Contains(screen, "│") && strings.Contains(screen, "12 MB left")
	}))
	p.presses("C-c")
	p.waitsForPrompt()
}

// seeChatPlain: without colours what matters is told apart all the same.
func seeChatPlain(t *testing.T, b *testBus) {
	coloured := regexp.MustCompile(`\x1b\[[0-9;]*(3[0-7]|9[0-7]|38;)[0-9;]*m`)
	for _, plain := range []bool{false, true} {
		var env []string
		if plain {
			env = append(env, "NO_COLOR=1")
		}
		p := b.sitDown(t, "admin", 80, env...)
		p.types("unibus chat ops.alerts")
		p.waits("disk full on db1:")
		if styled := p.styled(); coloured.MatchString(styled) == plain || !strings.Contains(styled, "\x1b[7m") {
			t.Errorf("plain %v: %q", plain, styled)
		}
		p.presses("C-c")
		p.waitsForPrompt()
	}
}

// seeChatMembers: who is removed is told so, in words, and writes no more; its exit code is that of a chat that was ended.
func seeChatMembers(t *testing.T, b *testBus) {
	b.roomOf("short")
	p := b.sitDown(t, "bob", 80)
	p.types("unibus chat")
	p.waits("ops.alerts")
	p.presses("BTab") // to the last
	p.waits("write to short")
	b.must(exitDone, "admin", "kick", "short", "bob")
	p.must(p.AwaitScreen(p.ctx, "no member any more", func(screen string) bool {
		if strings.Contains(screen, "you are not a member of this room any more") {
			return true
		}
		p.presses("x", "Enter")
		return false
	}))
	p.presses("C-c")
	p.waitsForPrompt()
}

// seeChatWithout: a chat is for a terminal, and says what is for others.
func seeChatWithout(t *testing.T, b *testBus) {
	p := b.sitDown(t, "bob", 80)
	p.types("unibus chat ops.alerts | cat")
	p.waits("hint: without one: unibus sub ROOM, and unibus pub ROOM")
	p.types("unibus chat nowhere; echo $?")
	p.waits("unibus: room nowhere: not found")
	p.waits("3\n$")
}
