package pins

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/unibus/unibus/internal/newfile"
)

// What was written last is in SQLite's write-ahead log, and one flipped bit there takes it back without a word. So how
// often anything was changed is written to a file beside the pins as well, after each change. Pins with fewer changes
// are damaged, or an older copy; with more, they were written to by a process that was killed in between.
const (
	changesSuffix = ".changes"
	changesSize   = 8 + 4 // the number, and its checksum
)

// changes is how often the file was changed, as it says itself.
func changes(ctx context.Context, in querier) (n uint64, err error) {
	if err := in.QueryRowContext(ctx, `SELECT sum(changes) FROM counts`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count the changes: %w", failure(err))
	}
	return n, nil
}

// readChanges is how often the pins at path were changed at least; 0 when nothing says.
func readChanges(path string) (n uint64, err error) {
	for range rereads {
		if n, err = readRecord(path); !errors.Is(err, ErrDamaged) {
			return n, err
		}
	}
	return n, err
}

// rereads is how often a record is read that looks damaged: another process may be writing it.
const rereads = 16

func readRecord(path string) (uint64, error) {
	f, err := os.Open(path + changesSuffix)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var record [changesSize]byte
	_, err = io.ReadFull(f, record[:])
	if err != nil || binary.BigEndian.Uint32(record[8:]) != crc32.ChecksumIEEE(record[:8]) {
		return 0, fmt.Errorf("%w: %s", ErrDamaged, path+changesSuffix)
	}
	return binary.BigEndian.Uint64(record[:]), nil
}

// note writes down how often the pins were changed by now, unless another process has written that it is more.
func (p *Pins) note(ctx context.Context, db *sql.DB) error {
	now, err := changes(context.WithoutCancel(ctx), db)
	if err != nil {
		return err
	}
	before, err := readChanges(p.path)
	if err != nil || before >= now {
		return err
	}
	record := binary.BigEndian.AppendUint64(nil, now)
	record = binary.BigEndian.AppendUint32(record, crc32.ChecksumIEEE(record))
	f, err := os.OpenFile(p.path+changesSuffix, os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return notKept(newfile.Replace(p.path+changesSuffix, record))
	}
	if err != nil {
		return notKept(err)
	}
	_, err = f.Write(record)
	if err == nil && db == p.db {
		err = f.Sync()
	}
	return notKept(errors.Join(err, f.Close()))
}

// write changes the file.
func (p *Pins) write(ctx context.Context, db *sql.DB, statement string, args ...any) error {
	if _, err := db.ExecContext(ctx, statement, args...); err != nil {
		return failure(err)
	}
	return p.note(ctx, db)
}

// commit ends a transaction that changes the file.
func (p *Pins) commit(ctx context.Context, tx *sql.Tx) error {
	if err := tx.Commit(); err != nil {
		return err
	}
	return p.note(ctx, p.db)
}
