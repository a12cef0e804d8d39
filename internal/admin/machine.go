package admin

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/host"
	"github.com/unibus/unibus/internal/remedy"
)

// What machines have left, and what their services find of the streams that they keep. Each service tells of its own
// machine; without one, this machine is looked at, and of streams nothing is known.

// Machines looks at disks and descriptors: of each service that answers on l, and of this machine when
// none does or l is nil. Dir is the data folder here. Lost says which rooms a service finds behind what they were,
// and that nobody has accepted yet. It reports the checks disk and descriptors, and with l kept streams and stream files,
// in this order for one machine after the other.
func Machines(ctx context.Context, l *bus.Links, dir string, lost func(bus.Status) map[string]string, report func(Check)) {
	var services []bus.Status
	if l != nil {
		services, _ = bus.AskServices(ctx, l.Sys, askWait) // without an answer this machine is looked at
	}
	if len(services) == 0 {
		services = here(dir)
	}
	for _, s := range services {
		// The checks of one machine stand together, for who reads them has one machine to look after.
		disk(s, reporter{"disk", report})
		descriptors(s, reporter{"descriptors", report})
		if l != nil {
			keptStreams(s, lost(s), reporter{"kept streams", report})
			streamFiles(s, reporter{"stream files", report})
		}
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

// disk tells of a disk on which there will soon be no room.
func disk(s bus.Status, r reporter) {
	text := fmt.Sprintf("%v for %s on %s", s.Disk, s.Folder, s.Host)
	switch {
	case s.Disk.Total == 0: // this system does not tell, or there is no folder
	case s.Full || s.Disk.Full():
		r.fail(help(remedy.FreeDisk), "full: %s", text)
	case s.Disk.Used() >= host.Nearly:
		r.warn(help(remedy.FreeDisk), "%s", text)
	default:
		r.pass("%s", text)
	}
}

// descriptors tells of a service that will soon be unable to accept a connection.
func descriptors(s bus.Status, r reporter) {
	text := fmt.Sprintf("%d of %d in use on %s", s.Files.Used, s.Files.Limit, s.Host)
	switch share := s.Files.Share(); {
	case s.Files.Limit == 0: // this system does not tell
	case share >= 1:
		r.fail(help(remedy.RaiseDescriptors), "%s: no connection is accepted any more", text)
	case share >= host.Nearly:
		r.warn(help(remedy.RaiseDescriptors), "%s", text)
	default:
		r.pass("%s", text)
	}
}

// keptStreams tells of rooms whose streams are behind what they were, as the service whose folder it is remembers them.
func keptStreams(s bus.Status, behind map[string]string, r reporter) {
	if len(behind) > 0 {
		r.fail(remedy.Remedy{Kind: remedy.RestoreStreams, Path: s.Folder}, "in %s on %s: %s", s.Folder, s.Host, bus.Few(explained(behind)))
		return
	}
	r.pass("in %s on %s no room has lost messages that the service had seen there", s.Folder, s.Host)
}

// streamFiles tells of streams whose files hold less than their server takes them to hold.
func streamFiles(s bus.Status, r reporter) {
	switch {
	case len(s.Lacking) > 0:
		r.fail(help(remedy.RestoreOrCopyAgain), "in %s on %s: %s", s.Folder, s.Host, bus.Few(explained(s.Lacking)))
	case s.Looked:
		r.pass("in %s on %s the files that hold messages were read through, and none is damaged", s.Folder, s.Host)
	default:
		r.pass("in %s on %s the files that hold messages are not read through yet since the service started, or belong to other servers", s.Folder, s.Host)
	}
}

// explained names things, each with what is said of it.
func explained(of map[string]string) (list []string) {
	for _, name := range slices.Sorted(maps.Keys(of)) {
		list = append(list, name+": "+of[name])
	}
	return list
}
