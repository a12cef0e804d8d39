package inbox

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

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
//	a5s-90t-1  and stored 1 s before t0, as the server says
//	a5#40    of 40 bytes
//	b0[a:3]  says that three frames of stream a were acknowledged, the last of them stored at place 1,
//	b0[a:3/7]  or at place 7
//	b0[a:3@2]  and made at entry 2, not at that of b0
//	first=9  the server says that the room begins at place 9
//	holds=90 it was found to hold 90 bytes from there on
//	skip=9   the next frame has place 9
//	cut=9    the server says that it begins at place 9 by now, which is the next frame's
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

var drawnFrame = regexp.MustCompile(`^([a-zA-Z])(\d+)([+.!~]*)(?:=(\w+))?(?:@(\d+))?(?:s(-?\d+))?(?:t(-?\d+))?(?:#(\d+))?(?:\[([a-zA-Z]):(\d+)(?:/(\d+))?(?:@(\d+))?\])?$`)

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
		case name == "holds":
			p.b.Holds(n)
		case name == "skip":
			p.place = n - 1
		case name == "cut":
			p.b.Reached(n)
			Skipped(p.b, p.place+1, n)
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
	if m[9] != "" {
		f.Header.Flags |= crypto.FlagFollows
		content = crypto.AppendFollows(content, []crypto.Follows{{
			Stream: [16]byte{m[9][0]}, Frames: uint64(number(m[10], 0)), At: uint64(number(m[12], at)), Place: uint64(number(m[11], 1)),
			Sealed: uint64(t0.UnixMicro()),
		}})
	}
	body := m[1] + m[2] + m[4]
	f.Size = int(number(m[8], int64(len(body))))
	content = crypto.AppendRecord(content, nil, append([]byte(body), make([]byte, f.Size-len(body))...))
	var err error
	if f.Content, err = crypto.ParseContent(f.Header.Flags, content); err != nil {
		panic(err)
	}
	f.Sum = f.Header.Counter + 1 // other counters, other frames
	for _, c := range []byte(m[4]) {
		f.Sum = f.Sum*31 + uint64(c)
	}
	if m[7] != "" {
		f.Stored = t0.Add(time.Duration(number(m[7], 0)) * time.Second)
	}
	if p.b.extent.stored {
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

// Logs of rooms that keep messages for a year, for an hour, and until there are many.
var (
	year = facts{keeps: ledger.Retain{Age: 365 * 24 * 3600, Bytes: 1 << 40}, joined: time.Hour}
	hour = facts{keeps: ledger.Retain{Age: 3600}, joined: 20 * time.Minute}
	full = facts{keeps: ledger.Retain{Bytes: 1100}, joined: time.Hour}
)

func ahead(from, n int) string {
	var words []string
	for i := range n {
		words = append(words, fmt.Sprintf("a%d", from+i))
	}
	return strings.Join(words, " ")
}

func padded(body string, size int) string { return body + strings.Repeat("\x00", size-len(body)) }

// played is a script, and what has to come out of it.
type played struct {
	name   string
	o      Options
	log    facts
	script string
	want   string
}

func play(t *testing.T, all []played) {
	t.Helper()
	for _, v := range all {
		t.Run(v.name, v.play)
	}
}

func (v played) play(t *testing.T) {
	p := newPlayer(v.o, v.log)
	if got := p.play(v.script); got != v.want {
		t.Errorf("%s\n gives %s\n  want %s", v.script, got, v.want)
	}
	if n := p.b.budget.used.Load(); p.b.budget.waiting.Len() == 0 && n != 0 {
		t.Errorf("nothing is held, but counted as %d bytes", n)
	}
	if p.b.Close(); p.b.budget.used.Load() != 0 {
		t.Errorf("closed, and %d bytes counted", p.b.budget.used.Load())
	}
}
