package pins

import (
	"bytes"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// roomState is the log of a room of a bus with a subject, as after its first entry.
func roomState(t *testing.T, bus crypto.ID, subject string, nonce byte) *ledger.State {
	t.Helper()
	id, err := crypto.NewIdentity([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	policy := ledger.Policy{Encryption: "none", History: "shared"}
	create := &ledger.Create{Bus: bus, Subject: subject, Policy: policy, Nonce: bytes.Repeat([]byte{nonce}, 16)}
	entry, err := new(ledger.State).Next(id, create, time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	s, err := ledger.Verify([][]byte{entry})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// damage changes a row of a table as only a disk does: nothing takes note of it.
func damage(t *testing.T, p *Pins, table, statement string) {
	t.Helper()
	for _, change := range []string{"DROP TRIGGER " + table + "_updating", "DROP TRIGGER " + table + "_updated", statement} {
		if _, err := p.db.file.ExecContext(t.Context(), change); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPinnedLogs: which logs are pinned is known, each once, to later processes too, and of no other log is anything known.
func TestPinnedLogs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.db")
	p := open(t, path)
	bus, room := states(t, "bob"), roomState(t, crypto.ID{1}, "ops", 1)
	is := func(want ...crypto.ID) {
		t.Helper()
		got, err := p.Logs.IDs(t.Context())
		slices.SortFunc(got, func(a, b crypto.ID) int { return bytes.Compare(a[:], b[:]) })
		slices.SortFunc(want, func(a, b crypto.ID) int { return bytes.Compare(a[:], b[:]) })
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("pinned are %v, %v, want %v", got, err, want)
		}
	}
	is()
	for _, s := range []*ledger.State{bus[0], bus[1], room} {
		if err := p.Logs.Advance(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	is(bus[0].ID, room.ID)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = open(t, path)
	is(bus[0].ID, room.ID)
	if _, err := p.db.file.Exec(`DROP TRIGGER logs_deleting`); err != nil {
		t.Fatal(err)
	}
	if _, err := p.db.file.Exec(`DELETE FROM logs WHERE log = ?`, room.ID[:]); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if ids, err := open(t, path).Logs.IDs(t.Context()); !errors.Is(err, ErrDamaged) {
		t.Errorf("with a row lost, pinned are %v, %v", ids, err)
	}
}

// TestPinSubjects: the subjects of rooms that were pinned by a build that pinned none mean those rooms afterwards, all but
// those that mean another room by then.
func TestPinSubjects(t *testing.T) {
	p, bus, elsewhere := newPins(t), crypto.ID{1}, crypto.ID{2}
	ops, taken, other := roomState(t, bus, "ops", 1), roomState(t, bus, "taken", 2), roomState(t, elsewhere, "ops", 3)
	rooms := []*ledger.State{states(t)[0], ops, taken, other} // a bus log has no subject
	for _, s := range rooms {
		if err := p.Logs.Advance(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	means := func(bus crypto.ID, subject string, want crypto.ID) {
		t.Helper()
		if got, err := p.Subjects.Room(t.Context(), bus, subject); err != nil || got != want {
			t.Errorf("%s means %s, %v, want %s", subject, got, err, want)
		}
	}
	earlier := crypto.ID{9}
	for _, free := range []struct {
		bus     crypto.ID
		subject string
		means   crypto.ID
	}{{bus, "ops", crypto.ID{}}, {bus, "taken", earlier}, {elsewhere, "ops", crypto.ID{}}} {
		if err := p.Subjects.Replace(t.Context(), free.bus, free.subject, free.means); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Logs.PinSubjects(t.Context(), rooms); err != nil {
		t.Fatal(err)
	}
	means(bus, "ops", ops.ID)
	means(bus, "taken", earlier)
	means(elsewhere, "ops", other.ID)
}

// TestSettingsByPrefix: a setting is what it was set to last, an empty one is there, and those that begin alike are found
// by that, whatever stands in their names.
func TestSettingsByPrefix(t *testing.T) {
	p := newPins(t)
	set := [][2]string{{"a:x", "1"}, {"a:y", "2"}, {"a:x", "3"}, {"a:", ""}, {"a", "4"}, {"b:x", "5"}, {"A:x", "6"}, {"%", "7"}}
	for _, one := range set {
		if err := p.Settings.Set(t.Context(), one[0], one[1]); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"a:x": "3", "a:": "", "none": "", "%": "7"} {
		if got, err := p.Settings.Get(t.Context(), name); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
	}
	for prefix, want := range map[string]map[string]string{
		"a:":   {"a:": "", "a:x": "3", "a:y": "2"},
		"a:x":  {"a:x": "3"},
		"%":    {"%": "7"},
		"none": {},
	} {
		if got, err := p.Settings.All(t.Context(), prefix); err != nil || !maps.Equal(got, want) {
			t.Errorf("those that begin with %q: got %v, %v, want %v", prefix, got, err, want)
		}
	}
}

// TestDamagedSettings: of settings that were damaged nothing is given, and no name of a bus is taken for free.
func TestDamagedSettings(t *testing.T) {
	for name, read := range map[string]func(p *Pins) error{
		"settings":    func(p *Pins) error { _, err := p.Settings.All(t.Context(), ""); return err },
		"a free name": func(p *Pins) error { return p.Buses.Free(t.Context(), "work", "here", crypto.ID{}) },
	} {
		p := newPins(t)
		if err := p.Settings.Set(t.Context(), "name", "value"); err != nil {
			t.Fatal(err)
		}
		if err := read(p); err != nil {
			t.Errorf("%s: got %v before", name, err)
		}
		damage(t, p, "settings", `UPDATE settings SET value = 'another'`)
		if err := read(p); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v, want %v", name, err, ErrDamaged)
		}
	}
}
