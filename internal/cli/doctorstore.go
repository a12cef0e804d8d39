package cli

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/admin"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/service"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/open"
)

// What doctor sees as an operator: first whether the store is that of the bus which is meant, so that nothing of another
// one is looked at or repaired; then the servers, their machines and what the service remembers of its streams; then
// the store itself.

// operates reports whether this run has what leads to the servers or the store.
func (d *doctor) operates(o *operator) bool {
	return o.acc.Keys != nil || o.acc.Context != "" || d.a.set.store != "" || d.a.set.data != ""
}

// lookAtStore looks at the servers and the store, as far as this run may.
func (d *doctor) lookAtStore(ctx context.Context, o *operator) error {
	acc, url := &o.acc, d.a.set.store
	// A step of the examination may fail without ending it, and a store that is damaged is looked at all the same.
	acc.Step, acc.Unchecked = d.a.set.timeout, true
	s, err := o.open(ctx)
	if err != nil {
		d.failure("store", err)
		if kept, kerr := service.KeptIn(d.a.set.dataDir()); kerr == nil && kept == service.JetStream && url == "" && d.serversSilent {
			d.report("store", admin.Fail, hintServeTells, "kept in %s, by a server that does not run: nothing of it was looked at", d.a.set.dataDir())
		}
	} else {
		defer s.close()
		d.store = s
		if right, err := d.holdsMeantBus(ctx, s.url, s); err != nil || !right && !d.storeSilent {
			return err
		}
	}
	// The servers are those of the store, if it is in servers, or those of the bus, if the keys on this machine are theirs:
	// of others nothing is looked at.
	servers := ""                  // with streams to look at
	served := s != nil && s.served // by servers that the keys on this machine are for
	if acc.Keys != nil && (url == "" || served) || url != "" && !open.IsFile(url) {
		if servers = url; servers == "" || open.IsFile(url) {
			if servers, err = d.a.servers(ctx); err != nil {
				return err
			}
		}
	}
	// The servers are looked at before the store: when they are down, that is why the store does not answer.
	if reached := d.lookAtServers(ctx, *acc, servers); s != nil && !d.storeSilent {
		look := admin.Look{Repair: d.repair, Served: s.served, Report: d.add}
		if err := store.CheckWhole(ctx, s.Backend); err != nil {
			d.report("store", admin.Fail, hintCopyAgain, "%v", err)
		}
		listed := admin.Views(ctx, s.Backend, look)
		if reached {
			admin.Streams(ctx, *acc, servers, s.Backend, listed, look)
		}
		admin.Kept(ctx, s.Backend, look)
		admin.Cards(ctx, s.Backend, look)
		d.allRooms = true
	}
	return nil
}

// unnamed reports whether nobody said which store and keys are meant: those on this machine may be of another bus.
func (d *doctor) unnamed() bool {
	return d.a.set.store == "" && d.a.set.keys == "" && d.a.set.data == ""
}

// holdsMeantBus reports whether a store holds the bus that is meant. Of another one nothing is looked at, or repaired.
func (d *doctor) holdsMeantBus(ctx context.Context, url string, s store.Backend) (bool, error) {
	held, err := admin.BusOf(ctx, s)
	if err != nil {
		hint := ""
		switch file := open.IsFile(url); {
		case file && (errors.Is(err, unibus.ErrNotFound) || errors.Is(err, unibus.ErrIntegrity)):
			hint = d.a.hint(store.ErrDamaged)
		case !file && !errors.Is(err, unibus.ErrUnavailable):
			hint = hintBackToServers
		}
		d.report("store", admin.Fail, hint, "%s: %v", redact.URL(url), err)
		d.storeSilent = !open.IsFile(url) || errors.Is(err, unibus.ErrUnavailable) // the servers may tell why
		return false, nil
	}
	if d.bus.IsZero() || held == d.bus {
		d.held = held
		d.report("store", admin.Pass, "", "%s, of the bus %s", redact.URL(url), held)
		return true, nil
	}
	status := admin.Fail
	if d.unnamed() {
		status = admin.Warn
	}
	d.report("store", status, hintOtherStore(held),
		"%s holds the bus %s, not %s, %s: it was not looked at", redact.URL(url), held, d.bus, d.busKnownAs)
	if status == admin.Warn && d.repair {
		return false, usage("--repair: which store? The one on this machine is of another bus")
	}
	return false, nil
}

// lookAtServers looks at the servers and their machines, and reports whether there are streams to look at.
func (d *doctor) lookAtServers(ctx context.Context, acc admin.Access, servers string) bool {
	told := d.repair && d.acceptMarks(ctx)
	marks, unread := service.LoadMarks(service.MarksFile(d.a.set.dataDir())) // before the service is asked, which writes it
	if unread != nil {
		d.report(keptStreams, admin.Fail, hintMarks, "%v", unread)
	}
	// What the marks say was told above, if they were accepted or could not be read: from the machines' checks comes only
	// what fails of it.
	look := admin.MachineLook{Dir: d.a.set.dataDir(), Wait: d.a.set.timeout, Report: d.add}
	if told || unread != nil {
		look.Report = func(c admin.Check) {
			if c.Name != keptStreams || c.Status == admin.Fail {
				d.add(c)
			}
		}
	}
	// What a service says of its streams counts less what was accepted since it looked.
	look.Lost = func(s bus.Status) map[string]string {
		if unread != nil {
			return s.Lost
		}
		return d.unaccepted(ctx, s, marks)
	}
	if servers == "" || acc.Keys == nil {
		admin.Machines(ctx, nil, look)
		return servers != ""
	}
	links, err := acc.Links(servers)
	if err != nil {
		switch {
		case errors.Is(err, unibus.ErrDenied) && d.unnamed():
			d.report("servers", admin.Warn, hintOtherKeys, "not looked at: the keys in %s are not theirs", d.a.set.dataDir())
		case errors.Is(err, unibus.ErrUnavailable) && open.IsFile(d.a.set.store): // which may be all that is there
			d.serversSilent = true
			d.report("servers", admin.Warn, d.a.hint(hintOperator(err)), "not looked at: %v", err)
		default:
			d.failure("servers", err)
		}
		admin.Machines(ctx, nil, look)
		return false
	}
	defer links.Close()
	admin.Servers(ctx, links, d.add)
	unlike := slices.ContainsFunc(d.checks, func(c checkLine) bool { return c.Name == "copies" && c.Status == admin.Fail })
	if report := look.Report; unlike {
		look.Report = func(c admin.Check) {
			if c.Name == keptStreams && c.Status == admin.Fail { // what one server lacks another may have
				c.Help = remedy.Remedy{Kind: remedy.CopyAgainFirst}
			}
			report(c)
		}
	}
	admin.Machines(ctx, links, look)
	return true
}

// keptStreams is the check that holds streams against what is remembered of them.
const keptStreams = "kept streams"

// acceptMarks takes the streams as they are for what they have to be, so far as the service on this machine
// remembers more of them. It reports whether there were any such.
func (d *doctor) acceptMarks(ctx context.Context) bool {
	file := service.MarksFile(d.a.set.dataDir())
	marks, damaged := service.LoadMarks(file)
	if damaged != nil {
		marks = service.Marks{}
	}
	var accepted []string
	subjects := d.subjects(ctx)
	for room, mark := range marks {
		if short := mark.Short(); short != "" {
			marks[room] = mark.Accepted()
			accepted = append(accepted, cmp.Or(subjects[room], room)+" ("+short+")")
		}
	}
	if damaged == nil && len(accepted) == 0 {
		return false
	}
	if err := marks.Save(file); err != nil {
		d.report(keptStreams, admin.Fail, "", "what is remembered of the streams: %v", err)
		return false
	}
	if damaged != nil {
		d.report(keptStreams, admin.Warn, "", "what was remembered of the streams is forgotten, and begins anew (%v)", damaged)
		return true
	}
	d.report(keptStreams, admin.Pass, "", "taken for what they have to be from now on: %s", strings.Join(slices.Sorted(slices.Values(accepted)), ", "))
	return true
}

// subjects are those of the rooms, by their ids, as far as the store says.
func (d *doctor) subjects(ctx context.Context) map[string]string {
	subjects := map[string]string{}
	if d.store == nil {
		return subjects
	}
	for r, err := range d.store.Rooms(ctx, unibus.ID{}) {
		if err != nil {
			break
		}
		subjects[r.ID.String()] = r.Subject
	}
	return subjects
}

// unaccepted are the rooms whose streams a service found behind what they were, less those that were accepted since it
// looked, every some seconds: the marks in its data folder, if that is the one here, say so.
func (d *doctor) unaccepted(ctx context.Context, s bus.Status, marks service.Marks) map[string]string {
	here, err := os.Hostname()
	if err != nil || len(s.Lost) == 0 || d.store == nil || s.Host != here || !open.SameFile(s.Folder, d.a.set.dataDir()) {
		return s.Lost
	}
	// What the service last said is old by some seconds; the marks in its folder are not.
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
