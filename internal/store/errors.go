package store

import (
	"errors"
	"fmt"
)

// The kinds of failure a caller can tell apart. Backends wrap them with particulars: nobody has to know what the
// driver of a database or NATS says.
var (
	ErrNotFound    = errors.New("not found")
	ErrConflict    = errors.New("someone else wrote first")
	ErrExists      = errors.New("already exists")
	ErrDenied      = errors.New("not allowed")
	ErrInvalid     = errors.New("not valid")
	ErrUnavailable = errors.New("unavailable")
	ErrIntegrity   = errors.New("integrity") // what was given is not what was signed, or was there before
)

// Kinds within those kinds, for whoever can do something about them. They read like what they are a kind of.
var (
	// ErrDamaged is an ErrIntegrity of a store itself: it is damaged, or is not what was acknowledged.
	ErrDamaged = fmt.Errorf("%w", ErrIntegrity)
	// ErrDamagedThere is an ErrIntegrity of the store behind a service, by the service's word.
	ErrDamagedThere = fmt.Errorf("%w", ErrIntegrity)
	// ErrShort is an ErrDamaged: a log ends before what was listed of it.
	ErrShort = fmt.Errorf("%w", ErrDamaged)
	// ErrElsewhere is an ErrExists: a store is empty, and beside it is another one that keeps a bus.
	ErrElsewhere = fmt.Errorf("%w", ErrExists)
)

// IsKind reports whether an error is one of the kinds above already.
func IsKind(err error) bool {
	for _, kind := range []error{ErrNotFound, ErrConflict, ErrExists, ErrDenied, ErrInvalid, ErrUnavailable, ErrIntegrity} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}
