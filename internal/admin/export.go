package admin

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// Log is a log as it was signed, entry by entry.
type Log struct {
	ID         crypto.ID
	Statements [][]byte
}

// Past is what a room has stored, up to a last place, to be read once.
type Past struct {
	Room   crypto.ID
	Last   uint64
	First  func() uint64 // the room's first place, as last told: it rises while a room is read that is trimmed
	Frames iter.Seq2[store.Frame, error]
}

// Export writes logs to a file, whole or not at all, the bus log first, and behind them what rooms among them have stored, if
// there is any: an archive to be checked, without keys and cards. Of the rooms it holds one frame at a time. It fails
// with ErrExists rather than replace a file.
func Export(path string, logs []Log, rooms []Past, now time.Time) error {
	return createFile(path, func(w io.Writer) error {
		return archiveTo(w, now, func(a *archiver) error {
			if err := a.begin(manifest{Bus: logs[0].ID, Logs: int64(len(logs)), Export: true, Frames: len(rooms) > 0}); err != nil {
				return err
			}
			for _, l := range logs {
				for n, statement := range l.Statements {
					i := item{entry: &store.Entry{Log: l.ID, Seq: uint64(n) + 1, Statement: statement}}
					if err := a.item(i); err != nil {
						return err
					}
				}
			}
			for _, room := range rooms {
				if err := a.past(room); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// past writes the frames of a room.
func (a *archiver) past(p Past) error {
	var next uint64 // the place that comes next; 0: none was written
	reaches := func(first uint64) error {
		next = first
		return a.item(item{places: &places{p.Room, first, p.Last}})
	}
	for f, err := range p.Frames {
		if err != nil {
			return err
		}
		if len(f.Data) > maxItem {
			return fmt.Errorf("room %s: %w: at place %d there are %d bytes, more than a frame has", p.Room, store.ErrIntegrity, f.Seq, len(f.Data))
		}
		if first := min(p.First(), f.Seq); next == 0 || f.Seq > next && first > next {
			if err := reaches(first); err != nil {
				return err
			}
		}
		if err := a.item(item{frame: &storedFrame{p.Room, f}}); err != nil {
			return err
		}
		next = f.Seq + 1
	}
	if first := min(p.First(), p.Last+1); next == 0 || first > next {
		return reaches(first)
	}
	return nil
}

// Known returns the hashes of a log's entries that were verified before; ok is false for others.
type Known func(ctx context.Context, log crypto.ID) (hash func(seq uint64) (h [32]byte, ok bool), err error)

// CheckedLog is a log of an archive, as it ends, and what was found of the room's frames; nil where there are none.
type CheckedLog struct {
	*ledger.State
	Frames *CheckedFrames
}

// VerifyArchive verifies an archive, of a backup or an export, with nothing else at hand: its checksum, every log by
// the rules, each against what is known of it, and every frame as far as that needs no key; tell is told what is wrong with
// frames, or missing. It returns the logs as they end. ErrArchive when the archive is damaged or breaks a rule, ErrIntegrity
// when a log is another than the one that is known. Frames of which something is wrong are no error, but counted.
func VerifyArchive(ctx context.Context, path string, known Known, now time.Time, tell func(Told)) (logs []CheckedLog, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var m manifest
	var audit *roomAudit
	at := map[crypto.ID]int{}
	over := func() {
		if audit != nil {
			found := audit.finish()
			logs[at[audit.state.ID]].Frames = &found
		}
	}
	_, err = visitArchive(ctx, f, &m, visitor{
		log: func(s *ledger.State) {
			at[s.ID] = len(logs)
			logs = append(logs, CheckedLog{State: s})
		},
		places: func(p *places) {
			if audit == nil || audit.state.ID != p.room {
				over()
				audit = newRoomAudit(logs[at[m.Bus]].Bus, logs[at[p.room]].State, earlier(m.Created, now), tell)
			}
			audit.reaches(p)
		},
		frame: func(f *storedFrame) { audit.take(f) },
	})
	if err != nil {
		return nil, err
	}
	over()
	for i, l := range logs {
		if m.Frames && l.Frames == nil && l.Room != nil && l.Room.Policy.Stored() {
			found := newRoomAudit(logs[at[m.Bus]].Bus, l.State, earlier(m.Created, now), tell).gone()
			logs[i].Frames = &found
		}
	}
	return logs, compareKnown(ctx, logs, known)
}

// earlier is the first of two times.
func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// compareKnown is ErrIntegrity when a log is another than the one that is known.
func compareKnown(ctx context.Context, logs []CheckedLog, known Known) error {
	for _, s := range logs {
		hash, err := known(ctx, s.ID)
		if err != nil {
			return err
		}
		for seq := uint64(1); seq <= s.Head.Seq; seq++ {
			if h, ok := hash(seq); ok && !s.Has(ledger.Head{Seq: seq, Hash: h}) {
				return fmt.Errorf("log %s: %w: its entry %d is another than the one that was verified before", s.ID, store.ErrIntegrity, seq)
			}
		}
	}
	return nil
}

// ReadLog is a log of an archive, from its first entry.
type ReadLog struct {
	*ledger.State
	Entries []*ledger.Entry
	Tenures []ledger.Tenure
}

// ReadArchive reads the logs of an archive, each verified as VerifyArchive does, and what people were called. Frames are
// not looked at, but the whole archive is read, and has to be as it was written.
func ReadArchive(ctx context.Context, path string) (logs []ReadLog, names *ledger.Names, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	names = &ledger.Names{}
	var one ReadLog
	var tenures ledger.Tenures
	_, err = visitArchive(ctx, f, new(manifest), visitor{
		entry: func(f *ledger.Fold, e *ledger.Entry) {
			one.Entries = append(one.Entries, e)
			tenures.Add(f, e)
			names.Add(e)
		},
		log: func(s *ledger.State) {
			one.State, one.Tenures = s, tenures.All()
			logs = append(logs, one)
			one, tenures = ReadLog{}, ledger.Tenures{}
		},
	})
	return logs, names, err
}
