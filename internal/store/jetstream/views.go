package jetstream

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file applies views: it turns what package ledger says of an entry into records, and writes them. It judges
// nothing: of two records the one of the later entry stays.

// views are the records that say what the logs say.
type views struct {
	*buckets
	step func(string) // is told how far an Append has come, for tests that end the process there
}

// row is a record to be written.
type row struct {
	bucket *bucket
	key    string
	value  any
}

// rows writes view changes as records of the entry seq, that of the log's own record last.
func (w *views) rows(seq uint64, views []ledger.View) (changes []row, last row) {
	last = row{w.users, headKey, headRecord{seq}}
	var creator crypto.PublicKey // of the room, whose own view comes first
	for _, v := range views {
		switch v := v.(type) {
		case ledger.RoomView:
			creator = v.Creator
			last = row{w.rooms, roomKey(v.ID), roomRecord{v.Subject, v.Epoch, v.Policy, v.Archived, seq}}
		case ledger.EpochView:
			changes = append(changes, row{w.rooms, epochKey(v.Room, v.Epoch), epochRecord(v.Commit, v.By)})
		case ledger.MemberView:
			changes = append(changes, w.memberRows(v, memberRecord{v.Role, v.Endpoint == creator, seq})...)
		case ledger.UserView:
			changes = append(changes, row{w.users, v.Key.String(), userRecord{store.NewUserBody(&v.User), seq}})
		}
	}
	return changes, last
}

// memberRows are the records of a member: one by room and one by member.
func (w *views) memberRows(v ledger.MemberView, m memberRecord) []row {
	return []row{{w.members, memberKey(v.Room, v.Endpoint), m}, {w.roomsOf, roomsOfKey(v.Endpoint, v.Room), m}}
}

// encode writes a record: plain text for a name or a commitment, JSON for the others.
func (r row) encode() ([]byte, error) {
	if text, ok := r.value.(string); ok {
		return []byte(text), nil
	}
	return json.Marshal(r.value)
}

// lastRow is where it is kept up to which entry the views of a room's log are written.
func (w *views) lastRow(log crypto.ID) row { return row{bucket: w.rooms, key: roomKey(log)} }

// lastBusRow is lastRow for the bus log.
func (w *views) lastBusRow() row { return row{bucket: w.users, key: headKey} }

// current is the entry up to which the views of a log are written, of which last is the last.
func (w *views) current(ctx context.Context, last row) (uint64, error) {
	found, err := last.bucket.latest(ctx, last.key)
	return seqOf(found[last.key].value), err
}

// write writes the records of one entry, the log's own record last: whatever a later entry wrote stays. Names and keys of
// epochs never change, and are written when they are not there.
func (w *views) write(ctx context.Context, seq uint64, changes []row, last row) error {
	earlier := func(old record, value []byte) bool {
		if !bytes.HasPrefix(value, []byte("{")) { // never changes
			return !bytes.Equal(old.value, value)
		}
		return old.rev == 0 || seqOf(old.value) < seq
	}
	if err := w.replace(ctx, changes, anyReplica, earlier); err != nil {
		return err
	}
	return w.replace(ctx, []row{last}, anyReplica, earlier)
}

// due says whether a record is to be written, given the one that is there; that has no revision when there is none.
type due func(old record, value []byte) bool

// asOf says how current the look at what is there has to be.
type asOf int

const (
	anyReplica asOf = iota // an old answer makes no difference: it fails the condition of the write
	asOfNow
)

// replace writes the records that are due, each only over what it was due for, bucket by bucket.
func (w *views) replace(ctx context.Context, rows []row, seen asOf, due due) error {
	by := map[*bucket][]row{}
	for _, r := range rows {
		by[r.bucket] = append(by[r.bucket], r)
	}
	for i, b := range []*bucket{w.rooms, w.members, w.roomsOf, w.users} {
		if len(by[b]) == 0 {
			continue
		}
		for chunk := range slices.Chunk(by[b], maxKeys) {
			if err := replaceIn(ctx, b, chunk, seen, due); err != nil {
				return err
			}
		}
		w.step("viewed " + strconv.Itoa(i))
	}
	return nil
}

// replaceIn is replace for one bucket: it looks again at what others wrote meanwhile, until nothing is due.
func replaceIn(ctx context.Context, b *bucket, rows []row, seen asOf, due due) error {
	values := map[string][]byte{}
	var keys []string
	for _, r := range rows {
		value, err := r.encode()
		if err != nil {
			return err
		}
		values[r.key] = value
		keys = append(keys, r.key)
	}
	for len(keys) > 0 {
		found, err := b.lookAt(ctx, seen, keys)
		if err != nil {
			return err
		}
		seen = asOfNow // once more only when others have written
		var writes []write
		for _, key := range keys {
			if old := found[key]; due(old, values[key]) {
				writes = append(writes, write{key, values[key], int64(old.rev)})
			}
		}
		again, err := b.putMany(ctx, writes)
		if err != nil {
			return err
		}
		keys = keys[:0]
		for _, w := range again {
			keys = append(keys, w.key)
		}
	}
	return nil
}

// lookAt returns the records of keys, as current as they have to be.
func (b *bucket) lookAt(ctx context.Context, seen asOf, keys []string) (map[string]record, error) {
	if seen == asOfNow {
		return b.latest(ctx, keys...)
	}
	return b.at(ctx, 0, keys...)
}
