package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/dustin/go-humanize/english"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/service"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/upkeep"
)

func (a *app) doctorCmd() *cobra.Command {
	var repair bool
	c := &cobra.Command{
		Use: "doctor", Short: "Check whether everything is well", Args: cobra.NoArgs,
		Long: "Check this identity, the bus and the rooms, one check a line: pass, warn or fail. Who runs the servers\nalso sees to them and the store: with the service's keys in the data folder of this machine or in\n--keys, or with --store. The exit code is 1 when a check fails.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &doctor{a: a, repair: repair}
			if err := d.examine(cmd.Context()); err != nil {
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
	a.dataFlag(c)
	c.Flags().BoolVar(&repair, "repair", false, "write all views anew from the logs, make streams that are missing or not as they have to be, and accept those that went back")
	return c
}

// doctor collects checks: first as everyone can, then as the operator of the servers and the store.
type doctor struct {
	a      *app
	repair bool

	checks []upkeep.Check
	failed int

	bus     unibus.ID      // the one that is meant; zero: none is known
	known   string         // why it is that one
	mine    []upkeep.Check // of my rooms
	silent  bool           // the servers do not answer, which was told
	dark    bool           // the store does not answer as it should; its servers may
	store   *vault         // nil: none is there to look at
	covered bool           // all rooms were looked at, mine among them
}

func (d *doctor) add(c upkeep.Check) {
	c.Detail = oneLine(c.Detail)
	d.checks = append(d.checks, c)
	if c.Status == upkeep.Fail {
		d.failed++
	}
}

func (d *doctor) say(name, status, hint, format string, args ...any) {
	hint = strings.TrimSuffix(hint, lookWith) // which it does
	d.add(upkeep.Check{Name: name, Status: status, Detail: redact.Text(fmt.Sprintf(format, args...)), Hint: hint})
}

// failure is a check that could not be made. The same reason is told once, and so is that nobody answers.
func (d *doctor) failure(name string, err error) {
	silent := errors.Is(err, unibus.ErrUnavailable)
	same := func(c upkeep.Check) bool {
		return c.Status == upkeep.Fail && c.Detail == oneLine(redact.Text(err.Error()))
	}
	if silent && d.silent || slices.ContainsFunc(d.checks, same) {
		return
	}
	d.silent = d.silent || silent
	d.say(name, upkeep.Fail, d.a.hint(operatorHint(err)), "%v", err)
}

func (d *doctor) examine(ctx context.Context) error {
	if d.a.set.store == "" {
		d.peer(ctx)
	}
	if err := d.meant(ctx); err != nil {
		return err
	}
	if err := d.operator(ctx); err != nil {
		return err
	}
	if !d.covered {
		for _, c := range d.mine {
			d.add(c)
		}
	}
	return nil
}

// peer looks at what everyone can: who I am, whether I get in, and my rooms.
func (d *doctor) peer(ctx context.Context) {
	o, err := d.a.options()
	if err != nil {
		d.say("identity", upkeep.Fail, d.a.hint(err), "%v", err)
		return
	}
	d.say("identity", upkeep.Pass, "", "%s", o.Identity.Key())
	o.Notice = nil
	c, err := unibus.Connect(ctx, o)
	switch {
	case errors.Is(err, unibus.ErrIntegrity):
		d.say("pins", upkeep.Fail, d.a.hint(err), "%v", err)
		return
	case errors.Is(err, unibus.ErrDenied):
		server, serr := d.a.server(ctx)
		d.say("reachable", upkeep.Pass, "", "%s", redact.URL(server))
		d.say("authorised", upkeep.Fail, d.a.hint(err), "%v", errors.Join(err, serr))
		return
	case d.repair && errors.Is(err, unibus.ErrUnavailable): // a service that is to be repaired need not run
		d.silent = true
		d.say("reachable", upkeep.Warn, "", "%v", err)
		return
	case err != nil:
		d.failure("reachable", err)
		return
	}
	defer c.Close()
	d.bus, d.known = c.Bus(), "the one that answers"
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
			d.say("pins", upkeep.Fail, d.a.hint(err), "%v", err)
			return
		}
		if r.Info().Stale {
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
		if c.Name == "owners" && c.Status == upkeep.Pass {
			c.Detail = "no room has me as its only one"
		}
		c.Name = "my " + c.Name
		d.mine = append(d.mine, c)
	})
}

// meant finds out which bus a store has to hold, if the bus itself has not said so: the one that --bus insists on,
// or that was met there before, or that was joined.
func (d *doctor) meant(ctx context.Context) error {
	if !d.bus.IsZero() {
		return nil
	}
	if d.bus = d.a.set.bus; !d.bus.IsZero() {
		d.known = "the one of --bus"
		return nil
	}
	o, err := d.a.options()
	if errors.Is(err, unibus.ErrNotFound) { // whoever has no identity has met none
		return nil
	}
	if err != nil {
		return err
	}
	there, err := unibus.Recall(ctx, o)
	if d.bus, d.known = there.Bus, "the one that was met there before"; err != nil || !d.bus.IsZero() {
		return err
	}
	o.Store = ""
	joined, err := unibus.Recall(ctx, o)
	d.bus, d.known = joined.Bus, "the one that was joined"
	return err
}

// operator looks at the servers and the store, as far as this run may.
func (d *doctor) operator(ctx context.Context) error {
	acc, err := d.a.access()
	if err != nil {
		return err
	}
	url := d.a.set.store
	if acc.Keys == nil && acc.Context == "" && url == "" && d.a.data == "" {
		if d.repair {
			return hinted(usage("--repair needs the store"), "--store URL, or --keys FILE")
		}
		d.a.notice("the servers and the store were not looked at: that takes --keys FILE, or --store URL")
		return nil
	}
	acc.Step, acc.Unchecked = d.a.set.timeout, true
	s, err := d.a.openVault(ctx, acc)
	if err != nil {
		d.failure("store", err)
	} else {
		defer s.close()
		d.store = s
		if right, err := d.right(ctx, s.url, s); err != nil || !right && !d.dark {
			return err
		}
	}
	servers := ""                  // with streams to look at
	served := s != nil && s.served // by servers that the keys on this machine are for
	if acc.Keys != nil && (url == "" || served) || url != "" && !strings.HasPrefix(url, "sqlite:") {
		if servers = url; servers == "" || strings.HasPrefix(url, "sqlite:") {
			if servers, err = d.a.server(ctx); err != nil {
				return err
			}
		}
	}
	if reached := d.servers(ctx, acc, servers); s != nil && !d.dark {
		look := upkeep.Look{Repair: d.repair, Served: s.served, Report: d.add}
		if err := store.Whole(ctx, s.Vault); err != nil {
			d.say("store", upkeep.Fail, "give the same unibus migrate or restore again", "%v", err)
		}
		if reached {
			upkeep.Streams(ctx, acc, servers, s.Vault, look)
		}
		upkeep.Kept(ctx, s.Vault, look)
		upkeep.Views(ctx, s.Vault, look)
		upkeep.Cards(ctx, s.Vault, look)
		d.covered = true
	}
	return nil
}

// unnamed reports whether nobody said which store and keys are meant: those on this machine may be of another bus.
func (d *doctor) unnamed() bool { return d.a.set.store == "" && d.a.set.keys == "" && d.a.data == "" }

// right reports whether a store holds the bus that is meant. Of another one nothing is looked at, or repaired.
func (d *doctor) right(ctx context.Context, url string, s store.Vault) (bool, error) {
	held, err := upkeep.BusOf(ctx, s)
	if err != nil {
		file := strings.HasPrefix(url, "sqlite:")
		hint := ""
		switch {
		case file && (errors.Is(err, unibus.ErrNotFound) || errors.Is(err, unibus.ErrIntegrity)):
			hint = d.a.hint(store.ErrDamaged)
		case !file && !errors.Is(err, unibus.ErrUnavailable):
			hint = upkeep.BackToServers
		}
		d.say("store", upkeep.Fail, hint, "%s: %v", redact.URL(url), err)
		d.dark = !file || errors.Is(err, unibus.ErrUnavailable) // the servers may tell why
		return false, nil
	}
	if d.bus.IsZero() || held == d.bus {
		d.say("store", upkeep.Pass, "", "%s, of the bus %s", redact.URL(url), held)
		return true, nil
	}
	status := upkeep.Fail
	if d.unnamed() {
		status = upkeep.Warn
	}
	d.say("store", status, "--store URL or --data DIR for the store of that bus, or --bus "+held.String()+" if this one is meant",
		"%s holds the bus %s, not %s, %s: it was not looked at", redact.URL(url), held, d.bus, d.known)
	if status == upkeep.Warn && d.repair {
		return false, usage("--repair: which store? The one on this machine is of another bus")
	}
	return false, nil
}

// servers looks at the servers and their machines, and reports whether there are streams to look at.
func (d *doctor) servers(ctx context.Context, acc upkeep.Access, servers string) bool {
	told := d.repair && d.remember()
	marks, unread := service.LoadMarks(service.MarksFile(d.a.dataDir())) // before the service is asked, which writes it
	if unread != nil {
		d.say(keptStreams, upkeep.Fail, "look at the rooms with unibus verify --all; to begin anew: unibus doctor --repair", "%v", unread)
	}
	machine := d.add
	if told || unread != nil {
		machine = func(c upkeep.Check) {
			if c.Name != keptStreams || c.Status == upkeep.Fail {
				d.add(c)
			}
		}
	}
	lost := func(s bus.Status) map[string]string {
		if unread != nil {
			return s.Lost
		}
		return d.unaccepted(ctx, s, marks)
	}
	if servers == "" || acc.Keys == nil {
		upkeep.Machines(ctx, nil, d.a.dataDir(), lost, machine)
		return servers != ""
	}
	links, err := acc.Links(servers)
	if err != nil {
		switch {
		case errors.Is(err, unibus.ErrDenied) && d.unnamed():
			d.say("servers", upkeep.Warn, "--keys FILE names others", "not looked at: the keys in %s are not theirs", d.a.dataDir())
		case errors.Is(err, unibus.ErrUnavailable) && strings.HasPrefix(d.a.set.store, "sqlite:"): // which may be all that is there
			d.silent = true
			d.say("servers", upkeep.Warn, d.a.hint(operatorHint(err)), "not looked at: %v", err)
		default:
			d.failure("servers", err)
		}
		upkeep.Machines(ctx, nil, d.a.dataDir(), lost, machine)
		return false
	}
	defer links.Close()
	upkeep.Servers(ctx, links, d.add)
	unlike := slices.ContainsFunc(d.checks, func(c upkeep.Check) bool { return c.Name == "copies" && c.Status == upkeep.Fail })
	upkeep.Machines(ctx, links, d.a.dataDir(), lost, func(c upkeep.Check) {
		if unlike && c.Name == keptStreams && c.Status == upkeep.Fail { // what one server lacks another may have
			c.Hint = "first what helps with the copies, as above"
		}
		machine(c)
	})
	return true
}

// keptStreams is the check that holds streams against what is remembered of them.
const keptStreams = "kept streams"

// remember takes the streams as they are for what they have to be, so far as the service on this machine
// remembers more of them. It reports whether there were any such.
func (d *doctor) remember() bool {
	file := service.MarksFile(d.a.dataDir())
	marks, damaged := service.LoadMarks(file)
	if damaged != nil {
		marks = service.Marks{}
	}
	accepted := 0
	for room, mark := range marks {
		if mark.Short() != "" {
			marks[room] = mark.Accepted()
			accepted++
		}
	}
	if damaged == nil && accepted == 0 {
		return false
	}
	if err := marks.Save(file); err != nil {
		d.say(keptStreams, upkeep.Fail, "", "what is remembered of the streams: %v", err)
		return false
	}
	if damaged != nil {
		d.say(keptStreams, upkeep.Warn, "", "what was remembered of the streams is forgotten, and begins anew (%v)", damaged)
		return true
	}
	d.say(keptStreams, upkeep.Pass, "", "taken for what they have to be from now on: %s", english.Plural(accepted, "stream", ""))
	return true
}

// unaccepted are the rooms whose streams a service found behind what they were, less those that were accepted since it
// looked, every some seconds: the marks in its data folder, if that is the one here, say so.
func (d *doctor) unaccepted(ctx context.Context, s bus.Status, marks service.Marks) map[string]string {
	here, err := os.Hostname()
	if err != nil || len(s.Lost) == 0 || d.store == nil || s.Host != here || !upkeep.SameFile(s.Folder, d.a.dataDir()) {
		return s.Lost
	}
	left := maps.Clone(s.Lost)
	for r, err := range d.store.Rooms(ctx, unibus.ID{}) {
		if err != nil {
			return s.Lost
		}
		if marks[r.ID.String()].Short() == "" {
			delete(left, r.Subject)
		}
	}
	return left
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
			fmt.Fprintf(d.a.out, "%s  %-*s  %s\n", status, width, c.Name, d.a.out.wrapped(visible(c.Detail), width+8))
			if c.Hint != "" { // in one piece, since it is there to be pasted
				fmt.Fprintf(d.a.out, "      %-*s  hint: %s\n", width, "", visible(c.Hint))
			}
		}
	})
}
