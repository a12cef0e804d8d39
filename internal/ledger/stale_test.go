package ledger

import (
	"slices"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

// late adds an entry to a log that was made fifty minutes after those which are drawn.
func late(t *testing.T, s *State, by, op string, body any) {
	t.Helper()
	_, err := apply(s, sign(t, s, people[by], op, body, func(p *entryPayload) { p.Time = crypto.Number(at(50 + s.Head.Seq).UnixMilli()) }))
	if err != nil {
		t.Fatal(err)
	}
}

// lateNow is when everything that the tests draw, and add late, has been made.
var lateNow = at(100)

// oneBus has them all on it, and oneRoom three of them.
const (
	oneBus  = "alice found alice\nalice add bob:user carol:user dave:user eve:user"
	oneRoom = "alice create r\nalice invite bob:admin carol:member dave:owner"
)

func keysOf(names ...string) (keys []crypto.PublicKey) {
	for _, name := range names {
		keys = append(keys, key(name))
	}
	return keys
}

// TestStale: a key is stale while somebody holds it who should not, and no longer.
func TestStale(t *testing.T) {
	bus, room := play(t, oneBus), play(t, oneRoom)
	want := func(stale bool, why string) {
		t.Helper()
		if Stale(room.Room, bus.Bus, lateNow) != stale {
			t.Errorf("stale is %v: %s", !stale, why)
		}
	}
	want(false, "nothing has happened")
	late(t, bus, "alice", "revoke", Revoke{Keys: keysOf("carol")})
	want(true, "a revoked member holds the key")
	late(t, room, "alice", "remove", Remove{Keys: keysOf("carol"), Rekey: drawnRekey(room, "")})
	want(false, "it was removed")
	late(t, bus, "alice", "revoke", Revoke{Keys: keysOf("bob", "dave")})
	late(t, room, "alice", "rekey", drawnRekey(room, ""))
	want(true, "bob and dave were revoked, are members, and were given the new key as well")
}

// TestNextExpiry: the next member whose time is over is the one that is looked at again for; who is no member, or out already,
// is not.
func TestNextExpiry(t *testing.T) {
	bus, room := play(t, oneBus), play(t, oneRoom)
	want := func(now, want time.Time, why string) {
		t.Helper()
		if got := NextExpiry(room.Room, bus.Bus, now); !got.Equal(want) {
			t.Errorf("%v: %s", got, why)
		}
	}
	want(lateNow, time.Time{}, "nobody's access ends")
	ends := func(name string, at time.Time) { bus.Bus.users[key(name)].Expires = at }
	ends("eve", at(101))
	want(lateNow, time.Time{}, "eve is no member")
	ends("carol", at(110))
	ends("dave", at(105))
	want(lateNow, at(105), "dave's ends first")
	want(at(105), at(110), "dave's has ended")
	want(at(110), time.Time{}, "all have")
	late(t, bus, "alice", "revoke", Revoke{Keys: keysOf("carol")})
	want(at(106), time.Time{}, "carol was revoked")
}

// TestNotStale: whoever lost access before the key was made never had it, and of one unknown to the bus there is
// nothing to say.
func TestNotStale(t *testing.T) {
	bus := play(t, oneBus)
	late(t, bus, "alice", "revoke", Revoke{Keys: keysOf("bob")})
	later := play(t, "alice create r")
	later.Room.Epochs[0].Time = at(99)
	later.Room.set(key("bob"), RoleMember, 1)
	later.Room.set(crypto.PublicKey{1}, RoleMember, 1)
	if Stale(later.Room, bus.Bus, lateNow) {
		t.Error("stale because of one who was revoked before, or whom the bus does not know")
	}
}

// TestStaleWhenLeft: whoever left holds the key, which matters as long as the room is used.
func TestStaleWhenLeft(t *testing.T) {
	bus, room := play(t, oneBus), play(t, "alice create r\nalice invite eve:member\neve leave")
	if !Stale(room.Room, bus.Bus, lateNow) {
		t.Error("someone left")
	}
	late(t, room, "alice", "archive", Archive{})
	if Stale(room.Room, bus.Bus, lateNow) {
		t.Error("an archived room needs no key")
	}
}

// TestStaleWhenExpired: access that was given for a time ends with it.
func TestStaleWhenExpired(t *testing.T) {
	bus := play(t, "alice found alice")
	soon := crypto.Number(at(60).UnixMilli())
	late(t, bus, "alice", "add", Add{Users: []NewUser{{Key: key("carol"), Name: "carol", Role: RoleUser, Expires: &soon}}})
	room := play(t, "alice create r\nalice invite carol:member")
	for _, v := range []struct {
		now   time.Time
		stale bool
	}{{at(59), false}, {at(60), true}, {at(61), true}} {
		if Stale(room.Room, bus.Bus, v.now) != v.stale {
			t.Errorf("at %v stale is %v", v.now, !v.stale)
		}
		if bus.Bus.User(key("carol")).ActiveAt(v.now) == v.stale {
			t.Errorf("at %v active is %v", v.now, v.stale)
		}
	}
	if (*User)(nil).ActiveAt(t0) {
		t.Error("nobody is active")
	}
}

// TestRemovable: who is to remove whom, once access to the bus has ended.
func TestRemovable(t *testing.T) {
	bus, room := play(t, oneBus), play(t, oneRoom)
	want := func(by string, names ...string) {
		t.Helper()
		got := Removable(room.Room, bus.Bus, key(by), lateNow)
		slices.SortFunc(got, func(a, b crypto.PublicKey) int { return slices.Compare(a[:], b[:]) })
		keys := keysOf(names...)
		slices.SortFunc(keys, func(a, b crypto.PublicKey) int { return slices.Compare(a[:], b[:]) })
		if !slices.Equal(got, keys) {
			t.Errorf("%s may remove %v, want %v", by, got, names)
		}
	}
	want("alice")
	late(t, bus, "alice", "revoke", Revoke{Keys: keysOf("carol")})
	want("bob", "carol") // an admin
	want("carol")        // a member removes nobody
	late(t, room, "alice", "remove", Remove{Keys: keysOf("carol"), Rekey: drawnRekey(room, "")})
	late(t, bus, "alice", "revoke", Revoke{Keys: keysOf("bob", "dave")})
	want("bob") // dave is an owner
	want("alice", "bob", "dave")
	want("dave", "bob") // itself it does not
	// Where all owners but oneself are gone, one of them stays: a room has an owner.
	room = play(t, "dave create r\ndave invite bob:owner alice:admin")
	want("dave", "bob")
}
