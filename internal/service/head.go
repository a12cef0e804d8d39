package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/newfile"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// A store in NATS servers may lose the end of the bus log with a damaged disk, and with it revocations; a file has what
// was acknowledged recorded beside it by the store itself. So a service notes in its data folder how far it has seen the
// bus log, and does not start with one that ends before that.
const (
	headFile  = "bus.head"
	headWait  = 2 * time.Second        // for a log that ends early to be read whole
	headAgain = 100 * time.Millisecond // others of several servers answer then
)

// ErrLostEnd is an ErrDamaged: the bus log does not go on from what a service has noted of it in SeenFile. It is served
// again when that is there again, or when somebody has removed what was noted.
var ErrLostEnd = fmt.Errorf("%w", store.ErrDamaged)

// SeenFile is where a service with the data folder dir notes how far it has seen the bus log, unless the store does.
func SeenFile(dir string) string { return filepath.Join(dir, headFile) }

// seen is how far a service has seen the bus log.
type seen struct {
	file     string // empty: nothing is noted
	bus      crypto.ID
	recorded bool // something was, when the service started

	writing sync.Mutex // or an earlier place would be written over a later one
}

// seenHead is what the file holds: a place in the log of one bus.
type seenHead struct {
	Bus  crypto.ID   `json:"bus"`
	Seq  uint64      `json:"seq"`
	Hash crypto.Hash `json:"hash"`
}

// newSeen notes nothing where the store itself records what was acknowledged, or where there is no data folder.
func newSeen(o Options, bus crypto.ID) *seen {
	s := &seen{bus: bus}
	if _, ok := o.Store.(fileStore); !ok && o.Dir != "" {
		s.file = SeenFile(o.Dir)
	}
	return s
}

// read is what was noted; zero for nothing, or of another bus.
func (s *seen) read() (h seenHead, err error) {
	if s.file == "" {
		return h, nil
	}
	text, err := os.ReadFile(s.file)
	if errors.Is(err, os.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return h, err
	}
	if body, ok := withoutSum(text); !ok || json.Unmarshal(body, &h) != nil {
		return h, fmt.Errorf("how far the bus log was seen: %w: %s is damaged; without it that begins anew", store.ErrDamaged, s.file)
	}
	if h.Bus != s.bus {
		return seenHead{}, nil
	}
	return h, nil
}

// check makes sure that the bus log goes on from what was noted, ErrLostEnd else, and notes how far it goes. One that ends
// before may be read from a server that lags: it is read again for a while.
func (s *seen) check(ctx context.Context, logs *logs) error {
	was, err := s.read()
	if err != nil {
		return err
	}
	s.recorded = was.Seq > 0
	for began := time.Now(); ; {
		log, err := logs.state(ctx, s.bus)
		if err != nil {
			return err
		}
		head := log.Head
		switch {
		case was.Seq == 0 || log.Has(ledger.Head{Seq: was.Seq, Hash: was.Hash}):
			return s.record(head)
		case head.Seq >= was.Seq || time.Since(began) > headWait:
			return fmt.Errorf("the bus log: %w: it ends at entry %d (%x), and this service has seen it up to %d (%x)",
				ErrLostEnd, head.Seq, head.Hash[:8], was.Seq, was.Hash[:8])
		}
		if err := tasks.Pause(ctx, headAgain); err != nil {
			return err
		}
	}
}

// hasLast makes sure that the store has the last entry that was noted; ErrLostEnd when none of several servers has it.
func (s *seen) hasLast(ctx context.Context, from store.Log) error {
	was, err := s.read()
	if err != nil || was.Seq == 0 {
		return err
	}
	for began := time.Now(); time.Since(began) < headWait; {
		for e, err := range from.Entries(ctx, s.bus, was.Seq-1) {
			if err != nil {
				return err
			}
			if hash, err := crypto.HashStatement(e.Statement); err == nil && e.Seq == was.Seq && hash == was.Hash {
				return nil
			}
			break
		}
		if err := tasks.Pause(ctx, headAgain); err != nil {
			return err
		}
	}
	return fmt.Errorf("the bus log: %w: it was seen up to entry %d (%x), which is not there any more", ErrLostEnd, was.Seq, was.Hash[:8])
}

// note is a noted that also has others note how much there is; nil: nobody does.
func (s *seen) note(others func(context.Context) error) noted {
	return func(ctx context.Context, log crypto.ID, head ledger.Head) error {
		if log == s.bus {
			if err := s.record(head); err != nil {
				return fmt.Errorf("%w: how far the bus log goes is not noted: %w", store.ErrUnavailable, err)
			}
		}
		if others == nil {
			return nil
		}
		return others(ctx)
	}
}

// record writes down how far the bus log goes, and returns when that is on the disk.
func (s *seen) record(head ledger.Head) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	was, err := s.read()
	if s.file == "" || err != nil || was.Seq >= head.Seq {
		return err
	}
	body, err := json.Marshal(seenHead{s.bus, head.Seq, head.Hash})
	if err != nil {
		return err
	}
	return newfile.Replace(s.file, withSum(body))
}
