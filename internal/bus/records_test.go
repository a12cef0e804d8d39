package bus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// keptBucket is the folder of a server that has stopped, with a bucket of ten keys that were each written twice, and the
// file with its records.
func keptBucket(t *testing.T) (dir, file string) {
	t.Helper()
	o := serverOptions(t)
	s, js := startServer(t, o)
	bucket, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b"})
	for i := 0; err == nil && i < 20; i++ {
		_, err = bucket.Put(t.Context(), fmt.Sprint("k", i%10), fmt.Appendf(nil, "value-%02d", i))
	}
	if err == nil { // with a header, and nothing in it
		err = bucket.Delete(t.Context(), "k9")
	}
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(s.ns.StoreDir(), AccountStore, "streams", "KV_b", "msgs", "1.blk")
	s.Stop()
	return o.Dir, file
}

// TestLookAtKept: what a server would find of a bucket is told of before it is started: what is whole, and what it would
// hang over, or give up more for than is damaged.
func TestLookAtKept(t *testing.T) {
	dir, file := keptBucket(t)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// at is where the record of a value begins, whose subject is $KV.b.k0 to $KV.b.k9.
	at := func(value string) int { return bytes.Index(whole, []byte(value)) - len("$KV.b.k0") - recordHead }
	flip := func(at int) []byte {
		b := bytes.Clone(whole)
		b[at] ^= 1
		return b
	}
	length := func(at int, n uint32) []byte {
		b := bytes.Clone(whole)
		binary.LittleEndian.PutUint32(b[at:], n)
		return b
	}
	place := func(at int, n uint64) []byte {
		b := bytes.Clone(whole)
		binary.LittleEndian.PutUint64(b[at+4:], n)
		return b
	}
	for what, c := range map[string]struct {
		block []byte
		want  Kept
	}{
		"whole":                                {whole, Kept{10, false}},
		"a value is damaged":                   {flip(at("value-15") + recordHead + 10), Kept{9, false}},
		"what was overwritten is damaged":      {flip(at("value-05") + recordHead + 10), Kept{10, false}},
		"the last record is torn":              {whole[:len(whole)-3], Kept{10, false}}, // its key has another before
		"it ends between records":              {whole[:at("value-15")], Kept{10, false}},
		"nothing":                              {nil, Kept{0, false}},
		"a length that leads nowhere":          {length(at("value-15"), 1<<30), Kept{10, true}},
		"a length that is too small":           {length(at("value-15"), 3), Kept{10, true}},
		"a length into the next record":        {length(at("value-15"), 60), Kept{9, true}},
		"a place that cannot be":               {place(at("value-15"), 1<<40), Kept{9, true}},
		"a place of a record that was removed": {place(at("value-05"), erased|6), Kept{10, false}},
	} {
		t.Run(what, func(t *testing.T) {
			if err := os.WriteFile(file, c.block, 0o600); err != nil {
				t.Fatal(err)
			}
			if got, there, err := LookAtKept(t.Context(), dir, "KV_b"); got != c.want || !there || err != nil {
				t.Errorf("%+v instead of %+v, there: %v, %v", got, c.want, there, err)
			}
		})
	}
}

// TestNothingKept: a bucket without files is none, and files that cannot be read are not taken for none.
func TestNothingKept(t *testing.T) {
	dir := t.TempDir()
	msgs := filepath.Join(dir, "jetstream", AccountStore, "streams", "KV_b", "msgs")
	look := func() (bool, error) {
		_, there, err := LookAtKept(t.Context(), dir, "KV_b")
		return there, err
	}
	if there, err := look(); there || err != nil {
		t.Errorf("no folder: %v, %v", there, err)
	}
	if err := os.MkdirAll(msgs, 0o700); err != nil {
		t.Fatal(err)
	}
	if there, err := look(); there || err != nil {
		t.Errorf("no file: %v, %v", there, err)
	}
	if err := os.MkdirAll(filepath.Join(msgs, "1.blk"), 0o700); err != nil { // not a file
		t.Fatal(err)
	}
	if _, err := look(); err == nil {
		t.Error("what cannot be read is taken for something")
	}
	if err := os.Remove(filepath.Join(msgs, "1.blk")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(msgs, "index.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if there, err := look(); !there || err != nil {
		t.Errorf("an index alone: %v, %v", there, err)
	}
	if err := os.RemoveAll(msgs); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(msgs, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := look(); err == nil {
		t.Error("a folder that is none is taken for something")
	}
}

// TestLookGivesUp: a look at files ends with its context.
func TestLookGivesUp(t *testing.T) {
	dir, _ := keptBucket(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := LookAtKept(ended, dir, "KV_b"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestLacking: what was trimmed or removed between two looks at a stream is not missed, and what is gone is.
func TestLacking(t *testing.T) {
	state := func(first, last, msgs uint64, subjects int) server.StreamState {
		return server.StreamState{FirstSeq: first, LastSeq: last, Msgs: msgs, NumSubjects: subjects}
	}
	for what, c := range map[string]struct {
		name       string
		was, is    server.StreamState
		held, last uint64 // that the records hold
		want       uint64
	}{
		"a room, all":                {"UNIBUS_r", state(1, 9, 9, 1), state(1, 9, 9, 1), 9, 0, 0},
		"a room, more than was":      {"UNIBUS_r", state(1, 9, 9, 1), state(1, 12, 12, 1), 12, 0, 0},
		"a room, two gone":           {"UNIBUS_r", state(1, 9, 9, 1), state(1, 9, 9, 1), 7, 0, 2},
		"a room, two trimmed":        {"UNIBUS_r", state(1, 9, 9, 1), state(3, 9, 7, 1), 7, 0, 0},
		"a room, all trimmed":        {"UNIBUS_r", state(1, 9, 9, 1), state(20, 19, 0, 0), 0, 0, 0},
		"a bucket, all":              {"KV_b", state(1, 9, 5, 5), state(1, 9, 5, 5), 5, 9, 0},
		"a bucket, one key gone":     {"KV_b", state(1, 9, 5, 5), state(1, 9, 5, 5), 4, 9, 1},
		"a bucket, a key removed":    {"KV_b", state(1, 9, 5, 5), state(1, 9, 4, 4), 4, 9, 0},
		"a bucket, its end gone":     {"KV_b", state(1, 9, 5, 5), state(1, 9, 5, 5), 5, 8, 1},
		"copies of keys, an end too": {"KV_unibus_room_keys", state(1, 9, 5, 5), state(1, 9, 5, 5), 5, 8, 0},
	} {
		r := newRecords(c.name, c.was)
		r.held, r.last = c.held, c.last
		if got := r.lacking(c.is); got != c.want {
			t.Errorf("%s: lacks %d instead of %d", what, got, c.want)
		}
	}
	if both := (Lack{3, 1}).both(Lack{2, 5}); both != (Lack{2, 1}) {
		t.Errorf("both looks found %+v", both)
	}
}

// FuzzRecords: whatever a disk makes of a block, it is read to its end, and no more records are counted than fit it.
func FuzzRecords(f *testing.F) {
	record := make([]byte, recordHead+recordSum+4)
	binary.LittleEndian.PutUint32(record, uint32(len(record)))
	binary.LittleEndian.PutUint64(record[4:], 1)
	binary.LittleEndian.PutUint16(record[recordHead-2:], 4)
	torn := bytes.Clone(record)
	binary.LittleEndian.PutUint32(torn, 1<<30|withHeaders)
	for _, block := range [][]byte{nil, record, append(bytes.Clone(record), record...), torn, bytes.Repeat([]byte{0xff}, 100)} {
		f.Add(block)
	}
	f.Fuzz(func(t *testing.T, block []byte) {
		for _, name := range []string{"KV_b", "UNIBUS_r"} {
			r := newRecords(name, server.StreamState{FirstSeq: 1, LastSeq: 100})
			if err := r.read(block, "1"); err != nil {
				t.Fatal(err)
			}
			r.count()
			if n := uint64(len(block) / (recordHead + recordSum)); r.held+r.dead > n {
				t.Errorf("%s: %d and %d of %d", name, r.held, r.dead, n)
			}
		}
	})
}
