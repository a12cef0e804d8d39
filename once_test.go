package unibus_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
)

// partly is every way of reading a part of what a room has stored: each looks at frames before it, too.
func partly(since time.Time) map[string]unibus.SubscribeOptions {
	return map[string]unibus.SubscribeOptions{"all": {All: true}, "last": {Last: 2}, "since": {Since: since}}
}

// told checks that every way of reading a part of a room ends with a finding of a kind.
func (w *world) told(id *unibus.Identity, subject string, since time.Time, kind unibus.NoticeKind) {
	w.Helper()
	for way, o := range partly(since) {
		_, r := w.fresh(id, subject)
		got, notices, err := w.read(r, o)
		if !errors.Is(err, unibus.ErrIntegrity) || !slices.ContainsFunc(notices, func(n unibus.Notice) bool { return n.Kind == kind && n.Finding }) {
			w.Errorf("%s: %q, %v, %v", way, got, notices, err)
		}
	}
}

// several are texts, of which more than one look back takes in.
func several(what string) (texts []string) {
	for n := range 40 {
		texts = append(texts, fmt.Sprint(what, " ", n))
	}
	return texts
}

// TestWithheldKeyBefore: a key that is withheld is told of, also to a reader who met the first frames that need it
// before those that it wants, or in a try that did not reach back far enough.
func TestWithheldKeyBefore(t *testing.T) {
	w := newWorld(t)
	alices, _ := w.room("withheld", unibus.DefaultPolicy())
	w.send(alices, "old", "older")
	w.must(alices.Rekey(w.ctx))
	w.send(alices, several("before")...)
	since := time.Now()
	w.send(alices, several("after")...)
	w.must(w.alice.Close())
	w.must(w.bob.Close())
	bob := w.bobID.Key()
	w.tampered(fmt.Sprintf(`DELETE FROM room_keys WHERE epoch = 2 AND endpoint = x'%x'`, bob[:]))
	w.told(w.bobID, "withheld", since, unibus.NoticeKey)

	c, r := w.fresh(w.bobID, "withheld") // what was settled says nothing of what is stored later
	w.must(r.AcceptPlace(w.ctx, 3+20))
	if _, notices, err := w.read(r, unibus.SubscribeOptions{All: true}); !errors.Is(err, unibus.ErrIntegrity) {
		t.Errorf("%v, %v", notices, err)
	}
	w.must(c.Close())
}

// TestAlarmBefore: that nothing of a sender's is read any more is told in the same way.
func TestAlarmBefore(t *testing.T) {
	w := newWorld(t)
	alices, _ := w.room("alarm", unibus.DefaultPolicy())
	w.send(alices, "old", "older")
	b := w.rogue(w.bobID, alices.ID())
	c := b.copies("1")
	key, err := w.bobID.OpenKey(c.Sealed[0].Sealed, alices.ID(), 1, c.Commit)
	w.must(err)
	frames, err := crypto.NewFrameKey(key, alices.ID(), 1)
	w.must(err)
	h := crypto.Header{Epoch: 1, At: 2, Stream: [16]byte{1}} // and a head that no entry has
	write := func(texts []string) {
		for _, text := range texts {
			content := crypto.AppendRecord(crypto.AppendContentTime(nil, uint64(time.Now().UnixMicro())), nil, []byte(text))
			frame, err := w.bobID.SealFrame(nil, alices.ID(), frames, h, content, [32]byte{})
			w.must(err)
			_, err = w.js.Publish(w.ctx, bus.StoredSubject(alices.ID(), w.bobID.Key()), frame)
			w.must(err)
			h.Counter++
		}
	}
	write(several("before"))
	since := time.Now()
	write(several("after"))
	w.told(w.aliceID, "alarm", since, unibus.NoticeFork)
}
