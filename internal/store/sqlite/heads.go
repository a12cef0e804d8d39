package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/gofrs/flock"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/newfile"
	"github.com/unibus/unibus/internal/store"
)

// This file keeps a record of what was acknowledged. A database that lost its last commits, as by one flipped bit in its
// write-ahead log, opens without a word, and with it whoever was revoked since is back. So the last entry of every log is
// written to a file beside it as well, after the commit and before the answer. A store that is ahead of the record is
// fine: an entry was committed, and its writer not told. One that is behind it is not used (acknowledged.go).
//
// The file is records of one size, each with a checksum, one behind the other; of a log the last counts.
const (
	headRecord = 20 + 8 + 32 + 4 // log, seq, hash, and a checksum of these
	headsSlack = 1024            // records beyond two for each log, before the file is written anew
	headsLimit = 64 << 20        // bytes of a file that is read: a million logs
	headsName  = "heads."        // and the database's name
)

// heads is that file. Writing it takes a sync of the disk, so entries that are committed while it is being written are
// written together after that, as a batch. Batches take turns, those of several processes too (lock).
type heads struct {
	path string
	lock *flock.Flock

	writing sync.Mutex // held by whoever reads or writes the file
	records int        // in it

	mu    sync.Mutex
	known map[crypto.ID]ledger.Head // on the disk; changed only by whoever holds writing, too
	next  *batch                    // what is to be written next; nil: nothing waits
}

// batch are last entries of logs that go to the disk together, and what came of that.
type batch struct {
	heads map[crypto.ID]ledger.Head
	err   error
}

// headsFile is where the heads of the database at path are.
func headsFile(path string) string {
	return filepath.Join(filepath.Dir(path), headsName+filepath.Base(path))
}

// newHeads is the file beside the database at path. It reads nothing yet.
func newHeads(path string) *heads {
	file := headsFile(path)
	return &heads{path: file, lock: flock.New(file+".lock", flock.SetPermissions(0o600)), known: map[crypto.ID]ledger.Head{}}
}

// read reads the file. What was being written when the power failed is no record yet; a record that is damaged
// before others is an error, ErrDamaged. The caller holds writing and the lock.
func (h *heads) read() error {
	known, records := map[crypto.ID]ledger.Head{}, 0
	f, err := os.Open(h.path)
	if errors.Is(err, os.ErrNotExist) {
		h.set(known, records)
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
		records++
		if len(record) < headRecord || crc32.ChecksumIEEE(record[:headRecord-4]) != binary.BigEndian.Uint32(record[headRecord-4:]) {
			damaged = true
			continue
		}
		if damaged {
			return fmt.Errorf("%w: the record of the last entries, %s, at byte %d", store.ErrDamaged, h.path, (records-2)*headRecord)
		}
		advance(known, crypto.ID(record), ledger.Head{Seq: binary.BigEndian.Uint64(record[20:]), Hash: crypto.Hash(record[28:60])})
	}
	if len(known) == 0 { // it is made with a record in it
		return fmt.Errorf("%w: the record of the last entries, %s, holds none", store.ErrDamaged, h.path)
	}
	h.set(known, records)
	return nil
}

// set says what the file holds now.
func (h *heads) set(known map[crypto.ID]ledger.Head, records int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known, h.records = known, records
}

// advance replaces the head that is known of a log, unless it is further on.
func advance(known map[crypto.ID]ledger.Head, log crypto.ID, head ledger.Head) {
	if head.Seq >= known[log].Seq {
		known[log] = head
	}
}

// record adds a log's last entry, on the disk when it returns. Those that come while others are being written go
// together after these: however many wait, each waits for two writes at most.
func (h *heads) record(log crypto.ID, head ledger.Head) error {
	b := h.join(log, head)
	if b == nil {
		return nil
	}
	h.writing.Lock()
	defer h.writing.Unlock()
	if h.takeTurn(b) {
		b.err = h.write(b.heads)
	}
	return b.err
}

// join puts a log's last entry into the next batch; nil for an entry that is there already, offered again.
func (h *heads) join(log crypto.ID, head ledger.Head) *batch {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known[log].Seq >= head.Seq {
		return nil
	}
	if h.next == nil {
		h.next = &batch{heads: map[crypto.ID]ledger.Head{}}
	}
	advance(h.next.heads, log, head)
	return h.next
}

// takeTurn reports whether a batch is still to be written, by this caller then: nobody joins it any more. Else one who
// joined it has written it.
func (h *heads) takeTurn(b *batch) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.next != b {
		return false
	}
	h.next = nil
	return true
}

// write adds last entries to the file while no other process uses it, or writes it anew when most of it is records of
// entries that were not the last for long.
func (h *heads) write(news map[crypto.ID]ledger.Head) (err error) {
	if err := h.lock.Lock(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.lock.Unlock()) }()
	if h.records+len(news) <= 2*len(h.known)+headsSlack {
		return h.add(news)
	}
	if err := h.read(); err != nil { // others write too
		return err
	}
	known := maps.Clone(h.known)
	for log, head := range news {
		advance(known, log, head)
	}
	return h.rewrite(known)
}

// add writes records behind those that are there, over what was cut off when the power failed.
func (h *heads) add(news map[crypto.ID]ledger.Head) error {
	f, err := os.OpenFile(h.path, os.O_RDWR, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		known := maps.Clone(h.known)
		maps.Copy(known, news)
		return h.rewrite(known)
	}
	if err != nil {
		return err
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.WriteAt(encode(news), end-end%headRecord)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.Copy(h.known, news)
	h.records += len(news)
	return nil
}

// rewrite writes the file anew with what is known; without anything there is no file.
func (h *heads) rewrite(known map[crypto.ID]ledger.Head) error {
	if len(known) == 0 {
		h.set(known, 0)
		if err := os.Remove(h.path); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	if err := newfile.Replace(h.path, encode(known)); err != nil {
		return err
	}
	h.set(known, len(known))
	return nil
}

// encode writes records, in any order.
func encode(heads map[crypto.ID]ledger.Head) (data []byte) {
	for log, head := range heads {
		data = appendHead(data, log, head)
	}
	return data
}

// appendHead writes one record.
func appendHead(dst []byte, log crypto.ID, head ledger.Head) []byte {
	begin := len(dst)
	dst = append(dst, log[:]...)
	dst = binary.BigEndian.AppendUint64(dst, head.Seq)
	dst = append(dst, head.Hash[:]...)
	return binary.BigEndian.AppendUint32(dst, crc32.ChecksumIEEE(dst[begin:]))
}

// reread returns what the file holds now, read while no other process writes it.
func (h *heads) reread() (known map[crypto.ID]ledger.Head, err error) {
	h.writing.Lock()
	defer h.writing.Unlock()
	if err := h.lock.Lock(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.lock.Unlock()) }()
	if err := h.read(); err != nil {
		return nil, err
	}
	return maps.Clone(h.known), nil
}

// pause has this process record nothing until resume is called: what it would record waits.
func (h *heads) pause() (resume func()) {
	h.writing.Lock()
	return h.writing.Unlock
}

// replace writes the file anew with known, while no other process uses it. The caller has paused recording.
func (h *heads) replace(known map[crypto.ID]ledger.Head) (err error) {
	if err := h.lock.Lock(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.lock.Unlock()) }()
	return h.rewrite(known)
}

// Acknowledged is where the logs end that were acknowledged in the database at path, as the file beside it says.
func Acknowledged(path string) (map[crypto.ID]ledger.Head, error) {
	h := newHeads(path)
	err := h.read()
	return h.known, err
}

// MoveHeads takes along what is known of a database that was made at one path and is now at another. What was known
// of an earlier one there is forgotten.
func MoveHeads(from, to string) error { return os.Rename(headsFile(from), headsFile(to)) }
