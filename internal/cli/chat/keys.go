package chat

import (
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
)

// keys are those of a chat, as its help tells them. What is not among them is for the place where one writes.
var keys = [][2]string{
	{"enter", "send"},
	{"alt+enter, ctrl+j", "a new line; what is pasted keeps its own"},
	{"tab, shift+tab", "the next room, the one before"},
	{"ctrl+n", "the next room with something new"},
	{"page up, page down", "further into the past, as far as it goes, and back"},
	{"up, down", "a line at a time, while the message has one line"},
	{"esc", "back to what is new; ends a search"},
	{"ctrl+f", "search: enter or up for an older match, down for a newer"},
	{"ctrl+r", "take a message that was not stored back"},
	{"f2, ctrl+o", "members and their roles"},
	{"f1, ctrl+g", "this help; any other key ends it"},
	{"ctrl+z", "back to the shell for a while: fg"},
	{"ctrl+c, /quit", "end; ctrl+d does it, too, while nothing is written"},
}

// press takes a key.
func (m *model) press(k tea.KeyPressMsg) tea.Cmd {
	name := k.Keystroke()
	if name == "ctrl+c" || name == "ctrl+d" && m.line.Value() == "" && m.line.search == nil {
		return tea.Quit
	}
	if m.help.on {
		m.help.press(name, m.layout())
		return nil
	}
	if m.line.search != nil {
		return m.searching(k, name)
	}
	switch name {
	case "f1", "ctrl+g":
		m.help = help{on: true}
	case "f2", "ctrl+o":
		m.members = !m.members
		if m.members && !m.layout().showsMembers() {
			m.status = "too narrow for the members"
		}
	case "ctrl+z":
		return tea.Suspend
	case "ctrl+n":
		if r := m.news(); r != nil {
			return m.show(r)
		}
		m.status = "nothing is new in other rooms"
	case "tab", "alt+down":
		return m.turn(1)
	case "shift+tab", "alt+up":
		return m.turn(-1)
	case "pgup", "pgdown", "esc":
		return m.scroll(name)
	case "up", "down":
		if m.line.LineCount() == 1 {
			return m.scroll(name)
		}
		return m.line.write(k)
	default:
		return m.writing(k, name)
	}
	return nil
}

// quits are what people type who are used to other chats: it is never sent.
var quits = []string{"/quit", "/exit", "/q"}

// turn goes on to another room.
func (m *model) turn(by int) tea.Cmd {
	if m.on == nil {
		return nil
	}
	return m.show(m.step(by))
}

// writing takes a key in the line that is written.
func (m *model) writing(k tea.KeyPressMsg, name string) tea.Cmd {
	switch {
	case name == "alt+enter", name == "shift+enter", name == "ctrl+j":
		m.line.InsertString("\n")
	case m.on != nil && name == "ctrl+f":
		m.line.beginSearch(m.on)
		m.status = ""
	case m.on != nil && name == "ctrl+r":
		if text := m.on.takeBack(); text != "" {
			m.line.set(text)
		} else {
			m.status = "everything that you wrote here is stored, or on its way"
		}
	case name == "enter" && slices.Contains(quits, strings.TrimSpace(m.line.Value())):
		return tea.Quit
	case name == "enter" && m.line.mistyped():
		m.status = strings.TrimSpace(m.line.Value()) + " is no command: f1 shows the keys, /quit ends; enter again sends it"
	case name == "enter":
		m.send()
	default:
		return m.line.write(k)
	}
	return nil
}

// scroll moves what the screen shows of a room.
func (m *model) scroll(key string) tea.Cmd {
	if m.on == nil {
		return nil
	}
	page := max(m.layout().textHeight()-1, 1)
	at := m.on.offset
	to := map[string]int{"pgup": at + page, "pgdown": at - page, "up": at + 1, "down": at - 1, "esc": 0}[key]
	if m.on.scroll(m.layout(), to) {
		return m.more(m.on)
	}
	return nil
}

// send sends what is written.
func (m *model) send() {
	text := strings.TrimRight(m.line.Value(), " \n")
	if text == "" {
		return
	}
	if m.on == nil {
		m.status = "there is no room yet to write in: what you typed stays"
		return
	}
	m.status = m.on.readOnly()
	if m.ended != nil {
		m.status = "nothing more is sent: end this chat"
	}
	if m.status != "" {
		return
	}
	m.number++
	if err := m.feed.send(m.on.Room, m.number, text); err != nil {
		m.status = err.Error()
		m.line.set(text + "\n") // it stays, and what follows is apart from it
		return
	}
	m.on.write(&item{kind: own, at: time.Now(), from: m.self, name: m.on.nameOf(m.self), text: text, number: m.number})
	m.on.offset = 0
	m.line.Reset()
}
