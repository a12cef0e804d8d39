package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/unibus/unibus/internal/admin"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/store/open"
)

// backup and restore: a store to an archive and back. FILE may be - for stdout and stdin. Both open the store as every
// operator's command does; what an archive is made of, and how it is checked, is package admin's.

// backupCommand is backup, whose only flag is --data.
type backupCommand struct{ a *app }

// newBackup makes backup. An archive is never written to a terminal, where nobody could want it.
func newBackup(a *app) *cobra.Command {
	b := &backupCommand{a: a}
	c := &cobra.Command{
		Use: "backup FILE|-", Short: "Write logs, sealed keys and cards to an archive", Args: cobra.ExactArgs(1),
		Long: "Write everything a store holds to one file, which any store can be restored from: a compressed tar file\nwith a checksum. It holds no room key in clear, and no messages. Without --store it is the store that\nthe service on this machine serves from. With - it goes to stdout.",
		Example: `  unibus backup "bus-$(date +%F).unibus"
  unibus backup - | ssh backup.example.org 'cat > bus.unibus'
  unibus backup bus.unibus --store sqlite:/srv/unibus/unibus.db`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "-" && a.out.terminal {
				return hinted(usage("backup -: an archive is nothing to look at"), hintBackupTo)
			}
			o, err := a.operator()
			if err != nil {
				return err
			}
			return b.run(cmd.Context(), o, args[0])
		},
	}
	a.set.defineData(c.Flags())
	return c
}

// run writes the archive while the bus may go on being used. The bar and the report go to stderr when the archive
// goes to stdout. ErrExists when the file is there.
func (b *backupCommand) run(ctx context.Context, o *operator, file string) error {
	s, err := o.open(ctx)
	if err != nil {
		return hintNew(fmt.Errorf("backup: %w", err))
	}
	defer s.close()
	// Nobody said which store: there may be an older one beside it, and a backup of that would be found out too late.
	if o.set.store == "" {
		o.notice("the store: %s", redact.URL(s.url))
	}
	began := time.Now()
	var r admin.Report
	err = o.progress("backup", func(p admin.Progress) (err error) {
		if file == "-" {
			r, err = admin.BackupTo(ctx, s.Backend, o.out, began, p)
			return errors.Join(err, o.out.Flush())
		}
		r, err = admin.Backup(ctx, s.Backend, file, began, p)
		return err
	})
	if err != nil {
		return hintNew(fmt.Errorf("backup: %w", err))
	}
	if file == "-" {
		o.notice("%s", copiedText("backed up", r, began))
		return nil
	}
	return o.copied("backed up", "", r, began)
}

// restoreCommand is restore, whose only flag is --data.
type restoreCommand struct{ a *app }

// newRestore makes restore, which needs --store: there is no store that one would restore over by default.
func newRestore(a *app) *cobra.Command {
	r := &restoreCommand{a: a}
	c := &cobra.Command{
		Use: "restore FILE|- --store URL", Short: "Put an archive into a store", Args: cobra.ExactArgs(1),
		Long: "Check an archive and every log in it, put it into a store, and check the store. A file that is made for it is\nthere when all of that is done, or not at all. In NATS servers it may be interrupted and repeated: it goes on\nwhere it was. With - the archive is read from stdin.",
		Example: `  unibus restore bus.unibus --store sqlite:unibus.db
  ssh backup.example.org cat bus.unibus |
    unibus restore - --store sqlite:unibus.db
  unibus restore bus.unibus --keys service.nk \
    --store nats://127.0.0.1:4222`,
		RunE: func(cmd *cobra.Command, args []string) error { return r.run(cmd.Context(), args[0]) },
	}
	a.set.defineData(c.Flags())
	return c
}

// run checks the archive and puts it into the store. What comes through a pipe is spooled first: it is read once to be
// checked and once to be copied.
func (r *restoreCommand) run(ctx context.Context, file string) error {
	a, url := r.a, r.a.set.store
	if url == "" {
		return hinted(usage("restore: where to?"), hintRestoreTo)
	}
	o, err := a.operator()
	if err != nil {
		return err
	}
	// A file is read in place; what is piped has to be spooled, which is removed however this ends.
	var piped *os.File
	if file == "-" {
		if piped, err = spool(a.in); err != nil {
			return fmt.Errorf("restore: read stdin: %w", err)
		}
		defer os.Remove(piped.Name())
		defer piped.Close()
	}
	began := time.Now()
	var report admin.Report
	err = a.progress("restore", func(p admin.Progress) (err error) {
		if piped != nil {
			report, err = admin.RestoreFrom(ctx, piped, url, o.acc, p)
			return err
		}
		report, err = admin.Restore(ctx, file, url, o.acc, p)
		return err
	})
	if err != nil {
		if report.Entries > 0 && !open.IsFile(url) {
			a.notice("the store is not complete; the same command goes on from here")
		}
		return fmt.Errorf("restore: %w", hintOperator(err))
	}
	return a.copied("restored", url, report, began)
}

// spool puts an input into a file, for an archive is read twice. The caller closes and removes it.
func spool(in io.Reader) (*os.File, error) {
	f, err := os.CreateTemp("", "unibus-restore-*")
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(f, in); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return f, nil
}
