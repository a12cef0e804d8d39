package sqlite

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// This file is store.Allowlist: queries over the table users, which appending keeps as current as the bus log.

// allowlist is store.Allowlist.
type allowlist struct{ *database }

// userColumns reads a ledger.User.
const userColumns = `endpoint, name, role, active, expires, revoked, added, added_by FROM users`

// scanUser reads the columns of userColumns.
func scanUser(scan func(...any) error) (ledger.User, error) {
	var u ledger.User
	var expires, revoked, added int64
	err := scan(Blob(u.Key[:]), &u.Name, &u.Role, &u.Active, &expires, &revoked, &added, Blob(u.AddedBy[:]))
	u.Expires, u.Revoked, u.Added = fromMillis(expires), fromMillis(revoked), fromMillis(added)
	return u, err
}

// User returns what the allowlist says of a key.
func (a *allowlist) User(ctx context.Context, endpoint crypto.PublicKey) (ledger.User, error) {
	ctx, cancel := a.op(ctx)
	defer cancel()
	u, err := scanUser(a.read.QueryRowContext(ctx, `SELECT `+userColumns+` WHERE endpoint = ?`, endpoint[:]).Scan)
	if err != nil {
		return u, fmt.Errorf("user %s: %w", endpoint, failure(err))
	}
	return u, nil
}

// Users yields the users after a key, by key.
func (a *allowlist) Users(ctx context.Context, after crypto.PublicKey) iter.Seq2[ledger.User, error] {
	read := func(last []byte) ([]ledger.User, error) {
		ctx, cancel := a.op(ctx)
		defer cancel()
		return rows(ctx, a.read, scanUser, `SELECT `+userColumns+` WHERE endpoint > ? ORDER BY endpoint LIMIT ?`, last, page)
	}
	return pages(after[:], read, func(u ledger.User) []byte { return u.Key[:] })
}

// IsAuthorized reports whether an endpoint may connect now.
func (a *allowlist) IsAuthorized(ctx context.Context, endpoint crypto.PublicKey) (bool, error) {
	return a.allows(ctx, `SELECT EXISTS (SELECT 1 FROM users WHERE endpoint = ? AND active AND (expires = 0 OR expires > ?))`, endpoint[:], now())
}

// HasAdmin reports whether the bus has an active admin.
func (a *allowlist) HasAdmin(ctx context.Context) (bool, error) {
	return a.allows(ctx, `SELECT EXISTS (SELECT 1 FROM users WHERE role = 'admin' AND active AND (expires = 0 OR expires > ?))`, now())
}

// allows answers a query that returns one truth value. With an error it is false.
func (a *allowlist) allows(ctx context.Context, query string, args ...any) (bool, error) {
	yes, err := a.holds(ctx, query, args...)
	if err != nil {
		err = fmt.Errorf("allowlist: %w", err)
	}
	return yes, err
}

// now is the time as it is kept.
func now() int64 { return time.Now().UnixMilli() }
