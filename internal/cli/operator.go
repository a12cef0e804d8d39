package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/admin"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/service"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/open"
)

// What the commands of operators (migrate, backup, restore, store, doctor) share: which store is meant when none is
// named, and how it is reached.

// operator is a run by whoever operates the bus: how it gets at stores in NATS servers, and at the one that the service
// on this machine serves from.
type operator struct {
	*session
	acc admin.Access
}

// operator makes one: with the service's keys if they are named or in the data folder of this machine, else as the NATS
// context or the URL says.
func (s *session) operator() (*operator, error) {
	o := &operator{session: s, acc: admin.Access{Context: s.set.context, CA: s.set.tlsCA, Timeout: s.set.timeout}}
	// A file that is named has to be there; the one in the data folder need not: whoever does not run the service on this
	// machine gets in by other means.
	file := s.set.keys
	if file == "" && s.set.context == "" {
		file = service.KeysFile(s.set.dataDir())
		if _, err := os.Stat(file); err != nil {
			return o, nil
		}
	}
	var err error
	if file != "" {
		o.acc.Keys, err = bus.LoadKeys(file)
	}
	return o, err
}

// servers are where the bus's servers are, for who operates them as for everyone: where --server or --context
// say, or else those of the bus that --bus names, or that is in use.
func (s *session) servers(ctx context.Context) (string, error) {
	switch {
	case s.set.server != "":
		return s.set.server, nil
	case s.set.context != "":
		return "nats://", nil // it knows
	}
	o, err := s.options()
	if errors.Is(err, unibus.ErrNotFound) { // whoever has no identity has joined none
		return unibus.DefaultServer, nil
	}
	if err != nil {
		return "", err
	}
	o.Store = "" // which is not where servers are
	known, err := unibus.Recall(ctx, o)
	return known.Server, err
}

// operated is a store that an operator works on, until close.
type operated struct {
	store.Backend
	// url is what it was opened by.
	url string
	// served says that the service on this machine certainly serves from it; false when it may, or does not.
	served bool
	close  func()
}

// storeURL is the store that --store names, or the one of the service on this machine, and whether it is certainly
// the one that this serves from: servers may hold a copy as well, made by unibus migrate once.
func (o *operator) storeURL(ctx context.Context) (url string, served bool, err error) {
	kept, err := service.KeptIn(o.set.dataDir())
	if err != nil {
		return "", false, err
	}
	switch {
	// Who names a store means it, whatever is in the data folder.
	case o.set.store != "":
		url = o.set.store
	// Else the data folder says where its bus is kept: in the servers,
	case kept == service.JetStream:
		url, err = o.servers(ctx)
	// or in a file.
	case kept != "":
		url, err = o.folderStore(ctx, kept)
	default:
		url, err = o.serversStore(ctx)
		return url, false, err
	}
	if err != nil {
		return "", false, err
	}
	served, err = o.isServed(ctx, kept, url)
	return url, served, err
}

// isServed reports whether a data folder whose bus is where it says is served from the store at a URL.
func (o *operator) isServed(ctx context.Context, kept, url string) (bool, error) {
	if kept != service.JetStream {
		return kept != "" && open.Same(url, open.FileURL(kept)), nil
	}
	server, err := o.servers(ctx)
	return open.Same(url, server), err
}

// whichStore is for when no store is named and none is found.
func whichStore() error {
	return hinted(usage("which store? there is none of a service on this machine"), hintWhichStore)
}

// folderStore is the data folder's file, unless keys or a context are named that lead to servers with the store of another
// bus: then the folder is of something else.
func (o *operator) folderStore(ctx context.Context, path string) (string, error) {
	// That the file is gone is told here: opening it would be told as a store in which there is no bus.
	file, there := open.FileURL(path), true
	if _, err := os.Stat(path); err != nil {
		there = false
	}
	if o.set.keys == "" && o.set.context == "" || o.set.keys != "" && open.SameFile(o.set.keys, service.KeysFile(o.set.dataDir())) {
		if !there {
			return "", fmt.Errorf("the bus of %s: %w: it is kept in %s, which is not there", o.set.dataDir(), store.ErrDamaged, path)
		}
		return file, nil
	}
	server, err := o.servers(ctx)
	if err != nil {
		return "", err
	}
	// Keys or a context are named that need not be those of the data folder. Which of the two stores is meant is told by
	// whether they hold the same bus.
	theirs, err := o.busAt(ctx, server)
	if err != nil {
		if !there {
			return "", whichStore()
		}
		return file, nil
	}
	if there {
		if ours, err := o.busAt(ctx, file); err != nil || ours == theirs {
			return file, nil // if it is damaged, that is told when it is opened
		}
	}
	return server, nil
}

// busAt is the bus that a store holds.
func (o *operator) busAt(ctx context.Context, url string) (unibus.ID, error) {
	s, done, err := admin.Open(ctx, url, o.acc, open.Refuse)
	if err != nil {
		return unibus.ID{}, err
	}
	defer done()
	return admin.BusOf(ctx, s)
}

// serversStore is the store in the servers, if there is one: the data folder does not say where a bus is kept.
func (o *operator) serversStore(ctx context.Context) (string, error) {
	if o.acc.Keys == nil && o.acc.Context == "" {
		return "", whichStore()
	}
	server, err := o.servers(ctx)
	if err != nil {
		return "", err
	}
	_, done, err := admin.Open(ctx, server, o.acc, open.Refuse)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return "", whichStore()
	case err != nil:
		return "", hintOperator(err)
	}
	done()
	return server, nil
}

// open opens the store that --store names, or the one of the service on this machine.
func (o *operator) open(ctx context.Context) (*operated, error) {
	url, served, err := o.storeURL(ctx)
	if err != nil {
		return nil, err
	}
	s, done, err := admin.Open(ctx, url, o.acc, open.Refuse)
	if err != nil {
		return nil, hintOperator(err)
	}
	return &operated{s, url, served, done}, nil
}
