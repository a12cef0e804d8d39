package unibus

import (
	"fmt"
	"iter"
	"time"

	"github.com/unibus/unibus/internal/remedy"
)

// A bus without an admin is one that nobody can mend. The ledger lets no entry take away the last admin, but it knows no
// clock: to it whoever's time is over is an admin like others. So what is to be kept beyond its rule is decided here, from the
// log as it is whenever an entry is made for it: an admin whose access does not end by itself, or, of a bus that has none, one
// who may connect.

// errLastAdmin refuses what nobody could mend, be it a revocation, another role or an end.
var errLastAdmin = fmt.Errorf("%w: the last admin has to stay: the bus would be left without one, now or when access ends by itself", ErrDenied)

// adminCount is how many admins there are.
type adminCount struct {
	present int // who may connect now
	lasting int // of those, whose access does not end by itself
}

// countAdmins counts the admins among users.
func countAdmins(users iter.Seq[*User]) (n adminCount) {
	now := time.Now()
	for u := range users {
		if u.Role != RoleAdmin || !u.ActiveAt(now) {
			continue
		}
		n.present++
		if u.Expires.IsZero() {
			n.lasting++
		}
	}
	return n
}

// keepsAdmin is errLastAdmin for a change that takes away the last admin whose access does not end by itself; or, where every
// admin's does already, the last who may connect now.
func keepsAdmin(before, after iter.Seq[*User]) error {
	was, is := countAdmins(before), countAdmins(after)
	lost := was.present > 0 && is.present == 0
	if was.lasting > 0 {
		lost = is.lasting == 0
	}
	if lost {
		return remedy.With(errLastAdmin, remedy.Remedy{Kind: remedy.NameAdmin})
	}
	return nil
}

// without are the users but for some.
func without(users iter.Seq[*User], keys []PublicKey) iter.Seq[*User] {
	gone := make(map[PublicKey]bool, len(keys)) // there may be thousands
	for _, key := range keys {
		gone[key] = true
	}
	return func(yield func(*User) bool) {
		for u := range users {
			if !gone[u.Key] && !yield(u) {
				return
			}
		}
	}
}

// changed are the users as they are after a change of each, which is made on a copy.
func changed(users iter.Seq[*User], change func(*User)) iter.Seq[*User] {
	return func(yield func(*User) bool) {
		for u := range users {
			as := *u
			if change(&as); !yield(&as) {
				return
			}
		}
	}
}
