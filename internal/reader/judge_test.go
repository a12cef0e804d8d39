package reader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/roomtest"
	"github.com/unibus/unibus/internal/store"
)

// cast is the people of a room: its owner is the founder, bob a member, and carol a reader.
type cast struct {
	*world
	bob, carol       *roomtest.Client
	r, bobs, carolsR *room.Room
}

// cast makes a room with its people.
func (w *world) cast(subject string, p ledger.Policy, bob, carol *roomtest.Client) *cast {
	w.Helper()
	c := &cast{world: w, bob: bob, carol: carol, r: w.Room(subject, p)}
	change := room.Changes{Room: c.r}
	w.Must(change.Invite(w.Ctx, ledger.RoleMember, bob.Key()))
	w.Must(change.Invite(w.Ctx, ledger.RoleReader, carol.Key()))
	c.bobs, c.carolsR = bob.Open(c.r.ID), carol.Open(c.r.ID)
	return c
}

// bobsFrame is a frame of bob's that is changed before he signs it.
func bobsFrame(change func(h *crypto.Header)) func(c *cast) (crypto.PublicKey, []byte) {
	return func(c *cast) (crypto.PublicKey, []byte) {
		return c.bob.Key(), c.frame(c.bobs, made{text: "evil", change: change})
	}
}

// TestWhatIsBelieved: of the frames that a server stores in a room only what a member could have made, where it says that
// it did, is delivered. The others are told of: as findings, what nobody honest makes or stores under a member's subject.
func TestWhatIsBelieved(t *testing.T) {
	w := newWorld(t)
	bob, carol := w.User("bob"), w.User("carol")
	for subject, c := range map[string]struct {
		put  func(c *cast) (sender crypto.PublicKey, frame []byte)
		told string
	}{
		"rubbish.member": {func(c *cast) (crypto.PublicKey, []byte) { return c.bob.Key(), []byte("rubbish") }, "[!forged 0-0]"},
		"rubbish.other":  {func(c *cast) (crypto.PublicKey, []byte) { return c.Stranger('x').Key(), []byte("rubbish") }, "[forged 0-0]"},
		"stranger":       {func(c *cast) (crypto.PublicKey, []byte) { return c.Stranger('x').Key(), c.frame(c.r, made{}) }, "[forged 0-0]"},
		"another":        {func(c *cast) (crypto.PublicKey, []byte) { return c.bob.Key(), c.frame(c.r, made{}) }, "[!forged 0-0]"},
		"reader":         {func(c *cast) (crypto.PublicKey, []byte) { return c.carol.Key(), c.frame(c.carolsR, made{}) }, "[!refused 0-0]"},
		"epoch.none":     {bobsFrame(func(h *crypto.Header) { h.Epoch = 0 }), "[!forged 0-0]"},
		"epoch.later":    {bobsFrame(func(h *crypto.Header) { h.Epoch = 2 }), "[!forged 0-0]"},
		"history.other":  {bobsFrame(func(h *crypto.Header) { h.Head[0]++ }), "[!fork 0-0]"},
		"log.withheld":   {bobsFrame(func(h *crypto.Header) { h.At += 5 }), "[!withheld 0-0]"},
		"log.unknown":    {bobsFrame(func(h *crypto.Header) { h.At, h.Epoch = h.At+5, 7 }), "[!ahead 1-1]"},
		"log.stranger": {func(c *cast) (crypto.PublicKey, []byte) {
			return c.Stranger('x').Key(), c.frame(c.r, made{change: func(h *crypto.Header) { h.At += 5 }})
		}, "[ahead 1-1]"},
	} {
		s := w.cast(subject, stored(), bob, carol)
		w.publish(s.r, "before")
		sender, frame := c.put(s)
		w.put(s.r, sender, frame)
		w.publish(s.r, "after")
		texts, told, err := w.everything(s.r)
		if !slices.Equal(texts, []string{"before", "after"}) || told != c.told {
			t.Errorf("%s: %q are read, told is %s, want %s", subject, texts, told, c.told)
		}
		if finding := strings.Contains(told, "!"); finding != errors.Is(err, store.ErrIntegrity) || !finding && err != nil {
			t.Errorf("%s: the reading ends with %v", subject, err)
		}
	}
}

// TestLiarIsHeardNoMore: once a member has named another history, nothing of its own is read any more, by any reading of
// the client; it is told of once.
func TestLiarIsHeardNoMore(t *testing.T) {
	w := newWorld(t)
	s := w.cast("liar", stored(), w.User("bob"), w.User("carol"))
	w.put(s.r, s.bob.Key(), s.frame(s.bobs, made{text: "lie", change: func(h *crypto.Header) { h.Head[0]++ }}))
	w.publishAs(w.writerOf(s.bob), s.bobs, "truth")
	for range 2 {
		if texts, told, err := w.everything(s.r); len(texts) > 0 || told != "[!fork 0-0]" || !errors.Is(err, store.ErrIntegrity) {
			t.Errorf("%q are read, told is %s, and the end is %v", texts, told, err)
		}
	}
}

// TestLieOfThePast: who named another history up to where a person takes the room for what it is, or before it was removed,
// is heard again; who does it later is not, and that is told of by itself.
func TestLieOfThePast(t *testing.T) {
	w := newWorld(t)
	bob, carol := w.User("bob"), w.User("carol")
	lie := func(h *crypto.Header) { h.Head[0]++ }
	for subject, c := range map[string]struct {
		then  func(s *cast)
		texts []string
		told  string
	}{
		"accepted": {func(s *cast) {
			w.Must(s.r.Pins.Places.Accept(w.Ctx, s.r.ID, pins.Place{Anew: 1, Accepted: 1}))
		}, []string{"truth"}, "[fork 0-0]"},
		"again": {func(s *cast) {
			w.Must(s.r.Pins.Places.Accept(w.Ctx, s.r.ID, pins.Place{Anew: 1, Accepted: 1}))
			w.put(s.r, bob.Key(), s.frame(s.bobs, made{text: "again", change: lie}))
		}, nil, "[fork 0-0 !fork 0-0]"},
		"removed": {func(s *cast) {
			change := room.Changes{Room: s.r}
			w.Must(change.Kick(w.Ctx, bob.Key()))
			w.Must(change.Invite(w.Ctx, ledger.RoleMember, bob.Key()))
			w.Must(s.bobs.Sync(w.Ctx))
		}, []string{"truth"}, "[!fork 0-0]"},
	} {
		s := w.cast(subject, stored(), bob, carol)
		w.put(s.r, bob.Key(), s.frame(s.bobs, made{text: "lie", change: lie}))
		c.then(s)
		w.publishAs(w.writerOf(bob), s.bobs, "truth")
		if texts, told, _ := w.everything(s.r); !slices.Equal(texts, c.texts) || told != c.told {
			t.Errorf("%s: %q are read, told is %s, want %s", subject, texts, told, c.told)
		}
	}
}

// TestLieBeforeTheBeginning: what a member named in a message that is only read to know what comes after it is told of with
// the first that is wanted.
func TestLieBeforeTheBeginning(t *testing.T) {
	w := newWorld(t)
	s := w.cast("beginning", stored(), w.User("bob"), w.User("carol"))
	w.put(s.r, s.bob.Key(), s.frame(s.bobs, made{text: "lie", change: func(h *crypto.Header) { h.Head[0]++ }}))
	var told noticed
	reading := w.read(Options{Notice: told.add}, s.r)
	w.publishAs(w.writerOf(s.bob), s.bobs, "truth")
	w.publish(s.r, "after")
	if text := w.next(reading); text != "after" || told.String() != "[!fork 0-0]" {
		t.Errorf("%q is read, told is %s", text, &told)
	}
}

// TestKeyIsAskedForNowAndThen: a key that was asked for just now is not asked for again with each frame, and one that the log
// does not owe this client never.
func TestKeyIsAskedForNowAndThen(t *testing.T) {
	w := newWorld(t)
	r := w.Room("asked", stored())
	j := judging{f: &feed{r: r, facts: room.Facts{Room: r}}, keyAskedAt: map[uint32]time.Time{1: time.Now().Add(time.Hour)}}
	if j.mayFetch(1) {
		t.Error("it is asked for again at once")
	}
	j.keyAskedAt[1] = time.Now().Add(-time.Hour)
	if !j.mayFetch(1) || j.mayFetch(2) {
		t.Error("it is not asked for again, or another one is")
	}
}

// TestForkEndsReading: that an owner holds another history of the room is proof: nothing is read any more. Once a person
// has settled it, that is told of as no finding.
func TestForkEndsReading(t *testing.T) {
	w := newWorld(t)
	s := w.cast("fork", stored(), w.User("bob"), w.User("carol"))
	rd := w.readerOf(s.bob)
	w.put(s.r, w.Key(), s.frame(s.r, made{text: "lie", change: func(h *crypto.Header) { h.Head[0]++ }}))
	w.publishAs(w.writerOf(s.bob), s.bobs, "after")
	read := func() ([]string, string, error) {
		var told noticed
		reading, err := rd.Read(w.Ctx, []*room.Room{s.bobs}, nil, Options{All: true, End: true, Notice: told.add})
		if err != nil {
			return nil, "", err
		}
		defer reading.Close()
		texts, err := rest(reading)
		return texts, told.String(), err
	}
	if texts, _, err := read(); len(texts) > 0 || !errors.Is(err, ledger.ErrForkProven) {
		t.Errorf("%q are read, and the end is %v", texts, err)
	}
	if _, _, err := read(); !errors.Is(err, ledger.ErrForkProven) {
		t.Errorf("a frozen room is read: %v", err)
	}
	own, _ := s.bobs.State().HashAt(s.bobs.State().Head.Seq)
	w.Must(s.bobs.AcceptHistory(w.Ctx, own.String()))
	if texts, told, err := read(); !slices.Equal(texts, []string{"after"}) || told != "[fork 0-0]" || err != nil {
		t.Errorf("%q are read, told is %s, and the end is %v", texts, told, err)
	}
}

// TestFormerMember: what a member wrote is read after it was removed, what it claims to have written before that is not
// when it comes now, and not what it writes under a key that it had no longer to write with.
func TestFormerMember(t *testing.T) {
	w := newWorld(t)
	s := w.cast("former", stored(), w.User("bob"), w.User("carol"))
	w.publishAs(w.writerOf(s.bob), s.bobs, "then")
	var told noticed
	reading := w.read(Options{Notice: told.add}, s.r)
	w.Must(room.Changes{Room: s.r}.Kick(w.Ctx, s.bob.Key()))
	w.put(s.r, s.bob.Key(), s.frame(s.bobs, made{text: "backdated"}))
	w.publish(s.r, "now")
	if text := w.next(reading); text != "now" {
		t.Errorf("%q is read", text)
	}
	w.Must(reading.Close())
	if told.String() != "[refused 0-0]" {
		t.Errorf("told is %s", &told)
	}
	if texts, _, err := w.everything(s.r); err != nil || !slices.Equal(texts, []string{"then", "backdated", "now"}) {
		t.Errorf("%q are read later, %v", texts, err) // nobody can tell by then when it came
	}
}

// TestRevokedIsNotBelieved: what comes now of somebody whose access to the bus has ended is not delivered.
func TestRevokedIsNotBelieved(t *testing.T) {
	w := newWorld(t)
	s := w.cast("revoked", stored(), w.User("bob"), w.User("carol"))
	var told noticed
	reading := w.read(Options{Notice: told.add}, s.r)
	frame := s.frame(s.bobs, made{text: "still here"})
	w.Revoke(s.bob.Key())
	w.put(s.r, s.bob.Key(), frame)
	w.publish(s.r, "now")
	if text := w.next(reading); text != "now" || told.String() != "[refused 0-0]" {
		t.Errorf("%q is read, told is %s", text, &told)
	}
	w.Must(reading.Close())
	if texts, _, err := w.everything(s.r); err != nil || !slices.Equal(texts, []string{"still here", "now"}) {
		t.Errorf("%q are read later, %v", texts, err) // nobody can tell by then when it came
	}
}

// TestStaleIsNotShown: in a room that stores nothing what was sealed long ago is not taken for new, and neither is what
// does not authenticate for a finding, since anybody may show it.
func TestStaleIsNotShown(t *testing.T) {
	w := newWorld(t)
	s := w.cast("stale", live(), w.User("bob"), w.User("carol"))
	var told noticed
	reading := w.read(Options{Notice: told.add}, s.r)
	w.show(s.r, s.bob.Key(), s.frame(s.bobs, made{text: "old", sealed: time.Now().Add(-maxSealOffset - time.Minute)}))
	w.show(s.r, s.bob.Key(), s.frame(s.bobs, made{text: "early", sealed: time.Now().Add(maxSealOffset + time.Minute)}))
	w.show(s.r, s.bob.Key(), []byte("rubbish"))
	w.show(s.r, s.bob.Key(), s.frame(s.bobs, made{text: "new"}))
	if text := w.next(reading); text != "new" || told.String() != "[refused 0-0 refused 0-0 forged 0-0]" {
		t.Errorf("%q is read, told is %s", text, &told)
	}
}

// TestKeysOfBefore: where history is joined a newcomer cannot read what was before, and is told how much that is.
func TestKeysOfBefore(t *testing.T) {
	w := newWorld(t)
	policy := stored()
	policy.History = ledger.HistoryJoined
	r := w.Room("before", policy)
	w.publish(r, "one", "two")
	bob, bobs := w.invited("bob", ledger.RoleMember, r)
	w.publish(r, "three")
	w.reader = w.readerOf(bob)
	if texts, told, err := w.everything(bobs); err != nil || !slices.Equal(texts, []string{"three"}) || told != "[unreadable 0-1]" {
		t.Errorf("%q are read, told is %s, and the end is %v", texts, told, err)
	}
}

// TestKeyWithheld: a key that the log says is for a member, and that is not there or does not open, is a finding, told of
// once, and so is what its writer says later that was stored; what is under other keys is read.
func TestKeyWithheld(t *testing.T) {
	w := newWorld(t)
	bob := w.User("bob")
	policy := stored()
	policy.History = ledger.HistoryJoined
	for subject, copies := range map[string][]store.SealedKey{
		"none": nil, "garbage": {{Endpoint: bob.Key(), Sealed: make([]byte, crypto.SealedSize)}},
	} {
		r := w.Room(subject, policy)
		w.Must(room.Changes{Room: r}.Invite(w.Ctx, ledger.RoleMember, bob.Key()))
		w.publish(r, "before")
		honest := w.Peer.Stage
		w.Peer.Stage = func(ctx context.Context, after *ledger.State, e *ledger.Entry, k *mirror.Key) error {
			own := copiesFor{Keyring: w.Store, only: w.Key()}
			self := &room.Self{Identity: w.ID, Keyring: &own, Bus: w.Self.Bus, Pins: w.Self.Pins}
			if err := self.Stage(ctx, after, e, k); err != nil || len(copies) == 0 {
				return err
			}
			return w.Store.PutKeys(ctx, after.ID, k.Epoch, k.Key.Commit(k.Epoch), w.Key(), copies)
		}
		w.Must(room.Changes{Room: r}.Rekey(w.Ctx))
		w.Peer.Stage = honest
		w.publish(r, "withheld", "as well")
		w.Must(room.Changes{Room: r}.Rekey(w.Ctx))
		w.publish(r, "after")
		w.reader = w.readerOf(bob)
		texts, told, err := w.everything(bob.Open(r.ID))
		if !errors.Is(err, store.ErrIntegrity) || !slices.Equal(texts, []string{"before", "after"}) || told != "[!key 0-0 !missing 0-0]" {
			t.Errorf("%s: %q are read, told is %s, and the end is %v", subject, texts, told, err)
		}
	}
}

// copiesFor is a keyring that keeps the copies for one user alone.
type copiesFor struct {
	store.Keyring
	only crypto.PublicKey
}

// PutKeys leaves out the copies for others.
func (c *copiesFor) PutKeys(ctx context.Context, id crypto.ID, epoch uint32, commit crypto.Hash, sealer crypto.PublicKey, keys []store.SealedKey) error {
	keys = slices.DeleteFunc(keys, func(k store.SealedKey) bool { return k.Endpoint != c.only })
	return c.Keyring.PutKeys(ctx, id, epoch, commit, sealer, keys)
}

// TestLogIsFetched: frames that name entries this client does not have yet have them fetched, and are delivered; those for
// which the log was asked for just now wait until it is asked for again.
func TestLogIsFetched(t *testing.T) {
	w := newWorld(t)
	s := w.cast("fetched", stored(), w.User("bob"), w.User("carol"))
	w.reader = w.readerOf(s.bob)
	var told noticed
	reading := w.read(Options{Notice: told.add}, s.bobs)
	for _, body := range []string{"under a second key", "under a third", "under a fourth"} {
		w.Must(room.Changes{Room: s.r}.Rekey(w.Ctx)) // of which bob knows nothing
		w.publish(s.r, body)
		if text := w.next(reading); text != body || told.String() != "[]" {
			t.Errorf("%q is read, told is %s", text, &told)
		}
	}
}

// TestLieByTheSubscription: what does not authenticate and comes by the subscription of a stored room, in place of its next
// message, is evidence of nothing: the place is read from the past instead.
func TestLieByTheSubscription(t *testing.T) {
	w := newWorld(t)
	s := w.cast("lie", stored(), w.User("bob"), w.User("carol"))
	var told noticed
	reading := w.read(Options{Notice: told.add}, s.r)
	for place, sender := range []string{s.bob.Key().String(), "nobody"} {
		lie := nats.NewMsg(strings.TrimSuffix(bus.LiveSubject(s.r.ID, s.bob.Key()), s.bob.Key().String()) + sender)
		lie.Data = []byte("rubbish")
		lie.Header.Set("Nats-Stream", bus.StreamName(s.r.ID))
		lie.Header.Set("Nats-Subject", strings.TrimSuffix(bus.StoredSubject(s.r.ID, s.bob.Key()), s.bob.Key().String())+sender)
		lie.Header.Set("Nats-Sequence", fmt.Sprint(place+1))
		lie.Header.Set("Nats-Time-Stamp", time.Now().Format(time.RFC3339Nano))
		w.Must(w.Node.Links().Store.PublishMsg(lie))
		body := "after the lie by " + sender
		w.publish(s.r, body)
		if text := w.next(reading); text != body || told.String() != "[]" {
			t.Errorf("%q is read, told is %s", text, &told)
		}
	}
}

// TestForgedTogether: of what does not authenticate under a member's subject the first frames are told of one by one, the
// others together.
func TestForgedTogether(t *testing.T) {
	w := newWorld(t)
	s := w.cast("flood", stored(), w.User("bob"), w.User("carol"))
	for range forgedEach + 5 {
		w.put(s.r, s.bob.Key(), []byte("rubbish"))
	}
	want := "[" + strings.Repeat("!forged 0-0 ", forgedEach) + "!forged 1-5]"
	if texts, told, err := w.everything(s.r); len(texts) > 0 || told != want || !errors.Is(err, store.ErrIntegrity) {
		t.Errorf("%q are read, told is %s, and the end is %v", texts, told, err)
	}
}

// cease has a room cease to store, and a reading go on in it: around the change what is sent may not come, or be stored yet.
func (w *world) cease(r *room.Room, reading *Reading) {
	w.Helper()
	w.Must(room.Changes{Room: r}.SetPolicy(w.Ctx, func(p *room.PolicyChange) { p.Retain = nil }))
	for place := uint64(1); place > 0; {
		for !reading.Waiting() {
			w.publish(r, "live")
		}
		for m, err := range reading.Messages() {
			w.Must(err)
			place = m.Place
			break
		}
	}
}

// TestForgedTogetherLive: so they are in a room that has ceased to store while it is read.
func TestForgedTogetherLive(t *testing.T) {
	w := newWorld(t)
	s := w.cast("ceased", stored(), w.User("bob"), w.User("carol"))
	w.publish(s.r, "stored")
	var told noticed
	reading := w.read(Options{All: true, Notice: told.add}, s.r)
	w.next(reading)
	w.cease(s.r, reading)
	for range forgedEach + 5 {
		w.show(s.r, s.bob.Key(), []byte("rubbish"))
	}
	w.show(s.r, w.Key(), s.frame(s.r, made{text: "after"})) // by the same connection, so behind it
	for w.next(reading) != "after" {
	}
	if n := strings.Count(told.String(), "forged 0-0"); n != forgedEach {
		t.Errorf("%d are told of one by one", n)
	}
}

// TestLieAfterCeasing: up to where a person takes a room for what it is there is nothing of what came since it ceased to
// store.
func TestLieAfterCeasing(t *testing.T) {
	w := newWorld(t)
	s := w.cast("later", stored(), w.User("bob"), w.User("carol"))
	lie := func(h *crypto.Header) { h.Head[0]++ }
	w.put(s.r, s.bob.Key(), s.frame(s.bobs, made{text: "lie", change: lie}))
	w.Must(s.r.Pins.Places.Accept(w.Ctx, s.r.ID, pins.Place{Anew: 1, Accepted: 1}))
	w.publish(s.r, "stored")
	var told noticed
	reading := w.read(Options{All: true, Notice: told.add}, s.r)
	w.next(reading)
	w.cease(s.r, reading)
	w.show(s.r, s.bob.Key(), s.frame(s.bobs, made{text: "again", change: lie}))
	w.show(s.r, w.Key(), s.frame(s.r, made{text: "after"})) // by the same connection, so behind it
	for w.next(reading) != "after" {
	}
	if told.String() != "[fork 0-0 !fork 0-0]" || !s.r.Alarms.Has(s.bob.Key()) {
		t.Errorf("told is %s", &told)
	}
}

// TestAfterTheEnd: what says to be made after the room was archived is refused.
func TestAfterTheEnd(t *testing.T) {
	w := newWorld(t)
	s := w.cast("ended", stored(), w.User("bob"), w.User("carol"))
	w.publish(s.r, "last")
	w.Must(room.Changes{Room: s.r}.Archive(w.Ctx))
	w.Must(s.bobs.Sync(w.Ctx))
	w.put(s.r, s.bob.Key(), s.frame(s.bobs, made{text: "later"}))
	if texts, told, err := w.everything(s.r); !errors.Is(err, store.ErrIntegrity) || !slices.Equal(texts, []string{"last"}) || told != "[!refused 0-0]" {
		t.Errorf("%q are read, told is %s, and the end is %v", texts, told, err)
	}
}

// TestBygoneNoMore: what fits nothing is of before the room began anew only as long as nothing of after that was read: behind
// it a server's word that it is older is worth nothing.
func TestBygoneNoMore(t *testing.T) {
	w := newWorld(t)
	s := w.cast("anew", stored(), w.User("bob"), w.User("carol"))
	w.publish(s.r, "before")
	unknown := s.frame(s.bobs, made{change: func(h *crypto.Header) { h.At, h.Epoch = h.At+50, 7 }})
	old := w.put(s.r, s.bob.Key(), unknown)
	w.Must(room.Changes{Room: s.r}.SetPolicy(w.Ctx, func(p *room.PolicyChange) { p.Anew = true }))
	w.publish(s.r, "after")
	backdated := w.put(s.r, s.bob.Key(), unknown)
	began := s.r.Ledger().AnewTime
	w.lies(func(_ store.FramesQuery, past *store.Past) error {
		for i, f := range past.Frames {
			if f.Seq == old || f.Seq == backdated {
				past.Frames[i].Time = began.Add(-time.Minute)
			}
		}
		return nil
	})
	if texts, told, err := w.everything(s.r); !slices.Equal(texts, []string{"before", "after"}) || told != "[refused 0-0 !ahead 1-1]" {
		t.Errorf("%q are read, told is %s, and the end is %v", texts, told, err)
	}
}
