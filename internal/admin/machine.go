package admin

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/host"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/shown"
)

// What machines have left, and what their services find of the streams that they keep. Each service tells of its own
// machine; without one, this machine is looked at, and of streams nothing is known.

// MachineLook is how machines are looked at.
type MachineLook struct {
	Dir    string                             // the data folder here
	Wait   time.Duration                      // for services that have not read the files of their streams yet
	Lost   func(bus.Status) map[string]string // rooms that a service finds behind what they were, and that nobody has accepted yet
	Report func(Check)
}

// Machines looks at disks and descriptors: of each service that answers on l, and of this machine when
// none does or l is nil. It reports the checks disk and descriptors, and with l kept streams and stream files,
// in this order for one machine after the other; of stream files nothing where servers are not the service's own.
func Machines(ctx context.Context, l *bus.Links, look MachineLook) {
	var services []bus.Status
	if l != nil {
		services = askServices(ctx, l, look.Wait)
	}
	served := len(services) > 0
	if !served {
		services = here(look.Dir)
	}
	for _, s := range services {
		// The checks of one machine stand together, for who reads them has one machine to look after.
		disk(s, reporter{"disk", look.Report})
		descriptors(s, reporter{"descriptors", look.Report})
		kept, files := reporter{"kept streams", look.Report}, reporter{"stream files", look.Report}
		switch {
		case served:
			keptStreams(s, look.Lost(s), kept)
			streamFiles(s, files)
		case l != nil:
			kept.warn(noHelp, "not looked at: no service answers that knows what they were")
			files.warn(noHelp, "not looked at: no service answers that reads them")
		}
	}
}

// askServices asks each service for its status. One that has not looked at its streams yet is about to, and one that has not
// read their files begins to when it is asked: it is asked again while it may be done within the time that there is. Without an
// answer there is none.
func askServices(ctx context.Context, l *bus.Links, wait time.Duration) []bus.Status {
	until := time.Now().Add(wait)
	for {
		services, _ := bus.AskServices(ctx, l.Sys, askWait) // which takes as long as the pause that there would be
		soon := func(s bus.Status) bool {
			return (s.Looking() || s.Reading()) && time.Now().Add(s.ReadFor).Before(until)
		}
		if !slices.ContainsFunc(services, soon) || ctx.Err() != nil {
			return services
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

// keptStreams tells of rooms whose streams are behind what they were, as the service whose folder it is remembers them. What it
// has not looked at yet is no pass.
func keptStreams(s bus.Status, behind map[string]string, r reporter) {
	if len(behind) > 0 {
		r.fail(remedy.Remedy{Kind: remedy.RestoreStreams, Path: s.Folder}, "in %s on %s: %s", s.Folder, s.Host, shown.Few(explained(behind)))
		return
	}
	if s.Unseen {
		r.warn(help(remedy.LookLater), "in %s on %s the streams were not held against what is remembered of them since the service started", s.Folder, s.Host)
		return
	}
	r.pass("in %s on %s no room has lost messages that the service had seen there", s.Folder, s.Host)
}

// streamFiles tells of streams whose files hold less than their server takes them to hold. What was not read is no pass.
func streamFiles(s bus.Status, r reporter) {
	switch {
	case len(s.Lacking) > 0:
		r.fail(help(remedy.RestoreOrCopyAgain), "in %s on %s: %s", s.Folder, s.Host, shown.Few(explained(s.Lacking)))
	case s.Unread != "":
		r.warn(noHelp, "in %s on %s the files that hold messages could not all be read: %s", s.Folder, s.Host, s.Unread)
	case s.Looked:
		r.pass("in %s on %s the files that hold messages were read through, and none is damaged", s.Folder, s.Host)
	case s.Reads:
		left := ""
		if s.ReadFor >= time.Second {
			left = fmt.Sprintf(", which takes about %v more", s.ReadFor.Round(time.Second))
		}
		r.warn(help(remedy.LookLater), "in %s on %s the files that hold messages are not read through yet since the service started%s", s.Folder, s.Host, left)
	}
}

// explained names things, each with what is said of it.
func explained(of map[string]string) (list []string) {
	for _, name := range slices.Sorted(maps.Keys(of)) {
		list = append(list, name+": "+of[name])
	}
	return list
}
