package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file writes views: each change as package ledger says it, in the transaction of its caller. Nothing is decided
// here of which change counts; that is the order in which entries are appended.

// apply writes one view change. ErrExists for a room whose subject another has.
func apply(ctx context.Context, tx *transaction, v ledger.View) error {
	switch v := v.(type) {
	case ledger.RoomView:
		return applyRoom(ctx, tx, v)
	case ledger.EpochView:
		return applyEpoch(ctx, tx, v)
	case ledger.MemberView:
		if v.Role == "" {
			_, err := tx.ExecContext(ctx, `DELETE FROM members WHERE room = ? AND endpoint = ?`, v.Room[:], v.Endpoint[:])
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO members (room, endpoint, role) VALUES (?, ?, ?)`, v.Room[:], v.Endpoint[:], v.Role)
		return err
	case ledger.UserView:
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO users (endpoint, name, role, active, expires, revoked, added, added_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			v.Key[:], v.Name, v.Role, v.Active, millis(v.Expires), millis(v.Revoked), millis(v.Added), v.AddedBy[:])
		return err
	}
	return fmt.Errorf("%w: unknown view %T", store.ErrInvalid, v)
}

// applyEpoch writes which key an epoch has. Its sealed copies are staged no more, and what losers of the race for the
// epoch staged is of no use to anyone.
func applyEpoch(ctx context.Context, tx *transaction, v ledger.EpochView) error {
	if _, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO epochs (room, epoch, commitment, author) VALUES (?, ?, ?, ?)`, v.Room[:], v.Epoch, v.Commit[:], v.By[:]); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM room_keys WHERE room = ? AND epoch = ? AND commitment <> ?`, v.Room[:], v.Epoch, v.Commit[:]); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `UPDATE room_keys SET staged_at = 0 WHERE room = ? AND epoch = ? AND commitment = ?`, v.Room[:], v.Epoch, v.Commit[:])
	return err
}

// applyRoom writes a room's record; its subject never changes.
func applyRoom(ctx context.Context, tx *transaction, v ledger.RoomView) error {
	policy, err := json.Marshal(v.Policy)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO rooms (id, subject, creator, epoch, policy, seq, archived) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET creator = excluded.creator, epoch = excluded.epoch, policy = excluded.policy,
		seq = excluded.seq, archived = excluded.archived`,
		v.ID[:], v.Subject, v.Creator[:], v.Epoch, string(policy), v.Seq, v.Archived)
	if err != nil {
		return asExists(ctx, tx, err, `SELECT 1 FROM rooms WHERE subject = ? AND id <> ?`, "a room with the subject "+v.Subject, v.Subject, v.ID[:])
	}
	return nil
}

// millis is a time as it is kept, 0 for none.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// fromMillis is a time as it was kept.
func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
