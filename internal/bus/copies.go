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

// Recopy is what helps with a copy that lacks something.
const Recopy = "stop every server that lacks some, empty their data folders but for service.nk, and then start them: they copy what the others have"

// Held is what one server holds of a stream.
type Held struct {
	Server      string
	First, Last uint64 // places
	Messages    uint64
	Began       time.Time     // when the first message was stored
	Age         time.Duration // after which each server removes a message when its own clock says so; 0: never
}

// clocks may be apart by so much before copies that remove what is old are taken for unlike.
const clocks = time.Minute

// Unlike asks the servers what each holds of the streams in the store's account, over a connection of the system
// account, and returns, by stream, in what copies are not alike. A copy that a damaged disk has shortened is current for
// all that its servers know, and what it lacks is there for some readers and for others not. Copies are unlike for a
// moment, too, while something is stored: only what is said again some time later is so.
func Unlike(ctx context.Context, sys *nats.Conn) (map[string]string, error) {
	ask, err := json.Marshal(server.JSzOptions{Account: AccountStore, Streams: true, Config: true})
	if err != nil {
		return nil, err
	}
	held := map[string][]Held{}
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
				held[s.Name] = append(held[s.Name], h)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	unlike := map[string]string{}
	for name, copies := range held {
		if said := compare(copies, time.Now()); said != "" {
			unlike[name] = said
		}
	}
	return unlike, nil
}

// compare says in what the copies of a stream are not alike at a time; empty for nothing.
func compare(copies []Held, now time.Time) string {
	slices.SortFunc(copies, func(a, b Held) int { return strings.Compare(a.Server, b.Server) })
	lacks := func(h Held) uint64 { return h.Last + 1 - h.First - h.Messages }
	least, longest := copies[0], copies[0]
	for _, h := range copies[1:] {
		if h.First < longest.First {
			longest = h
		}
	}
	expires := longest.Age > 0 && now.Sub(longest.Began) >= longest.Age-clocks
	for _, h := range copies[1:] {
		if h.Last != copies[0].Last || h.First != copies[0].First && !expires {
			return reaches(copies)
		}
		if lacks(h) < lacks(least) {
			least = h
		}
	}
	var short []string
	for _, h := range copies {
		if more := lacks(h) - lacks(least); more > 0 {
			short = append(short, fmt.Sprintf("%s lacks %d of its messages", h.Server, more))
		}
	}
	return strings.Join(short, ", ")
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
