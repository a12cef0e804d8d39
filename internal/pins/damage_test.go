package pins

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store/storetest"
)

// TestDamaged: what is remembered is not believed when it is damaged, and nobody else is blamed for it.
func TestDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.db")
	p := open(t, path)
	s := states(t, "bob")
	if err := p.Logs.Advance(t.Context(), s[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := p.db.file.Exec(`DROP TRIGGER logs_updated; UPDATE logs SET snapshot = CAST(substr(snapshot, 1, 40) || x'ff' || substr(snapshot, 42) AS BLOB)`); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Logs.State(t.Context(), s[0].ID); !errors.Is(err, ErrDamaged) {
		t.Errorf("read: %v", err)
	}
	if err := p.Logs.Advance(t.Context(), s[1]); !errors.Is(err, ErrDamaged) {
		t.Errorf("pinned over: %v", err)
	}
	bad := filepath.Join(t.TempDir(), "pins.db")
	if err := os.WriteFile(bad, bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), bad); !errors.Is(err, ErrDamaged) {
		t.Errorf("opened: %v", err)
	}
}

// TestFlipped: with any bit of the file flipped, what is remembered is read, or the file is damaged; nothing else comes
// of it.
func TestFlipped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.db")
	p := open(t, path)
	s := states(t, "bob", "carol")
	log, key := s[0].ID, crypto.PublicKey{1}
	sign := func(seq uint64) func() (Offer, error) {
		return func() (Offer, error) {
			return Offer{Seq: seq, Statement: []byte("signed"), At: time.UnixMilli(7), Epoch: 2, Key: []byte("key")}, nil
		}
	}
	stream := crypto.Follows{Stream: [16]byte{1}, Frames: 1, At: 2, Place: 3, Sealed: 4}
	if err := errors.Join(
		p.CheckOwner(t.Context(), key), p.Logs.Advance(t.Context(), s[0]), p.Offers.Sign(t.Context(), log, 2, sign(2)), p.Logs.Advance(t.Context(), s[1]), p.Offers.Sign(t.Context(), log, 3, sign(3)),
		p.Servers.Pin(t.Context(), "here", log), p.Names.Pin(t.Context(), log, "bob", key), p.Subjects.Pin(t.Context(), log, "ops", log),
		p.Places.Reached(t.Context(), log, Place{Seq: 1, Own: 1}), p.Streams.Stored(t.Context(), log, stream, true, time.UnixMilli(7)),
		p.Forks.Add(t.Context(), log, Fork{Sender: key, At: 2}), p.Close(),
	); err != nil {
		t.Fatal(err)
	}
	storetest.DamagedFile(t, path, damages(), 211, func() error { return readAll(t, path, key, log) }, ErrDamaged)
	for size := range int64(2) {
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		if err := readAll(t, path, key, log); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d bytes: %v", size, err)
		}
	}
}

// damages are statements that give each column of each table another value, as likely as any, or remove rows, as no
// part of the program does.
func damages() (statements []string) {
	var quiet strings.Builder
	for _, t := range tables {
		for _, trigger := range []string{"inserted", "updating", "updated", "deleting", "deleted"} {
			fmt.Fprintf(&quiet, "DROP TRIGGER IF EXISTS %s_%s; ", t.name, trigger)
		}
	}
	for _, t := range tables {
		if t.name == "cards" { // that one is not there says nothing, and damaged none is given (TestCards)
			continue
		}
		for _, column := range t.columns {
			name, kind, _ := strings.Cut(column, " ")
			value := map[string]string{
				"BLOB": fmt.Sprintf("CAST(substr(%s, 1, 1) || x'01' || substr(%[1]s, 3) AS BLOB)", name), "TEXT": name + " || 'x'", "INTEGER": name + " + 1",
			}[strings.Fields(kind)[0]]
			statements = append(statements, fmt.Sprintf("%sUPDATE %s SET %s = %s", quiet.String(), t.name, name, value))
		}
		statements = append(statements, fmt.Sprintf("%sDELETE FROM %s", quiet.String(), t.name))
	}
	return append(statements, "DELETE FROM logs", "DELETE FROM counts", "UPDATE counts SET rows = rows + 1")
}

// readAll reads everything that a file remembers of a log, with the first error that is met.
func readAll(t *testing.T, path string, owner crypto.PublicKey, log crypto.ID) error {
	t.Helper()
	ctx := t.Context()
	p, err := Open(ctx, path)
	if err != nil {
		return err
	}
	defer p.Close()
	for _, read := range []func() error{
		func() error { return p.CheckOwner(ctx, owner) },
		func() error { _, err := p.Logs.State(ctx, log); return err },
		func() error { _, err := p.Offers.Pending(ctx, log); return err },
		func() error {
			if err := p.Offers.Sign(ctx, log, 3, nil); !errors.Is(err, ErrTaken) {
				return err
			}
			return nil
		},
		func() error { _, err := p.Servers.Bus(ctx, "here"); return err },
		func() error { _, err := p.Servers.Buses(ctx); return err },
		func() error { return p.Names.Replace(ctx, log, "bob", owner) },
		func() error { _, err := p.Subjects.Room(ctx, log, "ops"); return err },
		func() error { _, err := p.Places.Of(ctx, log); return err },
		func() error { _, err := p.Streams.Untold(ctx, log, [16]byte{}); return err },
		func() error { _, err := p.Forks.Of(ctx, log); return err },
		func() error { _, err := p.Cards.Known(ctx, []crypto.PublicKey{owner}); return err },
	} {
		if err := read(); err != nil {
			return err
		}
	}
	return nil
}
