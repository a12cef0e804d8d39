package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// This file is store.Staging: sealed copies are mostly put before the entry that names their key. Those that no entry
// names in the end are removed, by time or by whoever made them.

// staging is store.Staging.
type staging struct{ *database }

// HasCopy reports whether a copy is kept.
func (s *staging) HasCopy(ctx context.Context, of store.SealedCopy) (has bool, err error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	err = s.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM room_keys WHERE room = ? AND epoch = ? AND commitment = ? AND endpoint = ? AND sealer = ?)`,
		of.Room[:], of.Epoch, of.Commit[:], of.Endpoint[:], of.Sealer[:]).Scan(&has)
	if err != nil {
		return false, fmt.Errorf("look for a copy of a key: %w", failure(err))
	}
	return has, nil
}

// Unstage removes one sealer's copies of a key that no entry names.
func (s *staging) Unstage(ctx context.Context, room crypto.ID, epoch uint32, commit crypto.Hash, sealer crypto.PublicKey) error {
	ctx, cancel := s.op(ctx)
	defer cancel()
	if err := unstage(ctx, s.write, room, epoch, commit, sealer); err != nil {
		return fmt.Errorf("unstage keys: %w", failure(err))
	}
	return nil
}

// executor is a database, or a transaction on it.
type executor interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// unstage removes one sealer's copies of a key unless an entry names it.
func unstage(ctx context.Context, db executor, room crypto.ID, epoch uint32, commit crypto.Hash, sealer crypto.PublicKey) error {
	_, err := db.ExecContext(ctx, `DELETE FROM room_keys WHERE room = ?1 AND epoch = ?2 AND commitment = ?3 AND sealer = ?4
		AND NOT EXISTS (SELECT 1 FROM epochs WHERE room = ?1 AND epoch = ?2 AND commitment = ?3)`, room[:], epoch, commit[:], sealer[:])
	return err
}

// ExpireStaged removes what was staged before a time and no entry names.
func (s *staging) ExpireStaged(ctx context.Context, before time.Time) (removed int, err error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	r, err := s.write.ExecContext(ctx, `DELETE FROM room_keys WHERE staged_at > 0 AND staged_at < ? AND NOT EXISTS (
		SELECT 1 FROM epochs e WHERE e.room = room_keys.room AND e.epoch = room_keys.epoch AND e.commitment = room_keys.commitment)`, before.UnixMilli())
	var n int64
	if err == nil {
		n, err = r.RowsAffected()
	}
	if err != nil {
		return 0, fmt.Errorf("expire staged keys: %w", failure(err))
	}
	return int(n), nil
}
