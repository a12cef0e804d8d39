package service

import (
	"fmt"
	"strings"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// TestInTurns: a log that grows without a pause holds up no other by more than one entry, each log's entries are
// done in their order, and what is left undone is done again.
func TestInTurns(t *testing.T) {
	notices := make(chan store.Notice, 100)
	for seq := range uint64(50) {
		notices <- store.Notice{Log: crypto.ID{1}, Seq: seq + 1}
	}
	notices <- store.Notice{Log: crypto.ID{2}, Seq: 1}
	notices <- store.Notice{Log: crypto.ID{2}, Seq: 2}
	var done []string
	inTurns(notices, func(n store.Notice, a attempt) bool {
		if a == again {
			done = append(done, "again")
			close(notices)
			return false
		}
		done = append(done, fmt.Sprintf("%d/%d", n.Log[0], n.Seq))
		return n.Log[0] == 2 && n.Seq == 1
	})
	if got := strings.Join(done[:5], " "); got != "1/1 2/1 1/2 2/2 1/3" {
		t.Errorf("done as %s", got)
	}
	if len(done) != 53 || done[51] != "1/50" || done[52] != "again" {
		t.Errorf("%d done, the last %v", len(done), done[max(0, len(done)-2):])
	}
}
