package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/newfile"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/jetstream"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// A data folder says in a file where its bus is kept: a start with another store would found a second bus beside
// it, or bring back one that was moved away, with everyone in it who has been revoked since.
const keptFile = "store"

// KeptIn is the kind of store that a data folder's bus is kept in: JetStream, or SQLiteFile; empty for a new one.
func KeptIn(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, keptFile))
	switch {
	case err == nil:
		return strings.TrimSpace(string(text)), nil
	case !errors.Is(err, os.ErrNotExist):
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, SQLiteFile)); err == nil {
		return SQLiteFile, nil
	}
	return "", nil
}

// SQLiteFile is the database in a data folder.
const SQLiteFile = "unibus.db"

// kind is the kind of the store that is asked for.
func (o *NodeOptions) kind() string {
	if o.Store == JetStream {
		return JetStream
	}
	return SQLiteFile
}

// checkKept takes the store that the folder's bus is kept in when none is asked for, and refuses another. With the
// bus named another is taken: it is about to be moved there, or has been.
func (o *NodeOptions) checkKept() error {
	kept, err := KeptIn(o.Dir)
	if err != nil || kept == "" {
		return err
	}
	if o.Store == "" && kept == JetStream {
		o.Store = JetStream
	}
	if kept == o.kind() || !o.Bus.IsZero() {
		return nil
	}
	return fmt.Errorf("%w: the bus of %s is kept in %s: with another store this would be another bus (to move it: serve with the other --store and --bus ID, and unibus migrate)",
		store.ErrExists, o.Dir, kept)
}

// openSQLite opens the database at path, or makes it, but not to found a bus in it when the servers keep one already:
// whoever left out --store jetstream would have two.
func (o *NodeOptions) openSQLite(ctx context.Context, path string, links *bus.Links) (*sqlite.Store, error) {
	missing := false
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) && o.Bus.IsZero() {
		missing = true
		if err := notElsewhere(ctx, links); err != nil {
			return nil, err
		}
	}
	db, err := sqlite.Open(ctx, path, sqlite.Options{Relaxed: o.Sync != "" && o.Sync != "always"})
	if err != nil || missing || !o.Bus.IsZero() {
		return db, err
	}
	if _, err := db.Bus(ctx); errors.Is(err, store.ErrNotFound) { // by an earlier start that got no further
		if err := notElsewhere(ctx, links); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	return db, nil
}

// notElsewhere fails with ErrElsewhere when the servers keep a bus themselves.
func notElsewhere(ctx context.Context, links *bus.Links) error {
	streams, err := bus.NewStreams(links.Store, nil)
	if err != nil {
		return err
	}
	log := jetstream.Buckets[0]
	held, err := streams.Holds(ctx, "KV_"+log)
	if err == nil && held {
		err = fmt.Errorf("found the bus: %w: the store is empty, and the servers keep a bus already, in the bucket %s", store.ErrElsewhere, log)
	}
	return err
}

// remember notes where the folder's bus is kept now.
func (o *NodeOptions) remember() error {
	if kept, err := KeptIn(o.Dir); err != nil || kept == o.kind() {
		return err
	}
	file := filepath.Join(o.Dir, keptFile)
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return newfile.Write(file, []byte(o.kind()+"\n"))
}
