package service

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/tasks"
)

// play does what a line says to turns of two at once, two of one caller, four in hand of one caller: "a"
// is a request of caller a, "." starts the next, "a!" ends one of a's. It returns what was started, with -
// for nothing and the refused ones in upper case.
func play(line string) string {
	t := turns[string, string]{limits: turnLimits{atOnce: 3, each: 2, inHand: 4, bytes: 40, allBytes: 60}}
	var out []string
	count := map[string]int{}
	for word := range strings.FieldsSeq(line) {
		caller, ended := strings.CutSuffix(word, "!")
		switch {
		case ended:
			t.done(caller, 10)
		case word == ".":
			_, next, ok := t.next()
			if !ok {
				next.do = "-"
			}
			out = append(out, next.do)
		case !t.reserve(word, 10):
			out = append(out, strings.ToUpper(word))
		default:
			count[word]++
			t.put(word, 10, fmt.Sprint(word, count[word]))
		}
	}
	return strings.Join(out, " ")
}

func TestTurns(t *testing.T) {
	for _, c := range []struct{ name, line, want string }{
		{"in the order they came", "a a . .", "a1 a2"},
		{"nothing waits", ".", "-"},
		{"callers take turns", "a a a b . . .", "a1 b1 a2"},
		{"one caller never has more than its share", "a a a . . .", "a1 a2 -"},
		{"what it ends makes room for its next", "a a a . . . a! .", "a1 a2 - a3"},
		{"no more than all together may", "a a b b . . . .", "a1 b1 a2 -"},
		{"a newcomer comes before another's queue", "a a a a . . b a! .", "a1 a2 b1"},
		{"too many of one caller are refused", "a a a a a b .", "A a1"},
		{"those worked on count", "a a a a . . a", "a1 a2 A"},
		{"an answer makes room", "a a a a . a! a a", "a1 A"},
		{"too many of all are refused", "a a a b b b c", "C"},
	} {
		if got := play(c.line); got != c.want {
			t.Errorf("%s: %s > %s, not %s", c.name, c.line, got, c.want)
		}
	}
	shared := turns[string, string]{limits: turnLimits{atOnce: 9, each: 4, shared: 2, inHand: 9, bytes: 90, allBytes: 90}}
	running := func(caller string) (n int) {
		for shared.reserve(caller, 1) {
			shared.put(caller, 1, caller)
		}
		for _, _, ok := shared.next(); ok; _, _, ok = shared.next() {
			n++
		}
		return n
	}
	end := func(caller string, n int) {
		for range n {
			shared.done(caller, 1)
		}
	}
	if n := running("a"); n != 4 {
		t.Errorf("alone, %d are worked on at once", n)
	}
	if n := running("b"); n != 2 {
		t.Errorf("beside another, %d are worked on at once", n)
	}
	end("a", 4)
	if n := running("a"); n != 2 {
		t.Errorf("after another's, %d are worked on at once", n)
	}
	for range company {
		shared.countStart("a")
	}
	end("a", 2)
	if n := running("a"); n != 4 {
		t.Errorf("alone for long, %d are worked on at once", n)
	}

	bytes := turns[string, string]{limits: turnLimits{atOnce: 9, each: 9, inHand: 9, bytes: 40, allBytes: 60}}
	if bytes.reserve("a", 41) || !bytes.reserve("a", 40) || bytes.reserve("a", 1) || bytes.reserve("b", 21) || !bytes.reserve("b", 20) {
		t.Error("more bytes are in hand than may be, of one caller or of all, or fewer")
	}
}

// turnsModel is what turns have to be like, beside turns that are like it as long as no step has failed.
type turnsModel struct {
	t       *rapid.T
	turns   turns[int, int]
	running map[int][]int // sizes of the requests of each caller that are worked on, as they were started
	inHand  map[int]int
	bytes   map[int]int
	all     int // bytes of all
	taken   int // requests
	started int
}

// ask has a caller make a request, which is taken if it fits and never else.
func (m *turnsModel) ask(caller, size int) {
	l := m.turns.limits
	fits := m.inHand[caller] < l.inHand && m.bytes[caller]+size <= l.bytes && m.all+size <= l.allBytes
	if m.turns.reserve(caller, size) != fits {
		m.t.Fatalf("%d bytes of %d were taken: %v", size, caller, !fits)
	}
	if fits {
		m.turns.put(caller, size, 0)
		m.taken++
		m.inHand[caller]++
		m.bytes[caller] += size
		m.all += size
	}
}

// start starts the next request, if one may be, and never more of one caller than may be.
func (m *turnsModel) start() (ok bool) {
	caller, j, ok := m.turns.next()
	if !ok {
		return false
	}
	m.started++
	if m.running[caller] = append(m.running[caller], j.size); len(m.running[caller]) > m.turns.limits.each {
		m.t.Fatalf("%d of caller %d at once", len(m.running[caller]), caller)
	}
	return true
}

// end ends a caller's oldest request that is worked on, if there is one.
func (m *turnsModel) end(caller int) {
	if len(m.running[caller]) == 0 {
		return
	}
	size := m.running[caller][0]
	m.running[caller] = m.running[caller][1:]
	m.turns.done(caller, size)
	m.inHand[caller]--
	m.bytes[caller] -= size
	m.all -= size
}

// drain starts and ends all that was taken: nothing of it is lost, and nothing is left.
func (m *turnsModel) drain() {
	for m.started < m.taken {
		if m.start() {
			continue
		}
		for caller := range m.running {
			m.end(caller)
		}
		if !m.start() {
			m.t.Fatalf("%d of %d were never started", m.taken-m.started, m.taken)
		}
	}
	for caller := range m.running {
		for len(m.running[caller]) > 0 {
			m.end(caller)
		}
	}
	if q := &m.turns; len(q.callers) != 0 || q.running != 0 || q.bytes != 0 {
		m.t.Fatalf("something is left: %+v", q)
	}
}

// Whatever comes in whatever order: the bounds hold, nothing is lost, and whoever waits longest is next.
func TestTurnsProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &turnsModel{t: t, running: map[int][]int{}, inHand: map[int]int{}, bytes: map[int]int{}}
		m.turns.limits = turnLimits{atOnce: 4, each: 2, inHand: 6, bytes: 50, allBytes: 90}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			caller := rapid.IntRange(0, 3).Draw(t, "caller")
			switch rapid.SampledFrom([]string{"ask", "ask", "start", "end"}).Draw(t, "step") {
			case "ask":
				m.ask(caller, rapid.IntRange(0, 30).Draw(t, "size"))
			case "start":
				m.start()
			case "end":
				m.end(caller)
			}
		}
		m.drain()
	})
}

// A pool that is ending takes nothing in, and forgets nothing it began.
func TestPoolEnds(t *testing.T) {
	var g tasks.Group
	p := newPool[int](g.Go, func(f func()) { f() }, turnLimits{atOnce: 1, each: 1, inHand: 9, bytes: 9, allBytes: 9})
	begun, release, done := make(chan struct{}), make(chan struct{}), 0
	p.offer(1, 1, func() { close(begun); <-release; done++ })
	p.offer(2, 1, func() { done++ })
	<-begun
	g.Seal()
	close(release)
	g.Wait()
	if p.offer(3, 1, func() { done++ }); done != 2 {
		t.Errorf("%d were done", done)
	}
}

func TestRecent(t *testing.T) {
	r := newRecent[int, int](3)
	for i := range 100 {
		r.put(i, i)
		if v, ok := r.get(0); !ok || v != 0 {
			t.Fatalf("what is in use was forgotten at %d", i)
		}
		if n := len(r.young) + len(r.old); n > 6 {
			t.Fatalf("%d are remembered", n)
		}
		if _, ok := r.get(i - 1); i > 1 && !ok {
			t.Fatalf("%d was forgotten at %d", i-1, i)
		}
	}
	if _, ok := r.get(50); ok {
		t.Error("everything is remembered")
	}
}

// Whoever goes on although it is refused is told so at a bounded rate, and then dropped once; the many
// whom nobody knows never are, since they are not one.
func TestRefusals(t *testing.T) {
	known, now := crypto.PublicKey{1}, time.Unix(1e9, 0)
	for _, c := range []struct {
		name   string
		caller crypto.PublicKey
		size   int
		times  int
		told   int
		drops  int
	}{
		{"a few", known, 100, 10, 10, 0},
		{"many", known, 100, floodRate - 1, busyBurst, 0},
		{"without end", known, 100, 3 * floodRate, busyBurst, 1},
		{"large ones", known, 1 << 20, floodRate, 30, 1},
		{"unknown ones", crypto.PublicKey{}, 100, 3 * floodRate, busyBurst, 0},
	} {
		r, told, drops := newRefusals(), 0, 0
		for range c.times {
			answer, drop := r.refuse(c.caller, c.size, now)
			if answer && drops == 0 {
				told++
			}
			if drop {
				drops++
			}
		}
		if told != c.told || drops != c.drops || r.isBarred(c.caller, now) != (drops > 0) || r.isBarred(c.caller, now.Add(barredFor)) {
			t.Errorf("%s: told %d times, dropped %d times, barred %v", c.name, told, drops, r.isBarred(c.caller, now))
		}
	}
}
