package inbox

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
	for _, s := range p.b.streams.all {
		if u := s.pieces.partial; u.Body != nil || cap(u.pieces[0]) > 100 {
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

// TestIndex: each message has the place of its first record in the frame where it begins.
func TestIndex(t *testing.T) {
	p := newPlayer(whole, facts{})
	var got []string
	p.b.delivery.deliver = func(m Message) { got = append(got, fmt.Sprintf("%d.%d", m.Counter, m.Index)) }
	for counter, records := range []int{3, 1, 2} { // the last of each goes on in the next, but for the last frame's
		content := crypto.AppendContentTime(nil, 1)
		for range records {
			content = crypto.AppendRecord(content, nil, []byte("x"))
		}
		f := p.frame([]string{"a0+", "a1+", "a2"}[counter])
		var err error
		if f.Content, err = crypto.ParseContent(f.Header.Flags, content); err != nil {
			t.Fatal(err)
		}
		p.b.Take(f, t0)
	}
	if want := []string{"0.0", "0.1", "0.2", "2.1"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
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
	if len(p.b.streams.all) != MaxStreams || p.b.streams.open.Len()+p.b.streams.ended.Len() != MaxStreams {
		t.Errorf("%d streams are remembered", len(p.b.streams.all))
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
	if len(p.b.streams.all) != MaxStreams {
		t.Errorf("%d streams are remembered", len(p.b.streams.all))
	}
}

// TestManyGaps: so many are judged together, and the first of more than that at once.
func TestManyGaps(t *testing.T) {
	p := newPlayer(whole, facts{})
	for n := range maxJudged + 1 {
		f := p.frame("a1")
		f.Header.Stream[8], f.Header.Stream[9] = byte(n), byte(n>>8)
		p.b.Take(f, t0)
		p.b.delivery.skip(p.b.streams.all[key{f.Sender, f.Header.Stream}], t0)
	}
	if len(p.b.gaps.open) != maxJudged || strings.Count(strings.Join(p.out, " "), "!gap(a0)") != 1 {
		t.Errorf("%d gaps are kept, %d told", len(p.b.gaps.open), strings.Count(strings.Join(p.out, " "), "!gap"))
	}
}

// TestManyHoles: of one stream so many gaps are remembered, so as not to be told twice.
func TestManyHoles(t *testing.T) {
	p := newPlayer(whole, facts{})
	for n := range maxGaps + 1 {
		p.play(fmt.Sprintf("a%d release", 2*n+1))
	}
	s := p.b.streams.all[key{senderOf('a'), [16]byte{'a'}}]
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
	if len(p.b.claims.told) != 1 {
		t.Errorf("%d are remembered", len(p.b.claims.told))
	}
}

// TestBeginStored: a room begins, and ceases, to store what is sent.
func TestBeginStored(t *testing.T) {
	p := newPlayer(live, facts{joined: time.Hour})
	got := p.play("a0 a1 a3 +2 end")
	p.b.BeginStored(7)
	got += " | " + p.play("skip=7 b0 b2 c0[a:9/6] d0[a:9/7] +2 end")
	p.b.EndStored()
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
	if told := strings.Count(strings.Join(p.out, " "), "!missing(a0-3)"); len(p.b.claims.open) != maxJudged || told != 1 {
		t.Errorf("%d are kept, %d told", len(p.b.claims.open), told)
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
		{"a beginning that was cut off", whole, facts{keeps: year, joined: time.Hour}, "first=1 a0 cut=9 b0", true, 1000},
		{"a beginning that was cut off, old enough", whole, facts{keeps: ledger.Retain{Age: 1000, Bytes: 2000}, joined: time.Hour}, "first=1 a0s-9999 cut=9 b0", true, 0},
		{"a beginning that was cut off, of a room begun anew", whole, facts{keeps: year, joined: time.Hour, anew: time.Minute}, "first=1 a0 cut=9 b0", true, 0},
		{"a gap that may still be filled", Options{Stored: true, From: 4}, facts{keeps: year, joined: time.Hour}, "first=4 skip=4 a0 a2 release", false, 0},
		{"a gap", Options{Stored: true, From: 4}, facts{keeps: year, joined: time.Hour}, "first=4 skip=4 a0 a2 +2 release", true, 1000},
		{"a gap, old enough", Options{Stored: true, From: 4}, facts{keeps: ledger.Retain{Age: 1000, Bytes: 2000}, joined: time.Hour}, "first=4 skip=4 a0s-9999 a2 +2 release", true, 0},
		{"what a writer tells of", Options{Stored: true, From: 1}, facts{keeps: year, joined: time.Hour}, "first=4 skip=5 b0[a:4/2]", true, 1000},
		{"what it tells of, old enough", Options{Stored: true, From: 1}, facts{keeps: ledger.Retain{Age: 1000, Bytes: 2000}, joined: time.Hour}, "first=4 skip=5 b0[a:4/2] +2000", true, 0},
		{"a gap far behind the beginning", Options{Stored: true, From: 100}, facts{keeps: year, joined: time.Hour}, "first=4 skip=100 a0 a2 +2 release", true, 0},
	} {
		p := newPlayer(v.o, v.log)
		p.play(v.script)
		if judges, doubts := p.b.Judges(p.now), p.b.Doubts(p.now); judges != v.judges || doubts != v.doubts {
			t.Errorf("%s: it judges %v and needs %d, want %v and %d", v.what, judges, doubts, v.judges, v.doubts)
		}
	}
}

// TestForgets: when a stream is forgotten for another, what of it waits is given out.
func TestForgets(t *testing.T) {
	p := newPlayer(whole, facts{joined: time.Hour})
	p.play("a0 a2")
	s := p.b.streams.oldest()
	p.b.forget(t0)
	if got := strings.Join(p.out, " "); got != "a0 a2?" || p.b.streams.get(s.key) != nil || !p.b.streams.forgot {
		t.Errorf("it gave out %s", got)
	}
}

// TestKnows: a stream is known once it was met, and any when some were forgotten.
func TestKnows(t *testing.T) {
	p := newPlayer(Options{Stored: true, From: 1}, facts{joined: time.Hour})
	p.play("a0")
	if !p.b.Knows(senderOf('a'), [16]byte{'a'}) || p.b.Knows(senderOf('a'), [16]byte{'b'}) {
		t.Error("it knows one that it did not meet, or not one that it did")
	}
	p.b.streams.forgot = true
	if !p.b.Knows(senderOf('a'), [16]byte{'b'}) {
		t.Error("it says that it never met one that it may have forgotten")
	}
}

// TestSize: what is read counts as much as Size says, which is what a room's limit is held against.
func TestSize(t *testing.T) {
	p := newPlayer(whole, facts{})
	p.play("a0#10 a1#20")
	if got := p.b.extent.read.since(1); got != Size(10)+Size(20) {
		t.Errorf("%d bytes were read, want %d and %d", got, Size(10), Size(20))
	}
}

// TestHolders: of the streams that hold something each may cease to while they are looked at, and a look may end early.
func TestHolders(t *testing.T) {
	p := newPlayer(whole, facts{})
	p.play("a1 b1 c1")
	for s := range p.b.budget.holders {
		if p.b.delivery.skip(s, t0); s.key.stream[0] == 'b' {
			break
		}
	}
	if got := strings.Join(p.out, " "); got != "a1? b1?" || p.b.budget.waiting.Len() != 1 {
		t.Errorf("it gave out %s, and %d hold something", got, p.b.budget.waiting.Len())
	}
}

// TestEndDoesNotWait: whoever reads to the end only does not wait for what was removed when the room ceased to store, but for
// all else that its writer may be sending again; others wait for both, since what comes late is no part of a stream.
func TestEndDoesNotWait(t *testing.T) {
	toEnd := whole
	toEnd.End = true
	for _, c := range []struct {
		o            Options
		script, want string
	}{
		{toEnd, "a3@2 end", "a3? unstored(a0-2)"},
		{whole, "a3@2 end", ""},
		{toEnd, "a3@2 a5@2 end", "a3? unstored(a0-2)"}, // the second gap is not of that time
		{toEnd, "a3@2 a5@2 end +2 end", "a3? unstored(a0-2) a5? !gap(a4)"},
		{toEnd, "a0@2 a2@2 end", "a0"},
	} {
		if got := newPlayer(c.o, facts{unstored: 1}).play(c.script); got != c.want {
			t.Errorf("%s: %q, want %q", c.script, got, c.want)
		}
	}
}

// TestAbout: a notice about a frame says whose it is, which frame of its stream, where it is and why.
func TestAbout(t *testing.T) {
	sender, stream := crypto.PublicKey{1}, [16]byte{2}
	got := Notice{Kind: Gap, Finding: true}.About(sender, crypto.Header{Stream: stream, Counter: 3}, 4, errors.New("why"))
	if want := (Notice{Kind: Gap, Finding: true, Sender: sender, Stream: stream, From: 3, To: 3, Place: 4, Why: "why"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
