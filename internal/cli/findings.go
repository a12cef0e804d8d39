package cli

import (
	"encoding/json"
	"sync"

	"github.com/unibus/unibus"
)

// This file tells what was found missing or wrong in rooms, as it is found, and remembers it for the hint at the end.

// findings are the rooms in which something is wrong, and for each the last place that this concerns: up to there a person
// would have to accept the room as it is (verify --accept). sub and verify collect them while they read; the hint at the end (in hints.go) is made of them.
type findings struct {
	mu sync.Mutex // feeds of several rooms tell of them at once
	// rooms are in the order in which they were met; places are up to where each would have to be accepted.
	rooms  []string
	places map[string]uint64
	// gone says that the servers have lost all that a room had stored.
	gone bool
	// others says that there is a finding that a new key does not help with.
	others bool
}

// add remembers a finding about a room's messages. Findings about logs are no matter of places, and have hints of their own.
func (f *findings) add(n unibus.Notice) {
	if !n.Finding || n.Kind == unibus.NoticeView || n.Kind == unibus.NoticeFork {
		return
	}
	// The place is that of the frame, of the one that tells of it if that comes later, or of the end of what is lost.
	place := n.Seq
	switch {
	case n.By > 0:
		place = n.By
	case n.Kind == unibus.NoticeLost:
		place = n.To
	case n.Kind == unibus.NoticeRolledBack && n.Seq == 0:
		place = n.From - 1 // where it ends now
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = f.gone || n.Kind == unibus.NoticeGone
	f.others = f.others || n.Kind != unibus.NoticeKey
	if f.places == nil {
		f.places = map[string]uint64{}
	}
	if _, ok := f.places[n.Subject]; !ok {
		f.rooms = append(f.rooms, n.Subject)
	}
	f.places[n.Subject] = max(f.places[n.Subject], place)
}

// gapJSON is a gap notice as scripts see it, on stderr.
type gapJSON struct {
	From   uint64    `json:"from"`
	Room   unibus.ID `json:"room_id"`
	Sender string    `json:"sender"`
	Stream string    `json:"stream"`
	To     uint64    `json:"to"`
}

// tellNotice tells on stderr what is missing or wrong in a room. Findings cannot be silenced.
func (a *app) tellNotice(n unibus.Notice) {
	a.found.add(n)
	a.printNotice(n)
}

// printNotice is tellNotice of what nobody can settle, as in a file.
func (a *app) printNotice(n unibus.Notice) {
	if a.out.json && n.Kind == unibus.NoticeGap {
		// Whoever reads messages as JSON has to be able to tell a gap from other notices.
		gap := gapJSON{Stream: n.Stream.String(), From: n.From, To: n.To, Room: n.Room, Sender: n.Sender}
		if line, err := json.Marshal(map[string]gapJSON{"gap": gap}); err == nil {
			a.err.print("%s\n", line)
		}
		return
	}
	if n.Finding {
		a.err.print("unibus: %s: %s\n", n.Kind, visible(n.String()))
		return
	}
	a.notice("%s: %s", n.Kind, n)
}
