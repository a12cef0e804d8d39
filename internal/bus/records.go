package bus

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"hash/maphash"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/minio/highwayhash"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/unibus/unibus/internal/tasks"
)

// This file reads what a server has written of a stream, in the format of nats-server 2.15.2 (filestore.go
// rebuildStateFromBufLocked), and counts what is whole: blocks N.blk of records, each
//
//	u32 length, highest bit: with headers || u64 place || i64 time || u16 n || n bytes subject || … || u64 checksum
//
// with the checksum a HighwayHash of all but the lengths, under a key of the stream's name and the block's number.

const (
	recordHead  = 4 + 8 + 8 + 2
	recordSum   = 8
	withHeaders = 1 << 31
	erased      = 1 << 63 // in a place: the record stands for one that was removed
	tombstone   = 1 << 62 // likewise
)

// scan reads the files of a stream in a state.
func scan(ctx context.Context, rate int, dir, name string, was server.StreamState) (*records, error) {
	found := newRecords(name, was)
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, f := range files {
		number, isBlock := strings.CutSuffix(f.Name(), ".blk")
		if !isBlock {
			continue
		}
		block, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if errors.Is(err, fs.ErrNotExist) { // removed just now
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := found.read(block, number); err != nil {
			return nil, err
		}
		if err := tasks.Pause(ctx, time.Duration(len(block))*time.Second/time.Duration(rate)); err != nil {
			return nil, err
		}
	}
	found.count()
	return found, nil
}

// records are those of a stream that its files hold whole.
type records struct {
	name   string
	keys   bool               // it is a bucket
	was    server.StreamState // before they were read
	seed   maphash.Seed
	latest map[uint64]uint64 // of a bucket: the place of a key's last record, by a hash of the key; and whether it is broken
	held   uint64            // messages, or keys
	last   uint64            // of a bucket: the last place
	dead   uint64            // records that are not whole, and that nothing is to be read from any more
	place  uint64            // of the last record that was whole
	deadly bool              // one has a length that leads nowhere, with whole ones behind it, or a place that cannot be
}

// leap is by how much the place of a record may be above that of the one before, if the first is not whole.
const leap = 1 << 24

const broken = 1 << 63

func newRecords(name string, was server.StreamState) *records {
	return &records{name: name, keys: strings.HasPrefix(name, "KV_"), was: was, seed: maphash.MakeSeed(), latest: map[uint64]uint64{}}
}

// read reads the block of a number, as far as its lengths lead.
func (r *records) read(block []byte, number string) error {
	key := sha256.Sum256([]byte(r.name + "-" + number))
	sum, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		return err
	}
	for len(block) >= recordHead+recordSum {
		size, subject, text, fits := layout(block)
		if !fits {
			r.deadly = r.deadly || behind(sum, block)
			return nil
		}
		whole := isWhole(sum, block[:size], subject, text)
		if place := binary.LittleEndian.Uint64(block[4:]) &^ (erased | tombstone); whole {
			r.place = place
		} else if place > r.place+leap || behindLength(sum, block, size) {
			r.deadly = true
		}
		r.add(binary.LittleEndian.Uint64(block[4:]), block[recordHead:recordHead+subject], whole)
		block = block[size:]
	}
	return nil
}

// layout is the length of the record that a block begins with and of its subject, and where its headers or its text begin,
// by what it says of itself; fits, whether the block has as much, and the record room for them.
func layout(block []byte) (size, subject, text int, fits bool) {
	length := binary.LittleEndian.Uint32(block)
	size, subject = int(length&^withHeaders), int(binary.LittleEndian.Uint16(block[recordHead-2:]))
	text = recordHead + subject
	if length&withHeaders != 0 {
		text += 4 // the length of the headers
	}
	return size, subject, text, size <= len(block) && text <= size-recordSum
}

// isWhole reports whether a record has its checksum.
func isWhole(sum hash.Hash64, record []byte, subject, text int) bool {
	end := len(record) - recordSum
	sum.Reset()
	_, _ = sum.Write(record[4 : recordHead-2]) // a hash does not fail
	_, _ = sum.Write(record[recordHead : recordHead+subject])
	_, _ = sum.Write(record[text:end])
	return bytes.Equal(sum.Sum(nil), record[end:])
}

// behindLength reports whether the length of a record is wrong: none is whole where it says that the next one begins, and
// one is somewhere behind. The end of a block, torn as it may be when power fails, is not that.
func behindLength(sum hash.Hash64, block []byte, size int) bool {
	if wholeAt(sum, block, size) {
		return false
	}
	return behind(sum, block)
}

// behind reports whether a whole record begins anywhere behind the first in a block, within the largest there may be.
func behind(sum hash.Hash64, block []byte) bool {
	for at := recordHead + recordSum; at < min(len(block), maxRecord); at++ {
		if wholeAt(sum, block, at) {
			return true
		}
	}
	return false
}

// maxRecord is how far behind a record the next one begins at most that is looked for.
const maxRecord = 64 << 10

// wholeAt reports whether a whole record begins at a place in a block.
func wholeAt(sum hash.Hash64, block []byte, at int) bool {
	if at < 0 || at+recordHead+recordSum > len(block) {
		return false
	}
	block = block[at:]
	size, subject, text, fits := layout(block)
	return fits && isWhole(sum, block[:size], subject, text)
}

// add counts a record. A damaged one is dead, and missed by nobody, if it stands for a removal or is outside of what the stream
// still has. Of a bucket the key decides.
func (r *records) add(place uint64, subject []byte, whole bool) {
	switch {
	case place == 0, place&(erased|tombstone) != 0:
		if !whole {
			r.dead++
		}
	case !r.keys && place >= r.was.FirstSeq && place <= r.was.LastSeq:
		if whole {
			r.held++
		}
	case !r.keys:
		if !whole {
			r.dead++
		}
	default:
		r.addKey(maphash.Bytes(r.seed, subject), place, whole)
	}
}

// addKey takes note of a record of a key, of which only the last is ever read.
func (r *records) addKey(key, place uint64, whole bool) {
	before := r.latest[key]
	if place <= before&^broken {
		if !whole {
			r.dead++
		}
		return
	}
	if before&broken != 0 {
		r.dead++
	}
	if !whole {
		place |= broken
	}
	r.latest[key] = place
}

// count keeps of a bucket's keys how many there are.
func (r *records) count() {
	for _, place := range r.latest {
		if place&broken == 0 {
			r.held++
			r.last = max(r.last, place)
		}
	}
	r.latest = nil
}

// lacking is how much, at least, of a stream the records lack, which is in another state now.
func (r *records) lacking(is server.StreamState) uint64 {
	wanted := r.was.Msgs - min(r.was.Msgs, is.FirstSeq-min(is.FirstSeq, r.was.FirstSeq)) // less what was trimmed
	if r.keys {
		wanted = uint64(min(r.was.NumSubjects, is.NumSubjects))
		// Before what is missing its key had another value, which is still there. Only copies of keys that nobody used are
		// ever removed.
		if r.last < r.was.LastSeq && wanted <= r.held && r.name != "KV_unibus_room_keys" {
			wanted = r.held + 1
		}
	}
	return wanted - min(wanted, r.held)
}
