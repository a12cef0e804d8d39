package unibus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/reader"
	"github.com/unibus/unibus/internal/store"
)

// lyingPast says something else of what a room holds than is true.
type lyingPast struct {
	reader.Past
	lie func(q store.FramesQuery, p *store.Past)
}

func (s *lyingPast) Frames(ctx context.Context, room ID, q store.FramesQuery) (store.Past, error) {
	past, err := s.Past.Frames(ctx, room, q)
	s.lie(q, &past)
	return past, err
}

// read reads what a room has stored, and says how that ended.
func (w *own) read(t *testing.T, r *Room, o SubscribeOptions) (texts []string, notices []Notice, err error) {
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	o.End = true
	o.Notice = func(n Notice) { notices = append(notices, n) }
	s, err := r.Subscribe(ctx, o)
	if err != nil {
		return nil, notices, err
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Close() })()
	for m, err := range s.Messages() {
		if err != nil {
			return texts, notices, err
		}
		texts = append(texts, string(m.Body))
	}
	if ctx.Err() != nil {
		t.Error("reading has no end")
	}
	return texts, notices, nil
}

// TestFarthestPlace: a room that is said to reach to the last number there is has not been read when the number
// behind it, which is zero, was passed.
func TestFarthestPlace(t *testing.T) {
	w, must := found(t), orFatal(t)
	w.c.reader.Timeout = time.Second
	room, err := w.c.CreateRoom(w.ctx, "far", DefaultPolicy())
	must(err)
	must(room.PublishOnce(w.ctx, []byte("here")))
	past := w.c.reader.Past
	for name, lie := range map[string]func(p *store.Past){
		"last":   func(p *store.Past) { p.Last = math.MaxUint64 },
		"empty":  func(p *store.Past) { p.Last, p.Frames = math.MaxUint64, nil },
		"none":   func(p *store.Past) { p.First, p.Frames = 0, nil },
		"behind": func(p *store.Past) { p.First, p.Frames = p.Last+2, nil },
		"frame": func(p *store.Past) {
			for i := range p.Frames {
				p.Frames[i].Seq = math.MaxUint64
			}
		},
	} {
		for start, o := range map[string]SubscribeOptions{
			"all": {All: true}, "last": {Last: 2}, "since": {Since: time.Now().Add(-time.Hour)},
		} {
			t.Run(name+"/"+start, func(t *testing.T) {
				w.c.reader.Past = &lyingPast{past, func(_ store.FramesQuery, p *store.Past) { lie(p) }}
				if texts, _, err := w.read(t, room, o); !errors.Is(err, ErrUnavailable) {
					t.Errorf("reading ended with %q, %v", texts, err)
				}
			})
		}
	}
}

// fillRoom publishes three times as many frames as one question for the past is answered with at most, each of one
// text. The tenth of them and all after it are sealed since the time.
func fillRoom(ctx context.Context, room *Room) (all []string, since time.Time, err error) {
	p, err := room.Publisher(ctx)
	if err != nil {
		return nil, since, err
	}
	for i := range 3 * 32 {
		if i == 10 {
			since = time.Now()
		}
		text := fmt.Sprint(i)
		all = append(all, text)
		if err := errors.Join(p.Publish([]byte(text)), p.Flush(ctx)); err != nil {
			return nil, since, err
		}
	}
	return all, since, p.Close(ctx)
}

// TestFalseBeginning: where a room begins, and where what was stored since a time does, is the server's word. Whoever
// reads from the first place is told of what is missing before it, however it is asked for; and what was sealed since
// a time is read, whatever the server says was stored since.
func TestFalseBeginning(t *testing.T) {
	w, must := found(t), orFatal(t)
	room, err := w.c.CreateRoom(w.ctx, "beginning", DefaultPolicy())
	must(err)
	all, since, err := fillRoom(w.ctx, room)
	must(err)
	past := w.c.reader.Past
	later := func(first uint64) func(q store.FramesQuery, p *store.Past) {
		return func(_ store.FramesQuery, p *store.Past) {
			p.First = first
			p.Frames = slices.DeleteFunc(p.Frames, func(f store.Frame) bool { return f.Seq < first })
		}
	}
	for name, v := range map[string]struct {
		o    SubscribeOptions
		lie  func(q store.FramesQuery, p *store.Past)
		want []string
		kind NoticeKind // of a finding; empty: there is none
	}{
		"all":    {SubscribeOptions{All: true}, later(31), all[30:], NoticeLost},
		"last":   {SubscribeOptions{Last: 90}, later(31), all[30:], NoticeLost},
		"since":  {SubscribeOptions{Since: since}, later(31), all[30:], NoticeLost},
		"enough": {SubscribeOptions{Last: 2}, later(31), all[len(all)-2:], ""}, // it is not looked at
		"since late": {SubscribeOptions{Since: since}, func(q store.FramesQuery, p *store.Past) {
			if !q.Since.IsZero() {
				p.Frames = p.Frames[70:]
			}
		}, all[10:], ""},
		"since never": {SubscribeOptions{Since: since}, func(q store.FramesQuery, p *store.Past) {
			if !q.Since.IsZero() {
				p.Frames = nil
			}
		}, all[10:], ""},
		"nothing": {SubscribeOptions{Since: since}, func(store.FramesQuery, *store.Past) {}, all[10:], ""},
	} {
		t.Run(name, func(t *testing.T) {
			w.c.reader.Past = &lyingPast{past, v.lie}
			texts, notices, err := w.read(t, room, v.o)
			if !slices.Equal(texts, v.want) {
				t.Errorf("delivered %q, want %q", texts, v.want)
			}
			if v.kind == "" && err != nil || v.kind != "" && !errors.Is(err, ErrIntegrity) {
				t.Errorf("it ended with %v", err)
			}
			if v.kind != "" && !slices.ContainsFunc(notices, func(n Notice) bool { return n.Kind == v.kind && n.Finding }) {
				t.Errorf("notices %v", notices)
			}
		})
	}
}
