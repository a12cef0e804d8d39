package service

import (
	"log/slog"
	"runtime"
	"time"

	"golang.org/x/time/rate"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/tasks"
)

// To look at a signature costs a tenth of a millisecond, and anyone on the network can ask for it: here is who has it looked
// at, and when.

const (
	loginRate     = 50                     // logins in a second, of one user from one address, or of all strangers there
	loginBurst    = 128                    // of them at once: a script may well start a hundred commands
	maxPace       = 500 * time.Millisecond // that one waits because of it
	maxPaces      = 16 << 10
	strangerRate  = 500 // signatures of strangers looked at in a second, wherever they come from
	strangerBurst = 500
)

// checkLimits bound whose signatures are looked at: half of the processors' time at most, in turns. Looking at
// one takes about a tenth of a millisecond.
var checkLimits = turnLimits{atOnce: max(1, runtime.GOMAXPROCS(0)/2), each: 1, inHand: 256, bytes: 4 << 20, allBytes: 32 << 20}

// strangerLimits bound about how many strangers the store is asked at a time.
var strangerLimits = turnLimits{atOnce: 4, each: 2, inHand: 64, bytes: 1 << 20, allBytes: 8 << 20}

// source is whose turn something takes: a user's from one address, or, with the zero key, that of all others
// there. One who asks again and again keeps neither others waiting, nor itself elsewhere.
type source struct {
	address string
	key     crypto.PublicKey
}

// verifier looks at the signatures of those who log in, or ask over HTTP, before anything is kept waiting for
// them or because of them: anyone can write anyone's name. Those who name a user of the bus have turns of their
// own, so that whoever makes up names only takes the little that is left for strangers; whoever names a user
// without being it costs as much as one look.
type verifier struct {
	roster    *roster
	paces     *rates[source]
	strangers *rate.Limiter
	checks    *pool[source]
	asks      *pool[string] // of the store about strangers who have proven who they are, by address
	now       func() time.Time
}

// newVerifier looks at signatures in goroutines of a group.
func newVerifier(r *roster, wait *tasks.Group, log *slog.Logger, now func() time.Time) *verifier {
	return &verifier{
		roster: r, now: now, paces: newRates[source](maxPaces, loginRate, loginBurst), strangers: rate.NewLimiter(strangerRate, strangerBurst),
		checks: newPool[source](wait.Go, guarded(log), checkLimits), asks: newPool[string](wait.Go, guarded(log), strangerLimits),
	}
}

// take calls check when it is the turn of those who say that they are from a source, or drop with the reason
// why it will not be. It never waits.
func (v *verifier) take(from source, size int, check func(), drop func(why string)) {
	offer := func() {
		if !v.checks.offer(from, size, check) {
			drop("login-busy")
		}
	}
	if v.roster.has(from.key, v.now()) {
		offer()
		return
	}
	from.key = crypto.PublicKey{}
	v.atPace(from, func() {
		if v.strangers.AllowN(v.now(), 1) {
			offer()
		} else {
			drop("login-fast")
		}
	}, drop)
}

// atPace calls f now, or a little later when more comes from a source than it may send; drop when that would be
// too late.
func (v *verifier) atPace(from source, f func(), drop func(why string)) {
	now := v.now()
	switch delay, ok := inTurn(v.paces.of(from), now, maxPace); {
	case !ok:
		drop("login-fast")
	case delay == 0:
		f()
	default:
		time.AfterFunc(delay, f)
	}
}
