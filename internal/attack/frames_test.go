package attack

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
)

// Offsets in a frame (SPEC.md §6).
const (
	atSuite   = 3
	atFlags   = 4
	atEpoch   = 8
	atAt      = 12
	atHash    = 20
	atStream  = 36
	atCounter = 52
	atNonce   = 60
	atContent = 150
)

func clone(m *nats.Msg) *nats.Msg { return &nats.Msg{Subject: m.Subject, Data: bytes.Clone(m.Data)} }

// lie is what a server makes of a room's frames, and what somebody who reads them gets and is told.
type lie struct {
	change func(f []*nats.Msg) []*nats.Msg
	want   []string
	kind   unibus.NoticeKind // of a finding; empty: there is none
}

// told is what a lie is told about.
var told = []string{"zero", "one", "two", "three"}

// lies has each lie told in a room of its own, where frames 0 to 3 hold one text each and frame 4 ends the stream.
// They are read at the same time: each gap waits for what may still come.
func (s *scene) lies(lies map[string]lie, check func(s *scene, l lie, got []string, notices []unibus.Notice, err error)) {
	s.Helper()
	type reading struct {
		room    *unibus.Room
		got     []string
		notices []unibus.Notice
		err     error
	}
	readings := map[string]*reading{}
	for name, l := range lies {
		alices, bobs := s.share("lie." + strings.NewReplacer(" ", "-", ",", "").Replace(name))
		s.send(alices, told...)
		s.rewrite(alices.ID(), l.change)
		readings[name] = &reading{room: bobs}
	}
	var wait sync.WaitGroup
	for _, r := range readings {
		wait.Go(func() { r.got, r.notices, r.err = s.stored(r.room, unibus.SubscribeOptions{All: true}) })
	}
	wait.Wait()
	for name, r := range readings {
		s.part(name, func(s *scene) {
			if !slices.Equal(r.got, lies[name].want) {
				s.Errorf("delivered %q, want %q", r.got, lies[name].want)
			}
			check(s, lies[name], r.got, r.notices, r.err)
		})
	}
}

// TestLyingServer changes what is stored in every way a server can.
func TestLyingServer(t *testing.T) {
	s := served(t)
	alice, bob := s.alice.Key().String(), s.bob.Key().String()
	swap := func(from, to string) func(f []*nats.Msg) []*nats.Msg {
		return func(f []*nats.Msg) []*nats.Msg {
			f[1].Subject = strings.Replace(f[1].Subject, from, to, 1)
			return f
		}
	}
	forged := []string{"zero", "two", "three"}
	lies := map[string]lie{
		"nothing":            {func(f []*nats.Msg) []*nats.Msg { return f }, told, ""},
		"dropped":            {func(f []*nats.Msg) []*nats.Msg { return slices.Delete(f, 1, 3) }, []string{"zero", "three"}, unibus.NoticeGap},
		"replayed":           {func(f []*nats.Msg) []*nats.Msg { return append(f, clone(f[1]), clone(f[0])) }, told, ""},
		"reordered":          {func(f []*nats.Msg) []*nats.Msg { f[1], f[2] = f[2], f[1]; return f }, told, ""},
		"begun late":         {func(f []*nats.Msg) []*nats.Msg { f[0], f[1], f[2] = f[1], f[2], f[0]; return f }, told, ""},
		"ended early":        {func(f []*nats.Msg) []*nats.Msg { f[3], f[4] = f[4], f[3]; return f }, told, ""},
		"beginning withheld": {func(f []*nats.Msg) []*nats.Msg { return f[1:] }, told[1:], unibus.NoticeGap},
		"garbage": {func(f []*nats.Msg) []*nats.Msg {
			return append(f, &nats.Msg{Subject: f[0].Subject, Data: []byte("ub1 garbage")}, &nats.Msg{Subject: f[0].Subject})
		}, told, unibus.NoticeForged},
		"cut short": {func(f []*nats.Msg) []*nats.Msg {
			f[1].Data = f[1].Data[:160]
			return f
		}, forged, unibus.NoticeForged},
		"re-attributed": {swap(alice, bob), forged, unibus.NoticeForged},
		"no sender":     {swap(alice, "nobody"), forged, unibus.NoticeForged},
	}
	for name, at := range map[string]int{
		"magic": 0, "suite": atSuite, "flags": atFlags, "zeros": atFlags + 1, "epoch": atEpoch + 3, "place": atAt + 7, "head": atHash,
		"stream": atStream, "counter": atCounter + 7, "nonce": atNonce, "body": atContent,
	} {
		lies[name+" altered"] = lie{func(f []*nats.Msg) []*nats.Msg { f[1].Data[at] ^= 1; return f }, forged, unibus.NoticeForged}
	}
	s.lies(lies, func(s *scene, l lie, got []string, notices []unibus.Notice, err error) {
		if (l.kind != "") != errors.Is(err, unibus.ErrIntegrity) || l.kind == "" && err != nil {
			s.Errorf("it ended with %v", err)
		}
		if l.kind != "" && !slices.ContainsFunc(notices, func(n unibus.Notice) bool { return n.Kind == l.kind }) {
			s.Errorf("notices %v", notices)
		}
	})
}

// TestLostMessage: a message that is a stream of its own leaves no gap in any counter, but a hole, and its writer
// tells of it with the next.
func TestLostMessage(t *testing.T) {
	s := served(t)
	alices, bobs := s.share("lost")
	for _, text := range []string{"one", "two", "three"} {
		s.must(alices.PublishOnce(s.ctx, []byte(text)))
	}
	stream, err := s.js.Stream(s.ctx, bus.StreamName(alices.ID()))
	s.must(err)
	s.must(stream.DeleteMsg(s.ctx, 2))
	got, notices, err := s.stored(bobs, unibus.SubscribeOptions{All: true})
	if !slices.Equal(got, []string{"one", "three"}) || !errors.Is(err, unibus.ErrIntegrity) {
		t.Errorf("%q, %v", got, err)
	}
	if len(notices) != 2 || notices[0].Kind != unibus.NoticeLost || notices[0].From != 2 || notices[0].To != 2 || notices[1].Kind != unibus.NoticeMissing {
		t.Errorf("%v", notices)
	}
	s.must(stream.DeleteMsg(s.ctx, 1)) // from the front, as retention does, but nothing has expired
	got, notices, err = s.stored(bobs, unibus.SubscribeOptions{All: true})
	if !slices.Equal(got, []string{"three"}) || !errors.Is(err, unibus.ErrIntegrity) || len(notices) != 2 ||
		notices[0].Kind != unibus.NoticeLost || notices[0].From != 1 || notices[0].To != 2 || notices[1].Kind != unibus.NoticeMissing {
		t.Errorf("%q, %v, %v", got, notices, err)
	}
}

// TestMovedFrame: a frame of one room means nothing in another, even with the same members.
func TestMovedFrame(t *testing.T) {
	s := served(t)
	a, _ := s.share("from")
	b, bobs := s.share("to")
	s.send(a, "secret of another room")
	var moved *nats.Msg
	s.rewrite(a.ID(), func(f []*nats.Msg) []*nats.Msg { moved = clone(f[0]); return f })
	s.rewrite(b.ID(), func([]*nats.Msg) []*nats.Msg {
		moved.Subject = strings.Replace(moved.Subject, a.ID().String(), b.ID().String(), 1)
		return []*nats.Msg{moved}
	})
	got, _, err := s.stored(bobs, unibus.SubscribeOptions{All: true})
	if len(got) != 0 || !errors.Is(err, unibus.ErrIntegrity) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestLiveReplay: in a room that stores nothing, a frame that the server repeats is not news.
func TestLiveReplay(t *testing.T) {
	s := served(t)
	alices := s.room("live", live())
	s.must(alices.Invite(s.ctx, unibus.RoleMember, s.bob.Key()))
	bobs := s.enter(s.bob, "live")
	peer, err := Dial(Options{URL: s.url, Identity: s.bob.id, Bus: s.alice.Bus(), Rooms: []crypto.ID{alices.ID()}})
	s.must(err)
	defer peer.Close()
	tap := s.tap(peer, bus.LiveFilter(alices.ID()))
	sub, err := bobs.Subscribe(s.ctx, unibus.SubscribeOptions{})
	s.must(err)
	s.must(alices.PublishOnce(s.ctx, []byte("first")))
	s.must(s.store.PublishMsg(clone(<-tap))) // again, by the server
	s.must(s.store.Flush())
	s.must(alices.PublishOnce(s.ctx, []byte("second")))
	var got []string
	for m, err := range sub.Messages() {
		s.must(err)
		if got = append(got, string(m.Body)); got[len(got)-1] == "second" {
			break
		}
	}
	if !slices.Equal(got, []string{"first", "second"}) {
		t.Errorf("%q", got)
	}
	s.must(sub.Close())
}
