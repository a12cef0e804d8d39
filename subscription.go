package unibus

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/errlist"
	"github.com/unibus/unibus/internal/reader"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/room"
)

// SubscribeOptions say where to begin and what to be told. The zero value begins with what comes
// after Subscribe returns, and follows.
type SubscribeOptions struct {
	All   bool      // from the first message stored
	Last  int       // with the last N messages stored in each room; all of them are in memory until they are given
	Since time.Time // from the first message stored at this time or later
	End   bool      // end when everything stored has been read
	Queue string    // share new messages with others who name the same queue; nothing is checked for gaps
	Stay  bool      // go on with the other rooms when one may not be read any more, and with that one when it may again, as patterns do
	Parts bool      // leave large messages in Parts: to join one takes its size once more
	// Notice is told what is missing or wrong; nil: it is only counted.
	Notice func(Notice)
	// CaughtUp is called by Messages once it has yielded what was stored when the subscription began, and goes on with what
	// comes; not with End. nil: nothing is told of that.
	CaughtUp func()
}

// Subscription yields the verified messages of one or more rooms. Those of one sender's stream come in
// order. What was stored when it began comes in the order in which it was stored, across its rooms too;
// after that they are merged as they come. With End it has ended when every room has been read to where
// it reached, each whole: what cannot be read so far ends it with ErrUnavailable.
type Subscription struct{ s *reader.Reading }

// Subscribe begins to read the room. It stands when Subscribe returns. ErrDenied when this client
// is no member.
func (r *Room) Subscribe(ctx context.Context, o SubscribeOptions) (*Subscription, error) {
	return subscribe(ctx, r.c, []*room.Room{r.r}, nil, nil, o)
}

// IsPattern reports whether a name, as Subscribe takes it, is a pattern rather than a room.
func IsPattern(name string) bool { return reader.IsPattern(name) }

// Matches reports whether a subject is one of those that a pattern means, with the NATS wildcards * and >. ErrInvalid for what
// is no pattern.
func Matches(pattern, subject string) (bool, error) {
	if err := reader.ValidPattern(pattern); err != nil {
		return false, err
	}
	return reader.Matches(pattern, subject), nil
}

// Subscribe begins to read several rooms, named as Room takes them, or by patterns with the NATS
// wildcards * and >: those mean every room of the caller's that matches, also ones it is invited
// to later. ErrNotFound when a name means no room, and with End also when a pattern means none. A room that is lost keeps nobody
// from the others: it is told of, and is ErrIntegrity when the subscription ends.
func (c *Client) Subscribe(ctx context.Context, names []string, o SubscribeOptions) (*Subscription, error) {
	var rooms []*room.Room
	var patterns []string
	var lost []error
	for _, name := range names {
		if reader.IsPattern(name) {
			if err := reader.ValidPattern(name); err != nil {
				return nil, err
			}
			patterns = append(patterns, name)
			continue
		}
		r, err := c.Room(ctx, name)
		switch {
		case err == nil && !slices.Contains(rooms, r.r):
			rooms = append(rooms, r.r)
		case err != nil && onlyLost(err) && len(names) > 1:
			lost = append(lost, err)
		case err != nil:
			return nil, err
		}
	}
	return subscribe(ctx, c, rooms, patterns, errlist.Join(lost...), o)
}

// subscribe is Subscribe of rooms that were found; lost is what is wrong with others.
func subscribe(ctx context.Context, c *Client, rooms []*room.Room, patterns []string, lost error, o SubscribeOptions) (*Subscription, error) {
	if c.reader == nil {
		return nil, remedy.With(fmt.Errorf("subscribe: %w: messages need a server", ErrInvalid), remedy.Remedy{Kind: remedy.UseServer})
	}
	for _, r := range rooms {
		if o.Stay && !slices.ContainsFunc(patterns, func(p string) bool { return reader.Matches(p, r.Subject()) }) {
			patterns = append(patterns, r.Subject()) // one that means this room alone
		}
	}
	ro := reader.Options{All: o.All, Last: o.Last, Since: o.Since, End: o.End, Queue: o.Queue, Parts: o.Parts, CaughtUp: o.CaughtUp, Lost: lost}
	if o.Notice != nil {
		ro.Notice = func(n reader.Notice) { o.Notice(noticeOf(n)) }
	}
	s, err := c.reader.Read(ctx, rooms, patterns, ro)
	if err != nil {
		return nil, err
	}
	return &Subscription{s}, nil
}

// Messages yields messages until the subscription ends, then the error that ended it, if one did:
// ErrDenied for a membership that ended, ErrIntegrity when there were findings. Bodies are the
// receiver's to keep.
func (s *Subscription) Messages() iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for m, err := range s.s.Messages() {
			if !yield(messageOf(&m), err) {
				return
			}
		}
	}
}

// Waiting reports whether more messages have arrived already.
func (s *Subscription) Waiting() bool { return s.s.Waiting() }

// Err returns why the subscription ended, or what is wrong with what it was given so far.
func (s *Subscription) Err() error { return s.s.Err() }

// Finish has the subscription end as with End: when everything that is stored by now has been read, and what waits for
// something before it is given or missed for good, which takes up to half a minute. ErrUnavailable, by Messages and
// Err, when that cannot be had.
func (s *Subscription) Finish() { s.s.Finish() }

// Close ends the subscription at once, and returns what Err does. What waits for something before it is not given any
// more: Finish gives it.
func (s *Subscription) Close() error { return s.s.Close() }

// messageOf is a message as callers know it.
func messageOf(m *reader.Message) Message {
	return Message{
		Room: m.Room, Subject: m.Subject, Sender: m.Sender, Name: m.Name, Time: crypto.Micros(m.Time), Epoch: m.Epoch, Stream: m.Stream,
		Counter: m.Counter, Index: m.Index, Headers: m.Headers, Body: m.Body, Parts: m.Parts, Former: m.Former, Late: m.Late, Unsure: m.Unsure,
	}
}

// noticeOf is a notice as callers know it.
func noticeOf(n reader.Notice) Notice {
	return Notice{
		Kind: NoticeKind(n.Kind), Finding: n.Finding, Room: n.Room, Subject: n.Subject, Sender: n.Name, Stream: n.Stream,
		From: n.From, To: n.To, Seq: n.Place, By: n.By, Why: n.Why,
	}
}
