// Package chat is unibus chat: a full screen with rooms, what is said in them, and a place to write.
//
// It is made of three parts. A feed (feed.go) is the edge to the bus: it reads rooms as unibus sub does, with the same
// checks, fetches their past and their logs, and sends what is written. A model (model.go) is everything that the screen
// shows: it is given what the feed has (events.go) and the keys that are pressed, and knows no bus. A screen (screen.go)
// is what it looks like. Nothing that others wrote reaches the terminal but as package shown gives it.
//
// The memory that a chat takes is bounded: see maxKept.
package chat

import (
	"context"
	"errors"
	"io"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"

	"github.com/unibus/unibus"
)

// Options of Run.
type Options struct {
	In      io.Reader // the keyboard
	Out     io.Writer // the screen
	Environ []string  // as of a process: what kind of terminal it is
	Plain   bool      // no colours
	Last    int       // how many messages of a room's past are shown to begin with

	// Rooms are subjects, ids and patterns, as unibus sub takes them; none: all rooms of the client's, also those it is
	// invited to later.
	Rooms []string

	Bus     string             // the name of the bus, if it is worth telling
	Timeout time.Duration      // how long what is not acknowledged is waited for at the end
	Hint    func(error) string // what helps with an error, if anything does; nil: nobody says
	Waiting func(n int)        // told how many messages that is, once the screen is gone; not if none
}

// Result is what happened in a chat, for who is asked after it.
type Result struct {
	Sent      int             // messages that are stored, or handed to the server in a room that stores nothing
	Unsent    int             // messages of which that is not known
	Findings  []unibus.Notice // the first of them
	Reading   error           // why reading ended, if it did before the person ended the chat, or findings: unibus.ErrIntegrity
	Abandoned error           // why the last message of Unsent was not acknowledged
}

// everything is the pattern that means all rooms.
const everything = ">"

// A Chat is one that has begun to read, and that nobody sees yet.
type Chat struct {
	o    Options
	feed *feed
}

// New begins to read the rooms. Its errors are those of unibus.Client.Subscribe.
func New(ctx context.Context, c *unibus.Client, o Options) (*Chat, error) {
	names := o.Rooms
	if len(names) == 0 {
		names = []string{everything}
	}
	f, err := newFeed(ctx, c, names)
	if err != nil {
		return nil, err
	}
	return &Chat{o: o, feed: f}, nil
}

// Run shows the chat until the person ends it or ctx does, and waits, within the timeout, until what was written is
// acknowledged; what ends ctx then ends the waiting. notices are what the client has to say meanwhile (unibus.Options.Notice); Run reads them until it ends.
// The error is that of the terminal.
func (c *Chat) Run(ctx context.Context, notices <-chan string) (Result, error) {
	options := []tea.ProgramOption{
		tea.WithContext(ctx), tea.WithOutput(c.o.Out), tea.WithEnvironment(c.o.Environ), tea.WithoutSignalHandler(),
	}
	if c.o.Plain {
		options = append(options, tea.WithColorProfile(colorprofile.ASCII))
	}
	m := newModel(c.feed, c.o.Last)
	m.bus, m.hint = c.o.Bus, c.o.Hint
	var p *tea.Program
	options = append(options, tea.WithInput(watched(c.o.In, func() { p.Quit() })))
	p = tea.NewProgram(m, options...)
	c.feed.begin(p.Send, notices)
	_, err := p.Run()
	if errors.Is(err, tea.ErrProgramKilled) && ctx.Err() != nil {
		err = nil // as it was told to; the caller knows
	}
	if n := c.feed.unsent(); n > 0 {
		c.o.Waiting(n)
	}
	waiting := ctx
	if ctx.Err() != nil { // it ended the chat; whoever wants to end the waiting, too, kills the process
		waiting = context.WithoutCancel(ctx)
	}
	waiting, cancel := context.WithTimeout(waiting, c.o.Timeout)
	defer cancel()
	r := c.feed.end(waiting)
	if r.Reading == nil {
		r.Reading = m.ended
	}
	return r, err
}
