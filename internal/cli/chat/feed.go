package chat

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"

	tea "charm.land/bubbletea/v2"

	"github.com/unibus/unibus"
)

// feed reads and writes for a chat. Its goroutines end with end, which waits for them.
type feed struct {
	c     *unibus.Client
	names []string
	live  *unibus.Subscription
	tell  func(tea.Msg) // the model of something; it does nothing once the screen is gone

	reading context.Context // ends with the screen
	stop    context.CancelFunc
	work    sync.WaitGroup // what reads

	listing atomic.Bool // somebody finds out which rooms there are

	mu       sync.Mutex
	findings []unibus.Notice
	early    []unibus.Notice           // came before there was a screen; nil from then on
	writers  map[unibus.ID]*roomWriter // begun when they are first needed
}

// newFeed begins to read rooms.
func newFeed(ctx context.Context, c *unibus.Client, names []string) (*feed, error) {
	f := &feed{c: c, names: names, early: []unibus.Notice{}, writers: map[unibus.ID]*roomWriter{}}
	f.reading, f.stop = context.WithCancel(ctx)
	var err error
	if f.live, err = c.Subscribe(f.reading, names, unibus.SubscribeOptions{Parts: true, Stay: true, Notice: f.notice}); err != nil {
		f.stop()
		return nil, err
	}
	return f, nil
}

// begin hands what was and will be read to a screen.
func (f *feed) begin(tell func(tea.Msg), notices <-chan string) {
	f.mu.Lock()
	f.tell = tell
	early := f.early
	f.early = nil
	f.mu.Unlock()
	f.work.Go(func() {
		for _, n := range early {
			tell(noticed{n})
		}
		f.follow()
	})
	f.work.Go(func() {
		for {
			select {
			case text := <-notices:
				tell(told{text})
			case <-f.reading.Done():
				return
			}
		}
	})
}

// notice tells of a notice of the reading, which has none to tell before there is a screen.
func (f *feed) notice(n unibus.Notice) {
	f.mu.Lock()
	tell := f.tell
	if tell == nil {
		f.early = append(f.early, n)
	}
	if n.Finding && len(f.findings) < maxFindings {
		f.findings = append(f.findings, n)
	}
	f.mu.Unlock()
	if tell != nil {
		tell(noticed{n})
	}
}

// maxFindings is how many are told again once the screen is gone.
const maxFindings = 32

// together is how many messages the model is given at once, at most: the screen is drawn once for all.
const together = 256

// follow reads what comes, until the reading ends.
func (f *feed) follow() {
	var messages []message
	for m, err := range f.live.Messages() {
		if err != nil {
			if f.reading.Err() == nil {
				f.tell(ended{err})
			}
			return
		}
		messages = append(messages, beginning(m))
		if len(messages) == together || !f.live.Waiting() {
			f.tell(arrived{messages})
			messages = nil
		}
	}
}

// maxShown is how many bytes of a message are shown. Larger ones are for unibus sub.
const maxShown = 16 << 10

// beginning is a message without what is too much to be shown.
func beginning(m unibus.Message) message {
	out := message{m, m.Size()}
	if m.Parts != nil {
		out.Body, out.Parts = m.Parts[0], nil
	}
	if len(out.Body) > maxShown {
		out.Body = bytes.Clone(out.Body[:maxShown]) // so that the rest is not kept
	}
	return out
}

// says reports whether a message has a text, as far as messages are shown.
func (m *message) says(text string) bool { return string(m.Body) == cut(text) }

// cut is as much of a text as is shown of a message.
func cut(text string) string { return text[:min(len(text), maxShown)] }

// list is the command that finds the rooms that there are to see; nothing comes of it while it is under way already.
func (f *feed) list() tea.Msg {
	if f.listing.Swap(true) {
		return nil
	}
	defer f.listing.Store(false)
	var rooms []*unibus.Room
	seen := map[unibus.ID]bool{}
	add := func(r *unibus.Room) {
		if !seen[r.ID()] {
			seen[r.ID()] = true
			rooms = append(rooms, r)
		}
	}
	for _, name := range f.names {
		if !unibus.IsPattern(name) {
			r, err := f.c.Room(f.reading, name)
			switch {
			case err == nil:
				add(r)
			case !errors.Is(err, unibus.ErrNotFound): // else it is one that may be read no more; that is told where it was
				return listed{rooms, err}
			}
			continue
		}
		mine, err := unibus.RoomsMatching(f.reading, f.c, name)
		for _, r := range mine {
			add(r)
		}
		if err != nil {
			return listed{rooms, err}
		}
	}
	return listed{rooms, nil}
}

// past is the command that reads the last messages that a room has stored, and its log.
func (f *feed) past(r *unibus.Room, last int) tea.Cmd {
	return func() tea.Msg {
		p := past{room: r.ID(), asked: last}
		if p.entries, p.err = r.Log(f.reading); p.err == nil && r.Info().Policy.Stored() {
			p.messages, p.notices, p.err = f.stored(r, last)
		}
		return p
	}
}

// stored reads the last messages that a room has stored.
func (f *feed) stored(r *unibus.Room, last int) (messages []message, _ []unibus.Notice, err error) {
	var mu sync.Mutex
	var notices []unibus.Notice
	s, err := r.Subscribe(f.reading, unibus.SubscribeOptions{Last: last, End: true, Parts: true, Notice: func(n unibus.Notice) {
		mu.Lock()
		defer mu.Unlock()
		notices = append(notices, n)
	}})
	if err != nil {
		return nil, nil, err
	}
	for m, broken := range s.Messages() {
		if err = broken; err != nil {
			break
		}
		messages = append(messages, beginning(m))
	}
	if ended := s.Close(); err == nil {
		err = ended
	}
	mu.Lock()
	defer mu.Unlock()
	return messages, notices, err
}

// log is the command that reads a room's log.
func (f *feed) log(r *unibus.Room) tea.Cmd {
	return func() tea.Msg {
		entries, err := r.Log(f.reading)
		return grown{r.ID(), entries, err}
	}
}

// end ends the reading, waits until what is under way is acknowledged or ctx ends, and says what came of it.
func (f *feed) end(ctx context.Context) Result {
	f.stop()
	var r Result
	if err := f.live.Close(); errors.Is(err, unibus.ErrIntegrity) {
		r.Reading = err
	}
	f.work.Wait()
	f.mu.Lock()
	r.Findings = f.findings
	writers := f.writers
	f.writers = nil // nothing is sent any more
	f.mu.Unlock()
	for _, w := range writers {
		w.close(ctx, &r)
	}
	return r
}
