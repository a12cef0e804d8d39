package pins

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/gofrs/flock"
)

// turns is how many processes of one identity have their turn at once.
const turns = 8

// Turn waits until only a few other processes of this identity have their turn, and returns what ends this one: a hundred
// that connect at once, on a small machine, would all be too slow for what any of them waits for. It waits for atMost and
// then goes ahead, as it does where files cannot be locked. The error is that of ctx.
func (p *Pins) Turn(ctx context.Context, atMost time.Duration) (done func(), err error) {
	mine := rand.N(turns)
	for i := range turns {
		lock := p.turn((mine + i) % turns)
		if got, err := lock.TryLock(); got || err != nil {
			return func() { _ = lock.Close() }, nil // which unlocks it
		}
		_ = lock.Close()
	}
	lock, got, gone := p.turn(mine), make(chan struct{}), make(chan struct{})
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
	}
	close(gone)
	return func() {}, err
}

func (p *Pins) turn(n int) *flock.Flock {
	return flock.New(fmt.Sprintf("%s.turn%d", p.path, n), flock.SetPermissions(0o600))
}
