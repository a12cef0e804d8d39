package unibus

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/store"
)

// farPast says that a room reaches to where nothing can come after.
type farPast struct {
	pastStore
	tell func(p *store.Past)
}

func (s *farPast) Frames(ctx context.Context, room ID, q store.FramesQuery) (store.Past, error) {
	past, err := s.pastStore.Frames(ctx, room, q)
	s.tell(&past)
	return past, err
}

// TestFarthestPlace: a room that is said to reach to the last number there is has not been read when the number
// behind it, which is zero, was passed.
func TestFarthestPlace(t *testing.T) {
	w, must := found(t), orFatal(t)
	w.c.o.Timeout = time.Second
	room, err := w.c.CreateRoom(w.ctx, "far", DefaultPolicy())
	must(err)
	must(room.PublishOnce(w.ctx, []byte("here")))
	past := w.c.past
	for name, tell := range map[string]func(p *store.Past){
		"last":  func(p *store.Past) { p.Last = math.MaxUint64 },
		"empty": func(p *store.Past) { p.Last, p.Frames = math.MaxUint64, nil },
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
				w.c.past = &farPast{past, tell}
				ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
				defer cancel()
				o.End = true
				s, err := room.Subscribe(ctx, o)
				if err == nil {
					for _, err = range s.Messages() {
						if err != nil {
							break
						}
					}
					s.Close()
				}
				if !errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
					t.Errorf("reading ended with %v, %v", err, ctx.Err())
				}
			})
		}
	}
}
