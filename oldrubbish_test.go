package unibus

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/store"
)

// TestOldRubbish: in a room that began anew, what a server alters is no leftover of before only because the server says
// so: not behind a message of after that, nor at a place where this client knows what was.
func TestOldRubbish(t *testing.T) {
	w, must := found(t), orFatal(t)
	past := w.c.reader.Past
	renewed := func(i int) *Room {
		w.c.reader.Past = past
		room, err := w.c.CreateRoom(w.ctx, fmt.Sprintf("anew.%d", i), DefaultPolicy())
		must(err)
		must(room.PublishOnce(w.ctx, []byte("before")))
		must(room.SetPolicy(w.ctx, func(p *PolicyChange) { p.Anew = true }))
		for _, text := range []string{"one", "two", "three"} {
			must(room.PublishOnce(w.ctx, []byte(text)))
		}
		return room
	}
	flip := func(place uint64) func(store.FramesQuery, *store.Past) {
		return func(_ store.FramesQuery, p *store.Past) {
			for i := range p.Frames {
				if f := &p.Frames[i]; f.Seq == place {
					f.Data = bytes.Clone(f.Data)
					f.Data[len(f.Data)-1] ^= 1
					f.Time = f.Time.Add(-24 * time.Hour)
				}
			}
		}
	}
	drop := func(_ store.FramesQuery, p *store.Past) {
		p.Frames = slices.DeleteFunc(p.Frames, func(f store.Frame) bool { return f.Seq == 4 })
		p.Lost = 4
	}
	all, following := SubscribeOptions{All: true}, SubscribeOptions{}
	for i, v := range []struct {
		what string
		lie  func(store.FramesQuery, *store.Past)
		o    SubscribeOptions
		want NoticeKind // of a finding
	}{
		{"as it is", func(store.FramesQuery, *store.Past) {}, all, ""},
		{"what was before it began anew", flip(1), all, ""},
		{"behind a message of after", flip(3), all, NoticeForged},
		{"the last", flip(4), all, NoticeRolledBack},
		{"the last, to a reader of what is new", flip(4), following, NoticeRolledBack},
		{"nothing there any more", drop, all, NoticeLost},
		{"nothing there any more, to a reader of what is new", drop, following, NoticeLost},
	} {
		room := renewed(i)
		w.c.reader.Past = &lyingPast{past, v.lie}
		texts, notices, err := w.read(t, room, v.o)
		found := slices.ContainsFunc(notices, func(n Notice) bool { return n.Finding && n.Kind == v.want })
		if found != (v.want != "") || errors.Is(err, ErrIntegrity) != found {
			t.Errorf("%s: %q, %v, %v", v.what, texts, notices, err)
		}
	}
}

// TestHoleOfBefore: what is missing among what a room had stored before it began anew is no finding any more; what is
// missing of after that is.
func TestHoleOfBefore(t *testing.T) {
	w, must := found(t), orFatal(t)
	past := w.c.reader.Past
	for _, v := range []struct {
		place uint64 // that is missing
		want  NoticeKind
	}{{2, ""}, {4, NoticeMissing}, {5, NoticeLost}, {6, NoticeLost}} {
		w.c.reader.Past = past
		room, err := w.c.CreateRoom(w.ctx, fmt.Sprintf("hole.%d", v.place), DefaultPolicy())
		must(err)
		for place := range 6 {
			if place == 3 {
				must(room.SetPolicy(w.ctx, func(p *PolicyChange) { p.Anew = true }))
			}
			must(room.PublishOnce(w.ctx, []byte("message")))
		}
		w.c.reader.Past = &lyingPast{past, func(_ store.FramesQuery, p *store.Past) {
			p.Frames = slices.DeleteFunc(p.Frames, func(f store.Frame) bool { return f.Seq == v.place })
			p.Lost = v.place
		}}
		texts, notices, err := w.read(t, room, SubscribeOptions{All: true})
		found := slices.ContainsFunc(notices, func(n Notice) bool { return n.Finding && n.Kind == v.want })
		told := slices.ContainsFunc(notices, func(n Notice) bool { return n.Kind == NoticeLost })
		if !told || found != (v.want != "") || errors.Is(err, ErrIntegrity) != found {
			t.Errorf("without place %d: %q, %v, %v", v.place, texts, notices, err)
		}
	}
}
