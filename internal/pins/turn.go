package pins

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"

	"github.com/unibus/unibus/internal/crypto"
)

// turns is how many processes of one identity have their turn at once.
const turns = 8

// longWait is how long one waits for a turn before people are told.
const longWait = 3 * time.Second

// Turns are what the processes of one identity have when they do what is costly: locks beside the file, of which each has
// one at a time. Those that go to different buses have turns of their own (Of).
type Turns struct {
	path   string      // of the pins
	waited atomic.Bool // in vain, so that nobody waits again
}

// Of are the turns of those who go to a bus: whoever waits for servers that do not answer holds up nobody on the way to
// another bus. Those who do not know yet which one they go to share theirs.
func (t *Turns) Of(bus crypto.ID) *Turns {
	if bus.IsZero() {
		return t
	}
	return &Turns{path: t.path + "." + bus.String()[:8]}
}

// Take waits until only a few other processes of this identity have their turn, and returns what ends this one: a hundred
// that connect at once, on a small machine, would all be too slow for what any of them waits for. It waits for atMost and
// then goes ahead, as it does where files cannot be locked; whoever did that once waits no more. It calls waiting when
// it has waited for a while. The error is that of ctx.
func (t *Turns) Take(ctx context.Context, atMost time.Duration, waiting func()) (done func(), err error) {
	mine := rand.N(turns)
	for i := range turns {
		lock := t.lock((mine + i) % turns)
		if info, err := os.Lstat(lock.Path()); err == nil && !info.Mode().IsRegular() {
			return func() {}, nil
		}
		if got, err := lock.TryLock(); got || err != nil {
			return func() { _ = lock.Close() }, nil // which unlocks it
		}
		_ = lock.Close()
	}
	if t.waited.Load() {
		return func() {}, nil
	}
	long := time.AfterFunc(longWait, waiting)
	defer long.Stop()
	lock, got, gone := t.lock(mine), make(chan struct{}), make(chan struct{})
	go func() {
		_ = lock.Lock() // nothing ends this but its turn
		select {
		case got <- struct{}{}:
		case <-gone:
			_ = lock.Close()
		}
	}()
	over := time.NewTimer(atMost)
	defer over.Stop()
	select {
	case <-got:
		return func() { _ = lock.Close() }, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-over.C:
		t.waited.Store(true)
	}
	close(gone)
	return func() {}, err
}

// lock is the file that whoever has one of the turns holds locked, until it closes it or ends.
func (t *Turns) lock(n int) *flock.Flock {
	return flock.New(fmt.Sprintf("%s.turn%d", t.path, n), flock.SetPermissions(0o600))
}
