package inbox

import (
	"slices"
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

// claims are what writers say of their other streams, which was not read: frames that were acknowledged, so that they
// must have been stored (SPEC.md §6).
type claims struct {
	extent  *extent
	streams *streams
	tell    teller
	open    []claim        // to be judged when what is stored has been read to its end
	told    map[key]uint64 // of streams of which nothing was read: how many frames were told to be missing
}

// claim is what a frame says of another stream, of which it was not read.
type claim struct {
	key
	crypto.Follows
	by uint64 // the place of the frame that says so
}

func (c *claim) mark() mark { return mark{at: c.At, time: c.Sealed, place: c.Place} }

// follow compares what a frame says of its writer's other streams with what was read of them. What was
// acknowledged was stored before the frame was sealed, and read before it; a place behind the frame's own says that
// the room's stream went back. What was not read, and may be behind enough others to have expired, is judged when
// what is stored has been read to its end, as gaps are: only then it is known how much there is.
func (c *claims) follow(f Frame, now time.Time) {
	for _, says := range f.Content.Follows {
		k := key{f.Sender, says.Stream}
		s := c.streams.get(k)
		if s != nil {
			s.acknowledge(says.Frames, f.Place)
		}
		one := claim{k, says, f.Place}
		if says.Frames == 0 || c.has(one) || !c.expected(says, f) {
			continue
		}
		if expired, yet := c.extent.mayHaveExpired(one.mark(), now); expired || !yet {
			c.unread(one, now)
			continue
		}
		if len(c.open) == maxJudged {
			c.unread(c.open[0], now)
			c.open = slices.Delete(c.open, 0, 1)
		}
		c.open = append(c.open, one)
	}
}

// has reports whether what a claim tells of was read, or would be forgotten.
func (c *claims) has(one claim) bool {
	s := c.streams.get(one.key)
	return s != nil && s.has(one.Frames-1) || s == nil && c.streams.forgot
}

// expected reports whether what a frame says was stored must have been read.
func (c *claims) expected(says crypto.Follows, f Frame) bool {
	log := c.extent.log
	if at, when := log.Began(); at > 1 && says.Sealed < uint64(max(when.UnixMicro(), 0)) {
		return false // it is of before that, whatever log it was made by
	}
	return says.Place >= c.extent.from && says.At <= f.Header.At && log.OwesAt(says.At) && log.StoredSince(says.At)
}

// judge says what became of what was stored and not read.
func (c *claims) judge(now time.Time) {
	for _, one := range c.open {
		if !c.has(one) {
			c.unread(one, now)
		}
	}
	c.open = nil
}

// unread tells, once, of frames that were stored and not read.
func (c *claims) unread(one claim, now time.Time) {
	from, to := uint64(0), one.Frames-1
	if s := c.streams.get(one.key); s != nil {
		from = s.untold(max(s.next, s.first))
		if to < s.first {
			from = 0
		}
		s.miss(from, to)
	} else {
		if told, ok := c.told[one.key]; ok {
			from = told
		}
		if len(c.told) >= maxClaims {
			clear(c.told)
		}
		c.told[one.key] = one.Frames
	}
	if from > to {
		return
	}
	n := Notice{Kind: Missing, Finding: true, From: from, To: to, Place: one.Place, By: one.by, Why: "its writer says that it was stored; withheld, or never written"}
	if expired, _ := c.extent.mayHaveExpired(one.mark(), now); expired {
		n.Kind, n.Finding, n.Why = Expired, false, "stored, and old enough, or behind enough others, to have expired"
	}
	c.tell.of(one.key, n)
}

// doubt is the extent's, of all that is about to be judged.
func (c *claims) doubt(now time.Time) (bytes uint64) {
	for _, one := range c.open {
		bytes = max(bytes, c.extent.doubt(one.mark(), now))
	}
	return bytes
}
