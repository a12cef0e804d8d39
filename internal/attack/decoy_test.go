package attack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
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
	s := served(t)
	without := []string{"zero", "two", "three"}
	s.lies(map[string]lie{
		"before the real one": {func(f []*nats.Msg) []*nats.Msg { return slices.Insert(f, 1, decoy(f[1], nil)) }, told, ""},
		"instead of it": {func(f []*nats.Msg) []*nats.Msg {
			f[1] = decoy(f[1], nil)
			return f
		}, without, unibus.NoticeGap},
		"behind the gap": {func(f []*nats.Msg) []*nats.Msg {
			return append(slices.Delete(f, 2, 4), decoy(f[1], counter(2)), decoy(f[1], counter(3)))
		}, []string{"zero", "one"}, unibus.NoticeGap},
		"of an epoch that nobody knows": {func(f []*nats.Msg) []*nats.Msg {
			return slices.Insert(f, 1, decoy(f[1], unknownEpoch), decoy(f[2], unknownEpoch))
		}, told, ""},
		"instead of it, of an epoch that nobody knows": {func(f []*nats.Msg) []*nats.Msg {
			f[1] = decoy(f[1], unknownEpoch)
			return f
		}, without, unibus.NoticeGap},
		"of a far place": {func(f []*nats.Msg) []*nats.Msg {
			return slices.Insert(f, 1, decoy(f[1], farAhead), decoy(f[2], farAhead))
		}, told, ""},
		"with a far counter": {func(f []*nats.Msg) []*nats.Msg { return slices.Insert(f, 1, decoy(f[1], counter(1<<50))) }, told, ""},
	}, func(s *scene, l lie, got []string, notices []unibus.Notice, err error) {
		gap := slices.ContainsFunc(notices, func(n unibus.Notice) bool { return n.Kind == unibus.NoticeGap && n.Finding })
		if gap != (l.kind != "") || gap && !errors.Is(err, unibus.ErrIntegrity) {
			s.Errorf("notices %v, %v", notices, err)
		}
	})
}

// TestDecoysBeforeNews: frames that name entries which nobody has do not keep a reader from fetching those that the
// authentic ones behind them name.
func TestDecoysBeforeNews(t *testing.T) {
	s := served(t)
	alices, bobs := s.share("news")
	s.send(alices, "old")
	var texts []string
	s.must(alices.Rekey(s.ctx)) // bob does not know of it yet
	for n := range 15 {
		texts = append(texts, fmt.Sprint("news ", n))
	}
	s.send(alices, texts...)
	s.rewrite(alices.ID(), func(f []*nats.Msg) []*nats.Msg {
		for n := range 20 {
			f = slices.Insert(f, 2+n, decoy(f[0], unknownEpoch), decoy(f[0], farAhead))
		}
		return f
	})
	got, _, _ := s.stored(bobs, unibus.SubscribeOptions{All: true})
	if want := append([]string{"old"}, texts...); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestTakenEnd: the end of a stream is taken away, with its final and without: it is told at once to those who had
// read or written so far, and to a newcomer with the writer's next message.
func TestTakenEnd(t *testing.T) {
	s := served(t)
	for _, taken := range []int{1, 2, 5} { // the final; the last message too; all of it
		s.part(fmt.Sprint(taken), func(s *scene) { s.takeEnd(taken) })
	}
}

func (s *scene) takeEnd(taken int) {
	subject := fmt.Sprint("end.", taken)
	alices, bobs := s.share(subject)
	s.send(alices, told...)
	_, _, err := s.stored(bobs, unibus.SubscribeOptions{All: true})
	s.must(err)
	carol := s.join(fmt.Sprint("carol", taken))
	s.must(alices.Invite(s.ctx, unibus.RoleMember, carol.Key()))
	carols := s.enter(carol, subject)
	s.rewrite(alices.ID(), func(f []*nats.Msg) []*nats.Msg { return f[:5-taken] })
	says := func(who string, r *unibus.Room, kind unibus.NoticeKind, wanted bool) {
		s.Helper()
		_, notices, err := s.stored(r, unibus.SubscribeOptions{All: true})
		found := slices.ContainsFunc(notices, func(n unibus.Notice) bool { return n.Kind == kind && n.Finding })
		if found != wanted || wanted != errors.Is(err, unibus.ErrIntegrity) {
			s.Errorf("%s: %v, %v", who, notices, err)
		}
	}
	says("bob, who had read it", bobs, unibus.NoticeRolledBack, true)
	says("alice, who had written it", alices, unibus.NoticeRolledBack, true)
	says("carol, who is new", carols, unibus.NoticeMissing, false)
	if err := alices.PublishOnce(s.ctx, []byte("next")); !errors.Is(err, unibus.ErrIntegrity) {
		s.Errorf("alice writes on: %v", err)
	}
	says("carol, after the next message", carols, unibus.NoticeMissing, true)
}

// TestRepublishedLie: what comes by the subscription of a stored room in place of the next message, and is not
// authentic, is no evidence of anything: the message is read from the past, and nobody is told.
func TestRepublishedLie(t *testing.T) {
	s := served(t)
	alices, _ := s.share("republished")
	s.send(alices, "old")
	r := s.read(s.bob.Client, "republished")
	var real *nats.Msg
	s.rewrite(alices.ID(), func(f []*nats.Msg) []*nats.Msg { real = clone(f[0]); return f })
	for name, change := range map[string]func(m *nats.Msg){
		"garbage":   func(m *nats.Msg) { m.Data = []byte("ub1 garbage") },
		"altered":   func(m *nats.Msg) { m.Data[atContent] ^= 1 },
		"far ahead": func(m *nats.Msg) { farAhead(m.Data) },
		"no key":    func(m *nats.Msg) { unknownEpoch(m.Data); binary.BigEndian.PutUint64(m.Data[atAt:], 2) },
		"another's": func(m *nats.Msg) { m.Subject = bus.LiveSubject(alices.ID(), s.bob.Key()) },
		"nobody's":  func(m *nats.Msg) { m.Subject = "unibus.r." + alices.ID().String() + ".nobody" },
	} {
		lie := clone(real)
		lie.Subject = bus.LiveSubject(alices.ID(), s.alice.Key())
		change(lie)
		sender := lie.Subject[strings.LastIndexByte(lie.Subject, '.'):]
		lie.Header = nats.Header{
			"Nats-Stream": {bus.StreamName(alices.ID())}, "Nats-Subject": {"unibus.s." + alices.ID().String() + sender},
			"Nats-Time-Stamp": {time.Now().UTC().Format(time.RFC3339Nano)},
		}
		info, err := s.js.Stream(s.ctx, bus.StreamName(alices.ID()))
		s.must(err)
		lie.Header.Set("Nats-Sequence", fmt.Sprint(info.CachedInfo().State.LastSeq+1))
		s.must(s.js.Conn().PublishMsg(lie))
		s.must(alices.PublishOnce(s.ctx, []byte(name)))
		if got := s.await(r, 1); got[0] != name {
			t.Errorf("%q is read, not %q", got, name)
		}
	}
	if n := r.findings(); len(n) > 0 {
		t.Errorf("told of %v", n)
	}
}

// TestAnotherEnd: another frame stands where the last one stood that somebody had read. That is told each time, to
// every process, until a person accepts it.
func TestAnotherEnd(t *testing.T) {
	s := served(t)
	alices, bobs := s.share("another")
	s.send(alices, told...)
	_, _, err := s.stored(bobs, unibus.SubscribeOptions{All: true})
	s.must(err)
	s.rewrite(alices.ID(), func(f []*nats.Msg) []*nats.Msg { return append(f[:4], f[3]) })
	s.must(bobs.PublishOnce(s.ctx, []byte("on")))
	for _, o := range []unibus.SubscribeOptions{{All: true}, {Last: 1}, {All: true}} {
		bobs = s.again(s.bob, "another")
		_, notices, err := s.stored(bobs, o)
		n := slices.IndexFunc(notices, func(n unibus.Notice) bool { return n.Kind == unibus.NoticeRolledBack && n.Finding })
		if n < 0 || notices[n].Seq != 5 || !errors.Is(err, unibus.ErrIntegrity) {
			t.Errorf("%+v: %v, %v", o, notices, err)
		}
	}
	s.must(bobs.Accept(s.ctx, unibus.AcceptPlace(5)))
	bobs = s.again(s.bob, "another")
	if _, notices, err := s.stored(bobs, unibus.SubscribeOptions{All: true}); err != nil {
		t.Errorf("accepted, and %v, %v", notices, err)
	}
}
