package service

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// TestExpireStaged: a key that was staged stays for an hour, and goes with the first tick after it.
func TestExpireStaged(t *testing.T) {
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "bus.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	room, commit := crypto.ID{1}, crypto.RoomKey{1}.Commit(1)
	staged := func() []store.SealedKey {
		return []store.SealedKey{{Endpoint: crypto.PublicKey{1}, Sealed: []byte("sealed")}}
	}
	if err := s.PutKeys(t.Context(), room, 1, commit, crypto.PublicKey{2}, staged()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ticks, ended := make(chan time.Time), make(chan struct{})
	go func() {
		defer close(ended)
		expireStaged(ctx, s, slog.New(slog.DiscardHandler), ticks)
	}()
	other := []store.SealedKey{{Endpoint: crypto.PublicKey{1}, Sealed: []byte("other")}}
	now := time.Now()
	ticks <- now.Add(stagedFor - time.Minute)
	ticks <- now.Add(stagedFor - time.Minute) // the first is done with
	if err := s.PutKeys(t.Context(), room, 1, commit, crypto.PublicKey{2}, other); err == nil {
		t.Error("the key has gone within the hour")
	}
	ticks <- now.Add(stagedFor + time.Minute)
	ticks <- now
	if err := s.PutKeys(t.Context(), room, 1, commit, crypto.PublicKey{2}, other); err != nil {
		t.Errorf("the key is still there: %v", err)
	}
	cancel()
	<-ended
}
