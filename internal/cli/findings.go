package cli

import (
	"fmt"
	"strings"
	"sync"

	"github.com/unibus/unibus"
)

// findings are the rooms in which something is wrong, and up to which place of theirs a person would have to take them
// for what they are. Feeds of several rooms tell of them at once.
type findings struct {
	mu     sync.Mutex
	rooms  []string // in the order in which they were met
	places map[string]uint64
	others bool // findings that are none of keys
}

// note takes note of a finding about a room's messages.
func (f *findings) note(n unibus.Notice) {
	if !n.Finding || n.Kind == unibus.NoticeView || n.Kind == unibus.NoticeFork {
		return // they are not settled by a place
	}
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
	f.others = f.others || n.Kind != unibus.NoticeKey
	if f.places == nil {
		f.places = map[string]uint64{}
	}
	if _, ok := f.places[n.Subject]; !ok {
		f.rooms = append(f.rooms, n.Subject)
	}
	f.places[n.Subject] = max(f.places[n.Subject], place)
}

// maxHinted is for how many rooms the commands are given.
const maxHinted = 3

// hint is what to do about them.
func (f *findings) hint() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	anew, accept := make([]string, 0, maxHinted), make([]string, 0, maxHinted)
	for _, room := range f.rooms[:min(len(f.rooms), maxHinted)] {
		anew = append(anew, fmt.Sprintf("unibus room set %s --anew", quoted(room)))
		accept = append(accept, fmt.Sprintf("unibus verify %s --accept %d", quoted(room), f.places[room]))
	}
	more := ""
	if len(f.rooms) > maxHinted {
		more = ", and so on"
	}
	if !f.others {
		return fmt.Sprintf("a backup of the bus has the keys, for whoever runs it; for what is to come an owner or admin hands out a new one: unibus rekey %s%s; to take what cannot be read for lost: %s%s",
			quoted(f.rooms[0]), more, strings.Join(accept, "; "), more)
	}
	return fmt.Sprintf("ask whoever runs the bus what was lost or restored; if it was meant, an owner says so for everyone: %s%s; or you for yourself: %s%s",
		strings.Join(anew, "; "), more, strings.Join(accept, "; "), more)
}

// quoted is a word as a shell takes it for what it is.
func quoted(word string) string {
	if strings.Trim(strings.ToLower(word), "abcdefghijklmnopqrstuvwxyz0123456789._-/") == "" && !strings.HasPrefix(word, "-") {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
