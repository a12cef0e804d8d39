package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// This file compares a store with the record of what was acknowledged (heads.go), and takes one for the other when a
// person has decided so.

// acknowledged is a store beside its record.
type acknowledged struct {
	*database
	heads *heads
}

// CheckHeads compares the store with the last entries that were acknowledged: ErrDamaged when it lacks one, or
// has another.
func (a *acknowledged) CheckHeads(ctx context.Context) error { return failure(a.check(ctx)) }

// check compares the store with the file: ErrDamaged when it lacks an entry that was acknowledged, or has another.
func (a *acknowledged) check(ctx context.Context) error {
	known, err := a.heads.reread()
	if err != nil {
		return err
	}
	for log, head := range known {
		var statement []byte
		err := a.read.QueryRowContext(ctx, `SELECT statement FROM entries WHERE log = ? AND seq = ?`, log[:], head.Seq).Scan(&statement)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("%w: it has lost entry %d of log %s, which was acknowledged (%s)", store.ErrDamaged, head.Seq, log, a.heads.path)
		}
		if err != nil {
			return err
		}
		if hash, err := crypto.HashStatement(statement); err != nil || hash != head.Hash {
			return fmt.Errorf("%w: entry %d of log %s is not the one that was acknowledged (%s)", store.ErrDamaged, head.Seq, log, a.heads.path)
		}
	}
	return nil
}

// Unrecorded counts the logs of which nothing says what was acknowledged: the record was lost, or its beginning.
func (a *acknowledged) Unrecorded(ctx context.Context) (n int, err error) {
	known, err := a.heads.reread()
	if err != nil {
		return 0, failure(err)
	}
	logs, err := rows(ctx, a.read, scanID, `SELECT DISTINCT log FROM entries`)
	for _, log := range logs {
		if _, ok := known[log]; !ok {
			n++
		}
	}
	return n, failure(err)
}

// ResetHeads takes what the store has for what was acknowledged, as a person has decided.
func (a *acknowledged) ResetHeads(ctx context.Context) error { return failure(a.reset(ctx)) }

// reset writes the record anew. Nothing of this process is recorded meanwhile: it would be lost.
func (a *acknowledged) reset(ctx context.Context) error {
	resume := a.heads.pause()
	defer resume()
	known, err := headsOf(ctx, a.read, `SELECT log, max(seq), statement FROM entries GROUP BY log`)
	if err != nil {
		return err
	}
	return a.heads.replace(known)
}
