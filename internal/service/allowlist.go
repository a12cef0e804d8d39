package service

import (
	"context"
	"fmt"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// allowlist says who may use the bus now. Two have to agree, each for what the other cannot: the store, which knows at
// once of what anybody has changed, and the bus log as this service has read and verified it, which a damaged record
// changes nothing in.
type allowlist struct {
	store store.Allowlist
	logs  *logs
	bus   crypto.ID
}

// listed asks the store whether somebody may use the bus now; ErrDenied if not.
func (a *allowlist) listed(ctx context.Context, key crypto.PublicKey) error {
	ok, err := a.store.IsAuthorized(ctx, key)
	if err == nil && !ok {
		err = refuse("%s is not on the allowlist", key)
	}
	return err
}

// user says what somebody is who may use the bus now, and asks the store once. ErrDenied for somebody whom the store does
// not list, ErrDamaged when the log says otherwise.
func (a *allowlist) user(ctx context.Context, key crypto.PublicKey, now time.Time) (standing, error) {
	if err := a.listed(ctx, key); err != nil {
		return standing{}, err
	}
	u, ok := a.logs.roster.get(key, now)
	if !ok { // by others, since the log was read last
		if _, err := a.logs.state(ctx, a.bus); err != nil {
			return standing{}, err
		}
		u, ok = a.logs.roster.get(key, now)
	}
	if !ok {
		return standing{}, fmt.Errorf("%w: the store lists %s as a user, and the bus log does not", store.ErrDamaged, key)
	}
	return u, nil
}

// refuse is an ErrDenied that says why.
func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", store.ErrDenied, fmt.Sprintf(format, args...))
}
