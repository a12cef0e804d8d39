package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/gofrs/flock"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// A database that lost its last commits, as by one flipped bit in its write-ahead log, opens without a word, and
// with it whoever was revoked since is back. So the last entry of every log is written to a file beside it as well,
// after the commit and before the answer. A store that is ahead of the file is fine; one that is behind it is not
// used.
const (
	headRecord = 20 + 8 + 32 + 4 // log, seq, hash, and a checksum of these
	headsSlack = 1024            // records beyond two for each log, before the file is written anew
	headsLimit = 64 << 20        // bytes of a file that is read: a million logs
	headsName  = "heads."        // and the database's name
)

// heads is that file. Processes take turns at it.
type heads struct {
	path string
	lock *flock.Flock

	mu      sync.Mutex
	known   map[crypto.ID]ledger.Head
	records int
}

// headsFile is where the heads of the database at path are.
func headsFile(path string) string {
	return filepath.Join(filepath.Dir(path), headsName+filepath.Base(path))
}

func newHeads(path string) *heads {
	file := headsFile(path)
	return &heads{path: file, lock: flock.New(file+".lock", flock.SetPermissions(0o600)), known: map[crypto.ID]ledger.Head{}}
}

// read reads the file. What was being written when the power failed is no record yet; a record that is damaged
// before others is an error, ErrIntegrity.
func (h *heads) read() error {
	h.known, h.records = map[crypto.ID]ledger.Head{}, 0
	f, err := os.Open(h.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, headsLimit))
	if err != nil {
		return err
	}
	damaged := false
	for record := range slices.Chunk(data, headRecord) {
		h.records++
		if len(record) < headRecord || crc32.ChecksumIEEE(record[:headRecord-4]) != binary.BigEndian.Uint32(record[headRecord-4:]) {
			damaged = true
			continue
		}
		if damaged {
			return fmt.Errorf("%w: the record of the last entries, %s, at byte %d", store.ErrIntegrity, h.path, (h.records-2)*headRecord)
		}
		log, seq := crypto.ID(record), binary.BigEndian.Uint64(record[20:])
		if seq >= h.known[log].Seq {
			h.known[log] = ledger.Head{Seq: seq, Hash: crypto.Hash(record[28:60])}
		}
	}
	return nil
}

// note adds a log's last entry, on the disk when it returns.
func (h *heads) note(log crypto.ID, head ledger.Head) (err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known[log].Seq >= head.Seq { // an entry that is there already, offered again
		return nil
	}
	if err := h.lock.Lock(); err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, h.lock.Unlock()); err != nil {
			delete(h.known, log) // it may not be there
		}
	}()
	h.known[log] = head
	if h.records++; h.records > 2*len(h.known)+headsSlack {
		if err := h.read(); err != nil { // others write too
			return err
		}
		if head.Seq > h.known[log].Seq {
			h.known[log] = head
		}
		return h.rewrite()
	}
	f, err := os.OpenFile(h.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err == nil { // over what was cut off when the power failed
		_, err = f.WriteAt(appendHead(nil, log, head), end-end%headRecord)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// rewrite writes the file anew with what is known. The lock is held.
func (h *heads) rewrite() error {
	var data []byte
	for log, head := range h.known {
		data = appendHead(data, log, head)
	}
	h.records = len(h.known)
	f, err := os.CreateTemp(filepath.Dir(h.path), ".unibus-heads-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), h.path)
}

func appendHead(dst []byte, log crypto.ID, head ledger.Head) []byte {
	begin := len(dst)
	dst = append(dst, log[:]...)
	dst = binary.BigEndian.AppendUint64(dst, head.Seq)
	dst = append(dst, head.Hash[:]...)
	return binary.BigEndian.AppendUint32(dst, crc32.ChecksumIEEE(dst[begin:]))
}

// check compares the store with the file: ErrIntegrity when it lacks an entry that was acknowledged, or has another.
func (h *heads) check(ctx context.Context, db *sql.DB) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.locked(h.read); err != nil {
		return err
	}
	for log, head := range h.known {
		var statement []byte
		err := db.QueryRowContext(ctx, `SELECT statement FROM entries WHERE log = ? AND seq = ?`, log[:], head.Seq).Scan(&statement)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("%w: it has lost entry %d of log %s, which was acknowledged (%s)", store.ErrIntegrity, head.Seq, log, h.path)
		}
		if err != nil {
			return err
		}
		if hash, err := crypto.HashStatement(statement); err != nil || hash != head.Hash {
			return fmt.Errorf("%w: entry %d of log %s is not the one that was acknowledged (%s)", store.ErrIntegrity, head.Seq, log, h.path)
		}
	}
	return nil
}

// reset writes the file anew with what the store has, as a person has decided.
func (h *heads) reset(ctx context.Context, db *sql.DB) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	type last struct {
		log  crypto.ID
		head ledger.Head
	}
	all, err := rows(ctx, db, func(scan func(...any) error) (l last, err error) {
		var log, statement []byte
		if err = scan(&log, &l.head.Seq, &statement); err == nil {
			l.log = crypto.ID(log)
			l.head.Hash, err = crypto.HashStatement(statement)
		}
		return l, err
	}, `SELECT log, max(seq), statement FROM entries GROUP BY log`)
	if err != nil {
		return err
	}
	return h.locked(func() error {
		h.known = map[crypto.ID]ledger.Head{}
		for _, l := range all {
			h.known[l.log] = l.head
		}
		return h.rewrite()
	})
}

// locked runs f while no other process is at the file.
func (h *heads) locked(f func() error) (err error) {
	if err := h.lock.Lock(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.lock.Unlock()) }()
	return f()
}

// MoveHeads takes along what is known of a database that was made at one path and is now at another. What was known
// of an earlier one there is forgotten.
func MoveHeads(from, to string) error { return os.Rename(headsFile(from), headsFile(to)) }
