package store

import (
	"errors"
	"fmt"
)

// The kinds of failure a caller can tell apart. Backends wrap them with particulars: nobody has to know what the
// driver of a database or NATS says.
var (
	// ErrNotFound says that what was asked for is not there.
	ErrNotFound = errors.New("not found")
	// ErrConflict says that somebody else wrote first: whoever looks again can try again.
	ErrConflict = errors.New("someone else wrote first")
	// ErrExists says that there is one already, and that it was left as it is.
	ErrExists = errors.New("already exists")
	// ErrDenied says that the caller may not do that. Only a service says so: a store knows no callers.
	ErrDenied = errors.New("not allowed")
	// ErrInvalid says that what was given makes no sense; the same again will not either.
	ErrInvalid = errors.New("not valid")
	// ErrUnavailable says that there was no answer that can be relied on: the same may succeed later.
	ErrUnavailable = errors.New("unavailable")
	// ErrIntegrity says that what was given is not what was signed, or not what was there before.
	ErrIntegrity = errors.New("integrity")
)

// Kinds within those kinds, for whoever can do something about them. They read like what they are a kind of.
var (
	// ErrDamaged is an ErrIntegrity of a store itself: it is damaged, or is not what was acknowledged.
	ErrDamaged = fmt.Errorf("%w", ErrIntegrity)
	// ErrLate is an ErrUnavailable: no answer came within the time that there is for one.
	ErrLate = fmt.Errorf("%w", ErrUnavailable)
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
