package chat

import (
	"fmt"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/unibus/unibus/internal/shown"
)

// search is somebody looking for a text in a room, from what is new towards what is old.
type search struct {
	at *item // the match that is shown; nil: none yet
	up bool  // it goes on to older ones when more of the past is there
}

// searching takes a key while somebody searches.
func (m *model) searching(k tea.KeyPressMsg, name string) tea.Cmd {
	switch name {
	case "esc":
		m.line.turnTo(m.on)
		m.status = ""
		return m.scroll(name)
	case "enter", "up":
		return m.find(true)
	case "down":
		return m.find(false)
	case "pgup", "pgdown":
		return m.scroll(name)
	case "tab", "shift+tab", "ctrl+f":
		return nil
	}
	return m.line.write(k)
}

// find goes to the next match, older if up. When there is none it reads on, and is called again.
func (m *model) find(up bool) tea.Cmd {
	s, r := m.line.search, m.on
	text := strings.ToLower(m.line.Value())
	if strings.TrimSpace(text) == "" {
		return nil
	}
	s.up = false
	if n := r.match(text, s.at, up); n >= 0 {
		s.at = r.items[n]
		number, all := r.matching(text, n)
		m.status = fmt.Sprintf("match %d of %d, the newest first", number, all)
		r.reveal(m.layout(), n)
		return nil
	}
	if !up {
		m.status = "no newer match"
		return nil
	}
	then := m.more(r)
	if s.up = r.loading; s.up {
		m.status = "looking further back…"
	} else {
		m.status = "no older match"
		if s.at == nil {
			m.status = "no match"
		}
	}
	return then
}

// match finds the next item that has a text, from one on, or from the newest; -1 when there is none.
func (t *transcript) match(text string, from *item, up bool) int {
	at, step := slices.Index(t.items, from), 1
	if at < 0 {
		at = len(t.items)
	}
	if up {
		step = -1
	}
	for n := at + step; n >= 0 && n < len(t.items); n += step {
		if t.items[n].matches(text) {
			return n
		}
	}
	return -1
}

// matches reports whether an item has a text, given in lower case, in it or in the name of who sent it.
func (i *item) matches(text string) bool {
	return strings.Contains(strings.ToLower(shown.Text(i.name)+" "+i.text), text)
}

// matching counts the items that are here and match: from the newest to one of them, and all.
func (t *transcript) matching(text string, one int) (number, all int) {
	for n, i := range t.items {
		if i.matches(text) {
			all++
			if n >= one {
				number++
			}
		}
	}
	return number, all
}
