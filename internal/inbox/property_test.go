package inbox

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

const schedules = 1_000_000 / raceCost

// TestSchedules plays random schedules of a few streams, whose frames are lost, refused, repeated, repeated with
// other content, forgotten by retention, told of by later streams, and come out of order, and compares everything
// that comes out with what an oracle says, which looks at all frames at once.
func TestSchedules(t *testing.T) {
	schedules := schedules
	if testing.Short() {
		schedules /= 50
	}
	var players sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		players.Go(func() {
			for n := w; n < schedules; n += workers {
				s := draw(rand.New(rand.NewPCG(uint64(n), 1)))
				got, want := s.play(), s.oracle()
				if got != want {
					t.Errorf("schedule %d: %s\n gives %s\n  want %s", n, s, got, want)
					return
				}
			}
		})
	}
	players.Wait()
}

// event is a frame of a schedule.
type event struct {
	stream  byte
	counter uint64
	refused bool
	other   bool // the same counter with other content
	final   bool
	sealed  int // seconds after t0
	follows string
	acked   uint64
	place   uint64 // of the frame that was acknowledged
}

func (e event) String() string {
	s := fmt.Sprintf("%c%d", e.stream, e.counter)
	for mark, is := range map[string]bool{"!": e.refused, ".": e.final, "=x": e.other} {
		if is {
			s += mark
		}
	}
	if e.follows != "" {
		s += fmt.Sprintf("[%s:%d/%d]", e.follows, e.acked, e.place)
	}
	return fmt.Sprintf("%ss%d", s, e.sealed)
}

// schedule is what a reader is given, in this order.
type schedule struct {
	o      Options
	age    int // seconds, after which a frame may have expired: by clocks that differ, the room keeps them longer
	events []event
}

func (s schedule) String() string {
	return fmt.Sprintf("stored %v, start %v, age %d: %v", s.o.Stored, s.o.Start, s.age, s.events)
}

const (
	frames = 6  // of a stream, at most
	asked  = 60 // seconds after t0, when everything has been read
)

// draw makes a schedule.
func draw(r *rand.Rand) schedule {
	s := schedule{o: Options{Stored: r.IntN(4) > 0, Limit: 100, Patience: patience}, age: 1 + r.IntN(2*asked)}
	s.o.Start = s.o.Stored && r.IntN(4) > 0
	for _, stream := range []byte("ab")[:1+r.IntN(2)] {
		n := 1 + r.IntN(frames)
		for counter := range n {
			e := event{stream: stream, counter: uint64(counter), refused: r.IntN(8) == 0, sealed: counter}
			e.final = counter == n-1 && r.IntN(2) == 0
			if r.IntN(4) == 0 {
				continue
			}
			s.events = append(s.events, e)
			if r.IntN(6) == 0 { // it comes twice
				e.other = r.IntN(2) == 0
				s.events = append(s.events, e)
			}
		}
	}
	for i := range s.events { // a little out of order
		j := min(len(s.events)-1, i+r.IntN(3))
		s.events[i], s.events[j] = s.events[j], s.events[i]
	}
	if s.o.Stored && r.IntN(2) == 0 { // another stream, which says what became of one
		s.events = slices.Insert(s.events, r.IntN(len(s.events)+1), event{
			stream: 'c', sealed: frames, follows: "a", acked: uint64(r.IntN(frames + 1)), place: uint64(r.IntN(len(s.events) + 2)),
		})
	}
	return s
}

// play gives the schedule to an inbox, and writes down what comes out, by stream.
func (s schedule) play() string {
	p := newPlayer(s.o, facts{keeps: ledger.Retain{Age: crypto.Number(s.age + int(clocksDiffer/time.Second))}})
	for _, e := range s.events {
		p.b.Take(p.frameOf(e), t0)
	}
	p.b.Due(t0.Add(asked * time.Second))
	slices.SortStableFunc(p.out, func(a, b string) int { return strings.Compare(letter(a), letter(b)) })
	return strings.Join(p.out, " ")
}

// letter puts messages first, by stream, then notices.
func letter(s string) string {
	if strings.Contains(s, "(") {
		return "~" + s
	}
	return s[:1]
}

// frameOf is frame without a text between, for speed.
func (p *player) frameOf(e event) Frame {
	f := Frame{Sender: senderOf(e.stream), Refused: e.refused, Size: 2, Content: contents[e.stream-'a'][e.counter], Place: p.place}
	f.Header = crypto.Header{Epoch: 1, At: 1, Stream: [16]byte{e.stream}, Counter: e.counter}
	f.Content.Time = uint64(t0.Add(time.Duration(e.sealed) * time.Second).UnixMicro())
	if e.final {
		f.Header.Flags = crypto.FlagFinal
	}
	if e.follows != "" {
		f.Content.Follows = []crypto.Follows{{
			Stream: [16]byte{e.follows[0]}, Frames: e.acked, At: 1, Place: e.place, Sealed: uint64(t0.UnixMicro()),
		}}
	}
	if e.other {
		f.Sum = 1
	}
	if p.b.extent.stored {
		p.place++
		f.Place = p.place
	}
	return f
}

// contents are those of the schedules' frames, by stream and counter.
var contents = func() (all [3][frames]crypto.Content) {
	for stream := range all {
		for counter := range all[stream] {
			raw := crypto.AppendRecord(crypto.AppendContentTime(nil, 0), nil, fmt.Appendf(nil, "%c%d", 'a'+stream, counter))
			c, err := crypto.ParseContent(0, raw)
			if err != nil {
				panic(err)
			}
			all[stream][counter] = c
		}
	}
	return all
}()

// oracle says what must come out of a schedule.
func (s schedule) oracle() string {
	var messages, notices []string
	claim, claimed := event{}, uint64(0) // what c says of a, and at which place
	for i, e := range s.events {
		if e.follows != "" {
			claim, claimed = e, uint64(i+1)
		}
	}
	for _, stream := range "abc" {
		o := s.of(byte(stream), claim, claimed)
		messages = append(messages, o.messages...)
		notices = append(notices, o.notices...)
	}
	slices.Sort(notices)
	return strings.Join(append(messages, notices...), " ")
}

// outcome is what comes out of one stream.
type outcome struct{ messages, notices []string }

// of is the oracle for one stream.
func (s schedule) of(stream byte, claim event, claimed uint64) (o outcome) {
	first := map[uint64]event{} // the frame that counts, by counter
	place := map[uint64]uint64{}
	from, met := uint64(0), false
	for i, e := range s.events {
		if e.stream != stream {
			continue
		}
		if !met && !s.o.Start {
			from = e.counter
		}
		met = true
		switch old, again := first[e.counter]; {
		case e.counter < from:
		case !again:
			first[e.counter], place[e.counter] = e, uint64(i+1)
		case old.other != e.other:
			o.notices = append(o.notices, fmt.Sprintf("!replayed(%c%d)", stream, e.counter))
		}
	}
	counters := make([]uint64, 0, len(first))
	for c := range first {
		counters = append(counters, c)
	}
	slices.Sort(counters)
	told := s.tail(stream, claim, claimed, place, from, &o)
	next, sealed, unsure := from, 0, from > 0
	known := false
	for _, c := range counters {
		if c > next {
			s.gap(stream, max(next, told), c-1, known, sealed, place[c], claim, claimed, &o)
			unsure = true
		}
		if next = c + 1; first[c].refused {
			unsure = false
			continue
		}
		known, sealed = true, first[c].sealed
		o.messages = append(o.messages, fmt.Sprintf("%c%d%s", stream, c, map[bool]string{true: "?"}[unsure]))
		unsure = false
	}
	return o
}

// tail says what is missing because another stream tells of it, and up to which counter that has been told.
func (s schedule) tail(stream byte, claim event, claimed uint64, places map[uint64]uint64, from uint64, o *outcome) (told uint64) {
	if claimed == 0 || stream != 'a' || claim.acked == 0 {
		return 0
	}
	read := func(counter uint64) bool { return places[counter] > 0 && places[counter] < claimed }
	if read(claim.acked - 1) {
		return 0
	}
	// What was read of the stream when the claim came, and leads on from where reading began, is not missing.
	begin := from
	for read(begin) {
		begin++
	}
	if begin == from && !read(from) || claim.acked-1 < from {
		begin = 0
	}
	o.notices = append(o.notices, notice("!missing", stream, begin, claim.acked-1))
	return claim.acked
}

// gap says what becomes of the frames from a counter to another.
func (s schedule) gap(stream byte, from, to uint64, known bool, sealed int, place uint64, claim event, claimed uint64, o *outcome) {
	if from > to {
		return
	}
	if !s.o.Stored {
		o.notices = append(o.notices, notice("gap", stream, from, to))
		return
	}
	if stream == 'a' && claimed > place && claim.acked <= to {
		o.notices = append(o.notices, notice("unacknowledged", stream, max(from, claim.acked), to))
		if claim.acked <= from {
			return
		}
		to = claim.acked - 1
	}
	kind := "!gap"
	if asked-sealed > s.age && known || asked > s.age && !known {
		kind = "expired"
	}
	o.notices = append(o.notices, notice(kind, stream, from, to))
}

func notice(kind string, stream byte, from, to uint64) string {
	if from == to {
		return fmt.Sprintf("%s(%c%d)", kind, stream, from)
	}
	return fmt.Sprintf("%s(%c%d-%d)", kind, stream, from, to)
}
