package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// TestScrub: what a disk has damaged or lost of a stream is found in its files, though the server knows nothing of it; what
// was removed as it had to be is none of it.
func TestScrub(t *testing.T) {
	keys, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	s, err := StartServer(t.Context(), ServerOptions{Listen: "127.0.0.1:0", Dir: filepath.Join(t.TempDir(), "jetstream"), Keys: keys, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	js, err := jetstream.New(s.Links.Store)
	if err != nil {
		t.Fatal(err)
	}
	room, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "UNIBUS_r", Subjects: []string{"s.>"}, MaxBytes: 64 << 10, Discard: jetstream.DiscardOld})
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b"})
	if err != nil {
		t.Fatal(err)
	}
	body := func(i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "message-%04d ", i), 20) }
	for i := range 500 {
		if _, err := js.Publish(t.Context(), "s.a", body(i)); err != nil {
			t.Fatal(err)
		}
		if _, err := bucket.Put(t.Context(), fmt.Sprint("k", i%100), body(i)); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := s.Streams(t.Context()); err != nil || !slices.Contains(names, "KV_b") || !slices.Contains(names, "UNIBUS_r") {
		t.Fatalf("%q, %v", names, err)
	}
	lacks := func(name string, want Lack) {
		t.Helper()
		if got, err := s.Scrub(t.Context(), name); got[name] != want || err != nil {
			t.Errorf("%s lacks %+v, want %+v, %v", name, got[name], want, err)
		}
	}
	// change changes the file that holds the last of what has a text, and puts it back.
	change := func(name, text string, how func(b []byte, at int) []byte, want Lack) {
		t.Helper()
		files, _ := filepath.Glob(filepath.Join(s.ns.StoreDir(), AccountStore, "streams", name, "msgs", "*.blk"))
		for _, file := range slices.Backward(files) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			at := bytes.LastIndex(b, []byte(text))
			if at < 0 {
				continue
			}
			if err := os.WriteFile(file, how(bytes.Clone(b), at), 0o600); err != nil {
				t.Fatal(err)
			}
			lacks(name, want)
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			return
		}
		t.Fatalf("%s is in no file of %q", text, strings.Join(files, " "))
	}
	flip := func(b []byte, at int) []byte { b[at+3] ^= 1; return b }
	end := func(b []byte, at int) []byte { return b[:at] }
	lacks("UNIBUS_r", Lack{})
	lacks("KV_b", Lack{})
	change("UNIBUS_r", "message-0490", flip, Lack{Held: 1})
	change("UNIBUS_r", "message-0490", end, Lack{Held: 10})
	change("KV_b", "message-0490", flip, Lack{Held: 1})
	change("KV_b", "message-0490", end, Lack{Held: 1})  // at least
	change("KV_b", "message-0390", flip, Lack{Dead: 1}) // written again since
	if err := room.DeleteMsg(t.Context(), 490); err != nil {
		t.Fatal(err)
	}
	lacks("UNIBUS_r", Lack{})
}

// TestHangs: a server that hangs over a record with a damaged length is found out, and called damaged.
func TestHangs(t *testing.T) {
	was := hangs
	hangs = time.Second
	t.Cleanup(func() { hangs = was })
	keys, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "jetstream")
	start := func() (*Server, jetstream.JetStream) {
		s, err := StartServer(t.Context(), ServerOptions{Listen: "127.0.0.1:0", Dir: dir, Keys: keys, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		js, err := jetstream.New(s.Links.Store)
		if err != nil {
			t.Fatal(err)
		}
		return s, js
	}
	s, js := start()
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
	s, js = start()
	defer s.Stop()
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
