package unibus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/reader"
	"github.com/unibus/unibus/internal/store"
)

// trimming gives one frame, and what it has not given is gone after that.
type trimming struct {
	reader.Past
	trim func(ctx context.Context) error
	left int // frames that are given
}

func (s *trimming) Frames(ctx context.Context, room ID, q store.FramesQuery) (store.Past, error) {
	past, err := s.Past.Frames(ctx, room, q)
	if err != nil || q.None || len(past.Frames) == 0 {
		return past, err
	}
	past.Frames = past.Frames[:s.left]
	return past, s.trim(ctx)
}

// TestTrimmedWhileRead: reading that ends with what is stored ends, too, when the rest of that is trimmed before it
// is read, and nothing comes after it.
func TestTrimmedWhileRead(t *testing.T) {
	w, must := found(t), orFatal(t)
	js, err := jetstream.New(w.node.Links().Store)
	must(err)
	p := DefaultPolicy()
	p.Retain.Age = 600 // what is gone may have expired
	stored := w.c.reader.Past
	for name, v := range map[string]struct {
		o    SubscribeOptions
		left int
	}{
		"all":   {SubscribeOptions{All: true}, 1},
		"since": {SubscribeOptions{Since: time.Now().Add(-time.Hour)}, 1},
		"last":  {SubscribeOptions{Last: 3}, 1},
		"none":  {SubscribeOptions{Last: 3}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			must := orFatal(t)
			w.c.reader.Past = stored
			room, err := w.c.CreateRoom(w.ctx, "room."+name, p)
			must(err)
			for i := range 5 {
				must(room.PublishOnce(w.ctx, fmt.Append(nil, i)))
			}
			w.c.reader.Past = &trimming{stored, func(ctx context.Context) error {
				s, err := js.Stream(ctx, bus.StreamName(room.ID()))
				if err == nil {
					err = s.Purge(ctx)
				}
				return err
			}, v.left}
			if texts, _, err := w.read(t, room, v.o); err != nil || len(texts) > v.left {
				t.Errorf("%d messages, %v", len(texts), err)
			}
		})
	}
}

// TestTrimmedAhead: a room that is limited by bytes is written faster than it is read. Hardly anything of what it held
// when reading began is there to be read, and nothing of it is missing: the room holds as much as it ever does.
func TestTrimmedAhead(t *testing.T) {
	w, must := found(t), orFatal(t)
	p := DefaultPolicy()
	p.Retain.Bytes = 64 << 10
	room, err := w.c.CreateRoom(w.ctx, "ahead", p)
	must(err)
	pub, err := room.Publisher(w.ctx)
	must(err)
	write := func() {
		for range 20 {
			must(pub.Publish(make([]byte, 4<<10)))
			must(pub.Flush(w.ctx))
		}
	}
	write()
	past := w.c.reader.Past
	for name, o := range map[string]SubscribeOptions{"all": {All: true}, "last": {Last: 30}, "since": {Since: time.Now().Add(-time.Hour)}} {
		t.Run(name, func(t *testing.T) {
			once := sync.OnceFunc(write) // after the first answer
			w.c.reader.Past = &lyingPast{past, func(q store.FramesQuery, _ *store.Past) {
				once()
				if q.None { // whoever asks for the places of what is there will find others
					write()
				}
			}}
			if _, notices, err := w.read(t, room, o); err != nil {
				t.Errorf("%v, %v", notices, err)
			}
		})
	}
	must(pub.Close(w.ctx))
}

// TestSaidToEndBefore: a room that was said to reach to a place, and then is said to end before it, has not been read as
// far as it was to be; one that was emptied meanwhile has.
func TestSaidToEndBefore(t *testing.T) {
	w, must := found(t), orFatal(t)
	w.c.reader.Timeout = 3 * time.Second
	room, err := w.c.CreateRoom(w.ctx, "short", DefaultPolicy())
	must(err)
	for range 5 {
		must(room.PublishOnce(w.ctx, []byte("x")))
	}
	past := w.c.reader.Past
	for name, c := range map[string]struct {
		lie  func(asked int, p *store.Past)
		read int
		err  error
	}{
		"short": {func(asked int, p *store.Past) {
			if asked == 1 {
				p.Last += 3
			}
		}, 5, ErrUnavailable},
		"emptied, by a leader that knew less before": {func(asked int, p *store.Past) {
			switch {
			case asked == 1:
				p.Frames = p.Frames[:min(2, len(p.Frames))]
			case asked == 2:
				p.Frames, p.First, p.Last = nil, 3, 2
			default:
				p.Frames, p.First = nil, p.Last+1
			}
		}, 2, ErrIntegrity}, // nothing can have expired
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			w.c.reader.Past = &lyingPast{past, func(_ store.FramesQuery, p *store.Past) { asked++; c.lie(asked, p) }}
			texts, notices, err := w.read(t, room, SubscribeOptions{All: true})
			if len(texts) != c.read || !errors.Is(err, c.err) {
				t.Errorf("%q, %v, %v", texts, notices, err)
			}
			asked = 0
			if _, notices, err := w.read(t, room, SubscribeOptions{Last: 9}); err == nil {
				t.Errorf("the last: %v", notices)
			}
		})
	}
}
