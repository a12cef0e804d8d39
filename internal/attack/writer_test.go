package attack

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/direct"
)

// writer is a member of a room who publishes with whatever headers, in authentic frames and in others.
type writer struct {
	*Peer
	r     *unibus.Room // alice's
	own   *unibus.Room // the writer's
	in    chan *nats.Msg
	frame []byte // an authentic one of the writer's, that everybody has read
	*reader
}

// writer makes a room that alice reads, with a writer in it.
func (w *founding) writer(name string, p unibus.Policy) *writer {
	w.Helper()
	id := w.add(name)
	v := &writer{r: w.room(name, p)}
	w.must(v.r.Invite(w.ctx, unibus.RoleMember, id.Key()))
	v.reader = w.read(w.alice, name)
	v.Peer = w.dial(Options{Identity: id, Rooms: []crypto.ID{v.r.ID()}})
	v.in = w.tap(v.Peer, bus.LiveFilter(v.r.ID()))
	var err error
	v.own, err = w.client(id).Room(w.ctx, name)
	w.must(err)
	w.must(v.own.PublishOnce(w.ctx, []byte("own")))
	v.frame = slices.Clone((<-v.in).Data)
	w.await(v.reader, 1)
	return v
}

// forgeries are headers that servers set themselves, or act on, as a writer would have them.
func (w *founding) forgeries(r *unibus.Room) map[string]nats.Header {
	stored := nats.Header{
		"Nats-Stream": {bus.StreamName(r.ID())}, "Nats-Subject": {bus.StoredSubject(r.ID(), w.aliceID.Key())},
		"Nats-Sequence": {"99999"}, "Nats-Last-Sequence": {"99998"}, "Nats-Time-Stamp": {"2001-01-01T00:00:00Z"},
	}
	first := nats.Header{}
	for k, v := range stored {
		first[k] = v
	}
	first["Nats-Sequence"] = []string{"1"}
	return map[string]nats.Header{
		"a place far ahead":     stored,
		"the first place":       first,
		"the end of an answer":  {"Status": {"204"}, "Description": {"EOB"}, "Nats-Num-Pending": {"0"}, "Nats-Last-Sequence": {"1"}},
		"nothing there":         {"Status": {"404"}, "Description": {"Message Not Found"}},
		"nobody there":          {"Status": {"503"}},
		"another stream":        {"Nats-Stream": {"UNIBUS_x"}, "Nats-Sequence": {"1"}},
		"values without number": {"Nats-Stream": {bus.StreamName(r.ID()), ""}, "Nats-Sequence": {"x", "-1"}, "Nats-Time-Stamp": {"x"}},
	}
}

// TestForgedHeaders: what a writer says of a message in the headers that are the servers' to set changes nothing
// for those who read the room, in a room that stores and in one that does not: they read on, and everything, and
// are told of nothing.
func TestForgedHeaders(t *testing.T) {
	w := startWorld(t, "sqlite")
	for kind, p := range kindsOfRooms() {
		w.part(t, kind, func(w *world) {
			v := w.writer("forged."+kind, p)
			subject, want := bus.LiveSubject(v.r.ID(), v.ID.Key()), []string{"own"}
			if p.Stored() {
				subject = bus.StoredSubject(v.r.ID(), v.ID.Key())
			}
			for name, h := range w.forgeries(v.r) {
				w.must(v.PublishMsg(&nats.Msg{Subject: subject, Header: h, Data: v.frame})) // a repetition is dropped silently
				w.must(v.Flush())
				w.must(v.r.PublishOnce(w.ctx, []byte(name)))
				if got := w.await(v.reader, 1); got[0] != name {
					w.Errorf("alice reads %q, not %q", got, name)
				}
				want = append(want, name)
			}
			if n := v.findings(); len(n) > 0 {
				w.Errorf("alice is told of %v", n)
			}
			if p.Stored() {
				w.whole(v.own, want)
			}
		})
	}
}

// whole checks that someone who reads all that is stored gets it, and is told of nothing.
func (w *trial) whole(r *unibus.Room, want []string) {
	w.Helper()
	var notices []unibus.Notice
	s, err := r.Subscribe(w.ctx, unibus.SubscribeOptions{All: true, End: true, Notice: func(n unibus.Notice) { notices = append(notices, n) }})
	w.must(err)
	var got []string
	for m, err := range s.Messages() {
		w.must(err)
		got = append(got, string(m.Body))
	}
	if !slices.Equal(got, want) || len(notices) > 0 {
		w.Errorf("stored are %q, not %q; notices %v", got, want, notices)
	}
}

// TestRubbishIsItsWriters: rubbish with forged headers is charged to who stored it, at its true place, and to
// nobody else.
func TestRubbishIsItsWriters(t *testing.T) {
	w := startWorld(t, "sqlite")
	v := w.writer("rubbish", unibus.DefaultPolicy())
	place := uint64(1) + w.last(v.r) // of the first
	forgeries := w.forgeries(v.r)
	for _, h := range forgeries {
		w.must(v.PublishMsg(&nats.Msg{Subject: bus.StoredSubject(v.r.ID(), v.ID.Key()), Header: h, Data: []byte("rubbish")}))
	}
	w.must(v.Flush())
	w.barriers()
	w.must(v.r.PublishOnce(w.ctx, []byte("after")))
	if got := w.await(v.reader, 1); got[0] != "after" {
		w.Errorf("alice reads %q", got)
	}
	found := v.findings()
	if len(found) != len(forgeries) {
		w.Errorf("alice is told of %v", found)
	}
	for i, n := range found {
		if n.Kind != unibus.NoticeForged || n.Seq != place+uint64(i) || n.Sender != "rubbish" {
			w.Errorf("alice is told of %s by %s at %d", n.Kind, n.Sender, n.Seq)
		}
	}
}

// last is the last place of a room's stream.
func (w *servers) last(r *unibus.Room) uint64 {
	w.Helper()
	info, err := direct.Leader(w.ctx, w.store, bus.StreamName(r.ID()))
	w.must(err)
	return info.Last
}

// TestHeadersThatAct: headers that would have a stream remove, replace, count, delay or batch messages do nothing
// but have the message refused.
func TestHeadersThatAct(t *testing.T) {
	w := startWorld(t, "sqlite")
	v := w.writer("acts", unibus.DefaultPolicy())
	w.must(v.r.PublishOnce(w.ctx, []byte("kept")))
	w.await(v.reader, 1)
	last := w.last(v.r)
	self, alices := bus.StoredSubject(v.r.ID(), v.ID.Key()), bus.StoredSubject(v.r.ID(), w.aliceID.Key())
	for name, h := range map[string]nats.Header{
		"remove all":          {"Nats-Rollup": {"all"}},
		"remove the sender's": {"Nats-Rollup": {"sub"}},
		"expire":              {"Nats-TTL": {"1s"}},
		"a marker":            {"Nats-Marker-Reason": {"Purge"}, "Nats-TTL": {"1s"}},
		"a counter":           {"Nats-Incr": {"+1"}},
		"a schedule":          {"Nats-Schedule": {"@every 1s"}, "Nats-Schedule-Target": {alices}},
		"a batch":             {"Nats-Batch-Id": {"x"}, "Nats-Batch-Sequence": {"1"}, "Nats-Batch-Commit": {"1"}},
		"another's place":     {"Nats-Expected-Last-Subject-Sequence": {"7"}, "Nats-Expected-Last-Subject-Sequence-Subject": {alices}},
		"another stream":      {"Nats-Expected-Stream": {"KV_unibus_log"}},
	} {
		w.part(t, name, func(w *world) {
			m, err := v.RequestMsgWithContext(w.ctx, &nats.Msg{Subject: self, Header: h, Data: v.frame})
			if err != nil || !strings.Contains(string(m.Data), `"error"`) {
				w.Errorf("it is answered with %v, %v", m, err)
			}
			if n := w.last(v.r); n != last {
				w.Errorf("the room ends at %d, and ended at %d", n, last)
				last = n
			}
		})
	}
	w.whole(v.own, []string{"own", "kept"})
}

// TestMessageIDs: an id under which a stream takes a message once is the stream's, not its sender's. Nobody can
// use up those that a client will use: they are random, and long.
func TestMessageIDs(t *testing.T) {
	w := startWorld(t, "sqlite")
	r := w.room("ids", unibus.DefaultPolicy())
	for i := range 8 {
		w.must(r.PublishOnce(w.ctx, fmt.Append(nil, i)))
		w.must(r.Publish(w.ctx, fmt.Append(nil, i)))
	}
	seen := map[string]bool{}
	_, err := w.direct.Get(w.ctx, bus.StreamName(r.ID()), direct.Request{Seq: 1, Batch: 1000}, func(m *nats.Msg) error {
		id := m.Header.Get(nats.MsgIdHdr)
		raw, err := hex.DecodeString(id)
		if err != nil || len(raw) != 16 || seen[id[:8]] || seen[id[24:]] {
			w.Errorf("the id %q is no random number of its own", id)
		}
		seen[id[:8]], seen[id[24:]] = true, true
		return nil
	})
	w.must(err)
	if len(seen) < 2*16 {
		w.Errorf("%d halves of ids", len(seen))
	}
}
