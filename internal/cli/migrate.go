package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/admin"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/service"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/open"
)

// migrate copies one store to another. What is said of a copy is said of a backup and of what is restored, too: copied.

// migrateCommand is migrate and its flags.
type migrateCommand struct {
	a *app
	// from and to are URLs of stores.
	from, to string
	// dryRun only counts what would be copied.
	dryRun bool
}

// newMigrate makes migrate.
func newMigrate(a *app) *cobra.Command {
	m := &migrateCommand{a: a}
	c := &cobra.Command{
		Use: "migrate --from URL --to URL", Short: "Move everything from one store to another", Args: cobra.NoArgs,
		Long: "Copy logs, sealed keys and cards from one store to another, in either direction, and check at the end\nthat both hold the same and that every view is what the logs say. Stop unibus serve before: what is\nwritten meanwhile is found missing at the end. It may be interrupted and repeated: it goes on where it\nwas. Messages stay where they are, in their streams.",
		Example: `  unibus migrate --from sqlite:unibus.db --to nats://127.0.0.1:4222
  unibus migrate --from nats://127.0.0.1:4222 --to sqlite:copy.db --dry-run`,
		RunE: func(cmd *cobra.Command, _ []string) error { return m.run(cmd.Context()) },
	}
	a.set.defineData(c.Flags())
	c.Flags().StringVar(&m.from, "from", "", "the store to read, `URL`")
	c.Flags().StringVar(&m.to, "to", "", "the store to write, `URL`; nats://… may end in ?replicas=N")
	c.Flags().BoolVar(&m.dryRun, "dry-run", false, "only say what would be moved")
	return c
}

// dryRunJSON is what a migration would do, as scripts see it.
type dryRunJSON struct {
	Bus     unibus.ID `json:"bus"`
	DryRun  bool      `json:"dry_run"`
	Missing int64     `json:"missing"`
}

// run copies what the target does not have, and then holds both against each other: ErrDiffers when someone wrote
// meanwhile. A dry run may name a target that is not there, and makes none.
func (m *migrateCommand) run(ctx context.Context) error {
	if m.from == "" || m.to == "" {
		return hinted(usage("migrate needs --from and --to"), hintUseLine(m.a.cmd))
	}
	if open.Same(m.from, m.to) {
		return usage("migrate: --from and --to are the same store")
	}
	o, err := m.a.operator()
	if err != nil {
		return err
	}
	from, done, err := admin.Open(ctx, m.from, o.acc, open.Refuse)
	if err != nil {
		return fmt.Errorf("--from: %w", hintOperator(err))
	}
	defer done()
	missing := open.Make
	if m.dryRun {
		missing = open.Refuse
	}
	to, done, err := admin.Open(ctx, m.to, o.acc, missing)
	// A dry run makes no store: against none, everything is missing.
	if m.dryRun && errors.Is(err, store.ErrNotFound) {
		to, done, err = nil, func() {}, nil
	}
	if err != nil {
		return fmt.Errorf("--to: %w", hintOperator(err))
	}
	defer done()
	o.warnOtherStore(ctx, m.to, to)
	began := time.Now()
	var r admin.Report
	err = m.a.progress("migrate", func(p admin.Progress) (err error) {
		if m.dryRun {
			r, err = admin.Survey(ctx, from, to)
		} else {
			r, err = admin.Migrate(ctx, from, to, p)
		}
		return err
	})
	if errors.Is(err, context.Canceled) {
		m.a.notice("migrate was interrupted; the same command goes on from here")
	}
	if err != nil {
		return err
	}
	if !m.dryRun {
		return m.a.copied("migrated", m.to, r, began)
	}
	return m.a.out.value(dryRunJSON{Bus: r.Bus, DryRun: true, Missing: r.Missing}, func() {
		fmt.Fprintf(m.a.out, "would move %s of the bus %s that the target does not have whole\n", english.Plural(int(r.Missing), "log", ""), r.Bus)
	})
}

// warnOtherStore warns when the servers of a target are those of a service that goes on with another store.
func (o *operator) warnOtherStore(ctx context.Context, target string, to store.Backend) {
	if open.IsFile(target) || o.acc.Keys == nil || to == nil {
		return
	}
	kept, err := service.KeptIn(o.set.dataDir())
	if err != nil || kept == service.JetStream {
		return
	}
	if _, err := admin.BusOf(ctx, to); kept == "" && !errors.Is(err, store.ErrNotFound) {
		return // which may be what it serves from
	}
	links, err := o.acc.Links(target)
	if err != nil {
		return // nobody who could be warned of is seen
	}
	defer links.Close()
	if admin.Serving(ctx, links) {
		o.notice("warning: a service is running there, and goes on with its own store: this is a copy, which grows old. Stop it and start it with --store jetstream to use the copy")
	}
}

// copyJSON is what was copied, as scripts see it.
type copyJSON struct {
	admin.Report
	Seconds float64 `json:"seconds"`
}

// copied tells what was copied, and what is left to do at a store in NATS servers, where the rooms'
// messages are to be.
func (c *console) copied(what, url string, r admin.Report, began time.Time) error {
	if url != "" && !open.IsFile(url) {
		c.notice("rooms that store messages get their streams when unibus serve starts; without a service: unibus doctor --repair --store %s", redact.URL(url))
	}
	return c.out.value(copyJSON{r, time.Since(began).Seconds()}, func() { fmt.Fprintln(c.out, copiedText(what, r, began)) })
}

// copiedText tells people what was copied.
func copiedText(what string, r admin.Report, began time.Time) string {
	return fmt.Sprintf("%s the bus %s: %s, %s, %s, %s, in %v", what, r.Bus,
		english.Plural(int(r.Logs), "log", ""), english.Plural(int(r.Entries), "entry", ""),
		english.Plural(int(r.Keys), "sealed key", ""), english.Plural(int(r.Cards), "card", ""), time.Since(began).Round(10*time.Millisecond))
}
