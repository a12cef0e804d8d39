package pins

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// calls are one of each that remembers something, and one of each that recalls something, of a log.
func calls(s *ledger.State) (writes, reads map[string]func(context.Context, *Pins) error) {
	log, key, stream := s.ID, crypto.PublicKey{1}, crypto.Follows{Stream: [16]byte{1}, Frames: 1}
	sign := func() (Offer, error) { return Offer{Seq: 1, Statement: []byte("signed"), At: time.UnixMilli(7)}, nil }
	writes = map[string]func(context.Context, *Pins) error{
		"Logs.Advance":        func(ctx context.Context, p *Pins) error { return p.Logs.Advance(ctx, s) },
		"Logs.Return":         func(ctx context.Context, p *Pins) error { return p.Logs.Return(ctx, s) },
		"Offers.Sign":         func(ctx context.Context, p *Pins) error { return p.Offers.Sign(ctx, log, 1, sign) },
		"Offers.MarkAnswered": func(ctx context.Context, p *Pins) error { return p.Offers.MarkAnswered(ctx, log, 1) },
		"Servers.Pin":         func(ctx context.Context, p *Pins) error { return p.Servers.Pin(ctx, "here", log) },
		"Names.Pin":           func(ctx context.Context, p *Pins) error { return p.Names.Pin(ctx, log, "bob", key) },
		"Names.ReplaceAll": func(ctx context.Context, p *Pins) error {
			return p.Names.ReplaceAll(ctx, log, map[string]crypto.PublicKey{"bob": key})
		},
		"Names.Replace":    func(ctx context.Context, p *Pins) error { return p.Names.Replace(ctx, log, "bob", key) },
		"Subjects.Pin":     func(ctx context.Context, p *Pins) error { return p.Subjects.Pin(ctx, log, "ops", log) },
		"Subjects.Replace": func(ctx context.Context, p *Pins) error { return p.Subjects.Replace(ctx, log, "ops", log) },
		"Settings.Set":     func(ctx context.Context, p *Pins) error { return p.Settings.Set(ctx, "s", "1") },
		"Places.Reached":   func(ctx context.Context, p *Pins) error { return p.Places.Reached(ctx, log, Place{Anew: 1}) },
		"Places.Dispute":   func(ctx context.Context, p *Pins) error { return p.Places.Dispute(ctx, log, 1) },
		"Places.Accept":    func(ctx context.Context, p *Pins) error { return p.Places.Accept(ctx, log, Place{Anew: 1}) },
		"Streams.Stored": func(ctx context.Context, p *Pins) error {
			return p.Streams.Stored(ctx, log, stream, true, time.UnixMilli(7))
		},
		"Streams.Told": func(ctx context.Context, p *Pins) error {
			return p.Streams.Told(ctx, log, []crypto.Follows{stream}, time.UnixMilli(7))
		},
		"Forks.Add":    func(ctx context.Context, p *Pins) error { return p.Forks.Add(ctx, log, Fork{Sender: key, At: 1}) },
		"Forks.Settle": func(ctx context.Context, p *Pins) error { return p.Forks.Settle(ctx, log) },
		"CheckOwner":   func(ctx context.Context, p *Pins) error { return p.CheckOwner(ctx, key) },
	}
	reads = map[string]func(context.Context, *Pins) error{
		"Logs.State":        func(ctx context.Context, p *Pins) error { _, err := p.Logs.State(ctx, log); return err },
		"Offers.Pending":    func(ctx context.Context, p *Pins) error { _, err := p.Offers.Pending(ctx, log); return err },
		"Offers.Unanswered": func(ctx context.Context, p *Pins) error { _, err := p.Offers.Unanswered(ctx, log); return err },
		"Servers.Bus":       func(ctx context.Context, p *Pins) error { _, err := p.Servers.Bus(ctx, "here"); return err },
		"Servers.Buses":     func(ctx context.Context, p *Pins) error { _, err := p.Servers.Buses(ctx); return err },
		"Subjects.Room":     func(ctx context.Context, p *Pins) error { _, err := p.Subjects.Room(ctx, log, "ops"); return err },
		"Settings.Get":      func(ctx context.Context, p *Pins) error { _, err := p.Settings.Get(ctx, "s"); return err },
		"Places.Of":         func(ctx context.Context, p *Pins) error { _, err := p.Places.Of(ctx, log); return err },
		"Streams.Untold":    func(ctx context.Context, p *Pins) error { _, err := p.Streams.Untold(ctx, log, [16]byte{}); return err },
		"Forks.Of":          func(ctx context.Context, p *Pins) error { _, err := p.Forks.Of(ctx, log); return err },
	}
	return writes, reads
}

// TestReadOnly: what cannot be written is not taken for remembered, whatever it is; what is there can be read.
func TestReadOnly(t *testing.T) {
	s := states(t)[0]
	writes, reads := calls(s)
	for name, write := range writes {
		t.Run(name, func(t *testing.T) {
			p := newPins(t)
			readOnly(t, p)
			if err := write(t.Context(), p); !errors.Is(err, ErrNotKept) {
				t.Errorf("%v", err)
			}
			for name, read := range reads {
				if err := read(t.Context(), p); err != nil {
					t.Errorf("then %s: %v", name, err)
				}
			}
		})
	}
}

// readOnly has SQLite refuse to write, as it does on a disk that is mounted so.
func readOnly(t *testing.T, p *Pins) {
	t.Helper()
	if _, err := p.db.file.Exec("PRAGMA query_only = 1"); err != nil {
		t.Fatal(err)
	}
}

// TestCalledOff: a call that is called off says so, and is no reason to think that anything is damaged.
func TestCalledOff(t *testing.T) {
	off, cancel := context.WithCancel(t.Context())
	cancel()
	writes, reads := calls(states(t)[0])
	for _, all := range []map[string]func(context.Context, *Pins) error{writes, reads} {
		for name, call := range all {
			t.Run(name, func(t *testing.T) {
				if err := call(off, newPins(t)); !errors.Is(err, context.Canceled) || errors.Is(err, ErrDamaged) {
					t.Errorf("%v", err)
				}
			})
		}
	}
}

// TestCounts: without the counts of rows nothing says what there was, and nothing is believed.
func TestCounts(t *testing.T) {
	_, reads := calls(states(t)[0])
	for name, read := range reads {
		t.Run(name, func(t *testing.T) {
			p := newPins(t)
			if _, err := p.db.file.Exec("DELETE FROM counts"); err != nil {
				t.Fatal(err)
			}
			if err := read(t.Context(), p); !errors.Is(err, ErrDamaged) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestUnwritable: pins whose folder, or whose count of changes, is not this process's to write are not kept.
func TestUnwritable(t *testing.T) {
	if runtime.GOOS == "windows" || os.Geteuid() == 0 {
		t.Skip("everything may be written")
	}
	folder := filepath.Join(t.TempDir(), "closed")
	if err := os.Mkdir(folder, 0o500); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), filepath.Join(folder, "pins.db")); !errors.Is(err, ErrNotKept) {
		t.Errorf("in a folder: %v", err)
	}
}

// TestChangesUnwritable: a change that cannot be counted is not taken for remembered.
func TestChangesUnwritable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.db")
	p := open(t, path)
	if err := os.Mkdir(path+changesSuffix, 0o700); err != nil { // which is read as a file with nothing in it
		t.Fatal(err)
	}
	for name, how := range map[string]durability{"durable": durable, "lax": lax} {
		if err := p.db.write(t.Context(), how, `INSERT INTO settings (name, value) VALUES (?, 'x')`, name); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(t.Context(), path); !errors.Is(err, ErrDamaged) {
		t.Errorf("opened: %v", err)
	}
}

// TestNotAFile: what is no file, and what is no file of pins, is not opened.
func TestNotAFile(t *testing.T) {
	if _, err := Open(t.Context(), t.TempDir()); err == nil {
		t.Error("a folder is opened")
	}
	path := filepath.Join(t.TempDir(), "pins.db")
	p := open(t, path)
	if _, err := p.db.file.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path); err == nil || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "99") {
		t.Errorf("of a version to come: %v", err)
	}
}

// TestForm: the form of the file does not change without its version, or an older unibus could not open it, nor this one
// what an older one has written.
func TestForm(t *testing.T) {
	forms := map[int]string{8: "7cc0cf1e24f9b8ea", 9: "3bd0a68645d80778"}
	for i, form := range migrations() {
		sum := sha256.Sum256([]byte(form))
		if got := hex.EncodeToString(sum[:8]); forms[schema+i] != got {
			t.Errorf("version %d has the form %s", schema+i, got)
		}
	}
}

// TestOlderForm: a file of an earlier form is opened with everything that it has, and has the new tables then.
func TestOlderForm(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "pins.db")
	p := open(t, path)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(p.Settings.Set(ctx, "name", "value"))
	for _, statement := range []string{"DROP VIEW intact_cards", "DROP TABLE cards", "DELETE FROM counts WHERE name = 'cards'", "PRAGMA user_version = 8"} {
		_, err := p.db.file.ExecContext(ctx, statement)
		must(err)
	}
	must(p.Close())
	p = open(t, path)
	if value, err := p.Settings.Get(ctx, "name"); value != "value" || err != nil {
		t.Errorf("the setting is %q, %v", value, err)
	}
	must(p.Cards.Remember(ctx, []crypto.Card{{Key: crypto.PublicKey{1}, Sealing: []byte("sealing")}}))
}
