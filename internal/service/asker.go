package service

import (
	"fmt"
	"strings"
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

// A request is in the turn of whoever signed its token, so that is looked at before anything else of the request. To verify
// a signature costs more than all the rest of it: a token is verified once and then known.

const (
	maxTokens = 4096 // verified tokens that are remembered
	ownRate   = 200  // tokens verified in a second, of one user, who need not have more than one an hour
	ownBurst  = 512
)

// asker is who signed a token, and where answers to it go.
type asker struct {
	key   crypto.PublicKey
	inbox crypto.Inbox
}

// askers knows who signed the tokens of requests, whether or not these are still of use: that the API itself checks.
// Tokens are remembered, and over NATS new ones are verified at a bounded rate.
type askers struct {
	tokens    *recent[string, asker]
	verifying *rates[string] // by user, or by inbox
	now       func() time.Time
}

// newAskers knows nobody yet.
func newAskers(now func() time.Time) *askers {
	return &askers{tokens: newRecent[string, asker](maxTokens), verifying: newRates[string](maxInboxes, ownRate, ownBurst), now: now}
}

// of is who signed the token of a request over NATS, that comes from a user or, where that is not known, over a
// connection; errBusy when too many of theirs were verified just now.
func (a *askers) of(authorization, from string) (asker, error) {
	bearer, err := bearerOf(authorization)
	if err != nil {
		return asker{}, err
	}
	if who, ok := a.tokens.get(bearer); ok {
		return who, nil
	}
	if !a.mayVerify(from, a.now()) {
		return asker{}, errBusy
	}
	return a.open(bearer)
}

// mayVerify reports whether one more token is verified now, of a user or, where that is not known, of a connection.
func (a *askers) mayVerify(from string, now time.Time) bool {
	return a.verifying.of(from).AllowN(now, 1)
}

// open verifies a token, and remembers it.
func (a *askers) open(bearer string) (asker, error) {
	t, err := crypto.DecodeToken(bearer)
	if err != nil {
		return asker{}, fmt.Errorf("%w: %v", errUnauthenticated, err)
	}
	who := asker{t.Key, t.Inbox}
	a.tokens.put(strings.Clone(bearer), who)
	return who, nil
}
