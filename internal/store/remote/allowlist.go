package remote

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file is store.Allowlist over the API. Whether somebody is active is decided here, by this machine's clock.

// allowlist is store.Allowlist.
type allowlist struct{ *client }

// User returns what the allowlist says of a key.
func (a *allowlist) User(ctx context.Context, endpoint crypto.PublicKey) (ledger.User, error) {
	var b store.UserBody
	err := a.call(ctx, "GET", "/users/"+endpoint.String(), nil, &b)
	return b.User(), err
}

// Users yields the users after a key, by key.
func (a *allowlist) Users(ctx context.Context, after crypto.PublicKey) iter.Seq2[ledger.User, error] {
	last := ""
	if after != (crypto.PublicKey{}) {
		last = after.String()
	}
	return pages(func() ([]ledger.User, error) {
		var page []store.UserBody
		err := a.call(ctx, "GET", "/users?after="+last, nil, &page)
		users := make([]ledger.User, len(page))
		for i, b := range page {
			users[i], last = b.User(), b.Key.String()
		}
		return users, err
	})
}

// IsAuthorized reports whether an endpoint is active on the allowlist.
func (a *allowlist) IsAuthorized(ctx context.Context, endpoint crypto.PublicKey) (bool, error) {
	u, err := a.User(ctx, endpoint)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil && u.ActiveAt(time.Now()), err
}

// HasAdmin reports whether the bus has an active admin. It goes through the users until it has met one.
func (a *allowlist) HasAdmin(ctx context.Context) (bool, error) {
	for u, err := range a.Users(ctx, crypto.PublicKey{}) {
		if err != nil {
			return false, err
		}
		if u.Role == ledger.RoleAdmin && u.ActiveAt(time.Now()) {
			return true, nil
		}
	}
	return false, nil
}
