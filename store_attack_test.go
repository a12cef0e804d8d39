package unibus_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/unibus/unibus"
)

// tampered is how a store lies: it changes its own file while nobody looks.
func (w *world) tampered(statements ...string) {
	w.Helper()
	w.node.Stop()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(w.dir, "data", "unibus.db"))
	w.must(err)
	for _, s := range statements {
		_, err := db.Exec(s)
		w.must(err)
	}
	w.must(db.Close())
	w.must(os.RemoveAll(filepath.Join(w.dir, "data", "heads.unibus.db"))) // whoever has the one file has the other
	w.start()
}

// forget makes the store forget the last entry of a room's log, and what its views say of it.
func (w *world) forget(r *unibus.Room) {
	w.Helper()
	w.tampered(
		`DELETE FROM entries WHERE n = (SELECT max(n) FROM entries WHERE log = (SELECT id FROM rooms WHERE subject = '`+r.Subject()+`'))`,
		`UPDATE rooms SET seq = seq - 1 WHERE subject = '`+r.Subject()+`'`,
	)
}

// again is a new process of the same person: it knows what is in its state directory.
func (w *world) again(c **unibus.Client, id *unibus.Identity, state, subject string) *unibus.Room {
	w.Helper()
	w.must((*c).Close())
	*c = w.connect(id, state)
	r, err := (*c).Room(w.ctx, subject)
	w.must(err)
	return r
}

// TestTwoHistories: a store shows two people two entries at one place. Neither can tell from the log
// it is given; the first frame between them tells.
func TestTwoHistories(t *testing.T) {
	for _, c := range []struct {
		role unibus.Role // of the one who writes on the other history
		kind unibus.NoticeKind
	}{
		{unibus.RoleOwner, ""},                 // proof: the room is frozen
		{unibus.RoleAdmin, ""},                 // proof
		{unibus.RoleMember, unibus.NoticeFork}, // an alarm, about that sender only
	} {
		t.Run(string(c.role), func(t *testing.T) {
			w := newWorld(t)
			alices, bobs := w.room("two", unibus.DefaultPolicy())
			carol, dave := w.add("carol"), w.add("dave")
			eve := w.add("eve")
			eves := w.connect(eve, "eve")
			w.must(alices.Invite(w.ctx, c.role, eve.Key()))
			w.must(alices.SetRole(w.ctx, w.bob.Key(), unibus.RoleOwner))
			w.must(bobs.Refresh(w.ctx))
			room, err := eves.Room(w.ctx, "two")
			w.must(err)
			// Eve is shown a history with carol in it.
			w.must(alices.Invite(w.ctx, unibus.RoleMember, carol.Key()))
			w.must(room.Refresh(w.ctx))
			w.send(room, "seen by whom?")
			w.must(eves.Close())
			w.must(w.alice.Close())
			// Bob is shown one with dave.
			w.forget(alices)
			bobs = w.again(&w.bob, w.bobID, "bob", "two")
			w.must(bobs.Invite(w.ctx, unibus.RoleMember, dave.Key()))
			w.send(bobs, "by bob")

			got, notices, err := w.read(bobs, unibus.SubscribeOptions{All: true})
			if !errors.Is(err, unibus.ErrIntegrity) || slices.Contains(got, "seen by whom?") {
				t.Errorf("%q, %v", got, err)
			}
			frozen := bobs.PublishOnce(w.ctx, []byte("more"))
			if c.kind == "" {
				if !errors.Is(frozen, unibus.ErrIntegrity) || len(got) != 0 {
					t.Errorf("a room with two histories takes messages: %q, %v", got, frozen)
				}
				w.decide()
				return
			}
			if frozen != nil || !slices.Equal(got, []string{"by bob"}) {
				t.Errorf("a member froze the room: %q, %v", got, frozen)
			}
			if !slices.ContainsFunc(notices, func(n unibus.Notice) bool { return n.Kind == c.kind && n.Finding }) {
				t.Errorf("notices %v", notices)
			}
		})
	}
}

// decide is a person's part where two histories are proven: every way of reading and writing is closed to later
// processes too, until the one that was verified is accepted.
func (w *world) decide() {
	w.Helper()
	bobs := w.again(&w.bob, w.bobID, "bob", "two")
	for _, o := range []unibus.SubscribeOptions{{}, {All: true}, {Last: 1}, {Since: time.Now().Add(-time.Hour)}} {
		if _, _, err := w.read(bobs, o); !errors.Is(err, unibus.ErrIntegrity) {
			w.Errorf("the next process reads with %+v: %v", o, err)
		}
	}
	if err := bobs.PublishOnce(w.ctx, []byte("more")); !errors.Is(err, unibus.ErrIntegrity) {
		w.Errorf("the next process writes: %v", err)
	}
	if _, err := bobs.Verify(w.ctx, nil); !errors.Is(err, unibus.ErrIntegrity) {
		w.Errorf("the next process verifies: %v", err)
	}
	log, err := bobs.Log(w.ctx)
	w.must(err)
	for _, hash := range []string{"", "12345678", log[0].Hash} {
		if err := bobs.AcceptHistory(w.ctx, hash); err == nil {
			w.Errorf("the history %q is accepted", hash)
		}
	}
	w.must(bobs.AcceptHistory(w.ctx, log[len(log)-1].Hash))
	for range 2 {
		got, notices, err := w.read(bobs, unibus.SubscribeOptions{All: true})
		if err != nil || !slices.Contains(got, "by bob") || slices.Contains(got, "seen by whom?") {
			w.Errorf("accepted, and read %q, %v, %v", got, notices, err)
		}
		w.must(bobs.PublishOnce(w.ctx, []byte("more")))
		bobs = w.again(&w.bob, w.bobID, "bob", "two")
	}
}

// TestShortLog: a newcomer is given a log without its end, where someone who may not be there any more
// still is. The first frame by someone who knows better names an entry it does not have.
func TestShortLog(t *testing.T) {
	w := newWorld(t)
	alices, bobs := w.room("short", unibus.DefaultPolicy())
	carol := w.add("carol")
	w.must(alices.Invite(w.ctx, unibus.RoleMember, carol.Key()))
	w.must(bobs.Refresh(w.ctx))
	w.send(bobs, "from before")
	w.must(alices.Invite(w.ctx, unibus.RoleReader, w.add("dave").Key()))
	w.send(alices, "from ahead")
	w.must(w.alice.Close())
	w.must(w.bob.Close())
	w.forget(alices)
	carols, err := w.connect(carol, "carol").Room(w.ctx, "short")
	w.must(err)
	got, notices, err := w.read(carols, unibus.SubscribeOptions{All: true})
	if !errors.Is(err, unibus.ErrIntegrity) || !slices.Equal(got, []string{"from before"}) {
		t.Errorf("%q, %v", got, err)
	}
	if len(notices) == 0 || notices[0].Kind != unibus.NoticeWithheld {
		t.Errorf("notices %v", notices)
	}
}

// TestLoserServed: an entry that lost its place is shown to a newcomer instead of the one that won.
func TestLoserServed(t *testing.T) {
	w := newWorld(t)
	alices, bobs := w.room("lost", unibus.DefaultPolicy())
	w.must(alices.SetRole(w.ctx, w.bob.Key(), unibus.RoleAdmin))
	w.must(bobs.Refresh(w.ctx))
	carol := w.add("carol")
	w.must(alices.Invite(w.ctx, unibus.RoleMember, carol.Key())) // the winner, as alice and her readers know
	w.send(alices, "by alice")
	w.must(w.alice.Close())
	w.forget(alices)
	bobs = w.again(&w.bob, w.bobID, "bob", "lost")
	w.must(bobs.Invite(w.ctx, unibus.RoleMember, carol.Key())) // the loser, served
	carols, err := w.connect(carol, "carol").Room(w.ctx, "lost")
	w.must(err)
	got, _, err := w.read(carols, unibus.SubscribeOptions{All: true})
	if len(got) != 0 || !errors.Is(err, unibus.ErrIntegrity) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := w.connect(w.aliceID, "alice").Room(w.ctx, "lost"); !errors.Is(err, unibus.ErrIntegrity) {
		t.Errorf("alice takes another entry for the one she signed: %v", err)
	}
}

// TestKeySubstitution: other sealed bytes than the one sealed for the reader open nothing.
func TestKeySubstitution(t *testing.T) {
	w := newWorld(t)
	alices, _ := w.room("keys", unibus.DefaultPolicy())
	w.room("other", unibus.DefaultPolicy())
	w.must(alices.Rekey(w.ctx))
	w.send(alices, "secret")
	w.must(w.alice.Close())
	copyOf := func(where string) string {
		return `UPDATE room_keys SET sealed = (SELECT sealed FROM room_keys k WHERE ` + where + ` LIMIT 1) WHERE epoch = 2 AND endpoint = x'` + hexOf(w.bobID.Key()) + `'`
	}
	keep := `UPDATE room_keys SET sealed = kept.sealed FROM kept WHERE kept.room = room_keys.room AND kept.epoch = room_keys.epoch AND kept.endpoint = room_keys.endpoint`
	w.tampered(`CREATE TABLE kept AS SELECT * FROM room_keys`)
	for name, lie := range map[string]string{
		"another room's":   copyOf(`k.room <> room_keys.room`),
		"another epoch's":  copyOf(`k.room = room_keys.room AND k.epoch = 1 AND k.endpoint = room_keys.endpoint`),
		"another member's": copyOf(`k.room = room_keys.room AND k.epoch = 2 AND k.endpoint <> room_keys.endpoint`),
		"garbage":          `UPDATE room_keys SET sealed = randomblob(1168) WHERE epoch = 2`,
		"a short one":      `UPDATE room_keys SET sealed = x'00' WHERE epoch = 2`,
	} {
		w.tampered(lie)
		bobs := w.again(&w.bob, w.bobID, "fresh "+name, "keys")
		got, _, err := w.read(bobs, unibus.SubscribeOptions{All: true})
		if len(got) != 0 || !errors.Is(err, unibus.ErrIntegrity) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		w.tampered(keep)
	}
	bobs := w.again(&w.bob, w.bobID, "fresh", "keys")
	if got, _, err := w.read(bobs, unibus.SubscribeOptions{All: true}); !slices.Equal(got, []string{"secret"}) || err != nil {
		t.Errorf("with its own again: %q, %v", got, err)
	}
}

// TestCardSubstitution: a key is sealed to nobody's card but the one its owner signed.
func TestCardSubstitution(t *testing.T) {
	w := newWorld(t)
	_, err := w.alice.CreateRoom(w.ctx, "cards", unibus.DefaultPolicy())
	w.must(err)
	mallory := w.add("mallory")
	w.must(w.connect(mallory, "mallory").Close())
	w.must(w.bob.Close())
	w.tampered(`UPDATE cards SET statement = (SELECT statement FROM cards m WHERE m.endpoint = x'` + hexOf(mallory.Key()) + `') WHERE endpoint = x'` + hexOf(w.bobID.Key()) + `'`)
	alices := w.again(&w.alice, w.aliceID, "alice", "cards")
	if err := alices.Invite(w.ctx, unibus.RoleMember, w.bobID.Key()); !errors.Is(err, unibus.ErrIntegrity) {
		t.Errorf("invited with another's card: %v", err)
	}
	if n := len(alices.Members()); n != 1 {
		t.Errorf("%d members", n)
	}
}

func hexOf(k unibus.PublicKey) string { return fmt.Sprintf("%x", k[:]) }
