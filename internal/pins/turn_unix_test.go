//go:build unix

package pins

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestTurnFiles: what is no file cannot be locked, and holds nobody up.
func TestTurnFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.db")
	p := open(t, path)
	for n := range turns {
		if err := syscall.Mkfifo(p.Turns.lock(n).Path(), 0o600); err != nil {
			t.Skip(err)
		}
	}
	end, err := p.Turns.Take(t.Context(), time.Hour, quiet)
	if err != nil {
		t.Fatal(err)
	}
	end()
}
