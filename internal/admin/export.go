package admin

import (
	"context"
	"fmt"
	"io"
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

// Export writes logs to a file, whole or not at all, the bus log first: an archive to be checked, without keys and
// cards. It fails with ErrExists rather than replace a file.
func Export(path string, logs []Log, now time.Time) error {
	return createFile(path, func(w io.Writer) error {
		return archiveTo(w, now, func(a *archiver) error {
			if err := a.begin(manifest{Bus: logs[0].ID, Logs: int64(len(logs)), Export: true}); err != nil {
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
			return nil
		})
	})
}

// Known returns the hashes of a log's entries that were verified before; ok is false for others.
type Known func(ctx context.Context, log crypto.ID) (hash func(seq uint64) (h [32]byte, ok bool), err error)

// VerifyArchive verifies an archive, of a backup or an export, with nothing else at hand: its checksum, every log by
// the rules, and each against what is known of it. It returns the logs as they end. ErrArchive when it is damaged or
// breaks a rule, ErrIntegrity when a log is another than the one that is known.
func VerifyArchive(ctx context.Context, path string, known Known) (logs []*ledger.State, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := foldArchive(ctx, f, new(manifest), func(s *ledger.State) { logs = append(logs, s) }); err != nil {
		return nil, err
	}
	for _, s := range logs {
		hash, err := known(ctx, s.ID)
		if err != nil {
			return logs, err
		}
		for seq := uint64(1); seq <= s.Head.Seq; seq++ {
			if h, ok := hash(seq); ok && !s.Has(ledger.Head{Seq: seq, Hash: h}) {
				return logs, fmt.Errorf("log %s: %w: its entry %d is another than the one that was verified before", s.ID, store.ErrIntegrity, seq)
			}
		}
	}
	return logs, nil
}
