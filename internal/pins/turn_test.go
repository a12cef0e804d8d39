package pins

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

func quiet() {}

// TestTurn: only so many have their turn at once; another waits, until one ends, it has waited long enough, or it is
// called off.
func TestTurn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.db")
	var done []func()
	for range turns {
		end, err := open(t, path).Turns.Take(t.Context(), 0, quiet)
		if err != nil {
			t.Fatal(err)
		}
		done = append(done, end)
	}
	p := open(t, path)
	off, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Turns.Take(off, time.Hour, quiet); !errors.Is(err, context.Canceled) {
		t.Errorf("called off: %v", err)
	}
	impatient := open(t, path)
	for _, atMost := range []time.Duration{time.Millisecond, time.Hour} { // once in vain is enough
		end, err := impatient.Turns.Take(t.Context(), atMost, quiet)
		if err != nil {
			t.Fatal(err)
		}
		end()
	}
	if end, err := p.Turns.Of(crypto.ID{1}).Take(off, time.Hour, quiet); err != nil {
		t.Errorf("of another bus, where nobody has a turn: %v", err)
	} else {
		end()
	}
	mine := make(chan error)
	go func() {
		end, err := p.Turns.Take(t.Context(), time.Hour, quiet)
		if err == nil {
			end()
		}
		mine <- err
	}()
	for _, end := range done {
		end()
	}
	if err := <-mine; err != nil {
		t.Errorf("when others had ended theirs: %v", err)
	}
}
