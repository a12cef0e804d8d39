package unibus_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus"
)

// Offsets in a frame (SPEC.md §6).
const (
	atEpoch   = 8
	atAt      = 12
	atCounter = 52
	atContent = 150
)

// decoy is a frame with the victim's stream and counter that is not authentic; change makes it look like something.
func decoy(m *nats.Msg, change func(frame []byte)) *nats.Msg {
	d := clone(m)
	d.Data[atContent] ^= 1
	if change != nil {
		change(d.Data)
	}
	return d
}

func farAhead(frame []byte) { binary.BigEndian.PutUint64(frame[atAt:], 1<<40) }

func unknownEpoch(frame []byte) {
	farAhead(frame)
	binary.BigEndian.PutUint32(frame[atEpoch:], 99)
}

func counter(n uint64) func(frame []byte) {
	return func(frame []byte) { binary.BigEndian.PutUint64(frame[atCounter:], n) }
}

// TestDecoys: what does not authenticate moves nothing that a reader knows, wherever it stands: not a counter, so
// that the real frame is taken for a repetition; not the end of a gap, so that it is not told; not the limit of
// what is asked for, so that others' frames are dropped.
func TestDecoys(t *testing.T) {
	w := newWorld(t)
	all := []string{"zero", "one", "two", "three"}
	for name, c := range map[string]struct {
		change func(f []*nats.Msg) []*nats.Msg
		want   []string
		gap    bool
	}{
		"before the real one": {func(f []*nats.Msg) []*nats.Msg { return slices.Insert(f, 1, decoy(f[1], nil)) }, all, false},
		"instead of it": {func(f []*nats.Msg) []*nats.Msg {
			f[1] = decoy(f[1], nil)
			return f
		}, []string{"zero", "two", "three"}, true},
		"behind the gap": {func(f []*nats.Msg) []*nats.Msg {
			return append(slices.Delete(f, 2, 4), decoy(f[1], counter(2)), decoy(f[1], counter(3)))
		}, []string{"zero", "one"}, true},
		"of an epoch that nobody knows": {func(f []*nats.Msg) []*nats.Msg {
			return slices.Insert(f, 1, decoy(f[1], unknownEpoch), decoy(f[2], unknownEpoch))
		}, all, false},
		"instead of it, of an epoch that nobody knows": {func(f []*nats.Msg) []*nats.Msg {
			f[1] = decoy(f[1], unknownEpoch)
			return f
		}, []string{"zero", "two", "three"}, true},
		"of a far place": {func(f []*nats.Msg) []*nats.Msg {
			return slices.Insert(f, 1, decoy(f[1], farAhead), decoy(f[2], farAhead))
		}, all, false},
		"with a far counter": {func(f []*nats.Msg) []*nats.Msg { return slices.Insert(f, 1, decoy(f[1], counter(1<<50))) }, all, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{T: t, ctx: w.ctx, js: w.js, alice: w.alice, bob: w.bob}
			alices, bobs := w.room("decoy."+strings.NewReplacer(" ", "-", ",", "").Replace(name), unibus.DefaultPolicy())
			w.send(alices, all...)
			w.rewrite(alices, c.change)
			got, notices, err := w.read(bobs, unibus.SubscribeOptions{All: true})
			if !slices.Equal(got, c.want) {
				t.Errorf("delivered %q, want %q", got, c.want)
			}
			gap := slices.ContainsFunc(notices, func(n unibus.Notice) bool { return n.Kind == unibus.NoticeGap && n.Finding })
			if gap != c.gap || c.gap && !errors.Is(err, unibus.ErrIntegrity) {
				t.Errorf("notices %v, %v", notices, err)
			}
		})
	}
}

// TestDecoysBeforeNews: frames that name entries which nobody has do not keep a reader from fetching those that the
// authentic ones behind them name.
func TestDecoysBeforeNews(t *testing.T) {
	w := newWorld(t)
	alices, bobs := w.room("news", unibus.DefaultPolicy())
	w.send(alices, "old")
	var texts []string
	w.must(alices.Rekey(w.ctx)) // bob does not know of it yet
	for n := range 15 {
		texts = append(texts, fmt.Sprint("news ", n))
	}
	w.send(alices, texts...)
	w.rewrite(alices, func(f []*nats.Msg) []*nats.Msg {
		for n := range 20 {
			f = slices.Insert(f, 2+n, decoy(f[0], unknownEpoch), decoy(f[0], farAhead))
		}
		return f
	})
	got, _, _ := w.read(bobs, unibus.SubscribeOptions{All: true})
	if want := append([]string{"old"}, texts...); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestTakenEnd: the end of a stream is taken away, with its final and without: it is told at once to those who had
// read or written so far, and to a newcomer with the writer's next message.
func TestTakenEnd(t *testing.T) {
	for _, taken := range []int{1, 2, 5} { // the final; the last message too; all of it
		t.Run(fmt.Sprint(taken), func(t *testing.T) {
			w := newWorld(t)
			alices, bobs := w.room("end", unibus.DefaultPolicy())
			w.send(alices, "zero", "one", "two", "three")
			if _, _, err := w.read(bobs, unibus.SubscribeOptions{All: true}); err != nil {
				t.Fatal(err)
			}
			carol := w.add("carol")
			w.must(alices.Invite(w.ctx, unibus.RoleMember, carol.Key()))
			carols, err := w.connect(carol, "carol").Room(w.ctx, "end")
			w.must(err)
			stream, err := w.js.Stream(w.ctx, "UNIBUS_"+alices.ID().String())
			w.must(err)
			var kept []*nats.Msg
			for seq := uint64(1); seq <= uint64(5-taken); seq++ {
				m, err := stream.GetMsg(w.ctx, seq)
				w.must(err)
				kept = append(kept, &nats.Msg{Subject: m.Subject, Data: m.Data})
			}
			config := stream.CachedInfo().Config
			w.must(w.js.DeleteStream(w.ctx, config.Name))
			_, err = w.js.CreateStream(w.ctx, config)
			w.must(err)
			for _, m := range kept {
				_, err := w.js.PublishMsg(w.ctx, m)
				w.must(err)
			}
			told := func(who string, r *unibus.Room, kind unibus.NoticeKind, wanted bool) {
				t.Helper()
				_, notices, err := w.read(r, unibus.SubscribeOptions{All: true})
				found := slices.ContainsFunc(notices, func(n unibus.Notice) bool { return n.Kind == kind && n.Finding })
				if found != wanted || wanted != errors.Is(err, unibus.ErrIntegrity) {
					t.Errorf("%s: %v, %v", who, notices, err)
				}
			}
			told("bob, who had read it", bobs, unibus.NoticeRolledBack, true)
			told("alice, who had written it", alices, unibus.NoticeRolledBack, true)
			told("carol, who is new", carols, unibus.NoticeMissing, false)
			if err := alices.PublishOnce(w.ctx, []byte("next")); !errors.Is(err, unibus.ErrIntegrity) {
				t.Errorf("alice writes on: %v", err)
			}
			told("carol, after the next message", carols, unibus.NoticeMissing, true)
		})
	}
}
