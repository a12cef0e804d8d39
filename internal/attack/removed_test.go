package attack

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// frame seals a frame of its own stream that says where its sender stood; the zero key seals nothing.
func (r *rogue) frame(at *ledger.State, epoch uint32, key crypto.RoomKey, text string) []byte {
	r.Helper()
	h := crypto.Header{Epoch: epoch, At: at.Head.Seq, Head: [16]byte(at.Head.Hash[:16])}
	copy(h.Stream[:], text)
	var sealing *crypto.FrameKey
	if key != (crypto.RoomKey{}) {
		var err error
		sealing, err = crypto.NewFrameKey(key, r.room, epoch)
		r.must(err)
	}
	content := crypto.AppendRecord(crypto.AppendContentTime(nil, uint64(time.Now().UnixMicro())), nil, []byte(text))
	frame, err := r.id.SealFrame(nil, r.room, sealing, h, content, [32]byte{1})
	r.must(err)
	return frame
}

// key opens the rogue's own copy of an epoch's key.
func (r *rogue) key(epoch uint32) crypto.RoomKey {
	r.Helper()
	for _, k := range r.own(epoch) {
		if key, err := r.id.OpenKey(k.Sealed, r.room, epoch, r.log().Room.Epochs[epoch-1].Commit); err == nil {
			return key
		}
	}
	r.Fatalf("no copy of epoch %d opens", epoch)
	return crypto.RoomKey{}
}

// TestNotWriters: someone who was removed, with the help of the servers and of a reader who passes on the key, and the
// reader, publish frames that are authentic in all else. Nobody who reads as it comes believes any of them; in what
// is stored, only what is dated before the removal is read, and marked.
func TestNotWriters(t *testing.T) {
	s := served(t)
	alices, bobs := s.share("writers")
	mallory, carol := s.add("mallory"), s.add("carol")
	s.must(alices.Invite(s.ctx, unibus.RoleMember, mallory.Key()))
	s.must(alices.Invite(s.ctx, unibus.RoleReader, carol.Key()))
	m := s.rogue(mallory, alices.ID())
	before, old := m.log(), m.key(1)
	s.must(alices.Kick(s.ctx, mallory.Key()))
	c, b := s.rogue(carol, alices.ID()), s.rogue(s.bob.id, alices.ID())
	after, current := c.log(), c.key(2)
	s.must(bobs.Refresh(s.ctx))
	running := s.read(s.bob.Client, "writers")

	frames := []struct {
		name string
		by   *rogue
		data []byte
		kind unibus.NoticeKind // to who reads what is stored; empty: it is read, and marked
	}{
		{"by who was removed, as before", m, m.frame(before, 1, old, "before"), ""},
		{"by who was removed, in the new epoch", m, m.frame(after, 2, current, "new"), unibus.NoticeRefused},
		{"by who was removed, in the old epoch, later", m, m.frame(after, 1, old, "old"), unibus.NoticeRefused},
		{"by who was removed, in the new epoch, dated back", m, m.frame(before, 2, current, "back"), unibus.NoticeRefused},
		{"by a reader", c, c.frame(after, 2, current, "reader"), unibus.NoticeRefused},
		{"by a member, in clear", b, b.frame(after, 2, crypto.RoomKey{}, "clear"), unibus.NoticeForged},
		{"by a member, under a key of no epoch", b, b.frame(after, 2, crypto.RoomKey{9}, "key"), unibus.NoticeForged},
	}
	for i, f := range frames {
		ack, err := s.js.Publish(s.ctx, bus.StoredSubject(f.by.room, f.by.id.Key()), f.data)
		s.must(err)
		if ack.Sequence != uint64(i+1) {
			s.Fatalf("%s: stored at %d", f.name, ack.Sequence)
		}
	}
	s.must(alices.PublishOnce(s.ctx, []byte("by alice")))
	if got := s.await(running, 1); got[0] != "by alice" {
		s.Errorf("as it comes bob reads %q", got)
	}
	_, fresh := s.fresh(s.alice.id, "writers")
	got, notices, err := s.stored(fresh, unibus.SubscribeOptions{All: true})
	if !slices.Equal(got, []string{"before", "by alice"}) || !errors.Is(err, unibus.ErrIntegrity) {
		s.Errorf("stored are %q, %v", got, err)
	}
	for i, f := range frames {
		told := slices.ContainsFunc(notices, func(n unibus.Notice) bool { return n.Seq == uint64(i+1) && n.Kind == f.kind && n.Finding })
		if told != (f.kind != "") {
			s.Errorf("%s: notices %v", f.name, notices)
		}
	}
	sub, err := fresh.Subscribe(s.ctx, unibus.SubscribeOptions{All: true, End: true})
	s.must(err)
	defer sub.Close()
	for msg, err := range sub.Messages() { // ends with what was found
		if former := string(msg.Body) == "before"; err == nil && msg.Former != former {
			s.Errorf("%q is marked %v", msg.Body, msg.Former)
		}
	}
}
