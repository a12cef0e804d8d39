package jetstream

import (
	"bytes"
	"context"
	"errors"

	"strconv"
	"sync"
	"testing"
	"time"
)

// fill writes keys, side by side.
func fill(t *testing.T, b *bucket, value []byte, keys ...string) {
	t.Helper()
	var writes []write
	for _, key := range keys {
		writes = append(writes, write{key, value, anyRevision})
	}
	_, err := b.putMany(t.Context(), writes)
	must(t, err)
}

func names(prefix string, n int) (keys []string) {
	for i := range n {
		keys = append(keys, prefix+strconv.Itoa(i))
	}
	return keys
}

// TestScan: whoever goes through a bucket by pages, each from any of three servers, sees every key, however
// they move meanwhile, and those of no other pattern.
func TestScan(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	writer, reader := c.open(0, 0, 20*time.Second), c.open(2, 0, 20*time.Second)
	keys := names("k.", 3*pageRecords)
	fill(t, writer.members, []byte("v"), keys...)
	fill(t, writer.members, nil, names("", 10)...)
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	wait.Go(func() {
		for i := 0; ctx.Err() == nil; i++ { // from both ends
			for _, key := range []string{keys[i%len(keys)], keys[len(keys)-1-i%len(keys)]} {
				_, _ = writer.members.put(ctx, key, []byte("w"), anyRevision)
			}
		}
	})
	for range 5 {
		seen := map[string]bool{}
		must(t, reader.members.scan(t.Context(), "*.*", func(r record) error {
			seen[r.key] = true
			return nil
		}))
		if len(seen) != len(keys) {
			t.Fatalf("%d of %d keys were seen", len(seen), len(keys))
		}
	}
	found, err := reader.members.list(t.Context(), "k.*") // more than a server gives at once
	must(t, err)
	if len(found) != len(keys) {
		t.Errorf("%d of %d keys are listed", len(found), len(keys))
	}
	stop := errors.New("enough")
	if err := reader.members.scan(t.Context(), "k.*", func(record) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a scan that was stopped: %v", err)
	}
}

// TestLarge: records that together are more than a server gives at once all come.
func TestLarge(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	s := c.open(0, 0, 20*time.Second)
	value := bytes.Repeat([]byte("x"), 512<<10)
	keys := names("k.", 3*maxBytes/len(value))
	fill(t, s.members, value, keys...)
	found, err := s.members.latest(t.Context(), keys...)
	must(t, err)
	n := 0
	must(t, s.members.scan(t.Context(), "*.*", func(r record) error {
		if !bytes.Equal(r.value, value) {
			t.Errorf("%s comes back altered", r.key)
		}
		n++
		return nil
	}))
	if len(found) != len(keys) || n != len(keys) {
		t.Errorf("of %d keys %d were found, %d seen", len(keys), len(found), n)
	}
	if found, err = s.members.list(t.Context(), "k.*"); err != nil || len(found) != len(keys) {
		t.Errorf("%d of %d keys are listed, %v", len(found), len(keys), err)
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		key, pattern string
		want         bool
	}{
		{"a", "*", true}, {"a.b", "*", false}, {"a.1", "*.1", true}, {"a.11", "*.1", false}, {"a.b", "a.*", true}, {"b.b", "a.*", false}, {"a", "a.*", false},
		{"a", ">", true}, {"a.b.c", ">", true}, {"a.b.c", "a.>", true}, {"a", "a.>", false}, {"b.b", "a.>", false},
	} {
		if got := matches(c.key, c.pattern); got != c.want {
			t.Errorf("%s is %s: %v", c.key, c.pattern, got)
		}
	}
}
