package pins

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

// ErrTaken says that an entry cannot be signed for a place: this identity has signed another one for the log that is
// not settled yet, or a verified entry stands there already.
var ErrTaken = errors.New("the place is taken")

// Offer is an entry that this identity has signed, at any of its processes. It is kept until a verified entry stands
// at its place, its own or another's, and meanwhile no other is signed for the log: whoever could have two entries for
// one place could show each to someone else (SPEC.md §4).
type Offer struct {
	Seq       uint64
	Statement []byte
	At        time.Time // when it was signed, by this machine's clock

	// The key that its entry hands out, sealed for this identity, and its epoch; nil for none.
	Epoch uint32
	Key   []byte
}

// Offered returns the entry that is kept for a log; nil for none.
func (p *Pins) Offered(ctx context.Context, log crypto.ID) (*Offer, error) {
	var o Offer
	var at int64
	err := p.db.QueryRowContext(ctx, `SELECT seq, statement, at, epoch, key FROM offers WHERE log = ?`, log[:]).Scan(&o.Seq, &o.Statement, &at, &o.Epoch, &o.Key)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the entry kept for log %s: %w", log, err)
	}
	o.At = time.UnixMilli(at)
	return &o, nil
}

// Offer has an entry signed for a place of a log, and keeps it: sign is called only when no other is kept, and no
// verified one stands there, and what it returns is on the disk before anyone can have seen it. ErrTaken otherwise.
func (p *Pins) Offer(ctx context.Context, log crypto.ID, seq uint64, sign func() (Offer, error)) error {
	if err := p.offer(ctx, log, seq, sign); err != nil {
		return fmt.Errorf("keep an entry for log %s: %w", log, err)
	}
	return nil
}

func (p *Pins) offer(ctx context.Context, log crypto.ID, seq uint64, sign func() (Offer, error)) error {
	tx, err := p.db.BeginTx(ctx, nil) // immediate: one process at a time
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var taken bool
	err = tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM offers WHERE log = ?1) OR EXISTS (SELECT 1 FROM logs WHERE log = ?1 AND seq >= ?2)`, log[:], seq).Scan(&taken)
	if err != nil {
		return err
	}
	if taken {
		return ErrTaken
	}
	o, err := sign()
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO offers (log, seq, statement, at, epoch, key) VALUES (?, ?, ?, ?, ?, ?)`,
		log[:], seq, o.Statement, o.At.UnixMilli(), o.Epoch, o.Key)
	if err != nil {
		return err
	}
	return tx.Commit()
}
