package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/newfile"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/jetstream"
	"github.com/unibus/unibus/internal/store/open"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// A data folder says in a file where its bus is kept: a start with another store would found a second bus beside
// it, or bring back one that was moved away, with everyone in it who has been revoked since.
const keptFile = "store"

// ErrKeptOtherwise is an ErrExists: the bus of a data folder is kept in a store of another kind than is asked for.
var ErrKeptOtherwise = fmt.Errorf("%w", store.ErrExists)

// KeptIn is where a data folder's bus is kept: JetStream, or the path of a database; empty for a new folder.
func KeptIn(dir string) (string, error) {
	kept, err := keptRecord(dir)
	if inside := filepath.Join(dir, SQLiteFile); kept == "" && err == nil {
		if _, err := os.Stat(inside); err == nil { // a start went no further
			return inside, nil
		}
	}
	return kept, err
}

// keptRecord is what a data folder says; empty when it does not.
func keptRecord(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, keptFile))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	switch kept := strings.TrimSpace(string(text)); {
	case kept == SQLiteFile:
		return filepath.Join(dir, kept), nil
	case kept == JetStream, filepath.IsAbs(kept):
		return kept, nil
	}
	return "", fmt.Errorf("where the bus is kept: %w: %s is damaged: it has to hold %s, %s or the path of the database",
		store.ErrDamaged, filepath.Join(dir, keptFile), SQLiteFile, JetStream)
}

// SQLiteFile is the database in a data folder.
const SQLiteFile = "unibus.db"

// path is that of the database that is asked for, absolute; JetStream if there is none.
func (o *NodeOptions) path() (string, error) {
	switch o.Store {
	case JetStream:
		return JetStream, nil
	case "":
		return filepath.Abs(filepath.Join(o.Dir, SQLiteFile))
	}
	if !open.IsFile(o.Store) {
		return "", fmt.Errorf("store %q: %w: sqlite:PATH or jetstream", redact.URL(o.Store), store.ErrInvalid)
	}
	u, err := open.Parse(o.Store)
	if err != nil {
		return "", err
	}
	return filepath.Abs(u.Path)
}

// checkKept takes the store that the folder's bus is kept in when none is asked for, and refuses one of another kind
// with ErrKeptOtherwise. With the bus named that is taken, too: it is about to be moved there, or has been.
func (o *NodeOptions) checkKept() error {
	kept, err := KeptIn(o.Dir)
	if err != nil || kept == "" {
		return err
	}
	switch {
	case o.Store == "" && kept == JetStream:
		o.Store = JetStream
	case o.Store == "":
		o.Store = open.FileURL(kept)
	}
	if (kept == JetStream) == (o.Store == JetStream) || !o.Bus.IsZero() {
		return nil
	}
	return fmt.Errorf("the bus of %s: %w: it is kept in %s: with another store this would be another bus", o.Dir, ErrKeptOtherwise, kept)
}

// openSQLite opens the database at path, or makes it, but not to found a bus in it when the servers keep one already:
// whoever asked for no store would have two.
func (o *NodeOptions) openSQLite(ctx context.Context, path string, links *bus.Links) (*sqlite.Store, error) {
	recorded, err := keptRecord(o.Dir)
	if err != nil {
		return nil, err
	}
	if recorded == "" && o.Bus.IsZero() && o.External == nil { // it may have been moved to the servers, and that is lost
		if err := notElsewhere(ctx, links); err != nil {
			return nil, err
		}
		if _, err := os.Stat(SeenFile(o.Dir)); err == nil {
			return nil, fmt.Errorf("%w: the bus of %s was kept in %s, and what said so is gone: %s", store.ErrElsewhere, o.Dir, JetStream, filepath.Join(o.Dir, keptFile))
		}
	}
	missing := false
	if info, err := os.Stat(path); o.Bus.IsZero() && (errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0) {
		missing = true
		var err error
		if recorded == path && o.External == nil {
			err = fmt.Errorf("%w: the bus of %s is kept in %s, which is empty or not there: nothing is founded in its place", store.ErrDamaged, o.Dir, path)
		}
		if err == nil {
			err = notElsewhere(ctx, links)
		}
		if err != nil {
			return nil, err
		}
	}
	db, err := open.File(ctx, path, open.Options{For: open.Service, Missing: open.Make, Relaxed: o.Sync != "" && o.Sync != "always"})
	if err != nil || missing || !o.Bus.IsZero() {
		return db, err
	}
	switch _, err := db.Bus(ctx); {
	case errors.Is(err, store.ErrNotFound): // by an earlier start that got no further
		if err := notElsewhere(ctx, links); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	case err == nil && recorded != path && filepath.IsAbs(recorded):
		o.tellBehind(ctx, db, recorded)
	}
	return db, nil
}

// tellBehind warns of a store that ends before another one that the folder had its bus in until now: that is what somebody who
// restores a backup wants, and has to know. What cannot be read says nothing.
func (o *NodeOptions) tellBehind(ctx context.Context, db *sqlite.Store, before string) {
	acknowledged, err := sqlite.Acknowledged(before)
	if err != nil {
		return
	}
	logs := slices.Collect(maps.Keys(acknowledged))
	ends, err := db.Heads(ctx, logs...)
	if err != nil {
		return
	}
	behind := 0
	for i, log := range logs {
		if ends[i].Seq < acknowledged[log].Seq {
			behind++
		}
	}
	if behind > 0 {
		o.Log.Warn("this store ends before the one that was served until now: whoever was revoked since is in again; see unibus log --bus",
			"logs", behind, "until now", before)
	}
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
		err = fmt.Errorf("%w: the servers keep a bus already, in the bucket %s", store.ErrElsewhere, log)
	}
	return err
}

// remember notes where the folder's bus is kept now.
func (o *NodeOptions) remember() error {
	path, err := o.path()
	if err != nil {
		return err
	}
	if kept, err := keptRecord(o.Dir); err != nil || kept == path {
		return err
	}
	if inside, err := filepath.Abs(filepath.Join(o.Dir, SQLiteFile)); err != nil || path == inside {
		path = SQLiteFile // wherever the folder is moved
	}
	return newfile.Replace(filepath.Join(o.Dir, keptFile), []byte(path+"\n"))
}
