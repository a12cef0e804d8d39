package pins

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
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

// Offers are the entries that are kept, and those that were and have been settled since. One is kept at a time of each
// log; it is settled when its log's state is pinned with an entry at its place (logs.go).
type Offers struct{ db *database }

// Pending returns the entry that is kept for a log; nil for none.
func (f Offers) Pending(ctx context.Context, log crypto.ID) (*Offer, error) {
	var o Offer
	var at int64
	known, err := f.db.find(ctx, row{
		"offers", fmt.Sprintf("the entry kept for log %s", log),
		`SELECT seq, statement, at, epoch, key FROM intact_offers WHERE log = ?`, []any{log[:]},
	}, &o.Seq, &o.Statement, &at, &o.Epoch, &o.Key)
	if err != nil || !known {
		return nil, err
	}
	o.At = time.UnixMilli(at)
	return &o, nil
}

// Unanswered returns the last entry that this identity signed for a log, if whoever signed it does not know what came of
// it; nil for none.
func (f Offers) Unanswered(ctx context.Context, log crypto.ID) (*Offer, error) {
	if err := f.db.sound(ctx, f.db.file, "signed"); err != nil {
		return nil, err
	}
	var o Offer
	var at int64
	var answered bool
	err := f.db.file.QueryRowContext(ctx, `SELECT seq, statement, at, answered FROM intact_signed WHERE log = ? ORDER BY seq DESC LIMIT 1`, log[:]).Scan(&o.Seq, &o.Statement, &at, &answered)
	if errors.Is(err, sql.ErrNoRows) || err == nil && answered {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what was signed for log %s: %w", log, failure(err))
	}
	o.At = time.UnixMilli(at)
	return &o, nil
}

// MarkAnswered remembers that whoever signed an entry knows that it stands.
func (f Offers) MarkAnswered(ctx context.Context, log crypto.ID, seq uint64) error {
	if err := f.db.write(ctx, lax, `UPDATE signed SET answered = 1 WHERE log = ? AND seq = ?`, log[:], seq); err != nil {
		return fmt.Errorf("remember the answer for log %s: %w", log, err)
	}
	return nil
}

// maxSigned is how many of its own last entries of a log an identity remembers, in case that goes back.
const maxSigned = 64

// settleOffers offers no more what was offered for the places of a log up to one, and remembers it as signed.
func settleOffers(ctx context.Context, tx *sql.Tx, log crypto.ID, upTo uint64) error {
	for _, statement := range []string{
		`INSERT INTO signed (log, seq, statement, at, epoch, key, answered) SELECT *, 0 FROM intact_offers WHERE log = ?1 AND seq <= ?2
			ON CONFLICT DO UPDATE SET statement = excluded.statement, at = excluded.at, epoch = excluded.epoch, key = excluded.key, answered = 0`,
		`DELETE FROM offers WHERE log = ?1 AND seq <= ?2`,
		fmt.Sprintf(`DELETE FROM signed WHERE log = ?1 AND seq NOT IN (SELECT seq FROM signed WHERE log = ?1 ORDER BY seq DESC LIMIT %d)`, maxSigned),
	} {
		if _, err := tx.ExecContext(ctx, statement, log[:], upTo); err != nil {
			return err
		}
	}
	return nil
}

// Sign has an entry signed for a place of a log, and keeps it: sign is called only when no other is kept, and no
// verified one stands there, and what it returns is on the disk before anyone can have seen it. ErrTaken otherwise.
// One that was signed before to go on from where the log ends now, as in a log that went back since, is kept again, and
// is ErrTaken too: a place is signed for once.
func (f Offers) Sign(ctx context.Context, log crypto.ID, seq uint64, sign func() (Offer, error)) error {
	if err := f.trySign(ctx, log, seq, sign); err != nil {
		return fmt.Errorf("keep an entry for log %s: %w", log, failure(err))
	}
	return nil
}

// trySign does it in one transaction, so that no other process signs meanwhile.
func (f Offers) trySign(ctx context.Context, log crypto.ID, seq uint64, sign func() (Offer, error)) error {
	var taken bool
	err := f.db.change(ctx, durable, func(tx *sql.Tx) (err error) {
		if taken, err = f.taken(ctx, tx, log, seq); err != nil || taken {
			return err
		}
		o, err := sign()
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO offers (log, seq, statement, at, epoch, key) VALUES (?, ?, ?, ?, ?, ?)`,
			log[:], seq, o.Statement, o.At.UnixMilli(), o.Epoch, o.Key)
		return err
	})
	if err == nil && taken {
		return ErrTaken
	}
	return err
}

// taken reports whether nothing may be signed for a place: another entry is kept, a verified one stands there, or one was
// signed before, which is kept again.
func (f Offers) taken(ctx context.Context, tx *sql.Tx, log crypto.ID, seq uint64) (taken bool, err error) {
	for _, table := range []string{"offers", "signed"} {
		if err := f.db.absent(ctx, tx, table); err != nil {
			return false, err
		}
	}
	err = tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM intact_offers WHERE log = ?1) OR EXISTS (SELECT 1 FROM intact_logs WHERE log = ?1 AND seq >= ?2)`, log[:], seq).Scan(&taken)
	if err != nil || taken {
		return taken, err
	}
	return signedBefore(ctx, tx, log, seq)
}

// signedBefore offers again what was signed for a place before, if the log as it is pinned can go on with it.
func signedBefore(ctx context.Context, tx *sql.Tx, log crypto.ID, seq uint64) (again bool, err error) {
	var statement, snapshot []byte
	err = tx.QueryRowContext(ctx, `SELECT statement, snapshot FROM intact_signed AS s JOIN intact_logs AS l USING (log) WHERE log = ? AND s.seq = ?`, log[:], seq).Scan(&statement, &snapshot)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s, err := ledger.LoadSnapshot(snapshot)
	if err != nil {
		return false, err
	}
	if _, err := s.Check(statement); err != nil {
		return false, nil // it went on from another history
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO offers (log, seq, statement, at, epoch, key) SELECT log, seq, statement, at, epoch, key FROM intact_signed WHERE log = ? AND seq = ?`, log[:], seq)
	return err == nil, err
}
