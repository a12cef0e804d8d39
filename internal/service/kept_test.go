package service

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/sqlite"
	"github.com/unibus/unibus/internal/store/storetest"
)

// inFolder are the options of a node with a data folder of its own.
func inFolder(t *testing.T) NodeOptions {
	t.Helper()
	id, err := crypto.NewIdentity([32]byte{'a'})
	if err != nil {
		t.Fatal(err)
	}
	return NodeOptions{Listen: "127.0.0.1:0", Dir: t.TempDir(), Identity: id, Founder: "admin", Log: slog.New(slog.DiscardHandler)}
}

// inServers is a node that keeps its bus in its server, and its options. The test stops it.
func inServers(t *testing.T) (NodeOptions, *Node) {
	t.Helper()
	o := inFolder(t)
	o.Store = JetStream
	n, err := StartNode(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return o, n
}

// TestKept: a folder's bus is looked for where it is kept; another store is refused, unless the bus is named.
func TestKept(t *testing.T) {
	const elsewhere = "sqlite:/elsewhere.db"
	for name, c := range map[string]struct {
		file     string // that says where the bus is kept
		database bool   // in the folder
		asked    string
		bus      crypto.ID
		want     string // store taken
		refused  bool
	}{
		"a new folder":                  {},
		"a new folder, asked for":       {asked: JetStream, want: JetStream},
		"a database":                    {database: true, want: "the folder's"},
		"a database, asked for another": {database: true, asked: JetStream, want: JetStream, refused: true},
		"a database, to be moved":       {database: true, asked: JetStream, bus: crypto.ID{1}, want: JetStream},
		"jetstream":                     {file: JetStream, want: JetStream},
		"jetstream beside what it was":  {file: JetStream, database: true, want: JetStream},
		"jetstream, asked for another":  {file: JetStream, asked: elsewhere, want: elsewhere, refused: true},
		"jetstream, to be moved":        {file: JetStream, asked: elsewhere, bus: crypto.ID{1}, want: elsewhere},
		"elsewhere":                     {file: elsewhere, database: true, want: elsewhere},
		"elsewhere, asked for another":  {file: elsewhere, asked: "sqlite:/other.db", want: "sqlite:/other.db"},
	} {
		t.Run(name, func(t *testing.T) {
			o := NodeOptions{Dir: t.TempDir(), Store: c.asked, Bus: c.bus}
			if c.file != "" {
				was := NodeOptions{Dir: o.Dir, Store: c.file}
				if err := was.remember(); err != nil {
					t.Fatal(err)
				}
			}
			if c.database {
				if err := os.WriteFile(filepath.Join(o.Dir, SQLiteFile), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if c.want == "the folder's" {
				c.want = "sqlite:" + filepath.Join(o.Dir, SQLiteFile)
			}
			err := o.checkKept()
			if errors.Is(err, store.ErrExists) != c.refused || err != nil && !c.refused || o.Store != c.want {
				t.Fatalf("store %q, %v", o.Store, err)
			}
			if c.refused {
				return
			}
			if err := o.remember(); err != nil {
				t.Fatal(err)
			}
			path, err := o.path()
			if err != nil {
				t.Fatal(err)
			}
			if kept, err := KeptIn(o.Dir); err != nil || kept != path {
				t.Errorf("kept in %q, %v", kept, err)
			}
		})
	}
}

// TestKeptDamaged: a folder that does not say where its bus is kept any more is not taken for a new one, nor for what it
// once was.
func TestKeptDamaged(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, keptFile), []byte("jetstreal\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := NodeOptions{Dir: dir}
	if err := o.checkKept(); !errors.Is(err, store.ErrDamaged) {
		t.Error(err)
	}
}

// TestMoved: a folder whose bus was moved to the servers does not go back to the database it left, also when what says so
// is lost.
func TestMoved(t *testing.T) {
	o, n := inServers(t)
	n.Stop()
	db, err := sqlite.Open(t.Context(), filepath.Join(o.Dir, SQLiteFile), sqlite.Options{})
	if err == nil {
		_, err = store.Found(t.Context(), db, o.Identity, "before", time.Now())
	}
	if err = errors.Join(err, db.Close(), os.Remove(filepath.Join(o.Dir, keptFile))); err != nil {
		t.Fatal(err)
	}
	o.Store = ""
	for _, also := range []string{"jetstream", headFile} { // what tells of it goes, too, in the end
		if n, err := StartNode(t.Context(), o); !errors.Is(err, store.ErrElsewhere) {
			t.Errorf("served, before %s goes: %v", also, err)
			n.Stop()
		}
		if err := os.RemoveAll(filepath.Join(o.Dir, also)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLostDatabase: nothing is founded where a bus was kept.
func TestLostDatabase(t *testing.T) {
	o := inFolder(t)
	n, err := StartNode(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	n.Stop()
	file := filepath.Join(o.Dir, SQLiteFile)
	for _, lose := range []func() error{
		func() error { return errors.Join(os.Remove(file), sqlite.MoveHeads(file, file+".old")) },
		func() error { return os.WriteFile(file, nil, 0o600) },
	} {
		if err := lose(); err != nil {
			t.Fatal(err)
		}
		if n, err := StartNode(t.Context(), o); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("served: %v", err)
			n.Stop()
		}
	}
}

// TestEarlierStore: a store that ends before the one which the folder had its bus in is served, as who restores a backup wants,
// and that is told; one that ends as that does is served without a word.
func TestEarlierStore(t *testing.T) {
	o := inFolder(t)
	n, err := StartNode(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(o.Dir, SQLiteFile)
	copied := func() string {
		n.Stop()
		to := filepath.Join(t.TempDir(), "restored.db")
		data, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(to, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return to
	}
	var log bytes.Buffer
	serve := func(path string) {
		t.Helper()
		log.Reset()
		o.Store, o.Log = "sqlite:"+path, slog.New(slog.NewTextHandler(&log, nil))
		if n, err = StartNode(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	earlier := copied()
	serve(file)
	storetest.Write(t, n.store, new(ledger.State), o.Identity, &ledger.Create{Bus: n.Bus, Subject: "room", Policy: plainPolicy(), Nonce: make([]byte, 16)})
	same := copied()
	const says = "this store ends before the one that was served until now"
	serve(same)
	n.Stop()
	if strings.Contains(log.String(), says) {
		t.Errorf("of one that ends alike: %s", log.String())
	}
	serve(file)
	n.Stop()
	serve(earlier)
	n.Stop()
	if !strings.Contains(log.String(), says) || !strings.Contains(log.String(), "logs=1") {
		t.Errorf("nothing is told: %s", log.String())
	}
}

// TestNothingFoundedBeside: a store that is empty, beside streams of rooms, is one that was lost.
func TestNothingFoundedBeside(t *testing.T) {
	n, _ := node(t, "")
	streams, err := bus.NewStreams(n.Links().Store, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := neverUsed(t.Context(), dir, streams); err != nil {
		t.Errorf("nothing is there: %v", err)
	}
	if err := (Marks{"room": {}}).Save(MarksFile(dir)); err != nil {
		t.Fatal(err)
	}
	if err := neverUsed(t.Context(), dir, streams); !errors.Is(err, store.ErrIntegrity) {
		t.Errorf("streams of rooms are there: %v", err)
	}
	if err := os.WriteFile(MarksFile(dir), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := neverUsed(t.Context(), dir, streams); err == nil {
		t.Error("what is remembered of streams is damaged, and a bus founded")
	}
}

// TestNotWhole: nobody is served from a store into which a bus is being copied, also not without a service.
func TestNotWhole(t *testing.T) {
	o := inFolder(t)
	n, err := StartNode(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	err = n.store.BeginCopy(t.Context())
	n.Stop()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := StartNode(t.Context(), o); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("it is served: %v", err)
		n.Stop()
	}
	c, err := unibus.Connect(t.Context(), unibus.Options{Identity: o.Identity, StateDir: t.TempDir(), Store: "sqlite:" + filepath.Join(o.Dir, SQLiteFile)})
	if !errors.Is(err, unibus.ErrUnavailable) {
		t.Errorf("it is used: %v", err)
		c.Close()
	}
}

// TestKeptElsewhere: where its bus is kept is said by the folder of an embedded server. One that is beside other servers may
// serve any bus the next time.
func TestKeptElsewhere(t *testing.T) {
	o, n := inServers(t)
	t.Cleanup(n.Stop)
	beside := inFolder(t)
	beside.Store, beside.Keys = JetStream, KeysFile(o.Dir)
	beside.External = &bus.DialOptions{Servers: n.URL(), Timeout: 20 * time.Second}
	second, err := StartNode(t.Context(), beside)
	if err != nil {
		t.Fatal(err)
	}
	second.Stop()
	for dir, want := range map[string]string{o.Dir: JetStream, beside.Dir: ""} {
		if kept, err := KeptIn(dir); err != nil || kept != want {
			t.Errorf("kept in %q, want %q, %v", kept, want, err)
		}
	}
}
