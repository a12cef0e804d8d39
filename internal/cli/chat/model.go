package chat

import (
	"errors"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/unibus/unibus"
)

// maxKept is how many bytes a chat keeps of what it has read and shown. Beyond that the room that has most lets go of its
// older half, which can be read again.
const maxKept = 64 << 20

// maxPast is how many messages back a room can be read at most.
const maxPast = 100_000

// Pauses between looks at what is known of rooms, and at which there are.
const (
	lookEvery = time.Second
	listEvery = 10 // looks
)

// model is all that the screen shows.
type model struct {
	feed  *feed
	self  unibus.PublicKey
	last  int           // how many messages of the past are read first
	pause time.Duration // between two looks

	shelf
	line          line
	width, height int
	members       bool // are shown
	help          help

	strays []message // of rooms that are not known yet

	status string // the last that is to be known
	since  int    // the look at which it came
	looks  int
	bus    string             // its name, if that is worth telling
	number int                // of the last message that was written
	hint   func(error) string // what helps with an error; nil: nobody says
	ended  error              // why nothing more is read; nil: more is

	drawn tea.View // the last that was drawn
}

// newModel is an empty screen.
func newModel(f *feed, last int) *model {
	return &model{feed: f, self: f.c.Key(), last: last, pause: lookEvery, line: newLine(), status: "looking for rooms…"}
}

// Init has the rooms listed, and begins to look at them.
func (m *model) Init() tea.Cmd { return tea.Batch(m.feed.list, later(m.pause)) }

// later is the command that says when to look again.
func later(pause time.Duration) tea.Cmd {
	return tea.Tick(pause, func(time.Time) tea.Msg { return looked{} })
}

// Update takes what happened.
func (m *model) Update(event tea.Msg) (tea.Model, tea.Cmd) {
	var then tea.Cmd
	before := m.status
	switch e := event.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = e.Width, e.Height
		m.line.fit(e.Width, e.Height)
	case tea.KeyPressMsg:
		if e.Text != "" && !m.help.on && m.line.search == nil {
			return m, m.line.gather(e.Text)
		}
		m.line.settle()
		then = m.press(e)
	case tea.PasteMsg:
		m.line.settle()
		then = m.line.write(e)
	case gathered:
		m.line.settle()
	case looked:
		then = tea.Batch(m.look(), later(m.pause))
	default:
		then = m.take(event)
	}
	if m.status != before {
		m.since = m.looks
	}
	m.trim()
	return m, then
}

// take takes what the feed tells.
func (m *model) take(event tea.Msg) tea.Cmd {
	switch e := event.(type) {
	case listed:
		return m.list(e)
	case arrived:
		return m.receive(e)
	case noticed:
		return m.notice(e)
	case past:
		return m.join(e)
	case grown:
		if r := m.room(e.room); e.err != nil {
			m.status = "a room's log: " + e.err.Error()
		} else if r != nil {
			r.keepPlace(m.layout(), func() { r.grow(e.entries) })
		}
	case sent:
		if r := m.room(e.room); r != nil && r.progress(e) && e.err != nil {
			m.status = e.err.Error()
		}
	case told:
		if m.ended != nil { // what becomes of the connection is of no use any more
			return nil
		}
		m.tellAll(remark, e.text)
		return m.feed.list // it may be about another room
	case ended:
		m.ended = e.err
		m.tellAll(finding, "nothing more is read: "+e.err.Error()+"; "+helps(m.hint, e.err)+"end this chat, and begin another when that is mended")
	}
	return nil
}

// helps is what helps with an error, as the words before others have it; empty for nothing.
func helps(hint func(error) string, err error) string {
	if hint == nil {
		return ""
	}
	if text := hint(err); text != "" {
		return text + "; "
	}
	return ""
}

// tellAll tells something that is about no room, on the rule, and whole in the room that is on the screen; with what ends the
// reading in every room.
func (m *model) tellAll(kind itemKind, text string) {
	if m.ended == nil || kind == finding {
		m.status = text
	}
	for _, r := range m.rooms {
		if r == m.on || kind == finding {
			r.keepPlace(m.layout(), func() { r.add(&item{kind: kind, at: time.Now(), text: text}) })
		}
	}
}

// list takes in which rooms there are.
func (m *model) list(e listed) tea.Cmd {
	m.put(e.rooms)
	strays := m.strays
	m.strays = nil
	_ = m.receive(arrived{strays}) // those that stay wait for the next list
	switch {
	case m.ended != nil: // which is why
	case m.on != nil && errors.Is(e.err, unibus.ErrUnavailable): // that the connection is lost is told already
	case e.err != nil:
		m.status = "not every room could be opened: " + e.err.Error()
	case len(m.rooms) == 0:
		m.status = "you are in no room yet; this goes on as soon as you are"
		if names := m.feed.names; !slices.Equal(names, []string{everything}) {
			m.status = "no room of yours is " + strings.Join(names, " or ") + "; this goes on as soon as one is"
		}
	case m.on == nil:
		m.status = ""
	}
	if m.on == nil && len(m.rooms) > 0 {
		return m.show(m.rooms[0])
	}
	return nil
}

// show brings a room to the screen.
func (m *model) show(r *room) tea.Cmd {
	if m.on != nil {
		m.on.draft = m.line.Value()
		m.on.endFresh()
	}
	m.on, m.status = r, ""
	r.news, r.alarm = 0, false
	m.line.turnTo(r)
	if r.asked == 0 {
		return m.more(r)
	}
	return nil
}

// more reads further into a room's past than before.
func (m *model) more(r *room) tea.Cmd {
	if r.loading || r.whole || r.asked >= maxPast {
		return nil
	}
	r.loading = true
	return m.feed.past(r.Room, min(max(m.last, 2*r.asked), maxPast))
}

// maxStrays is how many messages wait until it is known which rooms there are.
const maxStrays = 1024

// receive takes messages that came. Those of a room that is not known yet wait until it is.
func (m *model) receive(e arrived) (then tea.Cmd) {
	by := map[*room][]message{}
	for _, one := range e.messages {
		if r := m.room(one.Room); r != nil {
			by[r] = append(by[r], one)
		} else if then = m.feed.list; len(m.strays) < maxStrays {
			m.strays = append(m.strays, one)
		}
	}
	for r, messages := range by {
		r.keepPlace(m.layout(), func() {
			for _, one := range messages {
				if r.receive(one, m.self) && r != m.on && one.Sender != m.self {
					if r.news++; r.news == 1 {
						r.beginFresh()
					}
				}
			}
		})
	}
	return then
}

// notice takes what was found.
func (m *model) notice(e noticed) tea.Cmd {
	r := m.room(e.notice.Room)
	if r == nil {
		m.status = e.notice.String()
		return m.feed.list
	}
	r.keepPlace(m.layout(), func() {
		if r.tell(e.notice) && e.notice.Finding {
			r.alarm = r != m.on
		}
	})
	return nil
}

// join takes a room's past.
func (m *model) join(e past) tea.Cmd {
	r := m.room(e.room)
	if r == nil {
		return nil
	}
	r.join(e, m.self)
	if s := m.line.search; s != nil && s.up && r == m.on {
		return m.find(true)
	}
	return nil
}

// statusStays is for how many looks it stays.
const statusStays = 15

// look takes what the client knows of the rooms by now.
func (m *model) look() tea.Cmd {
	switch {
	case m.ended != nil && (m.status == "" || m.looks > m.since+statusStays):
		m.status = "nothing more is read"
	case m.ended != nil:
	case len(m.rooms) > 0 && m.looks > m.since+statusStays:
		m.status = ""
	}
	var then []tea.Cmd
	for _, r := range m.rooms {
		r.info, r.members = r.Info(), r.Members()
		if r.entry > 0 && r.info.Seq > r.entry {
			then = append(then, m.feed.log(r.Room))
		}
	}
	if m.looks++; m.looks%listEvery == 0 {
		then = append(then, m.feed.list)
	}
	return tea.Batch(then...)
}
