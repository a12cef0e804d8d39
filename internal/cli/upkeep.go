package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/admin"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/service"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/open"
)

// access is how this run gets at stores in NATS servers: with the service's keys if they are named or
// in the data folder of this machine, else as the NATS context or the URL says.
func (a *app) access() (admin.Access, error) {
	acc := admin.Access{Context: a.set.context, Timeout: a.set.timeout}
	file := a.set.keys
	if file == "" && acc.Context == "" {
		file = service.KeysFile(a.dataDir())
		if _, err := os.Stat(file); err != nil {
			return acc, nil
		}
	}
	var err error
	if file != "" {
		acc.Keys, err = bus.LoadKeys(file)
	}
	return acc, err
}

// server is where the bus's servers are, for who operates them as for everyone: where --server or --context
// say, or else those that this identity joined.
func (a *app) server(ctx context.Context) (string, error) {
	switch {
	case a.set.server != "":
		return a.set.server, nil
	case a.set.context != "":
		return "nats://", nil // it knows
	}
	o, err := a.options()
	if errors.Is(err, unibus.ErrNotFound) { // whoever has no identity has joined none
		return unibus.DefaultServer, nil
	}
	if err != nil {
		return "", err
	}
	known, err := unibus.Recall(ctx, o)
	return known.Server, err
}

// operatorHint adds what helps when the servers do not let an operator in.
func operatorHint(err error) error {
	switch {
	case errors.Is(err, bus.ErrUnanswered): // which has the hint that fits
	case errors.Is(err, unibus.ErrDenied):
		return hinted(err, "that takes the service's keys, --keys FILE, or a NATS context, --context NAME")
	case errors.Is(err, unibus.ErrUnavailable):
		return hinted(err, "is it running? unibus serve; one elsewhere: unibus join URL, or --server URL")
	}
	return err
}

// backend is a store that an operator works on.
type backend struct {
	store.Backend
	url    string
	served bool // it is certainly the one that the service on this machine serves from
	close  func()
}

// backendURL is the store that --store names, or the one of the service on this machine, and whether it is certainly
// the one that this serves from: servers may hold a copy as well, made by unibus migrate once.
func (a *app) backendURL(ctx context.Context, acc admin.Access) (url string, served bool, err error) {
	kept, err := service.KeptIn(a.dataDir())
	if err != nil {
		return "", false, err
	}
	switch {
	case a.set.store != "":
		url = a.set.store
	case kept == service.JetStream:
		url, err = a.server(ctx)
	case kept != "":
		url, err = a.beside(ctx, acc, kept)
	default:
		url, err = a.unrecorded(ctx, acc)
		return url, false, err
	}
	if err != nil {
		return "", false, err
	}
	served, err = a.serves(ctx, kept, url)
	return url, served, err
}

// serves reports whether a data folder whose bus is where it says is served from the store at a URL.
func (a *app) serves(ctx context.Context, kept, url string) (bool, error) {
	if kept != service.JetStream {
		return kept != "" && open.Same(url, open.FileURL(kept)), nil
	}
	server, err := a.server(ctx)
	return open.Same(url, server), err
}

// whichStore is for when no store is named and none is found.
func whichStore() error {
	return hinted(usage("which store? there is none of a service on this machine"), "--data DIR of the service, --store sqlite:PATH, or --store nats://HOST:PORT")
}

// beside is the data folder's file, at path, unless keys or a context are named that lead to servers with the store of another
// bus: then the folder is of something else.
func (a *app) beside(ctx context.Context, acc admin.Access, path string) (string, error) {
	file, there := open.FileURL(path), true
	if _, err := os.Stat(path); err != nil {
		there = false
	}
	if a.set.keys == "" && a.set.context == "" || a.set.keys != "" && open.SameFile(a.set.keys, service.KeysFile(a.dataDir())) {
		if !there {
			return "", fmt.Errorf("the bus of %s: %w: it is kept in %s, which is not there", a.dataDir(), store.ErrDamaged, path)
		}
		return file, nil
	}
	server, err := a.server(ctx)
	if err != nil {
		return "", err
	}
	theirs, err := busAt(ctx, server, acc)
	if err != nil {
		if !there {
			return "", whichStore()
		}
		return file, nil
	}
	if there {
		if ours, err := busAt(ctx, file, acc); err != nil || ours == theirs {
			return file, nil // if it is damaged, that is told when it is opened
		}
	}
	return server, nil
}

// busAt is the bus that a store holds.
func busAt(ctx context.Context, url string, acc admin.Access) (unibus.ID, error) {
	s, done, err := admin.Open(ctx, url, acc, open.Refuse)
	if err != nil {
		return unibus.ID{}, err
	}
	defer done()
	return admin.BusOf(ctx, s)
}

// unrecorded is the store in the servers, if there is one: the data folder does not say where a bus is kept.
func (a *app) unrecorded(ctx context.Context, acc admin.Access) (string, error) {
	if acc.Keys == nil && acc.Context == "" {
		return "", whichStore()
	}
	server, err := a.server(ctx)
	if err != nil {
		return "", err
	}
	_, done, err := admin.Open(ctx, server, acc, open.Refuse)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return "", whichStore()
	case err != nil:
		return "", operatorHint(err)
	}
	done()
	return server, nil
}

// openBackend opens the store that --store names, or the one of the service on this machine.
func (a *app) openBackend(ctx context.Context, acc admin.Access) (*backend, error) {
	url, served, err := a.backendURL(ctx, acc)
	if err != nil {
		return nil, err
	}
	s, done, err := admin.Open(ctx, url, acc, open.Refuse)
	if err != nil {
		return nil, operatorHint(err)
	}
	return &backend{s, url, served, done}, nil
}

// progress shows a bar while f works, on a terminal.
func (a *app) progress(what string, f func(admin.Progress) error) error {
	if !a.err.terminal || a.set.quiet {
		return f(func(int64, int64) {})
	}
	w := progress.NewWriter()
	w.SetOutputWriter(a.err.raw)
	w.SetAutoStop(false)
	w.SetTrackerLength(20) // a line fits 80 columns, or it could not be written over
	w.SetMessageLength(12)
	w.SetUpdateFrequency(100 * time.Millisecond)
	w.SetStyle(progress.StyleBlocks)
	w.Style().Visibility.Value = true
	w.Style().Visibility.ETA = true
	if a.err.plain {
		w.SetStyle(progress.StyleDefault)
	}
	t := &progress.Tracker{Message: what}
	w.AppendTracker(t)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Render()
	}()
	err := f(func(done, all int64) {
		t.UpdateTotal(all)
		t.SetValue(min(done, all-1)) // the end is when all is checked
	})
	if err != nil {
		t.MarkAsErrored()
	} else {
		t.MarkAsDone()
	}
	w.Stop()
	<-ended
	return err
}

func (a *app) migrateCmd() *cobra.Command {
	var source, target string
	var dry bool
	c := &cobra.Command{
		Use: "migrate --from URL --to URL", Short: "Move everything from one store to another", Args: cobra.NoArgs,
		Long: "Copy logs, sealed keys and cards from one store to another, in either direction, and check at the end\nthat both hold the same and that every view is what the logs say. Stop unibus serve before: what is\nwritten meanwhile is found missing at the end. It may be interrupted and repeated: it goes on where it\nwas. Messages stay where they are, in their streams.",
		Example: `  unibus migrate --from sqlite:unibus.db --to nats://127.0.0.1:4222
  unibus migrate --from nats://127.0.0.1:4222 --to sqlite:copy.db --dry-run`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if source == "" || target == "" {
				return usage("migrate needs --from and --to")
			}
			if open.Same(source, target) {
				return usage("migrate: --from and --to are the same store")
			}
			acc, err := a.access()
			if err != nil {
				return err
			}
			from, done, err := admin.Open(cmd.Context(), source, acc, open.Refuse)
			if err != nil {
				return fmt.Errorf("--from: %w", err)
			}
			defer done()
			missing := open.Make
			if dry {
				missing = open.Refuse
			}
			to, done, err := admin.Open(cmd.Context(), target, acc, missing)
			if dry && errors.Is(err, store.ErrNotFound) {
				to, done, err = nil, func() {}, nil
			}
			if err != nil {
				return fmt.Errorf("--to: %w", err)
			}
			defer done()
			a.servesElsewhere(cmd.Context(), acc, target, to)
			var r admin.Report
			began := time.Now()
			err = a.progress("migrate", func(p admin.Progress) (err error) {
				r, err = admin.Migrate(cmd.Context(), from, to, dry, p)
				return err
			})
			if err != nil {
				return a.interruptedCopy("migrate", err)
			}
			if dry {
				return a.out.value(map[string]any{"bus": r.Bus, "missing": r.Missing, "dry_run": true}, func() {
					fmt.Fprintf(a.out, "would move %s of the bus %s that the target does not have whole\n", english.Plural(int(r.Missing), "log", ""), r.Bus)
				})
			}
			return a.copied("migrated", target, r, began)
		},
	}
	a.dataFlag(c)
	c.Flags().StringVar(&source, "from", "", "the store to read, `URL`")
	c.Flags().StringVar(&target, "to", "", "the store to write, `URL`; nats://… may end in ?replicas=N")
	c.Flags().BoolVar(&dry, "dry-run", false, "only say what would be moved")
	return c
}

// servesElsewhere warns when the servers of a target are those of a service that goes on with another store.
func (a *app) servesElsewhere(ctx context.Context, acc admin.Access, target string, to store.Backend) {
	if open.IsFile(target) || acc.Keys == nil || to == nil {
		return
	}
	kept, err := service.KeptIn(a.dataDir())
	if err != nil || kept == service.JetStream {
		return
	}
	if _, err := admin.BusOf(ctx, to); kept == "" && !errors.Is(err, store.ErrNotFound) {
		return // which may be what it serves from
	}
	links, err := acc.Links(target)
	if err != nil {
		return // nobody who could be warned of is seen
	}
	defer links.Close()
	if admin.Serving(ctx, links) {
		a.notice("warning: a service is running there, and goes on with its own store: this is a copy, which grows old. Stop it and start it with --store jetstream to use the copy")
	}
}

// interruptedCopy says that a copy can go on.
func (a *app) interruptedCopy(what string, err error) error {
	if errors.Is(err, context.Canceled) {
		a.notice("%s was interrupted; the same command goes on from here", what)
	}
	return err
}

// copied tells what was copied, and what is left to do at a store in NATS servers, where the rooms'
// messages are to be.
func (a *app) copied(what, url string, r admin.Report, began time.Time) error {
	if url != "" && !open.IsFile(url) {
		a.notice("rooms that store messages get their streams when unibus serve starts; without a service: unibus doctor --repair --store %s", redact.URL(url))
	}
	type result struct {
		admin.Report
		Seconds float64 `json:"seconds"`
	}
	return a.out.value(result{r, time.Since(began).Seconds()}, func() { fmt.Fprintln(a.out, copiedText(what, r, began)) })
}

func copiedText(what string, r admin.Report, began time.Time) string {
	return fmt.Sprintf("%s the bus %s: %s, %s, %s, %s, in %v", what, r.Bus,
		english.Plural(int(r.Logs), "log", ""), english.Plural(int(r.Entries), "entry", ""),
		english.Plural(int(r.Keys), "sealed key", ""), english.Plural(int(r.Cards), "card", ""), time.Since(began).Round(10*time.Millisecond))
}

func (a *app) backupCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "backup FILE|-", Short: "Write logs, sealed keys and cards to an archive", Args: cobra.ExactArgs(1),
		Long: "Write everything a store holds to one file, which any store can be restored from: a compressed tar file\nwith a checksum. It holds no room key in clear, and no messages. Without --store it is the store that\nthe service on this machine serves from. With - it goes to stdout.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "-" && a.out.terminal {
				return hinted(usage("backup -: an archive is nothing to look at"), "unibus backup - >FILE")
			}
			acc, err := a.access()
			if err != nil {
				return err
			}
			s, err := a.openBackend(cmd.Context(), acc)
			if err != nil {
				return fmt.Errorf("backup: %w", err)
			}
			defer s.close()
			if a.set.store == "" { // nobody said which
				a.notice("the store: %s", redact.URL(s.url))
			}
			began := time.Now()
			var r admin.Report
			err = a.progress("backup", func(p admin.Progress) (err error) {
				if args[0] == "-" {
					r, err = admin.BackupTo(cmd.Context(), s.Backend, a.out, began, p)
					return errors.Join(err, a.out.Flush())
				}
				r, err = admin.Backup(cmd.Context(), s.Backend, args[0], began, p)
				return err
			})
			if err != nil {
				return fmt.Errorf("backup: %w", err)
			}
			if args[0] == "-" {
				a.notice("%s", copiedText("backed up", r, began))
				return nil
			}
			return a.copied("backed up", "", r, began)
		},
	}
	a.dataFlag(c)
	return c
}

func (a *app) restoreCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "restore FILE|- --store URL", Short: "Put an archive into a store", Args: cobra.ExactArgs(1),
		Long: "Check an archive and every log in it, put it into a store, and check the store. A file that is made for it is\nthere when all of that is done, or not at all. In NATS servers it may be interrupted and repeated: it goes on\nwhere it was. With - the archive is read from stdin.",
		RunE: func(cmd *cobra.Command, args []string) error {
			url := a.set.store
			if url == "" {
				return hinted(usage("restore: where to?"), "--store sqlite:PATH, or --store nats://HOST:PORT")
			}
			acc, err := a.access()
			if err != nil {
				return err
			}
			var piped *os.File
			if args[0] == "-" {
				if piped, err = aside(a.in); err != nil {
					return fmt.Errorf("restore: read stdin: %w", err)
				}
				defer os.Remove(piped.Name())
				defer piped.Close()
			}
			began := time.Now()
			var r admin.Report
			err = a.progress("restore", func(p admin.Progress) (err error) {
				if piped != nil {
					r, err = admin.RestoreFrom(cmd.Context(), piped, url, acc, p)
					return err
				}
				r, err = admin.Restore(cmd.Context(), args[0], url, acc, p)
				return err
			})
			if err != nil {
				if r.Entries > 0 && !open.IsFile(url) {
					a.notice("the store is not complete; the same command goes on from here")
				}
				return fmt.Errorf("restore: %w", err)
			}
			return a.copied("restored", url, r, began)
		},
	}
	a.dataFlag(c)
	return c
}

// aside keeps an input in a file, for an archive is read twice. The caller removes it.
func aside(in io.Reader) (*os.File, error) {
	f, err := os.CreateTemp("", "unibus-restore-*")
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(f, in); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return f, nil
}

func (a *app) storeCmd() *cobra.Command {
	var n int
	scale := &cobra.Command{
		Use: "scale --replicas N", Short: "Keep a JetStream store and the rooms' streams on N servers", Args: cobra.NoArgs,
		Long:    "Change on how many servers of the cluster the store and the rooms' streams are kept, while the bus is in\nuse, and wait until every copy is current.",
		Example: `  unibus store scale --replicas 3`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n == 0 {
				return usage("store scale: --replicas N says on how many servers")
			}
			acc, err := a.access()
			if err != nil {
				return err
			}
			url := a.set.store
			if url == "" {
				if url, err = a.server(cmd.Context()); err != nil {
					return err
				}
			}
			if open.IsFile(url) {
				return usage("store scale: a file is kept on one machine; only a JetStream store can be on several")
			}
			nc, err := acc.Dial(url)
			if err != nil {
				return operatorHint(err)
			}
			defer nc.Close()
			began := time.Now()
			var streams int64
			err = a.progress("scale to "+strconv.Itoa(n), func(p admin.Progress) (err error) {
				streams, err = admin.Scale(cmd.Context(), nc, n, p)
				return err
			})
			if err != nil {
				err = fmt.Errorf("scale: %w", err)
				if errors.Is(err, unibus.ErrNotFound) {
					return hinted(err, "a bus that is kept in a file is on one machine; unibus migrate takes it to JetStream")
				}
				return err
			}
			return a.out.value(map[string]any{"replicas": n, "changed": streams, "seconds": time.Since(began).Seconds()}, func() {
				fmt.Fprintf(a.out, "%s changed; each is kept on %d now, all current\n", english.Plural(int(streams), "stream", ""), n)
			})
		},
	}
	a.dataFlag(scale)
	scale.Flags().Var(newValue(&n, between(1, 5)), "replicas", "on how many servers, 1 to 5")
	return group("store", "Look after the store", scale)
}
