package jetstream

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func identity(t testing.TB, n byte) *crypto.Identity {
	t.Helper()
	id, err := crypto.NewIdentity([32]byte{'a', n})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// open opens the store of an account over a connection of its own.
func (c *cluster) open(i, account int, timeout time.Duration) *Store {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := Open(ctx, c.connect(i, account), Options{OpTimeout: timeout, Replicas: min(len(c.servers), 3)})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, servers := range []int{1, 3} {
		t.Run(fmt.Sprintf("R%d", servers), func(t *testing.T) {
			c := newCluster(t, servers)
			account := 0
			storetest.Run(t, func(t *testing.T) storetest.Subject {
				const timeout = 20 * time.Second
				account++
				s := c.open(0, account, timeout)
				other := c.open(servers-1, account, timeout) // by way of another server
				admin := identity(t, 0)
				return storetest.Subject{
					Admin: admin, OpTimeout: timeout,
					As: func(by *crypto.Identity) store.Store {
						if by.Key() == admin.Key() {
							return s
						}
						return other
					},
					Break: func() { s.Close() },
					Staged: func(t *testing.T, room crypto.ID, epoch uint32, commit crypto.Hash) int {
						t.Helper()
						keys, err := s.js.Stream(t.Context(), s.keys.stream)
						must(t, err)
						info, err := keys.Info(t.Context(), jetstream.WithSubjectFilter(s.keys.prefix+sealedKey(room, epoch, commit.String(), "*", "*")))
						must(t, err)
						return len(info.State.Subjects)
					},
				}
			})
		})
	}
}

// founded is a store with a bus, its log, and bob on the allowlist.
func founded(t *testing.T, s *Store) *ledger.State {
	t.Helper()
	bus, err := store.Found(t.Context(), s, identity(t, 0), "admin", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	add := &ledger.Add{Users: []ledger.NewUser{{Key: identity(t, 1).Key(), Name: "bob", Role: ledger.RoleUser}}}
	if err := s.Append(t.Context(), next(t, bus, add)); err != nil {
		t.Fatal(err)
	}
	return bus
}

// alone is the store of a server by itself, with a bus in it.
func alone(t *testing.T) (c *cluster, s *Store, bus *ledger.State) {
	t.Helper()
	c = newCluster(t, 1)
	s = c.open(0, 0, 20*time.Second)
	return c, s, founded(t, s)
}

// next is the admin's next entry of a log, which the state is advanced by.
func next(t *testing.T, state *ledger.State, body ledger.Body) store.Change {
	t.Helper()
	return storetest.Next(t, state, identity(t, 0), body)
}

func newRoom(t *testing.T, bus *ledger.State, subject string) (*ledger.State, store.Change) {
	t.Helper()
	commit := crypto.RoomKey{1}.Commit(1)
	state := new(ledger.State)
	return state, next(t, state, &ledger.Create{Bus: bus.ID, Subject: subject, Policy: ledger.DefaultPolicy(), Nonce: make([]byte, 16), Commit: &commit})
}

// TestQuorumLost: with two of three servers gone, the one that is left answers a plain get for ever.
// The store denies from the first check on, and grants again when the servers are back.
func TestQuorumLost(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	c := newCluster(t, 3)
	s := c.open(0, 1, timeout)
	founded(t, c.open(0, 1, 20*time.Second))
	bob := identity(t, 1).Key()
	check := func(who crypto.PublicKey) (bool, error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), timeout+10*time.Second)
		defer cancel()
		ok, err := s.IsAuthorized(ctx, who)
		if ctx.Err() != nil {
			t.Error("the check outlived OpTimeout")
		}
		return ok, err
	}
	eventually(t, "the check is answered", func() bool {
		ok, err := check(bob)
		return ok && err == nil
	})
	kv, err := s.js.KeyValue(t.Context(), "unibus_users")
	if err != nil {
		t.Fatal(err)
	}
	c.stop(1)
	c.stop(2)
	for began := time.Now(); time.Since(began) < time.Minute; {
		if ok, err := check(bob); ok || !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("without a quorum, after %v: %v, %v", time.Since(began), ok, err)
		}
		if ok, err := s.HasAdmin(t.Context()); ok || !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("without a quorum, HasAdmin: %v, %v", ok, err)
		}
		if _, err := kv.Get(t.Context(), bob.String()); err != nil {
			t.Fatalf("a plain get was expected to be answered, as by a store that does not know better: %v", err)
		}
	}
	c.stop(0)
	if ok, err := check(bob); ok || !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("with no server at all: %v, %v", ok, err)
	}
	for i := range 3 {
		c.start(i)
	}
	eventually(t, "the check is answered again", func() bool {
		ok, err := check(bob)
		return ok && err == nil
	})
}

// eventually tries until a deadline that only a failure reaches.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for began := time.Now(); time.Since(began) < 90*time.Second; time.Sleep(20 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("%s: never", what)
}

// TestPartition: a revocation acknowledged on one side of a partition is never followed by a grant
// on the other, which has the leader of before, and learns of it when they are one again.
func TestPartition(t *testing.T) {
	t.Parallel()
	const timeout = 4 * time.Second
	c := newCluster(t, 3)
	bus := founded(t, c.open(0, 1, 20*time.Second))
	bob := identity(t, 1).Key()
	info, err := c.open(0, 1, timeout).js.Stream(t.Context(), "KV_unibus_users")
	if err != nil {
		t.Fatal(err)
	}
	var leader int
	if _, err := fmt.Sscanf(info.CachedInfo().Cluster.Leader, "s%d", &leader); err != nil {
		t.Fatal(err)
	}
	alone, most := c.open(leader, 1, timeout), c.open((leader+1)%3, 1, timeout)
	eventually(t, "the check is answered", func() bool {
		ok, err := alone.IsAuthorized(t.Context(), bob)
		return ok && err == nil
	})

	var revoked atomic.Bool
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for ctx.Err() == nil {
				late := revoked.Load()
				if ok, _ := alone.IsAuthorized(ctx, bob); ok && late {
					t.Error("granted after the revocation was acknowledged")
				}
			}
		})
	}
	c.cut(leader, true)
	revoke := next(t, bus, &ledger.Revoke{Keys: []crypto.PublicKey{bob}})
	eventually(t, "the revocation", func() bool { return most.Append(t.Context(), revoke) == nil })
	revoked.Store(true)
	// On the side that is alone nothing can be written, nor is anything answered from memory.
	_, stray := newRoom(t, bus, "stray")
	if err := alone.Append(t.Context(), stray); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("an append without a quorum: %v", err)
	}
	if ok, err := alone.IsAuthorized(t.Context(), bob); ok || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("without a quorum: %v, %v", ok, err)
	}
	c.cut(leader, false)
	eventually(t, "both sides are one", func() bool {
		ok, err := alone.IsAuthorized(t.Context(), bob)
		return !ok && err == nil
	})
	cancel()
	wait.Wait()
	// What was offered while alone can be offered again, and is there once.
	eventually(t, "the room", func() bool { return alone.Append(t.Context(), stray) == nil })
	eventually(t, "the room on the other side", func() bool {
		r, err := most.RoomBySubject(t.Context(), "stray")
		return err == nil && r.ID == stray.Entry.Log
	})
}

// victims are processes that are killed in the midst of an Append, each in an account of its own.
type victims struct {
	*cluster
	account int
}

// kill founds a bus, has a process begin to append what change makes of it, kills it at a step, and opens the store that
// it leaves: one that knows nothing of before.
func (v *victims) kill(t *testing.T, at string, change func(bus *ledger.State) store.Change) (s *Store, bus *ledger.State) {
	t.Helper()
	v.account++
	bus = founded(t, v.open(0, v.account, 20*time.Second))
	killed := storetest.Killed(t, "TestCrash", "UNIBUS_TEST_CRASH="+at, fmt.Sprintf("UNIBUS_TEST_ENTRY=%x", change(bus).Entry.Statement),
		fmt.Sprintf("UNIBUS_TEST_USER=A%d", v.account), "UNIBUS_TEST_URL="+v.servers[0].ClientURL())
	if !killed {
		t.Fatal("the process was not killed")
	}
	return v.open(0, v.account, 20*time.Second), bus
}

// TestCrash kills a process at each step of an Append; whoever touches the log next completes it, or
// finds nothing of it.
func TestCrash(t *testing.T) {
	t.Parallel()
	if at := os.Getenv("UNIBUS_TEST_CRASH"); at != "" {
		crash(t, at)
	}
	v := &victims{cluster: newCluster(t, 1)}
	t.Run("claimed", func(t *testing.T) { crashClaimed(t, v) })
	for _, at := range []string{"committed", "viewed 0", "viewed 1", "viewed 2"} {
		for name, touch := range touches {
			t.Run(at+", "+name, func(t *testing.T) { crashRoom(t, v, at, touch) })
		}
	}
	for _, at := range []string{"committed", "viewed 3"} {
		t.Run(at+", of the bus", func(t *testing.T) { crashBus(t, v, at) })
	}
}

// crashClaimed: an entry that was never committed leaves its subject to someone else.
func crashClaimed(t *testing.T, v *victims) {
	var create store.Change
	s, bus := v.kill(t, "claimed", func(bus *ledger.State) store.Change {
		_, create = newRoom(t, bus, "r")
		return create
	})
	other := new(ledger.State)
	commit := crypto.RoomKey{2}.Commit(1)
	must(t, s.Append(t.Context(), next(t, other, &ledger.Create{Bus: bus.ID, Subject: "r", Policy: ledger.DefaultPolicy(), Nonce: []byte("another-nonce-16"), Commit: &commit})))
	if err := s.Append(t.Context(), create); !errors.Is(err, store.ErrExists) {
		t.Errorf("the one who crashed goes on: %v", err)
	}
	if r, err := s.RoomBySubject(t.Context(), "r"); err != nil || r.ID != other.ID {
		t.Errorf("the subject means %v, %v", r.ID, err)
	}
}

// touches are ways to come upon a log whose views are behind it.
var touches = map[string]func(t *testing.T, s *Store, state *ledger.State){
	"read": func(t *testing.T, s *Store, state *ledger.State) {
		_, err := s.Members(t.Context(), state.ID)
		must(t, err)
	},
	"append": func(t *testing.T, s *Store, state *ledger.State) {
		invite := &ledger.Invite{Members: []ledger.NewMember{{Key: identity(t, 1).Key(), Role: ledger.RoleMember}}}
		must(t, s.Append(t.Context(), next(t, state, invite)))
	},
	"heal": func(t *testing.T, s *Store, state *ledger.State) {
		behind, err := s.Behind(t.Context())
		if err != nil || len(behind) != 1 || behind[0] != state.ID {
			t.Fatalf("behind are %v, %v", behind, err)
		}
		must(t, s.Heal(t.Context(), state.ID))
	},
}

// crashRoom: once the first entry of a room is committed, whoever touches the room completes it, and it may be offered
// again.
func crashRoom(t *testing.T, v *victims, at string, touch func(*testing.T, *Store, *ledger.State)) {
	var state *ledger.State
	var create store.Change
	s, _ := v.kill(t, at, func(bus *ledger.State) store.Change {
		state, create = newRoom(t, bus, "r")
		return create
	})
	touch(t, s, state)
	whole(t, s, state)
	must(t, s.Append(t.Context(), create)) // again: it was never acknowledged
	whole(t, s, state)
	if refs, err := s.ListRoomsForEndpoint(t.Context(), identity(t, 0).Key()); err != nil || len(refs) != 1 {
		t.Errorf("the owner's rooms are %v, %v", refs, err)
	}
}

// crashBus: a revocation whose views nobody wrote is made up for by the next entry.
func crashBus(t *testing.T, v *victims, at string) {
	s, bus := v.kill(t, at, func(bus *ledger.State) store.Change {
		return next(t, bus, &ledger.Revoke{Keys: []crypto.PublicKey{identity(t, 1).Key()}})
	})
	carol := &ledger.Add{Users: []ledger.NewUser{{Key: identity(t, 2).Key(), Name: "carol", Role: ledger.RoleUser}}}
	must(t, s.Append(t.Context(), next(t, bus, carol)))
	whole(t, s, bus)
	if ok, err := s.IsAuthorized(t.Context(), identity(t, 1).Key()); ok || err != nil {
		t.Errorf("revoked before the last entry, bob is authorized: %v, %v", ok, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lose has the disk of a bucket lose what is kept under a key, or under those of a pattern.
func lose(t *testing.T, b *bucket, key string) {
	t.Helper()
	stream, err := b.writer.js.Stream(t.Context(), b.stream)
	must(t, err)
	must(t, stream.Purge(t.Context(), jetstream.WithPurgeSubject(b.prefix+key)))
}

// whole checks that no view is behind, and that all are as if written anew.
func whole(t *testing.T, s *Store, state *ledger.State) {
	t.Helper()
	if behind, err := s.Behind(t.Context()); err != nil || len(behind) > 0 {
		t.Errorf("behind are %v, %v", behind, err)
	}
	if n, err := s.Differs(t.Context(), state); err != nil || n > 0 {
		t.Errorf("%d records were wrong (%v)", n, err)
	}
}

// crash is the process that is killed.
func crash(t *testing.T, at string) {
	nc, err := nats.Connect(os.Getenv("UNIBUS_TEST_URL"), nats.UserInfo(os.Getenv("UNIBUS_TEST_USER"), "x"))
	must(t, err)
	s, err := Open(t.Context(), nc, Options{})
	must(t, err)
	s.committer.views.step = func(name string) {
		if name == at {
			storetest.KillSelf()
		}
	}
	statement, err := hex.DecodeString(os.Getenv("UNIBUS_TEST_ENTRY"))
	must(t, err)
	log, seq, _, err := ledger.Place(statement)
	must(t, err)
	state := new(ledger.State)
	if seq > 1 {
		state, err = store.Load(t.Context(), s, log)
		must(t, err)
	}
	change, err := storetest.Advance(state, statement)
	must(t, err)
	must(t, s.Append(t.Context(), change))
	t.Fatal("it was to be killed")
}

// TestRebuild: records that say what the log does not are put right.
func TestRebuild(t *testing.T) {
	t.Parallel()
	_, s, bus := alone(t)
	state, create := newRoom(t, bus, "r")
	must(t, s.Append(t.Context(), create))
	mallory := identity(t, 9)
	forge := func(b *bucket, key, value string) {
		t.Helper()
		_, err := b.put(t.Context(), key, []byte(value), anyRevision)
		must(t, err)
	}
	forge(s.members, memberKey(state.ID, mallory.Key()), `{"role":"owner","seq":1}`)
	creator := create.Entry.By
	forge(s.roomsOf, roomsOfKey(creator, state.ID), `{"role":"owner","seq":1}`) // as an earlier build wrote it
	if n, err := s.Created(t.Context(), creator); n != 0 || err != nil {
		t.Errorf("%d rooms were created, %v", n, err)
	}
	forge(s.rooms, roomKey(state.ID), `{"subject":"other","seq":999}`)
	forge(s.users, mallory.Key().String(), `{"key":"`+mallory.Key().String()+`","name":"mallory","role":"admin","active":true,"seq":999}`)
	forge(s.users, identity(t, 1).Key().String(), `{"key":"`+identity(t, 1).Key().String()+`","name":"bob","role":"admin","active":true,"seq":999}`)
	if ok, err := s.IsAuthorized(t.Context(), mallory.Key()); !ok || err != nil {
		t.Fatalf("the forgery does not work: %v, %v", ok, err)
	}
	if n, err := s.Differs(t.Context(), state); !errors.Is(err, store.ErrShort) {
		t.Errorf("a record of entry 999, and one entry: %d records are wrong, %v", n, err)
	}
	for _, st := range []*ledger.State{state, bus} {
		if n, err := s.Rebuild(t.Context(), st); err != nil || n == 0 {
			t.Errorf("changed %d records, %v", n, err)
		}
		if n, err := s.Rebuild(t.Context(), st); err != nil || n != 0 {
			t.Errorf("changed %d records again, %v", n, err)
		}
	}
	if ok, err := s.IsAuthorized(t.Context(), mallory.Key()); ok || err != nil {
		t.Errorf("mallory is still authorized: %v, %v", ok, err)
	}
	if u, err := s.User(t.Context(), identity(t, 1).Key()); err != nil || u.Role != ledger.RoleUser {
		t.Errorf("bob is %+v, %v", u, err)
	}
	if n, err := s.Created(t.Context(), creator); n != 1 || err != nil {
		t.Errorf("%d rooms were created, %v", n, err)
	}
	if r, err := s.Room(t.Context(), state.ID); err != nil || r.Subject != "r" || r.Seq != 1 || r.Members != 1 {
		t.Errorf("the room is %+v, %v", r, err)
	}
}

// TestHole: of a log in which a disk lost an entry nothing is taken for the end.
func TestHole(t *testing.T) {
	t.Parallel()
	_, s, bus := alone(t)
	for i := range 3 {
		add := &ledger.Add{Users: []ledger.NewUser{{Key: identity(t, byte(10+i)).Key(), Name: fmt.Sprint("u", i), Role: ledger.RoleUser}}}
		must(t, s.Append(t.Context(), next(t, bus, add)))
	}
	lose(t, s.log, entryKey(bus.ID, bus.Head.Seq))
	shorter, err := store.Load(t.Context(), s, bus.ID)
	if err != nil || shorter.Head.Seq != bus.Head.Seq-1 {
		t.Fatalf("%+v, %v", shorter, err)
	}
	if heads, err := s.Heads(t.Context(), bus.ID); err != nil || heads[0] != shorter.Head {
		t.Errorf("what has seen it longer says that it ends at %+v, %v", heads, err)
	}
	if _, err := s.Differs(t.Context(), shorter); !errors.Is(err, store.ErrShort) {
		t.Errorf("its views go further: %v", err)
	}
	lose(t, s.log, entryKey(bus.ID, bus.Head.Seq-2))
	if _, err := store.Load(t.Context(), s, bus.ID); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("read past a hole: %v", err)
	}
	room, create := newRoom(t, bus, "r")
	must(t, s.Append(t.Context(), create))
	lose(t, s.log, entryKey(room.ID, 1))
	if heads, err := s.Heads(t.Context(), room.ID); err != nil || heads[0].Seq != 0 {
		t.Errorf("a log that is gone ends at %+v, %v", heads, err)
	}
}

// TestUnreadable: what a server cannot read is damage, not what is not there, nor what has to be waited for.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	c, s, bus := alone(t)
	state, create := newRoom(t, bus, "r")
	must(t, s.Append(t.Context(), create))
	must(t, s.CheckRecords(t.Context()))
	s.Close()
	c.stop(0)
	block := filepath.Join(c.configs[0].StoreDir, "jetstream", "A0", "streams", s.log.stream, "msgs", "1.blk")
	b, err := os.ReadFile(block)
	must(t, err)
	b[bytes.Index(b, create.Entry.Statement)+9] ^= 1
	must(t, os.WriteFile(block, b, 0o600))
	c.start(0)
	s = c.open(0, 0, 20*time.Second)
	if _, err := store.Load(t.Context(), s, state.ID); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("a log that cannot be read: %v", err)
	}
	if _, err := store.Load(t.Context(), s, bus.ID); err != nil {
		t.Errorf("another log: %v", err)
	}
	if err := s.CheckRecords(t.Context()); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("the records are whole: %v", err)
	}
}

// TestBuried: the place of a log that never began is no entry, and nobody is told of one.
func TestBuried(t *testing.T) {
	t.Parallel()
	_, s, bus := alone(t)
	notices, err := s.Watch(t.Context())
	must(t, err)
	_, never := newRoom(t, bus, "never")
	must(t, s.tombstone(t.Context(), never.Entry.Log.String(), "taken"))
	if _, err := store.HeadOf(t.Context(), s, never.Entry.Log); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("it has a head: %v", err)
	}
	if err := s.Append(t.Context(), never); !errors.Is(err, store.ErrExists) { // by whoever had the name before it was taken over
		t.Errorf("it begins with %v", err)
	}
	state, create := newRoom(t, bus, "r")
	must(t, s.Append(t.Context(), create))
	if n := <-notices; n.Log != state.ID || n.Seq != 1 {
		t.Errorf("the first notice is of %v", n)
	}
}
