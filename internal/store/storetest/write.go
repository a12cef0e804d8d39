package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file writes entries, for tests that follow a log by one state.

// Advance has state say what it does once a statement stands, for tests that follow a log by one variable.
func Advance(state *ledger.State, statement []byte) (store.Change, error) {
	fold := state.Fold()
	c, err := store.Advance(fold, statement)
	if err == nil {
		*state = *fold.State()
	}
	return c, err
}

// Next is the next entry of a log, by someone, to be appended; the state is advanced by it.
func Next(t testing.TB, state *ledger.State, by *crypto.Identity, body ledger.Body) store.Change {
	t.Helper()
	statement, err := state.Next(by, body, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c, err := Advance(state, statement)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Write appends the next entry of a log, by someone.
func Write(t testing.TB, s store.Store, state *ledger.State, by *crypto.Identity, body ledger.Body) {
	t.Helper()
	if err := s.Append(t.Context(), Next(t, state, by, body)); err != nil {
		t.Fatal(err)
	}
}

// Much puts as many sealed keys and cards, in a call each, as take a while, into a store whose OpTimeout is as good as over:
// they have as long as store.Within says.
func Much(t testing.TB, s store.Backend) {
	t.Helper()
	keys, cards := make([]store.SealedKey, 300), make([]store.Card, 300)
	for i := range keys {
		endpoint := crypto.PublicKey{byte(i), byte(i >> 8)}
		keys[i] = store.SealedKey{Endpoint: endpoint, Sealed: []byte{1}}
		cards[i] = store.Card{Endpoint: endpoint, Statement: []byte{1}}
	}
	if err := s.CopyKeys(t.Context(), crypto.ID{9}, 1, crypto.Hash{9}, keys); err != nil {
		t.Errorf("CopyKeys of %d: %v", len(keys), err)
	}
	if err := s.PutCards(t.Context(), cards...); err != nil {
		t.Errorf("PutCards of %d: %v", len(cards), err)
	}
}

// Many lets in so many users.
func Many(t testing.TB, n int) *ledger.Add {
	t.Helper()
	add := &ledger.Add{}
	for i := range n {
		id, err := crypto.NewIdentity([32]byte{'p', byte(i), byte(i >> 8)})
		if err != nil {
			t.Fatal(err)
		}
		add.Users = append(add.Users, ledger.NewUser{Key: id.Key(), Name: fmt.Sprint("p", i), Role: ledger.RoleUser})
	}
	return add
}

// CardOf returns the card of one endpoint; ErrNotFound when it is not known.
func CardOf(ctx context.Context, s store.Keyring, endpoint crypto.PublicKey) (store.Card, error) {
	cards, err := s.Cards(ctx, endpoint)
	if err == nil && len(cards) == 0 {
		err = fmt.Errorf("card of %s: %w", endpoint, store.ErrNotFound)
	}
	if err != nil {
		return store.Card{}, err
	}
	return cards[0], nil
}
