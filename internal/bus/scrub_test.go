package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// scrubbed is a server with a stream and a bucket of 500 messages, of which the bucket holds the last of a hundred keys.
type scrubbed struct {
	*testing.T
	server *Server
	room   jetstream.Stream
}

func newScrubbed(t *testing.T) *scrubbed {
	t.Helper()
	s, js := startServer(t, serverOptions(t))
	room, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "UNIBUS_r", Subjects: []string{"s.>"}, MaxBytes: 64 << 10, Discard: jetstream.DiscardOld})
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		body := bytes.Repeat(fmt.Appendf(nil, "message-%04d ", i), 20)
		if _, err := js.Publish(t.Context(), "s.a", body); err != nil {
			t.Fatal(err)
		}
		if _, err := bucket.Put(t.Context(), fmt.Sprint("k", i%100), body); err != nil {
			t.Fatal(err)
		}
	}
	return &scrubbed{t, s, room}
}

// lacks checks what a look at the files finds.
func (s *scrubbed) lacks(name string, want Lack) {
	s.Helper()
	if got, err := s.server.Scrub(s.Context(), name); got[name] != want || err != nil {
		s.Errorf("%s lacks %+v, want %+v, %v", name, got[name], want, err)
	}
}

// find is the file of a stream that holds the last of what has a text, and where in it.
func (s *scrubbed) find(name, text string) (file string, content []byte, at int) {
	s.Helper()
	files, _ := filepath.Glob(filepath.Join(s.server.ns.StoreDir(), AccountStore, "streams", name, "msgs", "*.blk"))
	for _, file := range slices.Backward(files) {
		b, err := os.ReadFile(file)
		if err != nil {
			s.Fatal(err)
		}
		if at := bytes.LastIndex(b, []byte(text)); at >= 0 {
			return file, b, at
		}
	}
	s.Fatalf("%s is in no file of %q", text, strings.Join(files, " "))
	return "", nil, 0
}

// write writes a file.
func (s *scrubbed) write(file string, b []byte) {
	s.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		s.Fatal(err)
	}
}

// TestScrub: what a disk has damaged or lost of a stream is found in its files, though the server knows nothing of it; what
// was removed as it had to be is none of it.
func TestScrub(t *testing.T) {
	s := newScrubbed(t)
	if names, err := s.server.Streams(t.Context()); err != nil || !slices.Equal(names, []string{"KV_b", "UNIBUS_r"}) {
		t.Fatalf("%q, %v", names, err)
	}
	if keys, err := s.server.Keys(t.Context(), "KV_b", "KV_none"); err != nil || keys["KV_b"] != 100 || keys["KV_none"] != 0 {
		t.Fatalf("%v, %v", keys, err)
	}
	s.lacks("UNIBUS_r", Lack{})
	s.lacks("KV_b", Lack{})
	flip := func(b []byte, at int) []byte { b[at+3] ^= 1; return b }
	end := func(b []byte, at int) []byte { return b[:at] }
	for _, c := range []struct {
		what, stream, text string
		harm               func(b []byte, at int) []byte // to the file that holds the text, there
		want               Lack
	}{
		{"a message is damaged", "UNIBUS_r", "message-0490", flip, Lack{Held: 1}},
		{"the last ones are gone", "UNIBUS_r", "message-0490", end, Lack{Held: 10}},
		{"a key is damaged", "KV_b", "message-0490", flip, Lack{Held: 1}},
		{"the last keys are gone, one at least", "KV_b", "message-0490", end, Lack{Held: 1}},
		{"what was overwritten since is damaged", "KV_b", "message-0390", flip, Lack{Dead: 1}},
	} {
		t.Run(c.what, func(t *testing.T) {
			in := &scrubbed{t, s.server, s.room}
			file, whole, at := in.find(c.stream, c.text)
			in.write(file, c.harm(bytes.Clone(whole), at))
			in.lacks(c.stream, c.want)
			in.write(file, whole)
		})
	}
	if err := s.room.DeleteMsg(t.Context(), 490); err != nil {
		t.Fatal(err)
	}
	s.lacks("UNIBUS_r", Lack{})
	if lacking, err := s.server.Scrub(t.Context(), "UNIBUS_none"); err != nil || len(lacking) > 0 {
		t.Errorf("a stream that is not there lacks %v, %v", lacking, err)
	}
}

// TestHangs: a server that hangs over a record with a damaged length is found out, and called damaged.
func TestHangs(t *testing.T) {
	o := serverOptions(t)
	s, js := startServer(t, o)
	bucket, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b"})
	for i := 0; err == nil && i < 100; i++ {
		if _, err = bucket.Put(t.Context(), fmt.Sprint("k", i/10), []byte("value")); err == nil {
			_, err = bucket.Put(t.Context(), "barrier", nil)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.ns.StoreDir(), AccountStore, "streams", "KV_b", "msgs", "1.blk")
	s.Stop()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	key := bytes.LastIndex(b, []byte("$KV.b.k5"))
	barrier := key + bytes.Index(b[key:], []byte("$KV.b.barrier")) - recordHead
	b[barrier] ^= 0x10 // its length
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s, js = startServer(t, o)
	s.hangsAfter = time.Second
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if bucket, err = js.KeyValue(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	_, _ = bucket.Get(ctx, "k0") // its server reads the file, and gives up what is behind the record
	if _, err := js.Publish(ctx, "$KV.b.barrier", nil); err == nil {
		t.Fatal("the server does not hang over that any more: what else shows a server that hangs?")
	}
	if _, err := s.Streams(t.Context()); !errors.Is(err, ErrHangs) {
		t.Errorf("%v", err)
	}
}

// TestLookForHang: a record over which a server may hang is found in whichever stream it is, and others are not taken for
// one.
func TestLookForHang(t *testing.T) {
	o := serverOptions(t)
	if stream, err := LookForHang(t.Context(), o.Dir); stream != "" || err != nil {
		t.Errorf("in a new folder: %q, %v", stream, err)
	}
	s, js := startServer(t, o)
	for _, name := range []string{"KV_b", "UNIBUS_room"} {
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}})
		for i := 0; err == nil && i < 100; i++ {
			_, err = js.Publish(t.Context(), fmt.Sprint(name, ".k", i), []byte("value"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	store := s.ns.StoreDir()
	s.Stop()
	for _, name := range []string{"UNIBUS_room", "KV_b"} { // of two the bucket is told of
		file := filepath.Join(store, AccountStore, "streams", name, "msgs", "1.blk")
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if stream, err := LookForHang(t.Context(), o.Dir); stream == name || err != nil {
			t.Errorf("%s is whole: %q, %v", name, stream, err)
		}
		damaged := bytes.Clone(good)
		at := bytes.Index(damaged, []byte(name+".k50")) - recordHead
		damaged[at+4+6] ^= 1 // its place
		if err := os.WriteFile(file, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if stream, err := LookForHang(t.Context(), o.Dir); stream != name || err != nil {
			t.Errorf("%s is damaged: %q, %v", name, stream, err)
		}
	}
}
