package jetstream

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/storetest"
)

// TestSubjectKey: each subject has a key of its own, in characters that keys may have.
func TestSubjectKey(t *testing.T) {
	for subject, want := range map[string]string{
		"ops.alerts": "subject.ops.alerts", "a=b": "subject.a=3db", "a b": "subject.a=20b", "ü": "subject.=c3=bc", "A-_9": "subject.A-_9",
	} {
		if got := subjectKey(subject); got != want {
			t.Errorf("%q is at %q, want %q", subject, got, want)
		}
	}
}

// TestAlike: records that differ in the entry they come from only say the same.
func TestAlike(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{`{"role":"owner","seq":1}`, `{"seq":9,"role":"owner"}`, true},
		{`{"role":"owner","seq":1}`, `{"role":"reader","seq":1}`, false},
		{`{"seq":1}`, `{"seq":2}`, false}, // which is what this record is about
		{`text`, `text`, true},
		{`text`, `other`, false},
		{`text`, `{"seq":1}`, false},
		{``, ``, true},
	} {
		if got := alike([]byte(c.a), []byte(c.b)); got != c.same {
			t.Errorf("%s and %s say the same: %v", c.a, c.b, got)
		}
	}
}

// TestFailure: what NATS says is one of the kinds that callers know.
func TestFailure(t *testing.T) {
	for _, err := range []error{
		context.DeadlineExceeded, nats.ErrTimeout, nats.ErrReconnectBufExceeded, nats.ErrNoResponders, jetstream.ErrNoStreamResponse, errors.New("?"), context.Canceled,
	} {
		if got := failure(fmt.Errorf("x: %w", err)); !errors.Is(got, store.ErrUnavailable) {
			t.Errorf("%v is %v", err, got)
		}
	}
	for _, kind := range []error{nil, store.ErrNotFound, store.ErrConflict, store.ErrDamaged} {
		if got := failure(kind); got != kind {
			t.Errorf("%v becomes %v", kind, got)
		}
	}
}

// TestReplicas: a number of servers that cannot be is refused before anyone is asked.
func TestReplicas(t *testing.T) {
	for _, n := range []int{-1, MaxReplicas + 1} {
		if _, err := Open(t.Context(), nil, Options{Replicas: n}); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%d replicas: %v", n, err)
		}
	}
}

// TestDamagedRecords: whoever meets a record that does not say what it is to say is told that the store is damaged.
func TestDamagedRecords(t *testing.T) {
	t.Parallel()
	_, s, bus := alone(t)
	room, create := newRoom(t, bus, "r")
	must(t, s.Append(t.Context(), create))
	owner, ctx := create.Entry.By, t.Context()
	epoch := room.Room.Epoch()
	copies := []store.SealedKey{{Endpoint: owner, Sealed: make([]byte, crypto.SealedSize)}}
	must(t, s.PutKeys(ctx, room.ID, 1, epoch.Commit, owner, copies))
	reads := map[string]func() error{
		"Room":                 func() error { _, err := s.Room(ctx, room.ID); return err },
		"RoomBySubject":        func() error { _, err := s.RoomBySubject(ctx, "r"); return err },
		"Rooms":                func() error { return first(s.Rooms(ctx, crypto.ID{})) },
		"Members":              func() error { _, err := s.Members(ctx, room.ID); return err },
		"Member":               func() error { _, err := s.Member(ctx, room.ID, owner); return err },
		"ListRoomsForEndpoint": func() error { _, err := s.ListRoomsForEndpoint(ctx, owner); return err },
		"Created":              func() error { _, err := s.Created(ctx, owner); return err },
		"Key":                  func() error { _, err := s.Key(ctx, room.ID, 1, owner); return err },
		"PutKeys":              func() error { return s.PutKeys(ctx, room.ID, 1, epoch.Commit, owner, copies) },
		"Sealed":               func() error { return first(s.Sealed(ctx, room.ID, 1)) },
		"AllCards":             func() error { return first(s.AllCards(ctx)) },
		"User":                 func() error { _, err := s.User(ctx, owner); return err },
		"Users":                func() error { return first(s.Users(ctx, crypto.PublicKey{})) },
		"IsAuthorized":         func() error { _, err := s.IsAuthorized(ctx, owner); return err },
		"HasAdmin":             func() error { _, err := s.HasAdmin(ctx); return err },
		"Heads":                func() error { _, err := s.Heads(ctx, room.ID); return err },
		"Logs":                 func() error { return first(s.Logs(ctx)) },
		"Behind":               func() error { _, err := s.Behind(ctx); return err },
		"Heal":                 func() error { return s.Heal(ctx, room.ID) },
	}
	for name, read := range reads {
		if err := read(); err != nil {
			t.Fatalf("%s, nothing damaged: %v", name, err)
		}
	}
	for _, c := range []struct {
		bucket     *bucket
		key, value string
		told       []string
	}{
		{s.roomsOf, roomsOfKey(owner, room.ID), "{", []string{"ListRoomsForEndpoint", "Created"}},
		{s.members, memberKey(room.ID, owner), "{", []string{"Members", "Member", "Room", "Rooms"}},
		{s.members, room.ID.String() + ".nobody", `{"role":"owner"}`, []string{"Members", "Rooms"}},
		{s.rooms, subjectKey("r"), "no id", []string{"RoomBySubject"}},
		{s.rooms, epochKey(room.ID, 1), "no commitment", []string{"Key", "Sealed"}},
		{s.rooms, epochKey(room.ID, 1), epoch.Commit.String() + " nobody", []string{"Key", "PutKeys", "Sealed"}},
		{s.keys, cardPrefix + "nobody", "card", []string{"AllCards"}},
		{s.keys, sealedKey(room.ID, 1, epoch.Commit.String(), owner.String(), "nobody"), "copy", []string{"Key", "PutKeys", "Sealed"}},
		{s.rooms, roomKey(room.ID), "{", []string{"Room", "Rooms", "Key", "ListRoomsForEndpoint"}},
		{s.users, owner.String(), "{", []string{"User", "Users", "IsAuthorized", "HasAdmin"}},
		{s.log, entryKey(room.ID, 2), "no statement", []string{"Heads"}},
		{s.log, "nobody.1", "statement", []string{"Behind"}},
	} {
		t.Run(c.key, func(t *testing.T) { damageOne(t, c.bucket, c.key, c.value, reads, c.told) })
	}
}

// damageOne puts a value in the place of a record, has it read, and puts the record back.
func damageOne(t *testing.T, b *bucket, key, value string, reads map[string]func() error, told []string) {
	t.Helper()
	was, err := b.get(t.Context(), key)
	must(t, err)
	_, err = b.put(t.Context(), key, []byte(value), anyRevision)
	must(t, err)
	for _, name := range told {
		if err := reads[name](); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s, with %q in it: %v", name, value, err)
		}
	}
	if was.rev == 0 {
		lose(t, b, key)
		return
	}
	_, err = b.put(t.Context(), key, was.value, anyRevision)
	must(t, err)
}

// first is the first error of what a sequence yields.
func first[V any](seq iter.Seq2[V, error]) error {
	for _, err := range seq {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestMuch: a call that writes much has longer than OpTimeout.
func TestMuch(t *testing.T) {
	t.Parallel()
	_, s, bus := alone(t)
	const timeout = 2 * time.Second // for each thing that an Append asks
	s.timeout = timeout
	over, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	s.committer.views.step = func(string) { <-over.Done() }
	storetest.Write(t, s, bus, identity(t, 0), storetest.Many(t, 300))
	s.timeout = time.Nanosecond
	storetest.Much(t, s)
}

// TestClosed: of a closed store nothing is answered, and nobody waits for it.
func TestClosed(t *testing.T) {
	t.Parallel()
	_, s, bus := alone(t)
	s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := s.Heads(ctx, bus.ID)
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Heads: %v", err)
	}
	if ok, err := s.HasAdmin(ctx); ok || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("HasAdmin: %v, %v", ok, err)
	}
	if ctx.Err() != nil {
		t.Error("the calls outlived OpTimeout")
	}
}
