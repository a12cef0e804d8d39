package service

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/attack"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/remote"
	"github.com/unibus/unibus/internal/store/storetest"
)

// roomOf makes a room without encryption, by the API.
func roomOf(t *testing.T, n *Node, by *crypto.Identity, subject string, retain *ledger.Retain) (*remote.Store, *ledger.State) {
	t.Helper()
	c, err := bus.Dial(bus.DialOptions{Servers: n.URL(), Identity: by, Bus: n.Bus, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s := remote.New(remote.Options{Transport: c, Identity: by, Bus: n.Bus, Inbox: c.Inbox(), OpTimeout: 20 * time.Second})
	t.Cleanup(func() { s.Close() })
	state := new(ledger.State)
	p := ledger.DefaultPolicy()
	p.Encryption, p.Retain = "none", retain
	storetest.Write(t, s, state, by, &ledger.Create{Bus: n.Bus, Subject: subject, Policy: p, Nonce: make([]byte, 16)})
	return s, state
}

// fill stores frames in a room, "frame 1" and so on.
func fill(t *testing.T, n *Node, room crypto.ID, by *crypto.Identity, frames int) {
	t.Helper()
	js, err := jetstream.New(n.Links().Store)
	if err != nil {
		t.Fatal(err)
	}
	for i := range frames {
		if _, err := js.Publish(t.Context(), bus.StoredSubject(room, by.Key()), fmt.Append(nil, "frame ", i+1)); err != nil {
			t.Fatal(err)
		}
	}
}

// places asks for the past of a room that fill has filled, and returns the places of the frames that it is given.
func places(t *testing.T, s *remote.Store, room crypto.ID, by *crypto.Identity, frames uint64, q store.FramesQuery) (out []uint64, past store.Past) {
	t.Helper()
	past, err := s.Frames(t.Context(), room, q)
	if err != nil || past.First != 1 || past.Last != frames {
		t.Fatalf("%+v: %d to %d, %v", q, past.First, past.Last, err)
	}
	for _, f := range past.Frames {
		if f.Sender != by.Key() || string(f.Data) != fmt.Sprint("frame ", f.Seq) || f.Time.IsZero() {
			t.Errorf("frame %d of %s: %q", f.Seq, f.Sender, f.Data)
		}
		out = append(out, f.Seq)
	}
	return out, past
}

// TestFrames: the past is given from a place, from a time, or from the end, a part at a time, with how far the
// room reaches; to members, and of rooms that store.
func TestFrames(t *testing.T) {
	n, admin := node(t, "")
	s, room := roomOf(t, n, admin, "past", &ledger.Retain{})
	const frames = 30
	fill(t, n, room.ID, admin, frames)
	ask := func(q store.FramesQuery) ([]uint64, store.Past) {
		t.Helper()
		return places(t, s, room.ID, admin, frames, q)
	}
	all, past := ask(store.FramesQuery{})
	if len(all) != frames || all[0] != 1 || all[frames-1] != frames {
		t.Errorf("all are %v", all)
	}
	for _, c := range []struct {
		q    store.FramesQuery
		want []uint64
	}{
		{store.FramesQuery{After: 28}, []uint64{29, 30}},
		{store.FramesQuery{After: 30}, nil},
		{store.FramesQuery{After: 99}, nil},
		{store.FramesQuery{Last: 2}, []uint64{29, 30}},
		{store.FramesQuery{Last: 99, Bytes: 1}, []uint64{1}},
		{store.FramesQuery{None: true}, nil},
		{store.FramesQuery{Since: past.Frames[27].Time.Add(time.Microsecond)}, []uint64{29, 30}},
		{store.FramesQuery{Since: time.Now().Add(time.Hour)}, nil},
		{store.FramesQuery{Bytes: 1}, []uint64{1}},
	} {
		if got, _ := ask(c.q); !slices.Equal(got, c.want) {
			t.Errorf("%+v gives %v, want %v", c.q, got, c.want)
		}
	}
	var paged []uint64
	for after := uint64(0); after < frames; {
		got, _ := ask(store.FramesQuery{After: after, Bytes: 200})
		if len(got) == 0 {
			t.Fatalf("nothing after %d", after)
		}
		paged, after = append(paged, got...), got[len(got)-1]
	}
	if !slices.Equal(paged, all) {
		t.Errorf("page by page %v", paged)
	}
}

// TestFramesRefused: what cannot be meant, rooms that store nothing, and whoever is no member.
func TestFramesRefused(t *testing.T) {
	n, admin := node(t, "")
	_, stored := roomOf(t, n, admin, "stored", &ledger.Retain{})
	_, live := roomOf(t, n, admin, "live", nil)
	p, err := attack.Dial(attack.Options{URL: n.URL(), Identity: admin, Bus: n.Bus})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for path, want := range map[string]int{
		"/rooms/" + stored.ID.String() + "/frames":                            200,
		"/rooms/" + stored.ID.String() + "/frames?since=2006-01-02T15:04:05Z": 200,
		"/rooms/" + stored.ID.String() + "/frames?after=1&last=1":             400,
		"/rooms/" + stored.ID.String() + "/frames?after=x":                    400,
		"/rooms/" + stored.ID.String() + "/frames?since=yesterday":            400,
		"/rooms/" + stored.ID.String() + "/frames?bytes=-1":                   400,
		"/rooms/" + live.ID.String() + "/frames":                              404,
		"/rooms/" + strings.Repeat("a", len(live.ID.String())) + "/frames":    404,
		"/rooms/x/frames": 400,
	} {
		if _, status, err := p.Call(t.Context(), "GET", path, nil); err != nil || status != want {
			t.Errorf("%s: %d, %v; want %d", path, status, err, want)
		}
	}
}

// TestFramesForWhom: the past of a room is for who is in it now, and for the admins of the bus.
func TestFramesForWhom(t *testing.T) {
	n, admin := node(t, "")
	bob, carol := person(t, 'b'), person(t, 'c')
	on, err := store.Load(t.Context(), n.store, n.Bus)
	if err != nil {
		t.Fatal(err)
	}
	storetest.Write(t, n.store, on, admin, &ledger.Add{Users: []ledger.NewUser{
		{Key: bob.Key(), Name: "bob", Role: ledger.RoleUser}, {Key: carol.Key(), Name: "carol", Role: ledger.RoleUser},
	}})
	s, room := roomOf(t, n, bob, "stored", &ledger.Retain{})
	storetest.Write(t, s, room, bob, &ledger.Invite{Members: []ledger.NewMember{{Key: carol.Key(), Role: ledger.RoleMember}}})
	storetest.Write(t, s, room, bob, &ledger.Remove{Keys: []crypto.PublicKey{carol.Key()}})
	for name, c := range map[string]struct {
		by   *crypto.Identity
		want int
	}{"its owner": {bob, 200}, "who was removed": {carol, 403}, "an admin, who is not in it": {admin, 200}} {
		_, status, err := mustDial(t, n, c.by, n.Bus).Call(t.Context(), "GET", "/rooms/"+room.ID.String()+"/frames", nil)
		if err != nil || status != c.want {
			t.Errorf("%s: %d, %v; want %d", name, status, err, c.want)
		}
	}
}
