package cli

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/unibus/unibus/internal/tmux"
)

// What people see: commands are typed into a real terminal, and these are its screens, whole. Only clocks and dates are
// replaced, by those of one moment.

// person is somebody at a terminal.
type person struct {
	*tmux.Session
	t   *testing.T
	ctx context.Context
}

// sitDown gives somebody a terminal of a size, with a shell in the folder of the bus and more variables.
func (b *testBus) sitDown(t *testing.T, user string, columns int, env ...string) *person {
	t.Helper()
	if !tmux.Installed() {
		t.Skip("tmux is not installed: there is no terminal to look at")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	for _, name := range []string{"XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "UNIBUS_SERVER", "UNIBUS_TIMEOUT", "GOCOVERDIR"} {
		env = append(env, name+"="+os.Getenv(name))
	}
	env = append(env, "TZ=UTC", "UNIBUS_IDENTITY="+b.path(user+".nk"))
	s, err := tmux.Start(ctx, tmux.Options{Dir: b.dir, Env: env, Columns: columns, Rows: 24})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &person{s, t, ctx}
}

// types types lines, each with Enter.
func (p *person) types(lines ...string) {
	p.t.Helper()
	for _, line := range lines {
		p.must(p.Type(line + "\n"))
	}
}

// presses presses keys.
func (p *person) presses(keys ...string) {
	p.t.Helper()
	p.must(p.Key(keys...))
}

// waits waits until the screen has a text.
func (p *person) waits(text string) {
	p.t.Helper()
	p.must(p.Await(p.ctx, text))
}

// waitsForPrompt waits until what runs has ended, and returns the screen.
func (p *person) waitsForPrompt() string {
	p.t.Helper()
	p.must(p.AwaitScreen(p.ctx, "the prompt", func(screen string) bool { return strings.HasSuffix(screen, "\n$") }))
	return p.screen()
}

// must fails the test for an error.
func (p *person) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

var (
	clocks = regexp.MustCompile(`\b\d\d:\d\d:\d\d\b`)
	days   = regexp.MustCompile(`— \w+, \d+ \w+ \d{4} —`)
)

// screen is what is on it.
func (p *person) screen() string {
	p.t.Helper()
	screen, err := p.Screen()
	p.must(err)
	return days.ReplaceAllString(clocks.ReplaceAllString(screen, "12:00:00"), "— Friday, 2 January 2026 —")
}

// sees compares the screen with what it has to be; both begin on a line of their own.
func (p *person) sees(want string) {
	p.t.Helper()
	if got := "\n" + p.screen(); got != strings.TrimRight(want, " \n") {
		p.t.Errorf("the screen is\n%s\n\ninstead of\n%s", got, want)
	}
}

// styled is the screen with its colours.
func (p *person) styled() string {
	p.t.Helper()
	screen, err := p.Styled()
	p.must(err)
	return screen
}

// newPeopleBus is a bus with two people, to sit down at terminals: alice, its admin, who is admin in tests, and bob.
func newPeopleBus(t *testing.T) *testBus {
	t.Helper()
	b := newTestBus(t)
	b.must(exitDone, "admin", "init", "-q", "--name", "alice")
	b.must(exitDone, "bob", "init", "-q", "--name", "bob")
	b.serve("--data", "data")
	b.must(exitDone, "admin", "user", "add", strings.TrimSpace(b.must(exitDone, "bob", "whoami")), "--name", "bob")
	b.must(exitDone, "bob", "join", os.Getenv("UNIBUS_SERVER"))
	return b
}

// scene is something that people see on a bus.
type scene struct {
	name string
	see  func(*testing.T, *testBus)
}

// play plays scenes one after the other.
func (b *testBus) play(t *testing.T, scenes ...scene) {
	for _, one := range scenes {
		t.Run(one.name, func(t *testing.T) { one.see(t, b) })
	}
}

// TestTerminal: what the commands that people look at most show on a terminal.
func TestTerminal(t *testing.T) {
	b := newPeopleBus(t)
	b.play(t,
		scene{"sub", seeSub}, scene{"narrow", seeNarrow}, scene{"colours", seeColours}, scene{"piped", seePiped}, scene{"hostile", seeHostile},
		scene{"typing", seeTyping}, scene{"typing interrupted", seeTypingInterrupted}, scene{"progress", seeProgress}, scene{"background", seeBackground}, scene{"bench", seeBench},
		scene{"asked", seeAsked}, scene{"error", seeError}, scene{"doctor", seeDoctor}, scene{"rooms", seeRooms},
	)
}

// roomOf makes a room of alice and bob.
func (b *testBus) roomOf(subject string) {
	b.t.Helper()
	b.must(exitDone, "admin", "room", "create", subject)
	b.must(exitDone, "admin", "invite", subject, "bob")
}

// seeSub: what is there comes in the order in which it was stored, under its day, and what comes then below a line of its own.
// Bodies stand beside their senders as they were written. ^C says how many there were.
func seeSub(t *testing.T, b *testBus) {
	b.roomOf("ops.alerts")
	b.roomOf("ops.deploys")
	b.must(exitDone, "admin", "pub", "ops.deploys", "rolling out 2.4.1")
	b.must(exitDone, "admin", "pub", "ops.alerts", "disk full on db1:\n\n  if free < 5% {\n\tpage(oncall)\n  }")
	b.must(exitDone, "bob", "pub", "ops.deploys", "2.4.1 is on all of the eu-west machines,  and that took  four minutes")
	p := b.sitDown(t, "admin", 80)
	p.types("unibus sub ops.alerts ops.deploys --all")
	p.waits("— live —")
	b.must(exitDone, "bob", "pub", "ops.alerts", "looking")
	p.waits("looking")
	p.presses("C-c")
	p.waitsForPrompt()
	p.sees(`
$ unibus sub ops.alerts ops.deploys --all
reading ops.alerts, ops.deploys
— Friday, 2 January 2026 —
12:00:00 ops.deploys alice  rolling out 2.4.1
12:00:00 ops.alerts  alice  disk full on db1:

                              if free < 5% {
                                page(oncall)
                              }
12:00:00 ops.deploys bob    2.4.1 is on all of the eu-west machines,  and that
                            took  four minutes
— live —
12:00:00 ops.alerts  bob    looking
^C
4 messages
$`)
}

// seeNarrow: on a narrow terminal bodies are broken between words, and on one that was made wider the next ones are not.
func seeNarrow(t *testing.T, b *testBus) {
	b.roomOf("narrow")
	const body = "as long as this is,  it does not fit into 50 columns"
	b.must(exitDone, "admin", "pub", "narrow", body)
	p := b.sitDown(t, "bob", 50)
	p.types("unibus sub narrow --all -q")
	p.waits("— live —")
	p.sees(`
$ unibus sub narrow --all -q
— Friday, 2 January 2026 —
12:00:00 alice  as long as this is,  it does not
                fit into 50 columns
— live —`)
	p.must(p.Resize(80, 24))
	b.must(exitDone, "admin", "pub", "narrow", body)
	p.waits(body)
	p.presses("C-c")
	if screen := p.waitsForPrompt(); !strings.HasSuffix(screen, "12:00:00 alice  "+body+"\n^C\n$") { // -q: no number
		t.Errorf("the screen is\n%s", screen)
	}
}

// seeColours: senders and what is beside them have colours, and with NO_COLOR nothing has.
func seeColours(t *testing.T, b *testBus) {
	b.roomOf("colours")
	b.must(exitDone, "admin", "pub", "colours", "in colour")
	p := b.sitDown(t, "bob", 80)
	p.types("unibus sub colours --all")
	p.waits("— live —")
	line := regexp.MustCompile(`\n[0-9:]{8}\x1b\[39m \x1b\[(3[2-6]|9[25-6])malice\x1b\[39m  in colour`)
	if styled := p.styled(); !line.MatchString(styled) || !strings.Contains(styled, "\x1b[90m— live —") {
		t.Errorf("there are no colours in %q", styled)
	}
	p = b.sitDown(t, "bob", 80, "NO_COLOR=1")
	p.types("unibus sub colours --all")
	p.waits("— live —")
	p.presses("C-c")
	p.waitsForPrompt()
	p.types("unibus doctor")
	p.waits("pass  reachable")
	if styled := p.styled(); strings.Contains(styled, "\x1b") {
		t.Errorf("there are colours in %q", styled)
	}
}

// seePiped: what goes to another program has neither days nor names, nor a line where the past ends.
func seePiped(t *testing.T, b *testBus) {
	b.roomOf("piped")
	b.must(exitDone, "admin", "pub", "piped", "one\n  two")
	p := b.sitDown(t, "bob", 80)
	p.types("unibus sub piped --all --count 2 | tee got")
	p.waits("reading piped")
	b.must(exitDone, "admin", "pub", "piped", "three")
	p.waitsForPrompt()
	p.sees(`
$ unibus sub piped --all --count 2 | tee got
reading piped
one
  two
three
$`)
}

// seeHostile: nothing that others wrote acts on a terminal, however it is shown, unless --raw is given; what whoever reads
// put into a format does.
func seeHostile(t *testing.T, b *testBus) {
	b.roomOf("hostile")
	b.must(exitDone, "bob", "pub", "hostile", "-H", "k=\x1b[7m", "a\x1b[31mb\nc\td")
	p := b.sitDown(t, "admin", 80)
	p.types(`unibus sub hostile --all --end --format '\x1b[32m%n\x1b[0m %h %S: %s.\n'`)
	p.waitsForPrompt()
	p.sees(`
$ unibus sub hostile --all --end --format '\x1b[32m%n\x1b[0m %h %S: %s.\n'
bob k=\x1b[7m 11: a\x1b[31mb
c\td.
$`)
	if styled := p.styled(); !strings.Contains(styled, "\x1b[32mbob\x1b[39m") {
		t.Errorf("the format's own colours are not in %q", styled)
	}
	p.types("unibus sub hostile --all --end --raw --format '%s.\\n'")
	p.waits("c       d.")
	if styled := p.styled(); !strings.Contains(styled, "a\x1b[31mb") {
		t.Errorf("the body's colours are not in %q", styled)
	}
}

// seeTyping: who types is told how, and at the end how many were acknowledged; with -q neither.
func seeTyping(t *testing.T, b *testBus) {
	b.roomOf("typing")
	p := b.sitDown(t, "bob", 50)
	p.types("unibus pub typing")
	p.waits("ends")
	p.types("disk full on db1", "looking")
	p.presses("C-d")
	p.waitsForPrompt()
	p.types("unibus pub typing --whole")
	p.waits("it takes")
	p.types("two", "lines")
	p.presses("C-d")
	p.waitsForPrompt()
	p.types("unibus pub typing -q", "quiet")
	p.presses("C-d")
	p.waitsForPrompt()
	p.sees(`
$ unibus pub typing
a message a line; ^D ends
disk full on db1
looking
2 messages acknowledged
$ unibus pub typing --whole
one message of as many lines as it takes; ^D ends
two
lines
1 message acknowledged
$ unibus pub typing -q
quiet
$`)
	if got := b.must(exitDone, "admin", "sub", "typing", "--all", "--end"); got != "disk full on db1\nlooking\ntwo\nlines\n\nquiet\n" {
		t.Errorf("%q was sent", got)
	}
}

// seeTypingInterrupted: ^C keeps what was sent, and says how much that is.
func seeTypingInterrupted(t *testing.T, b *testBus) {
	b.roomOf("interrupted")
	p := b.sitDown(t, "bob", 80)
	reader := b.sitDown(t, "admin", 80)
	reader.types("unibus sub interrupted --new")
	reader.waits("reading")
	p.types("unibus pub interrupted")
	p.waits("ends")
	p.types("disk full on db1")
	reader.waits("disk full on db1") // so it was sent
	p.presses("C-c")
	p.waitsForPrompt()
	p.types("echo $?")
	p.waits("130\n$")
	p.sees(`
$ unibus pub interrupted
a message a line; ^D ends
disk full on db1
^C
unibus: 1 message acknowledged
$ echo $?
130
$`)
}

// seeProgress: when another program writes and it takes a while there is a line that says how far it is; it makes room for
// what is said at the end.
func seeProgress(t *testing.T, b *testBus) {
	b.roomOf("progress")
	p := b.sitDown(t, "bob", 80)
	p.must(exec.Command("mkfifo", b.path("more")).Run())
	p.types("(seq 100; cat more) | unibus pub progress")
	p.waits("100 messages acknowledged, ")
	if screen := p.screen(); !regexp.MustCompile(`\n100 messages acknowledged, \d+/s, 192 B read$`).MatchString(screen) {
		t.Errorf("the screen is\n%s", screen)
	}
	p.must(os.WriteFile(b.path("more"), []byte("last\n"), 0o600))
	p.waitsForPrompt()
	p.sees(`
$ (seq 100; cat more) | unibus pub progress
101 messages acknowledged
$`)
}

// seeBench: what is being measured stands where its row comes, and is gone when it does, or when ^C ends it.
func seeBench(t *testing.T, b *testBus) {
	p := b.sitDown(t, "bob", 80)
	p.types("unibus bench sub --count 4")
	if screen := p.waitsForPrompt(); !regexp.MustCompile(`^\$ .*\nWHAT +MEASURED +UNIBUS +RAW NATS +RATIO\nsub +what is stored +[0-9].*×\n\$$`).MatchString(screen) {
		t.Errorf("the screen is\n%s", screen)
	}
	p = b.sitDown(t, "bob", 80)
	p.types("unibus bench rtt --for 1h")
	p.waits("\nmeasuring rtt, stored (1 of 2)")
	p.presses("C-c")
	p.waitsForPrompt()
	p.types("echo $?")
	p.waits("130\n$")
	p.sees(`
$ unibus bench rtt --for 1h

$ echo $?
130
$`)
}

// seeBackground: a command that was sent to the background knows that the terminal is not its own to draw on.
func seeBackground(t *testing.T, b *testBus) {
	p := b.sitDown(t, "bob", 80)
	p.types("foreground")
	p.waits("in the foreground: true")
	p.types("foreground & wait $!")
	p.waits("in the foreground: false")
}

// seeAsked: who is asked may say no by any other word than yes, of which nothing is left for the shell, or end it with ^C.
func seeAsked(t *testing.T, b *testBus) {
	b.roomOf("asked")
	p := b.sitDown(t, "admin", 80)
	p.types("unibus room archive asked")
	p.waits("[y/N]")
	p.types("echo hi")
	p.waitsForPrompt()
	p.types("unibus room archive asked")
	p.must(p.AwaitScreen(p.ctx, "being asked again", func(screen string) bool { return strings.Count(screen, "[y/N]") == 2 }))
	p.presses("C-c")
	p.waitsForPrompt()
	p.types("echo $?")
	p.waits("130\n$")
	p.sees(`
$ unibus room archive asked
archive asked for good? [y/N] echo hi
unibus: not confirmed
$ unibus room archive asked
archive asked for good? [y/N] ^C
$ echo $?
130
$`)
}

// seeError: an error is a line, and what helps is another one that can be pasted.
func seeError(t *testing.T, b *testBus) {
	for _, columns := range []int{80, 50} {
		p := b.sitDown(t, "bob", columns)
		p.types("unibus pub ops.nosuch hello")
		p.waitsForPrompt()
		p.types("echo $?")
		p.waits("3\n$")
		p.sees(`
$ unibus pub ops.nosuch hello
unibus: room ops.nosuch: not found
hint: unibus rooms ls shows the rooms you are in
$ echo $?
3
$`)
	}
}

// seeDoctor: each check begins a line, with how it went in colour, and what it says goes on beside it.
func seeDoctor(t *testing.T, b *testBus) {
	for _, columns := range []int{80, 50} {
		p := b.sitDown(t, "bob", columns)
		p.types("unibus doctor -q")
		screen := p.waitsForPrompt()
		for line := range strings.SplitSeq(screen, "\n") {
			if !regexp.MustCompile(`^((pass|warn) +[a-z]|     +[^ ]|\d+ passed, \d+ warnings?, 0 failed|\$|$)`).MatchString(line) {
				t.Errorf("%d columns: %q in\n%s", columns, line, screen)
			}
		}
		if styled := p.styled(); !strings.Contains(styled, "\x1b[32mpass\x1b[39m  reachable") {
			t.Errorf("there are no colours in %q", styled)
		}
	}
}

// seeRooms: a table fits, and its header is bold.
func seeRooms(t *testing.T, b *testBus) {
	// A narrow one is too narrow for subjects and as much of an id as names a room that others have made.
	for columns, row := range map[int]string{80: `ops\.alerts +member .* [a-z2-7]{12}$`, 50: `ops\.aler +member .* [a-z2-7]{9}\nts +[a-z2-7]{3}$`} {
		p := b.sitDown(t, "bob", columns)
		p.types("unibus rooms ls")
		screen := p.waitsForPrompt()
		if !regexp.MustCompile(`(?m)^ROOM +ROLE +.*\n(.*\n)*` + row).MatchString(screen) {
			t.Errorf("%d columns:\n%s", columns, screen)
		}
		if styled := p.styled(); !strings.Contains(styled, "\x1b[1mROOM") {
			t.Errorf("the header is not bold in %q", styled)
		}
	}
}
