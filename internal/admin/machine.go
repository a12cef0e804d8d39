package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/host"
	"github.com/unibus/unibus/internal/store"
)

// Machines looks at disks and descriptors: of each service that answers on l, and of this machine when
// none does or l is nil. Dir is the data folder here. Lost says which rooms a service finds behind what they were,
// and that nobody has accepted yet.
func Machines(ctx context.Context, l *bus.Links, dir string, lost func(bus.Status) map[string]string, report func(Check)) {
	var services []bus.Status
	if l != nil {
		services, _ = bus.AskServices(ctx, l.Sys, askWait) // without an answer this machine is looked at
	}
	if len(services) == 0 {
		services = here(dir)
	}
	disk, files, kept, lacking := named{"disk", report}, named{"descriptors", report}, named{"kept streams", report}, named{"stream files", report}
	for _, s := range services {
		disks(s, disk)
		share := s.Files.Share()
		text := fmt.Sprintf("%d of %d in use on %s", s.Files.Used, s.Files.Limit, s.Host)
		switch {
		case s.Files.Limit == 0: // this system does not tell
		case share >= 1:
			files.fail("raise the limit: ulimit -n, or LimitNOFILE= of the unit", "%s: no connection is accepted any more", text)
		case share >= host.Nearly:
			files.warn("raise the limit: ulimit -n, or LimitNOFILE= of the unit", "%s", text)
		default:
			files.pass("%s", text)
		}
		if l == nil {
			continue
		}
		var list []string
		behind := lost(s)
		for _, room := range slices.Sorted(maps.Keys(behind)) {
			list = append(list, room+": "+behind[room])
		}
		where := fmt.Sprintf("%s on %s", s.Folder, s.Host)
		if len(list) > 0 {
			kept.fail("restore the servers' data; or, to accept it, with --keys FILE if serve has that: unibus doctor --repair --data "+s.Folder, "in %s: %s", where, bus.Few(list))
		} else {
			kept.pass("in %s every stream is as far as it was left", where)
		}
		list = nil
		for _, stream := range slices.Sorted(maps.Keys(s.Lacking)) {
			list = append(list, stream+": "+s.Lacking[stream])
		}
		switch {
		case len(list) > 0:
			lacking.fail("without other servers, bring back a backup; else "+bus.Recopy, "in %s: %s", where, bus.Few(list))
		case s.Looked:
			lacking.pass("in %s nothing was found to be damaged", where)
		default:
			lacking.pass("in %s they are not read through yet since the service started, or are not its own", where)
		}
	}
}

func disks(s bus.Status, n named) {
	const hint = "make room; nothing has to be restarted"
	text := fmt.Sprintf("%v for %s on %s", s.Disk, s.Folder, s.Host)
	switch {
	case s.Disk.Total == 0: // this system does not tell, or there is no folder
	case s.Full || s.Disk.Full():
		n.fail(hint, "full: %s", text)
	case s.Disk.Used() >= host.Nearly:
		n.warn(hint, "%s", text)
	default:
		n.pass("%s", text)
	}
}

// here is the status of this machine, as far as it can be known without the service.
func here(dir string) []bus.Status {
	s := bus.Status{Folder: dir}
	s.Host, _ = os.Hostname() // only a name to show
	if s.Host == "" {
		s.Host = "this machine"
	}
	s.Files, _ = host.OpenFiles() // unknown: not told
	if _, err := os.Stat(dir); err == nil {
		s.Disk, _ = host.DiskOf(dir)
	}
	return []bus.Status{s}
}

// transport warns of servers that listen beyond their machine without TLS.
func transport(servers []serverStatus, n named) {
	var open []string
	for _, s := range servers {
		if !s.Data.TLS && !bus.Loopback(s.Data.Host) {
			open = append(open, s.Server.Name)
		}
	}
	if len(open) > 0 {
		n.warn("--tls-cert and --tls-key: rooms are sealed all the same, but who writes where and when is not", "reached from other machines without TLS: %s", bus.Few(open))
		return
	}
	n.pass("TLS, or from the server's own machine only")
}

// form holds the streams of stored rooms against what they have to be, and with repair makes them so. The first
// one about which the servers do not answer ends a repair: each of the others would take as long.
func form(rooms map[string]*store.Room, found []streamForm, repair bool, ensure func(r store.Room) error, n named) {
	var wrong, mended, stuck []string
	for _, s := range found {
		r := rooms[s.name]
		if r == nil {
			continue
		}
		names := bus.Deviations(s.config, bus.StreamForm(r.ID, r.Policy))
		if len(names) == 0 {
			continue
		}
		text := r.Subject + " (" + strings.Join(names, ", ") + ")"
		if !repair {
			wrong = append(wrong, text)
			continue
		}
		err := ensure(*r)
		switch {
		case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
			n.fail("again when the servers answer: unibus doctor --repair", "%s: %v", r.Subject, err)
			return
		case err == nil && !slices.Contains(names, "persist_mode") && !slices.Contains(names, "storage"):
			mended = append(mended, text)
		default:
			stuck = append(stuck, text)
		}
	}
	switch {
	case len(stuck) > 0:
		n.fail("servers do not change that of a stream: copy it with nats stream backup and restore, with the setting corrected", "not as they have to be: %s", bus.Few(stuck))
	case len(wrong) > 0:
		n.fail("unibus doctor --repair", "not as they have to be: %s", bus.Few(wrong))
	case len(mended) > 0:
		n.pass("made as they have to be: %s", bus.Few(mended))
	default:
		n.pass("every room's stream is as it has to be")
	}
}
