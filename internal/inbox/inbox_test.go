package inbox

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// t0 is when the tests' readers begin, and the minute in which their frames are sealed.
var t0 = time.UnixMilli(1_700_000_000_000)

const patience = 2 * time.Second

// facts are what a test's log says.
type facts struct {
	notOwed  string // epochs, as digits
	unstored uint64 // an entry under which nothing was stored
	keeps    ledger.Retain
	joined   time.Duration // before t0
	anew     time.Duration // what is stored began anew with entry 2, so long before t0; 0: with the first
	archived bool
}

func (f facts) Archived() bool { return f.archived }

func (f facts) Owes(epoch uint32) bool { return !strings.Contains(f.notOwed, fmt.Sprint(epoch)) }
func (f facts) OwesAt(at uint64) bool  { return f.Owes(uint32(at)) } // an epoch an entry
func (f facts) StoredSince(at uint64) bool {
	return (f.unstored < at || f.unstored == 0) && (f.anew == 0 || at > 1)
}
func (f facts) Kept(uint64) ledger.Kept {
	limit := uint64(f.keeps.Bytes)
	return ledger.Kept{Age: f.keeps.Age, Trimmed: limit > 0, Left: limit / 2}
}
func (f facts) Created() time.Time { return t0.Add(-f.joined) }
func (f facts) Began() (uint64, time.Time) {
	if f.anew != 0 {
		return 2, t0.Add(-f.anew)
	}
	return 1, t0.Add(-f.joined)
}
func (f facts) Joined(crypto.PublicKey) (uint64, time.Time) {
	return 1, t0.Add(-f.joined)
}

// player plays a script to an inbox and writes down what comes out:
//
//	a5       frame 5 of stream a, of one message "a5". Streams of small letters are one sender's, the others another's
//	a5+ a6.  its message goes on in the next frame; the stream ends with it
//	a5! a5~  a frame that is refused, and one that is only read to know what comes next
//	a5=x     other content under the same counter
//	a5@3     made at entry 3, in epoch 3
//	a5s-90   sealed 90 s before t0
//	a5#40    of 40 bytes
//	b0[a:3]  says that three frames of stream a were acknowledged, the last of them stored at place 1,
//	b0[a:3/7]  or at place 7
//	b0[a:3@2]  and made at entry 2, not at that of b0
//	first=9  the server says that the room begins at place 9
//	skip=9   the next frame has place 9
//	end      everything stored has been read
//	lost=4   place 4 holds nothing; with lost=a4, nothing authentic under the subject of a's sender
//	+90      90 s pass
//	release  what is held is wanted
//	finish   the reader ends
//
// Messages are written as their bodies, notices as KIND FROM-TO, findings with ! before them.
type player struct {
	b     *Inbox
	now   time.Time
	place uint64
	out   []string
}

func newPlayer(o Options, log Log) *player {
	p := &player{now: t0}
	o.Limit, o.Patience = cmp.Or(o.Limit, 100), patience
	p.b = New(o, log, p.message, p.noticed)
	return p
}

func (p *player) message(m Message) {
	mark := ""
	if m.Unsure {
		mark = "?"
	}
	p.out = append(p.out, string(m.Body)+string(bytes.Join(m.Parts, nil))+mark)
}

func (p *player) noticed(n Notice) {
	text := fmt.Sprintf("%s(%s%d", n.Kind, strings.TrimLeft(string(n.Stream[:1]), "\x00"), n.From)
	if n.To > n.From {
		text += fmt.Sprintf("-%d", n.To)
	}
	if n.Finding {
		text = "!" + text
	}
	p.out = append(p.out, text+")")
}

var drawnFrame = regexp.MustCompile(`^([a-zA-Z])(\d+)([+.!~]*)(?:=(\w+))?(?:@(\d+))?(?:s(-?\d+))?(?:#(\d+))?(?:\[([a-zA-Z]):(\d+)(?:/(\d+))?(?:@(\d+))?\])?$`)

func (p *player) play(script string) string {
	p.out = nil
	for _, word := range strings.Fields(script) {
		name, value, _ := strings.Cut(word, "=")
		n, _ := strconv.ParseUint(value, 10, 64)
		switch {
		case word == "end":
			p.b.Due(p.now)
		case word == "release":
			p.b.Release(p.now)
		case word == "finish":
			p.b.Finish(p.now)
		case name == "first":
			p.b.Reached(n)
		case name == "skip":
			p.place = n - 1
		case name == "lost" && value[0] > '9':
			n, _ := strconv.ParseUint(value[1:], 10, 64)
			p.b.Damaged(senderOf(value[0]), n, n)
		case name == "lost":
			p.b.Damaged(crypto.PublicKey{}, n, n)
		case word[0] == '+':
			seconds, _ := strconv.Atoi(word[1:])
			p.now = p.now.Add(time.Duration(seconds) * time.Second)
		default:
			p.b.Take(p.frame(word), p.now)
		}
	}
	return strings.Join(p.out, " ")
}

func (p *player) frame(word string) Frame {
	m := drawnFrame.FindStringSubmatch(word)
	if m == nil {
		panic("no such frame: " + word)
	}
	number := func(s string, otherwise int64) int64 {
		if s == "" {
			return otherwise
		}
		n, _ := strconv.ParseInt(s, 10, 64)
		return n
	}
	at := number(m[5], 1)
	f := Frame{Sender: senderOf(m[1][0]), Refused: strings.Contains(m[3], "!"), Context: strings.Contains(m[3], "~")}
	f.Header = crypto.Header{Epoch: uint32(at), At: uint64(at), Stream: [16]byte{m[1][0]}, Counter: uint64(number(m[2], 0))}
	if strings.Contains(m[3], "+") {
		f.Header.Flags |= crypto.FlagMore
	}
	if strings.Contains(m[3], ".") {
		f.Header.Flags |= crypto.FlagFinal
	}
	content := crypto.AppendContentTime(nil, uint64(t0.Add(time.Duration(number(m[6], 0))*time.Second).UnixMicro()))
	if m[8] != "" {
		f.Header.Flags |= crypto.FlagFollows
		content = crypto.AppendFollows(content, []crypto.Follows{{
			Stream: [16]byte{m[8][0]}, Frames: uint64(number(m[9], 0)), At: uint64(number(m[11], at)), Place: uint64(number(m[10], 1)),
			Sealed: uint64(t0.UnixMicro()),
		}})
	}
	body := m[1] + m[2] + m[4]
	f.Size = int(number(m[7], int64(len(body))))
	content = crypto.AppendRecord(content, nil, append([]byte(body), make([]byte, f.Size-len(body))...))
	var err error
	if f.Content, err = crypto.ParseContent(f.Header.Flags, content); err != nil {
		panic(err)
	}
	for _, c := range []byte(m[4]) {
		f.Sum = f.Sum*31 + uint64(c)
	}
	if p.b.o.Stored {
		p.place++
		f.Place = p.place
	}
	return f
}

func senderOf(letter byte) crypto.PublicKey {
	if letter >= 'a' {
		return crypto.PublicKey{1}
	}
	return crypto.PublicKey{2}
}

var (
	whole  = Options{Stored: true, Start: true} // a stored room, from its beginning
	middle = Options{Stored: true, From: 10}    // and from a place on
	live   = Options{}
)

func TestInbox(t *testing.T) {
	year := facts{keeps: ledger.Retain{Age: 365 * 24 * 3600, Bytes: 1 << 40}, joined: time.Hour}
	hour := facts{keeps: ledger.Retain{Age: 3600}, joined: 20 * time.Minute}
	full := facts{keeps: ledger.Retain{Bytes: 1100}, joined: time.Hour}
	for _, v := range []struct {
		name   string
		o      Options
		log    facts
		script string
		want   string
	}{
		{"in order", whole, year, "a0 a1 A0 a2. A1", "a0 a1 A0 a2 A1"},
		{"out of order", whole, year, "a0 a2 a3 a1", "a0 a1 a2 a3"},
		{"the beginning out of order", whole, year, "a2 a1 a0 a3", "a0 a1 a2 a3"},
		{"repeated", whole, year, "a0 a0 a1 a0 a1 a3 a3 a2 a3", "a0 a1 a2 a3"},
		{"another frame under a used counter", whole, year, "a0 a1 a0=x a3 a3=x a2", "a0 a1 !replayed(a0) !replayed(a3) a2 a3"},

		{"a gap waits for the end", whole, year, "a0 a2 a3", "a0"},
		{"and for frames on their way", whole, year, "a0 a2 end a3", "a0"},
		{"a gap", whole, year, "a0 a2 a5 +2 end", "a0 a2? a5? !gap(a1) !gap(a3-4)"},
		{"a frame that comes after it was given up", whole, year, "a0 a2 +2 end a1 a3", "a0 a2? !gap(a1) a3"},
		{"released, and judged later", whole, year, "a0 a2 release end a3 +2 end", "a0 a2? a3 !gap(a1)"},
		{"released, and come late", whole, year, "a0 a5 release end a3 a2 a4 a3 +2 end", "a0 a5? dropped(a3) dropped(a2) dropped(a4) !gap(a1)"},
		{"released, and come late, with gaps of another stream, and behind it", whole, year, "b0 b2 a0 a1 a3 a5 release a1 a2 +2 end", "b0 a0 a1 b2? a3? a5? dropped(a2) !gap(b1) !gap(a4)"},
		{"what is damaged is not on its way", whole, year, "a0 lost=2 skip=3 a2 end a3", "a0 a2? !gap(a1) a3"},
		{"what is damaged under its subject", whole, year, "a0 lost=a2 skip=3 a2 end", "a0 a2? !gap(a1)"},
		{"what is damaged of another's", whole, year, "a0 lost=A2 skip=3 a2 end", "a0"},
		{"what was damaged before", whole, year, "skip=5 a0 lost=4 lost=7 a2 end", "a0"},
		{"old frames are not on their way", whole, year, "a0 a2s90 +93 end", "a0 a2? !gap(a1)"},
		{"a clock that is ahead does not hold up more", whole, year, "a0 a2s9999 +2 end", "a0 a2? !gap(a1)"},
		{"gaps are told at the end only", whole, year, strings.Repeat("a0 ", 2) + ahead(2, 66), "a0 " + strings.Replace(ahead(2, 66), "a2", "a2?", 1)},
		{"the beginning is missing", whole, year, "a2 a3 +2 end", "a2? a3 !gap(a0-1)"},
		{"joined in the middle", middle, year, "skip=10 a100 a99 a98 a101", "a100? a101"},
		{"joined in the middle, behind a frame to know what comes", middle, year, "skip=10 a100~ a102 +2 end", "a102? !gap(a101)"},
		{"nothing is missing before the first wanted", middle, year, "skip=10 a100~ a102~ a103 +2 end", "a103"},

		{"after the end", whole, year, "a0. a1 a2", "a0 !replayed(a1) !replayed(a2)"},
		{"its place in the log goes back", whole, year, "a0@3 a1@2 a2@3", "a0 !replayed(a1) a2"},
		{"its time goes back", whole, year, "a0s5 a1s4 a2s5", "a0 !replayed(a1) a2"},
		{"refused", whole, year, "a0 a1! a2 +2 end", "a0 a2"},
		{"a stream of refused frames", whole, year, "a0! a1! a2 +2 end", "a2"},

		{"pieces", whole, year, "a0 a1+ A0 a2+ a3 a4", "a0 A0 a1a2a3 a4"},
		{"a piece is missing", whole, year, "a0 a1+ a3+ a4 a5 +2 end", "a0 dropped(a1-2) a5 !gap(a2)"},
		{"a piece is refused", whole, year, "a0+ a1!+ a2 a3", "dropped(a0-2) a3"},
		{"the last piece is refused", whole, year, "a0+ a1! a2", "dropped(a0-2) a2"},
		{"a message that is too large", whole, year, "a0+#50 a1+#51 a2 a3", "dropped(a0-1) a3"},
		{"a message of one piece too large", whole, year, "a0+#101 a1 a2", "dropped(a0) a2"},
		{"not whole at the end", whole, year, "a0+ a1+ finish", "open(a0-2)"},
		{"gaps at the end", whole, year, "a0 a2 A1 +2 finish", "a0 a2? A1? !gap(a1) !gap(A0)"},
		{"gaps at the end that may still be filled", whole, year, "a0 a2 +2 A1s2 finish", "a0 a2? A1? !gap(a1) gap(A0)"},

		{"expired: age", whole, hour, "first=2 skip=2 a0s-3601 a2 +2 end", "a0 a2? !lost(1) expired(a1)"},
		{"expired: age, by clocks that differ", whole, hour, "first=2 skip=2 a0s-3001 a2 +2 end", "a0 a2? !lost(1) expired(a1)"},
		{"not old enough", whole, hour, "first=2 skip=2 a0s-2990 a2 +2 end", "a0 a2? !lost(1) !gap(a1)"},
		{"nothing expires behind the first", whole, hour, "skip=66 first=2 a0s-3601 a2 +2 end", "a0 a2? !lost(1) !gap(a1)"},
		{"expired: the beginning, of an old member", whole, facts{keeps: ledger.Retain{Age: 3600}, joined: 2 * time.Hour}, "a2 +2 end", "a2? expired(a0-1)"},
		{"not expired: the beginning, of a young member", whole, hour, "a2 +2 end", "a2? !gap(a0-1)"},
		{"expired: bytes", whole, full, "first=2 skip=2 a0 a2#300 +2 end", "a0 " + padded("a2", 300) + "? expired(a1)"},
		{"not enough bytes", whole, full, "first=2 skip=2 a0 a2 +2 end", "a0 a2? !lost(1) !gap(a1)"},
		{"bytes from the first place on", whole, full, "a0#300 a2 first=2 +2 end", padded("a0", 300) + " a2? !lost(1) !gap(a1)"},
		{"without limits nothing expires", whole, facts{joined: 1e6 * time.Hour}, "first=2 skip=2 a0s-999999 a2 +2 end", "a0 a2? !lost(1) !gap(a1)"},

		{"an epoch that is not for the reader", whole, facts{notOwed: "2"}, "a0@1 a4@3 +2 end", "a0 a4? unreadable(a1-3)"},
		{"the beginning in one", whole, facts{notOwed: "12"}, "a4@3 +2 end", "a4? unreadable(a0-3)"},
		{"only between the two", whole, facts{notOwed: "14"}, "a0@2 a4@3 +2 end", "a0 a4? !gap(a1-3)"},
		{"nothing was stored", whole, facts{unstored: 2}, "a0@1 a4@3 +2 end", "a0 a4? unstored(a1-3)"},
		{"nothing was stored later, and a frame came after it was emptied", whole, facts{unstored: 4}, "a4@3 +2 end", "a4? unstored(a0-3)"},
		{"nothing was stored before", whole, facts{unstored: 2}, "a0@3 a4@3 +2 end", "a0 a4? !gap(a1-3)"},

		{"on its way when the room was archived", whole, facts{archived: true}, "a0 a2 +2 end", "a0 a2? unacknowledged(a1)"},
		{"and all that was on its way", whole, facts{archived: true}, "a0 a2 a18 +2 end", "a0 a2? a18? unacknowledged(a1) unacknowledged(a3-17)"},
		{"longer ago than that", whole, facts{archived: true}, "a0 a2 a19 +2 end", "a0 a2? a19? !gap(a1) unacknowledged(a3-18)"},
		{"archived after its end", whole, facts{archived: true}, "a0 a2. +2 end", "a0 a2? !gap(a1)"},
		{"archived, and its writer says that it was stored", whole, facts{archived: true}, "a0 a3 b0[a:2/2] +2 end", "a0 !missing(a1) b0 a3? unacknowledged(a2)"},

		{"the room's beginning is missing", whole, hour, "first=4 skip=4 a0 end a1 finish", "a0 !lost(1-3) a1"},
		{"all of it is missing", whole, hour, "first=4 finish", "!lost(1-3)"},
		{"the room's beginning may have expired", whole, facts{keeps: ledger.Retain{Age: 3600}, joined: 2 * time.Hour}, "first=4 skip=4 a0 finish", "a0"},
		{"or was more than is kept", whole, full, "first=4 skip=4 a0#600 finish", padded("a0", 600)},
		{"or was emptied when nothing was stored", whole, facts{unstored: 3}, "first=4 skip=4 a0 finish", "a0"},
		{"or was there before it began anew", whole, facts{joined: time.Hour, anew: time.Minute}, "first=4 skip=4 a0 finish", "a0"},
		{"without limits nothing was trimmed", whole, facts{joined: 1e6 * time.Hour}, "first=2 skip=2 a0 end", "a0 !lost(1)"},
		{"the room's beginning, joined in the middle", middle, hour, "first=4 skip=10 a0 finish", "a0"},

		{"follows: all was read", whole, year, "a0 a1 b0[a:2/2]", "a0 a1 b0"},
		{"follows: a tail is missing", whole, year, "a0 a1 b0[a:4/2]", "a0 a1 !missing(a2-3) b0"},
		{"follows: a stream is missing", whole, year, "skip=5 b0[a:4/2]", "!missing(a0-3) b0"},
		{"follows: told once", whole, year, "skip=5 a0 b0[a:2/2] c0[a:2/2] d0[a:3/2]", "a0 !missing(a1) b0 c0 !missing(a2) d0"},
		{"follows: told once, of a stream of which nothing was read", whole, year, "skip=5 b0[a:2/2] c0[a:2/2] d0[a:3/2]", "!missing(a0-1) b0 c0 !missing(a2) d0"},
		{"follows: a frame ahead was read", whole, year, "a1 b0[a:2/1] +2 end", "b0 a1? !gap(a0)"},
		{"follows: a tail, told before the frame behind it", whole, year, "a0 b0[a:2/1] a3 +2 end", "a0 !missing(a1) b0 a3? !gap(a2)"},
		{"follows: never acknowledged so far, says another process beside", whole, year, "a0 a1 b0[a:2/2] a3 +2 end", "a0 a1 b0 a3? !gap(a2)"},
		{"follows: never acknowledged", whole, year, "a0 a1 a4 b0[a:2/2] +2 end", "a0 a1 b0 a4? unacknowledged(a2-3)"},
		{"follows: some of it was", whole, year, "a0 a3 b0[a:2/2] +2 end", "a0 !missing(a1) b0 a3? unacknowledged(a2)"},
		{"follows: a gap of which some was", whole, year, "a0 a4 +2 b0[a:3/2] end", "a0 !missing(a1-2) b0 a4? unacknowledged(a3)"},
		{"follows: stored before reading began", middle, year, "skip=20 b0[a:3/9]", "b0"},
		{"follows: stored where reading began", middle, year, "skip=20 b0[a:3/10]", "!missing(a0-2) b0"},
		{"follows: joined in the middle behind it", middle, year, "skip=20 a5 b0[a:3/10]", "a5? !missing(a0-2) b0"},
		{"follows: a place that the room has not reached again", whole, year, "a0 b0[a:3/10]", "a0 !missing(a1-2) b0"},
		{"follows: joined in the middle behind it, with a gap since", middle, year, "skip=20 a5 a7 release b0[a:3/10] +2 end", "a5? a7? !missing(a0-2) b0 unacknowledged(a6)"},
		{"follows: of an entry after its own", whole, year, "skip=5 b0@2[a:4/2@2] c0@2[d:4/2@3]", "!missing(a0-3) b0 c0"},
		{"follows: nothing was acknowledged", whole, year, "skip=5 b0[a:0/0]", "b0"},
		{"follows: of an epoch that is not for the reader", whole, facts{notOwed: "3"}, "skip=5 b0@3[a:4/2]", "b0"},
		{"follows: of a time when nothing was stored", whole, facts{unstored: 3}, "skip=5 b0@3[a:4/2]", "b0"},
		{"follows: of a time before nothing was stored", whole, facts{unstored: 5}, "skip=5 b0@3[a:4/2]", "b0"},
		{"follows: of a time after nothing was stored", whole, facts{unstored: 2}, "skip=5 b0@3[a:4/2]", "!missing(a0-3) b0"},
		{"follows: of a time before the room began anew", whole, facts{anew: -time.Second}, "skip=5 b0@3[a:4/2]", "b0"},
		{"follows: of a time since the room began anew", whole, facts{anew: time.Second}, "skip=5 b0@3[a:4/2]", "!missing(a0-3) b0"},
		{"follows: expired", whole, hour, "first=3 skip=5 +3601 b0[a:4/2]", "expired(a0-3) b0"},
		{"follows: behind enough others", whole, full, "first=3 skip=5 b0[a:4/2] c0#300 c1 +2 end", "b0 " + padded("c0", 300) + " c1 expired(a0-3)"},
		{"follows: behind others, and read after all", whole, full, "first=3 skip=5 b0[a:2/2] a1 a0 c0 +2 end", "b0 a0 a1 c0"},
		{"follows: behind others, when reading ends", whole, full, "first=3 skip=5 b0[a:4/2] c0#300 c1 finish", "b0 " + padded("c0", 300) + " c1 expired(a0-3)"},
		{"follows: behind too few others", whole, full, "first=3 skip=5 b0[a:4/2] c0 +2 end", "b0 c0 !lost(1-2) !missing(a0-3)"},
		{"follows: expired, by clocks that differ", whole, hour, "first=3 skip=5 +3001 b0[a:4/2]", "expired(a0-3) b0"},
		{"follows: not old enough", whole, hour, "first=3 skip=5 +2990 b0[a:4/2]", "!missing(a0-3) b0"},
		{"follows: refused", whole, year, "skip=5 b0![a:4/2]", ""},
		{"follows: another's stream", whole, year, "A0 b0[A:4/1]", "A0 !missing(A0-3) b0"},

		{"live: in order", live, year, "a5 a6 a4 a7", "a5? a6 a7"},
		{"live: a gap waits", live, year, "a5 a7 +1 end a6", "a5? a6 a7"},
		{"live: a gap", live, year, "a5 a7 +2 end", "a5? gap(a6) a7?"},
		{"live: follows mean nothing", live, year, "b0[a:3/0]", "b0"},

		{"shared: counters mean nothing", Options{Shared: true}, year, "a5 a9 a7 a7", "a5? a9 a7 a7"},
	} {
		t.Run(v.name, func(t *testing.T) {
			p := newPlayer(v.o, v.log)
			if got := p.play(v.script); got != v.want {
				t.Errorf("%s\n gives %s\n  want %s", v.script, got, v.want)
			}
			if n := p.b.o.Used.Load(); p.b.waiting.Len() == 0 && n != 0 {
				t.Errorf("nothing is held, but counted as %d bytes", n)
			}
			if p.b.Close(); p.b.o.Used.Load() != 0 {
				t.Errorf("closed, and %d bytes counted", p.b.o.Used.Load())
			}
		})
	}
}

// ahead are so many frames of stream a from a counter on.
func ahead(from, n int) string {
	var words []string
	for i := range n {
		words = append(words, fmt.Sprintf("a%d", from+i))
	}
	return strings.Join(words, " ")
}

func padded(body string, size int) string { return body + strings.Repeat("\x00", size-len(body)) }

// TestBudget: what is unfinished is bounded, by all inboxes together, and what began first goes first.
func TestBudget(t *testing.T) {
	var used, shed atomic.Int64
	o := Options{Stored: true, Start: true, Limit: Budget, Used: &used, Shed: &shed}
	p, other := newPlayer(o, facts{}), newPlayer(o, facts{})
	third := Budget/3 + 1
	if got := p.play(fmt.Sprintf("a0+#%d b1#%d", third, third)); got != "" {
		t.Fatalf("under the limit: %.100s", got)
	}
	if got := other.play(fmt.Sprintf("a0+#%d", third)); got != "dropped(a0-1)" {
		t.Errorf("what another holds is not counted: %.100s", got)
	}
	if got := p.play(fmt.Sprintf("c0+#%d", third)); got != "dropped(a0-1)" {
		t.Errorf("what began first does not go first: %.100s", got)
	}
	if got := p.play(fmt.Sprintf("d0+#%d a1 a2", third)); !strings.HasPrefix(got, "b1\x00") || !strings.HasSuffix(got, "a2") {
		t.Errorf("a frame ahead is not given up: %.100s", got)
	}
	if n := shed.Load(); n != 1 { // a, which went on with a1
		t.Errorf("%d messages were given up and whole, want 1", n)
	}
	if n, want := used.Load(), int64(2*(third+pieceCost)); n != want {
		t.Errorf("%d bytes are counted, want %d", n, want)
	}
	used.Add(Budget)
	if got := newPlayer(o, facts{}).play("a0 a1"); got != "a0 a1" {
		t.Errorf("one that holds nothing, when others hold too much: %.100s", got)
	}
}

// TestUnfinishedCosts: what an unfinished message keeps in memory is counted, whatever it consists of: headers
// without bytes, and pieces of nothing; and no piece keeps the frame that it came in.
func TestUnfinishedCosts(t *testing.T) {
	var used atomic.Int64
	o := Options{Stored: true, Start: true, Limit: Budget, Used: &used}
	p := newPlayer(o, facts{})
	take := func(counter uint64, records ...crypto.Record) {
		content := crypto.AppendContentTime(nil, 1)
		for _, r := range records {
			content = crypto.AppendRecord(content, r.Headers, r.Body)
		}
		f := p.frame("a0+")
		f.Header.Counter, f.Size = counter, len(content)
		var err error
		f.Content, err = crypto.ParseContent(f.Header.Flags, content)
		if err != nil {
			t.Fatal(err)
		}
		p.b.Take(f, t0)
	}
	take(0, crypto.Record{Body: make([]byte, 1000)}, crypto.Record{Headers: make([]crypto.Field, 100), Body: []byte{1}})
	if n, want := used.Load(), int64(100*headerCost+pieceCost+1); n != want {
		t.Errorf("%d bytes are counted of headers, want %d", n, want)
	}
	for _, s := range p.b.streams {
		if u := s.partial; u.Body != nil || cap(u.pieces[0]) > 100 {
			t.Errorf("a piece of one byte keeps %d, and %d", cap(u.Body), cap(u.pieces[0]))
		}
	}
	before := used.Load()
	take(1, crypto.Record{})
	if n := used.Load() - before; n != pieceCost {
		t.Errorf("%d bytes are counted of a piece of nothing", n)
	}
	before = used.Load()
	take(3)
	if n := used.Load() - before; n < aheadCost {
		t.Errorf("%d bytes are counted of an empty frame ahead", n)
	}
	take(2)
	if n := used.Load() - before; n != 0 {
		t.Errorf("%d bytes are counted when it is not ahead any more", n)
	}
	p.b.Finish(t0)
	p.b.Close()
	if n := used.Load(); n != 0 {
		t.Errorf("%d bytes are counted of nothing", n)
	}
}

// TestManyStreams: so many are remembered, and those that have ended are forgotten first.
func TestManyStreams(t *testing.T) {
	p := newPlayer(whole, facts{})
	numbered := func(n int, word string) Frame {
		f := p.frame(word)
		f.Header.Stream[8], f.Header.Stream[9], f.Header.Stream[10] = 1, byte(n), byte(n>>8)
		return f
	}
	p.play("a0 z0+")
	for n := range MaxStreams {
		p.b.Take(numbered(n, "x0."), t0)
	}
	if len(p.b.streams) != MaxStreams || p.b.open.Len()+p.b.ended.Len() != MaxStreams {
		t.Errorf("%d streams are remembered", len(p.b.streams))
	}
	if got := p.play("a1 z1 +2 end"); got != "a1 z0z1" {
		t.Errorf("streams that have not ended were forgotten: %s", got)
	}
	for n := range MaxStreams {
		p.b.Take(numbered(n, "y0"), t0)
	}
	p.out = nil
	if got := p.play("y9 b1 c0[d:3/1] +2 end"); got != "c0 y9? b1? expired(y0-8) expired(b0)" {
		t.Errorf("when streams were forgotten: %s", got)
	}
	if len(p.b.streams) != MaxStreams {
		t.Errorf("%d streams are remembered", len(p.b.streams))
	}
}

// TestManyGaps: so many are judged together, and the first of more than that at once.
func TestManyGaps(t *testing.T) {
	p := newPlayer(whole, facts{})
	for n := range maxJudged + 1 {
		f := p.frame("a1")
		f.Header.Stream[8], f.Header.Stream[9] = byte(n), byte(n>>8)
		p.b.Take(f, t0)
		p.b.skip(p.b.streams[key{f.Sender, f.Header.Stream}], t0)
	}
	if len(p.b.gaps) != maxJudged || strings.Count(strings.Join(p.out, " "), "!gap(a0)") != 1 {
		t.Errorf("%d gaps are kept, %d told", len(p.b.gaps), strings.Count(strings.Join(p.out, " "), "!gap"))
	}
}

// TestManyHoles: of one stream so many gaps are remembered, so as not to be told twice.
func TestManyHoles(t *testing.T) {
	p := newPlayer(whole, facts{})
	for n := range maxGaps + 1 {
		p.play(fmt.Sprintf("a%d release", 2*n+1))
	}
	s := p.b.streams[key{senderOf('a'), [16]byte{'a'}}]
	if len(s.gaps) != maxGaps || s.has(2*maxGaps+2) || !s.has(2*maxGaps) || s.untold(1) != 1 || s.untold(2) != 3 {
		t.Errorf("%d are remembered: %v", len(s.gaps), s.gaps)
	}
	if got := p.play("+2 end"); strings.Count(got, "!gap(") != maxGaps+1 {
		t.Errorf("told are %s", got)
	}
}

// TestManyDamages: so many damaged places are remembered.
func TestManyDamages(t *testing.T) {
	p := newPlayer(whole, facts{})
	for place := range uint64(10 * maxDamage) {
		p.b.Damaged(crypto.PublicKey{}, place, place)
	}
	if len(p.b.damage) > maxDamage {
		t.Errorf("%d are remembered", len(p.b.damage))
	}
}

// TestManyClaims: what was told of streams that nobody read is remembered for so many.
func TestManyClaims(t *testing.T) {
	p := newPlayer(whole, facts{})
	p.play("skip=5")
	for n := range maxClaims + 1 {
		f := p.frame("b0[a:1/1]")
		f.Content.Follows[0].Stream[8], f.Content.Follows[0].Stream[9] = byte(n), byte(n>>8)
		p.b.Take(f, t0)
	}
	if len(p.b.claims) != 1 {
		t.Errorf("%d are remembered", len(p.b.claims))
	}
}

// TestSetStored: a room begins, and ceases, to store what is sent.
func TestSetStored(t *testing.T) {
	p := newPlayer(live, facts{joined: time.Hour})
	got := p.play("a0 a1 a3 +2 end")
	p.b.SetStored(true, 7)
	got += " | " + p.play("skip=7 b0 b2 c0[a:9/6] d0[a:9/7] +2 end")
	p.b.SetStored(false, 0)
	got += " | " + p.play("e0 e2 +2 end")
	if want := "a0 a1 gap(a2) a3? | b0 c0 !missing(a4-8) d0 b2? !gap(b1) | e0 gap(e1) e2?"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// TestMeter: what was read from a place on is never said to be less than it was, and hardly more.
func TestMeter(t *testing.T) {
	var m meter
	const n = 100_000
	for place := uint64(5); place < n; place++ {
		m.add(place, 10)
	}
	for _, from := range []uint64{0, 5, 6, 1000, 54_321, n - 1} {
		want := 10 * (n - max(from, 5))
		if got := m.since(from); got < want || got > want+10*2*n/maxSumPlaces {
			t.Errorf("from %d on %d bytes, want %d", from, got, want)
		}
	}
	if len(m.marks) > maxSumPlaces {
		t.Errorf("%d sums are remembered", len(m.marks))
	}
}

// TestManyRecords: of so many streams what a frame says of them is kept to be judged later.
func TestManyRecords(t *testing.T) {
	p := newPlayer(whole, facts{keeps: ledger.Retain{Bytes: 1 << 30}, joined: time.Hour})
	p.play("first=3 skip=5")
	for n := range maxJudged + 1 {
		f := p.frame("b0[a:4/2]")
		f.Header.Stream[8], f.Header.Stream[9] = byte(n), byte(n>>8)
		f.Content.Follows[0].Stream[8], f.Content.Follows[0].Stream[9] = byte(n), byte(n>>8)
		p.b.Take(f, t0)
	}
	if told := strings.Count(strings.Join(p.out, " "), "!missing(a0-3)"); len(p.b.records) != maxJudged || told != 1 {
		t.Errorf("%d are kept, %d told", len(p.b.records), told)
	}
}

// TestDoubts: how much a room holds is worth asking for where that decides what became of something that is judged now,
// and nowhere else.
func TestDoubts(t *testing.T) {
	year := ledger.Retain{Age: 365 * 24 * 3600, Bytes: 2000}
	live, whole := Options{}, Options{Stored: true, Start: true}
	for _, v := range []struct {
		what   string
		o      Options
		log    facts
		script string
		judges bool
		doubts uint64
	}{
		{"nothing is missing", whole, facts{keeps: year, joined: time.Hour}, "first=1 a0", false, 0},
		{"live", live, facts{keeps: year, joined: time.Hour}, "a0 a2", false, 0},
		{"the beginning", whole, facts{keeps: year, joined: time.Hour}, "first=4 skip=4", true, 1000},
		{"the beginning, old enough", whole, facts{keeps: year, joined: 2 * 365 * 24 * time.Hour}, "first=4 skip=4", true, 0},
		{"the beginning, of a room begun anew", whole, facts{keeps: year, joined: time.Hour, anew: time.Minute}, "first=4 skip=4", true, 0},
		{"a gap that may still be filled", Options{Stored: true, From: 4}, facts{keeps: year, joined: time.Hour}, "first=4 skip=4 a0 a2 release", false, 0},
		{"a gap", Options{Stored: true, From: 4}, facts{keeps: year, joined: time.Hour}, "first=4 skip=4 a0 a2 +2 release", true, 1000},
		{"a gap, old enough", Options{Stored: true, From: 4}, facts{keeps: ledger.Retain{Age: 1000, Bytes: 2000}, joined: time.Hour}, "first=4 skip=4 a0s-9999 a2 +2 release", true, 0},
		{"a gap far behind the beginning", Options{Stored: true, From: 100}, facts{keeps: year, joined: time.Hour}, "first=4 skip=100 a0 a2 +2 release", true, 0},
	} {
		p := newPlayer(v.o, v.log)
		p.play(v.script)
		if judges, doubts := p.b.Judges(p.now), p.b.Doubts(p.now); judges != v.judges || doubts != v.doubts {
			t.Errorf("%s: it judges %v and needs %d, want %v and %d", v.what, judges, doubts, v.judges, v.doubts)
		}
	}
}

// TestKnows: a stream is known once it was met, and any when some were forgotten.
func TestKnows(t *testing.T) {
	p := newPlayer(Options{Stored: true, From: 1}, facts{joined: time.Hour})
	p.play("a0")
	if !p.b.Knows(senderOf('a'), [16]byte{'a'}) || p.b.Knows(senderOf('a'), [16]byte{'b'}) {
		t.Error("it knows one that it did not meet, or not one that it did")
	}
	p.b.forgot = true
	if !p.b.Knows(senderOf('a'), [16]byte{'b'}) {
		t.Error("it says that it never met one that it may have forgotten")
	}
}
