package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize/english"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/admin"
	"github.com/unibus/unibus/internal/errlist"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/open"
)

// doctor looks at everything that this run can reach, and collects checks, a line each: first as every member can, then
// as the operator of the servers and the store (doctorstore.go). What can be looked at in a store is package admin's.

// doctorCommand is doctor and its flags.
type doctorCommand struct {
	a *app
	// repair puts right what can be: views, streams, and what is remembered of streams.
	repair bool
}

// newDoctor makes doctor.
func newDoctor(a *app) *cobra.Command {
	o := &doctorCommand{a: a}
	c := &cobra.Command{
		Use: "doctor", Short: "Check whether everything is well", Args: cobra.NoArgs,
		Long: "Check this identity, the bus and the rooms, one check a line: pass, warn or fail. Who runs the servers\nalso sees to them and the store: with the service's keys in the data folder of this machine or in\n--keys, or with --store. The exit code is 1 when a check fails.",
		Example: `  unibus doctor
  unibus doctor -o json |
    jq -r '.[] | select(.status != "pass") | "\(.check): \(.detail)"'`,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	a.set.defineData(c.Flags())
	c.Flags().BoolVar(&o.repair, "repair", false, "write all views anew from the logs, make streams that are missing or not as they have to be, and accept those that went back")
	return c
}

// run prints every check, and fails when one of them did: exit code 1, as of a program that found a fault.
func (o *doctorCommand) run(ctx context.Context) error {
	d := &doctor{a: o.a, repair: o.repair}
	if err := d.examine(ctx); err != nil {
		return err
	}
	if err := d.print(); err != nil {
		return err
	}
	if d.failed > 0 {
		return errors.New("not everything is well")
	}
	return nil
}

// doctor is one examination.
type doctor struct {
	a      *app
	repair bool // what can be put right is put right

	// checks are what is printed, in this order; failed is how many of them did.
	checks []checkLine
	failed int

	// bus is the one that is meant, and busKnownAs says why it is that one; zero: none is known, and any store will do.
	bus        unibus.ID
	busKnownAs string
	// held is the bus that the store which is looked at holds; zero: none was looked at.
	held unibus.ID
	// myRooms are checks of the rooms that I am in. They are left out when allRooms is set: when all rooms of the store were
	// looked at, mine among them.
	myRooms  []admin.Check
	allRooms bool
	// serversSilent says that the servers do not answer, which is told once; storeSilent, that the store does not, though its
	// servers may.
	serversSilent, storeSilent bool
	// store is the one that is looked at; nil: there is none.
	store *operated
}

// checkLine is a check as it is printed, and as scripts see it.
type checkLine struct {
	Name   string `json:"check"`
	Status string `json:"status"`
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"` // what helps
}

// add takes a check of package admin as one line, with what helps as a command.
func (d *doctor) add(c admin.Check) {
	d.line(checkLine{c.Name, c.Status, c.Detail, hintRemedy(c.Help)})
}

// line takes a line, and counts what fails.
func (d *doctor) line(l checkLine) {
	l.Detail = oneLine(l.Detail)
	d.checks = append(d.checks, l)
	if l.Status == admin.Fail {
		d.failed++
	}
}

// report adds a check that is made here, with what helps.
func (d *doctor) report(name, status, hint, format string, args ...any) {
	hint = strings.TrimSuffix(hint, hintLook) // nobody who runs doctor is sent to doctor
	d.line(checkLine{name, status, redact.Text(fmt.Sprintf(format, args...)), hint})
}

// failure is a check that could not be made. The same reason is told once, and so is that nobody answers.
func (d *doctor) failure(name string, err error) {
	silent := errors.Is(err, unibus.ErrUnavailable)
	same := func(c checkLine) bool {
		return c.Status == admin.Fail && c.Detail == oneLine(redact.Text(err.Error()))
	}
	if silent && d.serversSilent || slices.ContainsFunc(d.checks, same) {
		return
	}
	d.serversSilent = d.serversSilent || silent
	d.report(name, admin.Fail, d.a.hint(hintOperator(err)), "%v", err)
}

// examine makes all checks that this run can. An error is one that keeps it from going on; what is wrong with the bus is a
// check that fails.
func (d *doctor) examine(ctx context.Context) error {
	o, err := d.a.operator()
	if err != nil {
		return err
	}
	operates := d.operates(o)
	if d.repair && !operates {
		return hinted(usage("--repair needs the store"), hintRepair)
	}
	if d.a.set.store == "" {
		d.lookAsPeer(ctx)
	}
	if err := d.findMeantBus(ctx); err != nil {
		return err
	}
	if operates {
		if err := d.lookAtStore(ctx, o); err != nil {
			return err
		}
		d.lookAtPins(ctx)
	} else {
		d.a.notice("the servers and the store were not looked at: that takes --keys FILE, or --store URL")
	}
	if !d.allRooms {
		for _, c := range d.myRooms {
			d.add(c)
		}
	}
	return nil
}

// lookAsPeer looks at what everyone can: who I am, whether I get in, and my rooms.
func (d *doctor) lookAsPeer(ctx context.Context) {
	o, err := d.a.options()
	if err != nil {
		d.report("identity", admin.Fail, d.a.hint(err), "%v", err)
		return
	}
	d.report("identity", admin.Pass, "", "%s", o.Identity.Key())
	o.Notice = nil // what it would tell is a check here
	c, err := unibus.Connect(ctx, o)
	// Each way of not getting in is another check that fails, and those before it pass: whoever is denied has reached it.
	switch {
	case errors.Is(err, unibus.ErrIntegrity):
		d.report("pins", admin.Fail, d.a.hint(err), "%v", err)
		return
	case errors.Is(err, unibus.ErrDenied):
		server, serr := d.a.servers(ctx)
		d.report("reachable", admin.Pass, "", "%s", redact.URL(server))
		d.report("authorised", admin.Fail, d.a.hint(err), "%v", errors.Join(err, serr))
		return
	case d.repair && errors.Is(err, unibus.ErrUnavailable): // a service that is to be repaired need not run
		d.serversSilent = true
		d.report("reachable", admin.Warn, "", "%v", err)
		return
	case err != nil:
		d.failure("reachable", err)
		return
	}
	defer c.Close()
	d.bus, d.busKnownAs = c.Bus(), "the one that answers"
	d.report("reachable", admin.Pass, "", "the bus %s answers", c.Bus())
	me, err := c.User(ctx, o.Identity.Key().String())
	if err != nil {
		d.report("authorised", admin.Fail, "", "%v", err)
		return
	}
	d.report("authorised", admin.Pass, "", "as %s, %s", me.Name, me.Role)
	admin.Clock("clock", "the service", c.ClockSkew(), d.add)
	d.lookAtRooms(ctx, c)
}

// lookAtPins holds a file that is looked at straight, without a service, against what I have verified of its bus, if that is
// anything.
func (d *doctor) lookAtPins(ctx context.Context) {
	o, err := d.a.options()
	if err != nil || !open.IsFile(o.Store) || d.held.IsZero() { // who has no identity has verified nothing
		return
	}
	hash, err := unibus.RecallLog(ctx, o, d.held)
	if err != nil {
		d.report("pins", admin.Fail, d.a.hint(err), "%v", err)
		return
	}
	if _, known := hash(1); !known {
		return
	}
	o.Notice = nil // what it would tell is a check here
	c, err := unibus.Connect(ctx, o)
	if errors.Is(err, unibus.ErrIntegrity) && !errors.Is(err, store.ErrDamaged) {
		d.report("pins", admin.Fail, d.a.hint(err), "%v", err)
	}
	if err != nil { // the other checks say what else is wrong, as that the file is damaged
		return
	}
	defer c.Close()
	d.lookAtRooms(ctx, c)
}

// lookAtRooms looks at my rooms: whether their logs go on from what was verified before, which are stale, and where I am
// the only owner. What it finds of the last two is left out when the operator's part looks at all rooms.
func (d *doctor) lookAtRooms(ctx context.Context, c *unibus.Client) {
	refs, err := c.ListMyRooms(ctx)
	if err != nil {
		for _, one := range errlist.Split(err) {
			d.report("pins", admin.Fail, d.a.hint(one), "%v", one)
		}
	}
	var stale, sole []string
	for _, ref := range refs {
		r, err := c.Room(ctx, ref.ID.String())
		if err != nil {
			d.report("pins", admin.Fail, d.a.hint(err), "%v", err)
			return
		}
		if r.Info().Stale {
			stale = append(stale, ref.Subject)
		}
		// A room whose only owner loses the identity can never be changed again.
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
	if err == nil {
		d.report("pins", admin.Pass, "", "the logs of the bus and of my rooms (%d) go on from what was verified before: nothing was taken back", len(refs))
	} else if len(refs) == 0 {
		return
	}
	admin.RoomChecks(len(refs), stale, sole, func(c admin.Check) {
		if c.Name == "owners" && c.Status == admin.Pass {
			c.Detail = "no room has me as its only one"
		}
		c.Name = "my " + c.Name
		d.myRooms = append(d.myRooms, c)
	})
}

// findMeantBus finds out which bus a store has to hold, if the bus itself has not said so: the one that --bus insists on,
// or that was met there before, or that was joined.
func (d *doctor) findMeantBus(ctx context.Context) error {
	if !d.bus.IsZero() {
		return nil
	}
	var err error
	if d.bus, err = d.a.busID(ctx); err != nil || !d.bus.IsZero() {
		d.busKnownAs = "the one of --bus"
		return err
	}
	o, err := d.a.options()
	if errors.Is(err, unibus.ErrNotFound) { // whoever has no identity has met none
		return nil
	}
	if err != nil {
		return err
	}
	there, err := unibus.Recall(ctx, o)
	if errors.Is(err, unibus.ErrNotFound) { // none is in use, which is a check that failed
		return nil
	}
	if d.bus, d.busKnownAs = there.Bus, "the one that was met there before"; err != nil || !d.bus.IsZero() {
		return err
	}
	o.Store = ""
	joined, err := unibus.Recall(ctx, o)
	if errors.Is(err, unibus.ErrNotFound) { // likewise, or of several any may be meant
		return nil
	}
	d.bus, d.busKnownAs = joined.Bus, "the one that was joined"
	return err
}

// sum says how many checks went how.
func (d *doctor) sum() string {
	count := map[string]int{}
	for _, c := range d.checks {
		count[c.Status]++
	}
	return fmt.Sprintf("%d passed, %s, %d failed", count[admin.Pass], english.Plural(count[admin.Warn], "warning", ""), count[admin.Fail])
}

// statusColors are how a terminal shows how a check went.
var statusColors = map[string]text.Color{admin.Pass: text.FgGreen, admin.Warn: text.FgYellow, admin.Fail: text.FgRed}

// print prints the checks, a line each, and below a line what helps.
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
			fmt.Fprintf(d.a.out, "%s  %-*s  %s\n", status, width, c.Name, d.a.out.wrapped(visible(c.Detail), width+8))
			if c.Hint != "" { // in one piece, since it is there to be pasted
				fmt.Fprintf(d.a.out, "      %-*s  hint: %s\n", width, "", visible(c.Hint))
			}
		}
		fmt.Fprintf(d.a.out, "\n%s\n", d.sum())
	})
}
