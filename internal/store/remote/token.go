package remote

import (
	"sync"
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

// This file signs the tokens that requests carry, each for many requests: a signature for each would cost more than most
// answers. The service knows the caller by its token alone, also over NATS.

// tokenLife is how long an API token is valid; after half of it a new one is signed.
const tokenLife = time.Hour

// bearer signs an API token now and then (SPEC.md §3).
type bearer struct {
	identity *crypto.Identity
	bus      crypto.ID
	inbox    crypto.Inbox

	mu    sync.Mutex
	token string
	until time.Time
}

// at returns a token that is valid at a time, and for a while after.
func (b *bearer) at(now time.Time) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.token != "" && now.Before(b.until.Add(-tokenLife/2)) {
		return b.token, nil
	}
	t, err := b.identity.Token(crypto.Token{Use: crypto.UseAPI, Bus: &b.bus, From: now, Until: now.Add(tokenLife), Inbox: b.inbox})
	if err != nil {
		return "", err
	}
	b.token, b.until = t, now.Add(tokenLife)
	return t, nil
}
