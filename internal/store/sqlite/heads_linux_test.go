package sqlite

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// TestHeadsNotSynced: an entry that is written, and cannot be brought to a disk, is not acknowledged, however often it is
// offered.
func TestHeadsNotSynced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.db")
	if err := os.Symlink(os.DevNull, headsFile(path)); err != nil { // which takes all that is written, and has no disk
		t.Fatal(err)
	}
	h := newHeads(path)
	for range 2 {
		if err := h.record(crypto.ID{1}, ledger.Head{Seq: 1}); err == nil {
			t.Error("noted on no disk")
		}
	}
}
