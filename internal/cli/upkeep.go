package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/service"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/upkeep"
)

// access is how this run gets at stores in NATS servers: with the service's keys if they are named or
// in the data folder of this machine, else as the NATS context or the URL says.
func (a *app) access() (upkeep.Access, error) {
	v := a.config
	acc := upkeep.Access{Context: v.GetString("context"), Timeout: v.GetDuration("timeout")}
	file := v.GetString("keys")
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

func (a *app) server() string { return cmp.Or(a.config.GetString("server"), unibus.DefaultServer) }

// vaultURL is the store that --store names, or the one of the service on this machine.
func (a *app) vaultURL(ctx context.Context, acc upkeep.Access) (string, error) {
	if url := a.config.GetString("store"); url != "" {
		return url, nil
	}
	file := filepath.Join(a.dataDir(), "unibus.db")
	_, missing := os.Stat(file)
	var reached error
	if acc.Keys != nil || acc.Context != "" {
		_, done, err := upkeep.Open(ctx, a.server(), acc, true)
		if err == nil {
			done()
			return a.server(), nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			reached = err
		}
	}
	switch {
	case missing == nil:
		return "sqlite:" + file, nil
	case reached != nil:
		return "", reached
	}
	return "", usage("which store? --store sqlite:PATH or --store nats://HOST:PORT")
}

// vault opens the store that --store names, or the one of the service on this machine, and calls f.
func (a *app) vault(ctx context.Context, f func(url string, s store.Vault) error) error {
	acc, err := a.access()
	if err != nil {
		return err
	}
	url, err := a.vaultURL(ctx, acc)
	if err != nil {
		return err
	}
	s, done, err := upkeep.Open(ctx, url, acc, true)
	if err != nil {
		return err
	}
	defer done()
	return f(url, s)
}

// progress shows a bar while f works, on a terminal.
func (a *app) progress(what string, f func(upkeep.Progress) error) error {
	if !a.err.terminal || a.config.GetBool("quiet") {
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
	c := &cobra.Command{
		Use: "migrate --from URL --to URL", Short: "Move everything from one store to another", Args: cobra.NoArgs,
		Long: "Copy logs, sealed keys and cards from one store to another, in either direction, and check at the end\nthat both hold the same and that every view is what the logs say. Stop unibus serve before: what is\nwritten meanwhile is found missing at the end. It may be interrupted and repeated: it goes on where it\nwas. Messages stay where they are, in their streams.",
		Example: `  unibus migrate --from sqlite:unibus.db --to nats://127.0.0.1:4222
  unibus migrate --from nats://127.0.0.1:4222 --to sqlite:copy.db --dry-run`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := a.config
			if v.GetString("from") == "" || v.GetString("to") == "" {
				return usage("migrate needs --from and --to")
			}
			acc, err := a.access()
			if err != nil {
				return err
			}
			from, done, err := upkeep.Open(cmd.Context(), v.GetString("from"), acc, true)
			if err != nil {
				return fmt.Errorf("--from: %w", err)
			}
			defer done()
			dry := v.GetBool("dry-run")
			to, done, err := upkeep.Open(cmd.Context(), v.GetString("to"), acc, dry)
			if dry && errors.Is(err, store.ErrNotFound) {
				to, done, err = nil, func() {}, nil
			}
			if err != nil {
				return fmt.Errorf("--to: %w", err)
			}
			defer done()
			var r upkeep.Report
			began := time.Now()
			err = a.progress("migrate", func(p upkeep.Progress) (err error) {
				r, err = upkeep.Migrate(cmd.Context(), from, to, dry, p)
				return err
			})
			if err != nil {
				return a.interruptedCopy("migrate", err)
			}
			if dry {
				return a.out.value(map[string]any{"bus": r.Bus, "missing": r.Missing, "dry_run": true}, func() {
					fmt.Fprintf(a.out, "would move %d logs of the bus %s that the target does not have whole\n", r.Missing, r.Bus)
				})
			}
			return a.copied("migrated", v.GetString("to"), r, began)
		},
	}
	dataFlag(c)
	c.Flags().String("from", "", "the store to read, `URL`")
	c.Flags().String("to", "", "the store to write, `URL`; nats://… may end in ?replicas=N")
	c.Flags().Bool("dry-run", false, "only say what would be moved")
	return c
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
func (a *app) copied(what, url string, r upkeep.Report, began time.Time) error {
	if url != "" && !strings.HasPrefix(url, "sqlite:") {
		a.notice("rooms that store messages get their streams when unibus serve starts; without a service: unibus doctor --repair --store %s", redact.URL(url))
	}
	type result struct {
		upkeep.Report
		Seconds float64 `json:"seconds"`
	}
	took := time.Since(began)
	return a.out.value(result{r, took.Seconds()}, func() {
		fmt.Fprintf(a.out, "%s the bus %s: %d logs, %d entries, %d sealed keys, %d cards, in %v\n",
			what, r.Bus, r.Logs, r.Entries, r.Keys, r.Cards, took.Round(10*time.Millisecond))
	})
}

func (a *app) backupCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "backup FILE", Short: "Write logs, sealed keys and cards to an archive", Args: cobra.ExactArgs(1),
		Long: "Write everything a store holds to one file, which any store can be restored from: a compressed tar file\nwith a checksum. It holds no room key in clear, and no messages. Without --store it is the store of the\nservice on this machine.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.vault(cmd.Context(), func(_ string, s store.Vault) error {
				began := time.Now()
				var r upkeep.Report
				err := a.progress("backup", func(p upkeep.Progress) (err error) {
					r, err = upkeep.Backup(cmd.Context(), s, args[0], began, p)
					return err
				})
				if err != nil {
					return fmt.Errorf("backup: %w", err)
				}
				return a.copied("backed up", "", r, began)
			})
		},
	}
	dataFlag(c)
	return c
}

func (a *app) restoreCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "restore FILE --store URL", Short: "Put an archive into a store", Args: cobra.ExactArgs(1),
		Long: "Check an archive and every log in it, put it into a store, and check the store. It may be interrupted\nand repeated.",
		RunE: func(cmd *cobra.Command, args []string) error {
			url := a.config.GetString("store")
			if url == "" {
				return usage("restore needs --store: where to")
			}
			acc, err := a.access()
			if err != nil {
				return err
			}
			if _, err := os.Stat(args[0]); errors.Is(err, os.ErrNotExist) { // before a store is made for it
				return fmt.Errorf("restore: %w: there is no file %s", unibus.ErrNotFound, args[0])
			}
			s, done, err := upkeep.Open(cmd.Context(), url, acc, false)
			if err != nil {
				return err
			}
			defer done()
			began := time.Now()
			var r upkeep.Report
			err = a.progress("restore", func(p upkeep.Progress) (err error) {
				r, err = upkeep.Restore(cmd.Context(), args[0], s, p)
				return err
			})
			if err != nil {
				return a.interruptedCopy("restore", err)
			}
			return a.copied("restored", url, r, began)
		},
	}
	dataFlag(c)
	return c
}

func (a *app) storeCmd() *cobra.Command {
	scale := &cobra.Command{
		Use: "scale --replicas N", Short: "Keep a JetStream store and the rooms' streams on N servers", Args: cobra.NoArgs,
		Long:    "Change on how many servers of the cluster the store and the rooms' streams are kept, while the bus is in\nuse, and wait until every copy is current.",
		Example: `  unibus store scale --replicas 3`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			n := a.config.GetInt("replicas")
			if n < 1 || n > 5 {
				return usage("--replicas: 1 to 5")
			}
			acc, err := a.access()
			if err != nil {
				return err
			}
			url := cmp.Or(a.config.GetString("store"), a.server())
			nc, err := acc.Dial(url)
			if err != nil {
				return err
			}
			defer nc.Close()
			began := time.Now()
			var streams int64
			err = a.progress("scale to "+strconv.Itoa(n), func(p upkeep.Progress) (err error) {
				streams, err = upkeep.Scale(cmd.Context(), nc, n, p)
				return err
			})
			if err != nil {
				return fmt.Errorf("scale: %w", err)
			}
			return a.out.value(map[string]any{"replicas": n, "changed": streams, "seconds": time.Since(began).Seconds()}, func() {
				fmt.Fprintf(a.out, "%d streams changed; each is kept on %d now, all current\n", streams, n)
			})
		},
	}
	dataFlag(scale)
	scale.Flags().Int("replicas", 0, "on how many servers, 1 to 5")
	return group("store", "Look after the store", scale)
}

func (a *app) doctorCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "doctor", Short: "Check whether everything is well", Args: cobra.NoArgs,
		Long: "Check this identity, the bus and the rooms, one check a line: pass, warn or fail. Who runs the servers\nalso sees to them and the store: with the service's keys in the data folder of this machine or in\n--keys, or with --store. The exit code is 1 when a check fails.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &doctor{a: a}
			ctx := cmd.Context()
			repair := a.config.GetBool("repair")
			if a.config.GetString("store") == "" {
				d.peer(ctx)
			}
			if err := d.operator(ctx, repair); err != nil {
				return err
			}
			if err := d.print(); err != nil {
				return err
			}
			if d.failed > 0 {
				return errors.New("not everything is well")
			}
			return nil
		},
	}
	dataFlag(c)
	c.Flags().Bool("repair", false, "write all views anew from the logs, make streams that are missing or not as they have to be, and accept those that went back")
	return c
}

// doctor collects checks.
type doctor struct {
	a      *app
	checks []upkeep.Check
	failed int
}

func (d *doctor) add(c upkeep.Check) {
	d.checks = append(d.checks, c)
	if c.Status == upkeep.Fail {
		d.failed++
	}
}

func (d *doctor) say(name, status, hint, format string, args ...any) {
	d.add(upkeep.Check{Name: name, Status: status, Detail: redact.Text(fmt.Sprintf(format, args...)), Hint: hint})
}

// peer looks at what everyone can: who I am, whether I get in, and my rooms.
func (d *doctor) peer(ctx context.Context) {
	o, err := d.a.options()
	if err != nil {
		d.say("identity", upkeep.Fail, unibus.Hint(err), "%v", err)
		return
	}
	d.say("identity", upkeep.Pass, "", "%s", o.Identity.Key())
	o.Notice = nil
	c, err := unibus.Connect(ctx, o)
	switch {
	case errors.Is(err, unibus.ErrIntegrity):
		d.say("pins", upkeep.Fail, unibus.Hint(err), "%v", err)
		return
	case errors.Is(err, unibus.ErrDenied):
		d.say("reachable", upkeep.Pass, "", "%s", redact.URL(d.a.server()))
		d.say("authorised", upkeep.Fail, unibus.Hint(err), "%v", err)
		return
	case err != nil:
		d.say("reachable", upkeep.Fail, unibus.Hint(err), "%v", err)
		return
	}
	defer c.Close()
	d.say("reachable", upkeep.Pass, "", "the bus %s", c.Bus())
	me, err := c.User(ctx, o.Identity.Key().String())
	if err != nil {
		d.say("authorised", upkeep.Fail, "", "%v", err)
		return
	}
	d.say("authorised", upkeep.Pass, "", "as %s, %s", me.Name, me.Role)
	upkeep.Clock("clock", "the service", c.ClockSkew(), d.add)
	d.rooms(ctx, c)
}

func (d *doctor) rooms(ctx context.Context, c *unibus.Client) {
	refs, err := c.ListMyRooms(ctx)
	if err != nil {
		d.say("rooms", upkeep.Fail, "", "%v", err)
		return
	}
	var stale, sole []string
	for _, ref := range refs {
		r, err := c.Room(ctx, ref.ID.String())
		if err != nil {
			d.say("pins", upkeep.Fail, unibus.Hint(err), "%v", err)
			return
		}
		info := r.Info()
		if info.Stale {
			stale = append(stale, ref.Subject)
		}
		owners := 0
		for _, m := range r.Members() {
			if m.Role == unibus.RoleOwner {
				owners++
			}
		}
		if owners == 1 && ref.Role == unibus.RoleOwner {
			sole = append(sole, ref.Subject)
		}
	}
	d.say("pins", upkeep.Pass, "", "the logs of the bus and of my rooms (%d) go on from what was verified before", len(refs))
	upkeep.RoomChecks(len(refs), stale, sole, func(c upkeep.Check) {
		c.Name = "my " + c.Name
		d.add(c)
	})
}

// operator looks at the servers and the store, as far as this run may.
func (d *doctor) operator(ctx context.Context, repair bool) error {
	acc, err := d.a.access()
	if err != nil {
		return err
	}
	if acc.Keys == nil && acc.Context == "" && d.a.config.GetString("store") == "" {
		if repair {
			return usage("--repair needs the store: --store URL, or --keys FILE")
		}
		d.a.notice("the servers and the store were not looked at: that takes --keys FILE, or --store URL")
		return nil
	}
	servers := "" // with streams to look at
	looked := false
	machine := d.add
	if repair && d.remember() { // the service tells of them until it looks again
		machine = func(c upkeep.Check) {
			if c.Name != keptStreams || c.Status != upkeep.Fail {
				d.add(c)
			}
		}
	}
	if url := d.a.config.GetString("store"); !strings.HasPrefix(url, "sqlite:") && (acc.Keys != nil || url != "") {
		servers = cmp.Or(url, d.a.server())
	}
	if servers != "" && acc.Keys != nil {
		links, err := acc.Links(servers)
		if err != nil {
			d.say("servers", upkeep.Fail, "is it running? unibus serve", "%v", err)
			servers = ""
		} else {
			defer links.Close()
			upkeep.Servers(ctx, links, d.add)
			looked = true
			upkeep.Machines(ctx, links, d.a.dataDir(), machine)
		}
	}
	if !looked {
		upkeep.Machines(ctx, nil, d.a.dataDir(), machine)
	}
	err = d.a.vault(ctx, func(url string, s store.Vault) error {
		d.say("store", upkeep.Pass, "", "%s", redact.URL(url))
		if servers != "" {
			upkeep.Streams(ctx, acc, servers, s, repair, d.add)
		}
		upkeep.Views(ctx, s, repair, d.add)
		return nil
	})
	if err != nil {
		d.say("store", upkeep.Fail, unibus.Hint(err), "%v", err)
	}
	return nil
}

// keptStreams is the check that holds streams against what is remembered of them.
const keptStreams = "kept streams"

// remember takes the streams as they are for what they have to be, so far as the service on this machine
// remembers more of them. It reports whether there were any such.
func (d *doctor) remember() bool {
	file := service.MarksFile(d.a.dataDir())
	marks, err := service.LoadMarks(file)
	if err != nil {
		marks = service.Marks{}
	}
	forgotten := 0
	for room, mark := range marks {
		if mark.Lost > 0 {
			delete(marks, room)
			forgotten++
		}
	}
	if err == nil && forgotten == 0 {
		return false
	}
	if err := marks.Save(file); err != nil {
		d.say(keptStreams, upkeep.Fail, "", "what is remembered of the streams: %v", err)
		return false
	}
	d.say(keptStreams, upkeep.Pass, "", "%d are taken for what they have to be from now on", forgotten)
	return true
}

var statusColors = map[string]text.Color{upkeep.Pass: text.FgGreen, upkeep.Warn: text.FgYellow, upkeep.Fail: text.FgRed}

func (d *doctor) print() error {
	return d.a.out.value(d.checks, func() {
		width := 0
		for _, c := range d.checks {
			width = max(width, len(c.Name))
		}
		for _, c := range d.checks {
			status := c.Status
			if !d.a.out.plain {
				status = statusColors[c.Status].Sprint(status)
			}
			fmt.Fprintf(d.a.out, "%s  %-*s  %s\n", status, width, c.Name, visible(c.Detail))
			if c.Hint != "" {
				fmt.Fprintf(d.a.out, "      %-*s  hint: %s\n", width, "", visible(c.Hint))
			}
		}
	})
}
