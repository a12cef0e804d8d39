package inbox

import (
	"cmp"
	"slices"
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

// extent is how far the room's stream is known to reach back, and how much there is of it: what says whether a frame may
// have expired. By the log, that is, and by what was read; the server's word can only make it less.
type extent struct {
	log    Log
	stored bool   // frames have places, and what is missing is somebody's doing
	start  bool   // reading begins with the first frame there is
	from   uint64 // the place reading begins at
	first  uint64 // the first place that the server said there is
	began  bool   // that place was judged
	read   meter
	held   uint64 // bytes that the room was found to hold, from its first place on
	last   mark   // of what was read, the frame at the highest place
	cut    cut    // still to be judged
}

// cut are places that were not read, and before which the server says by now that the room begins.
type cut struct {
	from, to uint64 // none when to is 0
	after    mark   // of the last frame that was read before them
}

// add takes note of a frame that was read.
func (x *extent) add(f Frame) {
	x.read.add(f.Place, f.Size+overhead)
	if f.Place > x.last.place {
		x.last = markOf(f)
	}
}

// skip takes note that what comes after what was read is not there from a place on, up to where the room is said to begin now.
func (x *extent) skip(from, first uint64) {
	switch {
	case !x.stored || !x.last.known || first <= from:
	case x.cut.to > 0:
		x.cut.to = first - 1
	default:
		x.cut = cut{from, first - 1, x.last}
	}
}

// Skipped has an inbox take note that places behind what was read, from one on, are not there: the server says that the room
// begins behind them, at first.
func Skipped(b *Inbox, from, first uint64) { b.extent.skip(from, first) }

// judgeFront judges what is not there before what the server says comes first.
func (x *extent) judgeFront(now time.Time, b *Inbox) {
	x.beginning(now, b.tell)
	x.judgeCut(now, func(from, to uint64, why string) {
		b.damage.add(damage{crypto.PublicKey{}, from, to})
		b.tell(Notice{Kind: Lost, Finding: true, From: from, To: to, Why: why})
	})
}

// judgeCut judges, once, what was skipped so: it was trimmed, or taken away.
func (x *extent) judgeCut(now time.Time, lost func(from, to uint64, why string)) {
	c := x.cut
	x.cut = cut{}
	if c.to == 0 || x.log.Archived() || !x.log.StoredSince(c.after.at) {
		return
	}
	if expired, _ := x.mayHaveExpired(c.after, now); !expired {
		lost(c.from, c.to, "missing before what is said to come first by now, though nothing behind what was read can have expired")
	}
}

// reach takes note of the first place that the server says there is. It never goes back.
func (x *extent) reach(first uint64) {
	x.first = max(x.first, first)
	x.began = x.began || x.first == 1 // nothing is missing there, whatever is trimmed from now on
}

// find takes note of how much the room was found to hold from there on, by whoever has looked.
func (x *extent) find(bytes uint64) { x.held = max(x.held, bytes) }

// clocksDiffer is how far the clocks of a writer and a reader may differ: both may log in with one that is off by
// crypto.TokenSkew from the servers', by whose clock frames expire.
const clocksDiffer = 2 * crypto.TokenSkew

// mayHaveExpired reports whether a frame, stored after one that left marks, may be gone because the room keeps
// frames for so long, or so many, and no more. Nothing has expired behind what the server says comes first. When it may
// not, yet says that it may be behind enough others when more has been read.
func (x *extent) mayHaveExpired(left mark, now time.Time) (expired, yet bool) {
	if x.stays(left) {
		return false, false
	}
	kept := x.log.Kept(left.at)
	old := kept.Age > 0 && now.Sub(time.UnixMicro(int64(min(left.time, 1<<62)))) > time.Duration(kept.Age)*time.Second-clocksDiffer
	many := kept.Trimmed && max(x.read.since(x.first), x.held) >= kept.Left
	return old || many, kept.Trimmed && left.place < x.first
}

// stays reports whether what the server says comes first is so far before a mark that nothing behind that has expired.
func (x *extent) stays(m mark) bool { return m.place > 0 && m.place >= x.first+OutOfOrder }

// doubt is how many bytes the room would have to hold for a frame to have expired that was stored after one that left
// marks; 0 when that is known as it is.
func (x *extent) doubt(m mark, now time.Time) uint64 {
	if expired, _ := x.mayHaveExpired(m, now); expired || x.stays(m) {
		return 0
	}
	return x.log.Kept(m.at).Left
}

// created is when the room was made.
func (x *extent) created() mark { return mark{at: 1, time: uint64(x.log.Created().UnixMicro())} }

// begins reports whether where the room begins is still to be judged.
func (x *extent) begins() bool { return x.start && !x.began }

// beginning judges, once, that a room which is read from its start does not begin with its first place. The log says
// what may have been trimmed; the server's word is not needed. Of a room that began anew nobody knows the place at which
// it did.
func (x *extent) beginning(now time.Time, tell teller) {
	if !x.stored || !x.begins() || x.first == 0 {
		return
	}
	x.began = true
	m := x.created()
	if expired, _ := x.mayHaveExpired(m, now); expired || x.first == 1 || !x.log.StoredSince(m.at) {
		return
	}
	tell(Notice{
		Kind: Lost, Finding: true, From: 1, To: x.first - 1,
		Why: "missing before what is said to come first, though nothing can have expired",
	})
}

// damages are the last places of the room's stream that were found damaged.
type damages []damage

// damage are places of the room's stream that hold nothing, or nothing authentic of their sender's; of anybody's
// if that is zero.
type damage struct {
	sender   crypto.PublicKey
	from, to uint64
}

func (all *damages) add(d damage) {
	if len(*all) == maxDamage {
		*all = slices.Delete(*all, 0, maxDamage/2)
	}
	*all = append(*all, d)
}

// between reports whether something of a sender's may have been damaged behind one place and before another.
func (all damages) between(sender crypto.PublicKey, behind, before uint64) bool {
	return slices.ContainsFunc(all, func(d damage) bool {
		return (d.sender == sender || d.sender == crypto.PublicKey{}) && d.to > behind && d.from < before
	})
}

// meter adds up what was read, so as to say how much of it came from a place on. It remembers the sums at some
// places, so it may say a little more.
type meter struct {
	total uint64
	marks []sum // by place
	every uint64
}

// sum is what was read up to a place, without it.
type sum struct{ place, total uint64 }

// maxSumPlaces is how many sums a meter remembers.
const maxSumPlaces = 1024

func (m *meter) add(place uint64, size int) {
	if n := len(m.marks); n == 0 || place >= m.marks[n-1].place+m.every {
		if n == maxSumPlaces { // half of them, twice as far apart
			for i := range n / 2 {
				m.marks[i] = m.marks[2*i]
			}
			m.marks = m.marks[:n/2]
			m.every = max(2*m.every, 2)
		}
		m.marks = append(m.marks, sum{place, m.total})
	}
	m.total += uint64(size)
}

// since is how many bytes were read from a place on.
func (m *meter) since(place uint64) uint64 {
	i, found := slices.BinarySearchFunc(m.marks, place, func(s sum, place uint64) int { return cmp.Compare(s.place, place) })
	if !found {
		i--
	}
	if i < 0 {
		return m.total
	}
	return m.total - m.marks[i].total
}
