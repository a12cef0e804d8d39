package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file is the world that checks happen in: a bus, its people, and how a broken promise is told.

// world is a founded bus with some people.
type world struct {
	Subject
	t   *testing.T
	ctx context.Context
	s   store.Store // as the admin
	bus *ledger.State

	promised string // what is being tried, as failures name it
}

// promise says which promise is tried from here on.
func (w *world) promise(promise string) { w.promised = promise }

// errorf says that the promise was broken, and goes on.
func (w *world) errorf(format string, args ...any) {
	w.t.Helper()
	w.t.Errorf("%s: broken: %s", w.promised, fmt.Sprintf(format, args...))
}

// fatalf says that the promise was broken, and ends the test.
func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s: broken: %s", w.promised, fmt.Sprintf(format, args...))
}

// newWorld founds the bus of a subject, or reads it.
func newWorld(t *testing.T, b Subject) *world {
	t.Helper()
	w := &world{Subject: b, t: t, ctx: t.Context(), s: b.As(b.Admin)}
	if b.Founded {
		w.promise("Log.Bus: the first entry of the bus log")
		founded, err := w.s.Bus(w.ctx)
		w.must(err)
		w.bus, err = ledger.Verify([][]byte{founded})
		w.must(err)
		return w
	}
	w.promise("Log.Bus: ErrNotFound before the bus is founded")
	_, err := w.s.Bus(w.ctx)
	w.is(err, store.ErrNotFound)
	w.promise("Allowlist.HasAdmin: not before the bus is founded")
	if ok, err := w.s.HasAdmin(w.ctx); ok || err != nil {
		w.fatalf("%v, %v", ok, err)
	}
	w.promise("Log.Append: an empty store takes the first entry of a bus")
	w.bus, err = store.Found(w.ctx, w.s, b.Admin, "admin", time.Now())
	w.must(err)
	return w
}

// must fails the test on an error.
func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.fatalf("%v", err)
	}
}

// is fails the test unless err is of a kind.
func (w *world) is(err, kind error) {
	w.t.Helper()
	if !errors.Is(err, kind) {
		w.fatalf("got %v, want %v", err, kind)
	}
}

// identity is a person, the same for the same number.
func identity(t *testing.T, n byte) *crypto.Identity {
	t.Helper()
	id, err := crypto.NewIdentity([32]byte{'s', 't', n})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// append writes the next entry of a log through the store as its author sees it.
func (w *world) append(s *ledger.State, by *crypto.Identity, body ledger.Body) error {
	w.t.Helper()
	return w.As(by).Append(w.ctx, Next(w.t, s, by, body))
}

// allow puts people on the allowlist.
func (w *world) allow(ids ...*crypto.Identity) {
	w.t.Helper()
	add := &ledger.Add{}
	for _, id := range ids {
		add.Users = append(add.Users, ledger.NewUser{Key: id.Key(), Name: "user-" + strings.ToLower(id.Key().String()[:8]), Role: ledger.RoleUser})
	}
	w.must(w.append(w.bus, w.Admin, add))
}

// room makes an encrypted room and stages its owner's key.
func (w *world) room(owner *crypto.Identity, subject string) (*ledger.State, crypto.RoomKey) {
	w.t.Helper()
	key := crypto.RoomKey{byte(len(subject)), 1}
	commit := key.Commit(1)
	s := new(ledger.State)
	create := &ledger.Create{Bus: w.bus.ID, Subject: subject, Policy: ledger.DefaultPolicy(), Nonce: []byte("0123456789abcdef"), Commit: &commit}
	statement, err := s.Next(owner, create, time.Now())
	w.must(err)
	id, _, _, err := ledger.Place(statement)
	w.must(err)
	w.must(w.As(owner).PutKeys(w.ctx, id, 1, commit, owner.Key(), []store.SealedKey{w.seal(key, id, 1, owner)}))
	c, err := Advance(s, statement)
	w.must(err)
	w.must(w.As(owner).Append(w.ctx, c))
	return s, key
}

// seal is a copy of a key for somebody.
func (w *world) seal(key crypto.RoomKey, room crypto.ID, epoch uint32, to *crypto.Identity) store.SealedKey {
	w.t.Helper()
	raw, err := to.Card()
	w.must(err)
	card, err := crypto.OpenCard(raw, to.Key())
	w.must(err)
	sealed, err := crypto.SealKey(key, room, epoch, to.Key(), card.Sealing)
	w.must(err)
	return store.SealedKey{Endpoint: to.Key(), Sealed: sealed}
}

// opens checks that the first of an endpoint's copies in the store opens to a key.
func (w *world) opens(id *crypto.Identity, room crypto.ID, epoch, want uint32, key crypto.RoomKey) {
	w.t.Helper()
	copies, err := w.As(id).Key(w.ctx, room, epoch, id.Key())
	w.must(err)
	got, err := id.OpenKey(copies[0].Sealed, room, want, key.Commit(want))
	if err != nil || got != key || copies[0].Endpoint != id.Key() {
		w.fatalf("asked for epoch %d: the key does not open: %v", epoch, err)
	}
}

// given checks whose copies of a key an endpoint is given, and in which order.
func (w *world) given(id *crypto.Identity, room crypto.ID, epoch uint32, sealers ...*crypto.Identity) {
	w.t.Helper()
	copies, err := w.As(id).Key(w.ctx, room, epoch, id.Key())
	w.must(err)
	var got, want []crypto.PublicKey
	for _, k := range copies {
		got = append(got, k.Sealer)
	}
	for _, sealer := range sealers {
		want = append(want, sealer.Key())
	}
	if !slices.Equal(got, want) {
		w.errorf("given copies by %v, want those by %v", got, want)
	}
}

// garbage is a copy that opens to nothing.
func garbage(of byte, to *crypto.Identity) []store.SealedKey {
	return []store.SealedKey{{Endpoint: to.Key(), Sealed: bytes.Repeat([]byte{of}, crypto.SealedSize)}}
}

// byKey are identities by their key.
func byKey(ids ...*crypto.Identity) []*crypto.Identity {
	slices.SortFunc(ids, func(a, b *crypto.Identity) int {
		x, y := a.Key(), b.Key()
		return bytes.Compare(x[:], y[:])
	})
	return ids
}
