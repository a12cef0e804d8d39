package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// This file compares what the servers hold of each stream. LookAtCopies asks them; two looks at the copies of a stream are a
// pair, which tells what is lacking from what is only on its way.

// Recopy is what helps with a copy that lacks something.
const Recopy = "stop every server that lacks some, empty their data folders but for service.nk, and then start them: they copy what the others have"

// Held is what one server holds of a stream.
type Held struct {
	Server      string
	First, Last uint64 // places
	Messages    uint64
	Began       time.Time     // when the first message was stored
	Age         time.Duration // after which each server removes a message when its own clock says so; 0: never
	Unled       bool          // the server knows none that leads the copies: what this one lacks nobody brings yet
}

// clocks may be apart by so much before copies that remove what is old are taken for unlike.
const clocks = time.Minute

// Copies is what each server holds of the streams in the store's account, by stream.
type Copies map[string][]Held

// LookAtCopies asks the servers for that, over a connection of the system account.
func LookAtCopies(ctx context.Context, sys *nats.Conn) (Copies, error) {
	ask, err := json.Marshal(server.JSzOptions{Account: AccountStore, Streams: true, Config: true})
	if err != nil {
		return nil, err
	}
	held := Copies{}
	err = AskServers(ctx, sys, "JSZ", ask, lookWait, func(answer []byte) error {
		var a struct {
			Server struct{ Name string }
			Data   struct {
				Accounts []server.AccountDetail `json:"account_details"`
			}
		}
		if err := json.Unmarshal(answer, &a); err != nil {
			return fmt.Errorf("what a server says of its streams is not understood: %w", err)
		}
		for _, account := range a.Data.Accounts {
			for _, s := range account.Streams {
				h := Held{Server: a.Server.Name, First: s.State.FirstSeq, Last: s.State.LastSeq, Messages: s.State.Msgs, Began: s.State.FirstTime}
				if s.Config != nil {
					h.Age = s.Config.MaxAge
				}
				h.Unled = s.Cluster != nil && s.Cluster.Leader == ""
				held[s.Name] = append(held[s.Name], h)
			}
		}
		return nil
	})
	return held, err
}

// Messages is how many messages a server holds, of all streams.
func (c Copies) Messages(server string) (n uint64) {
	for _, copies := range c {
		for _, h := range copies {
			if h.Server == server {
				n += h.Messages
			}
		}
	}
	return n
}

// Unled reports whether a server knows none that leads the copies of a stream.
func (c Copies) Unled(name, server string) bool {
	return slices.ContainsFunc(c[name], func(h Held) bool { return h.Server == server && h.Unled })
}

// Servers is how many servers hold any stream.
func (c Copies) Servers() int {
	servers := map[string]bool{}
	for _, copies := range c {
		for _, h := range copies {
			servers[h.Server] = true
		}
	}
	return len(servers)
}

// Unlike returns, by stream, in what copies are not alike, and were not when they were looked at before. A copy that a
// damaged disk has shortened is current for all that its servers know, and what it lacks is there for some readers and
// for others not. While something is stored or removed, servers are at it one after the other: only who lacks what the
// others had, or still have, at the other look is told of.
func (c Copies) Unlike(before Copies) map[string]string {
	unlike := map[string]string{}
	for name, copies := range c {
		if said := compare(before[name], copies, time.Now()); said != "" {
			unlike[name] = said
		}
	}
	return unlike
}

// Short returns, by stream, in what copies are not alike of which that on a server lacks something, as with Unlike. A
// room's that only ends earlier lacks nothing: it is being brought up to date, and is not read from before it is.
func (c Copies) Short(before Copies, server string) map[string]string {
	short := map[string]string{}
	for name, copies := range c {
		p := newPair(before[name], copies, time.Now())
		for _, h := range p.copies {
			behind := h.Last < p.last && !OfRoom(name)
			if h.Server == server && (behind || p.beheaded(h) || p.holes(h) > 0) {
				short[name] = p.String()
			}
		}
	}
	return short
}

// compare says in what the copies of a stream are not alike at a time, and were not before; empty for nothing.
func compare(before, copies []Held, now time.Time) string {
	return newPair(before, copies, now).String()
}

// pair is two looks at the copies of a stream.
type pair struct {
	before, copies []Held // by the same servers, by their names
	was            map[string]Held
	first          uint64 // that any copy holds now
	last           uint64 // that every copy has to have now
	expires        bool   // each server removes what is first by its own clock
}

// newPair leaves out who was not there at one of the looks: of a copy that is new, or gone, nothing can be said.
func newPair(before, copies []Held, now time.Time) *pair {
	p := &pair{before: before, was: map[string]Held{}}
	for _, h := range before {
		p.was[h.Server] = h
	}
	p.copies = slices.DeleteFunc(slices.Clone(copies), func(h Held) bool { _, seen := p.was[h.Server]; return !seen })
	slices.SortFunc(p.copies, func(a, b Held) int { return strings.Compare(a.Server, b.Server) })
	if len(p.copies) < 2 {
		p.copies = nil
		return p
	}
	var last uint64
	p.first, last = spread(p.copies)
	_, p.last = spread(before)
	p.last = min(p.last, last)
	longest := p.copies[slices.IndexFunc(p.copies, func(h Held) bool { return h.First == p.first })]
	p.expires = longest.Age > 0 && now.Sub(longest.Began) >= longest.Age-clocks
	return p
}

// cut reports whether a copy lacks what others hold before its first or behind its last message.
func (p *pair) cut(h Held) bool { return h.Last < p.last || p.beheaded(h) }

// beheaded reports whether a copy lacks what others hold before its first message.
func (p *pair) beheaded(h Held) bool { return p.was[h.Server].First > p.first && !p.expires }

// holes is how many messages a copy lacks between these.
func (p *pair) holes(h Held) uint64 { return min(lacks(p.was[h.Server], p.before), lacks(h, p.copies)) }

// String says in what the copies are not alike.
func (p *pair) String() string {
	var short []string
	for _, h := range p.copies {
		if p.cut(h) {
			return reaches(p.copies)
		}
		if n := p.holes(h); n > 0 {
			short = append(short, fmt.Sprintf("%s lacks %d of its messages", h.Server, n))
		}
	}
	return strings.Join(short, ", ")
}

// spread is the first place that any copy holds, and the last.
func spread(copies []Held) (first, last uint64) {
	first = copies[0].First
	for _, h := range copies {
		first, last = min(first, h.First), max(last, h.Last)
	}
	return first, last
}

// lacks is how many messages a copy lacks between its first and its last that another has. Of one that has removed more
// because it is further, others have no more messages.
func lacks(h Held, copies []Held) uint64 {
	holes := func(h Held) uint64 { return h.Last + 1 - h.First - h.Messages }
	least, most := holes(h), h.Messages
	for _, other := range copies {
		least, most = min(least, holes(other)), max(most, other.Messages)
	}
	if h.Messages == most && h.First == copies[0].First {
		return 0
	}
	return holes(h) - least
}

// reaches says from where to where the copies of a stream go.
func reaches(copies []Held) string {
	var parts []string
	for _, h := range copies {
		if h.Messages == 0 {
			parts = append(parts, "nothing on "+h.Server)
		} else {
			parts = append(parts, fmt.Sprintf("%d to %d on %s", h.First, h.Last, h.Server))
		}
	}
	return "it holds " + strings.Join(parts, ", ")
}
