package admin

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/host"
	"github.com/unibus/unibus/internal/remedy"
)

// TestMachine: what is told of a service's machine, by what it has left and lacks.
func TestMachine(t *testing.T) {
	const mib = 1 << 20
	for name, c := range map[string]struct {
		examine func(bus.Status, reporter)
		status  bus.Status
		want    []finding
	}{
		"a disk with room":     {disk, bus.Status{Disk: host.Disk{Free: 50 * mib, Total: 100 * mib}}, []finding{{"n", Pass, 0, "50 MiB of 100 MiB left for dir on host"}}},
		"a disk nearly full":   {disk, bus.Status{Disk: host.Disk{Free: 10 * mib, Total: 100 * mib}}, []finding{{"n", Warn, remedy.FreeDisk, "10 MiB of 100 MiB left"}}},
		"a disk with some":     {disk, bus.Status{Disk: host.Disk{Free: 11 * mib, Total: 100 * mib}}, []finding{{"n", Pass, 0, "11 MiB"}}},
		"a full disk":          {disk, bus.Status{Disk: host.Disk{Free: mib - 1, Total: 100 * mib}}, []finding{{"n", Fail, remedy.FreeDisk, "full: 0 MiB of 100 MiB"}}},
		"a full service":       {disk, bus.Status{Full: true, Disk: host.Disk{Free: 50 * mib, Total: 100 * mib}}, []finding{{"n", Fail, remedy.FreeDisk, "full: 50 MiB"}}},
		"a disk nobody knows":  {disk, bus.Status{}, nil},
		"few descriptors":      {descriptors, bus.Status{Files: host.Descriptors{Used: 89, Limit: 100}}, []finding{{"n", Pass, 0, "89 of 100 in use on host"}}},
		"many descriptors":     {descriptors, bus.Status{Files: host.Descriptors{Used: 90, Limit: 100}}, []finding{{"n", Warn, remedy.RaiseDescriptors, "90 of 100 in use on host"}}},
		"no descriptor left":   {descriptors, bus.Status{Files: host.Descriptors{Used: 100, Limit: 100}}, []finding{{"n", Fail, remedy.RaiseDescriptors, "100 of 100 in use on host: no connection"}}},
		"nobody counts them":   {descriptors, bus.Status{}, nil},
		"files not read yet":   {streamFiles, bus.Status{Reads: true}, []finding{{"n", Warn, remedy.LookLater, "on host the files that hold messages are not read through yet since the service started"}}},
		"files that take long": {streamFiles, bus.Status{Reads: true, ReadFor: 90*time.Second + time.Millisecond}, []finding{{"n", Warn, remedy.LookLater, "not read through yet since the service started, which takes about 1m30s more"}}},
		"files not readable":   {streamFiles, bus.Status{Reads: true, Looked: true, Unread: "why"}, []finding{{"n", Warn, 0, "could not all be read: why"}}},
		"files of others":      {streamFiles, bus.Status{}, nil},
		"files that are whole": {streamFiles, bus.Status{Looked: true}, []finding{{"n", Pass, 0, "and none is damaged"}}},
		"files that lack some": {streamFiles, bus.Status{Looked: true, Lacking: map[string]string{"b": "2", "a": "1"}}, []finding{{"n", Fail, remedy.RestoreOrCopyAgain, "in dir on host: a: 1, b: 2"}}},
	} {
		c.status.Folder, c.status.Host = "dir", "host"
		finds(t, name, func(report func(Check)) { c.examine(c.status, reporter{"n", report}) }, c.want...)
	}
}

// TestKeptStreams: rooms that went back are named, with the folder of the service that remembers them.
func TestKeptStreams(t *testing.T) {
	s := bus.Status{Folder: "dir", Host: "host"}
	finds(t, "none", func(report func(Check)) { keptStreams(s, nil, reporter{"n", report}) }, finding{"n", Pass, 0, "in dir on host no room has lost messages"})
	finds(t, "not yet", func(report func(Check)) {
		keptStreams(bus.Status{Folder: "dir", Unseen: true}, nil, reporter{"n", report})
	}, finding{"n", Warn, remedy.LookLater, "not held against what is remembered"})
	var got Check
	keptStreams(s, map[string]string{"r": "ends at 3, not at 9"}, reporter{"n", func(c Check) { got = c }})
	want := Check{"n", Fail, "in dir on host: r: ends at 3, not at 9", remedy.Remedy{Kind: remedy.RestoreStreams, Path: "dir"}}
	if got != want {
		t.Errorf("%+v, not %+v", got, want)
	}
}

// TestMachines: without a service this machine is looked at, and of streams is told what each service says.
func TestMachines(t *testing.T) {
	n := startNode(t)
	here, err := os.Hostname()
	must(t, err)
	dir := t.TempDir()
	look := func(l *bus.Links, dir string, lost func(bus.Status) map[string]string) func(report func(Check)) {
		return func(report func(Check)) { Machines(t.Context(), l, MachineLook{Dir: dir, Lost: lost, Report: report}) }
	}
	room := finding{"disk", Pass, 0, "for " + dir + " on " + here}
	if d, err := host.DiskOf(dir); err == nil && d.Used() >= host.Nearly {
		room.status, room.help = Warn, remedy.FreeDisk // the disk that the tests are on is nearly full
	}
	none := func(bus.Status) map[string]string { return nil }
	finds(t, "no servers", look(nil, dir, none),
		room, finding{"descriptors", Pass, 0, "on " + here})
	finds(t, "no folder", look(nil, dir+"/none", none), finding{"descriptors", Pass, 0, "on " + here})
	unread := []finding{{"kept streams", Warn, 0, "not looked at: no service"}, {"stream files", Warn, 0, "not looked at: no service"}}
	finds(t, "no service", look(&n.Links, dir, none),
		append([]finding{room, {"descriptors", Pass, 0, ""}}, unread...)...)
	n.answers(t, bus.StatusSubject, bus.Status{
		Host: "there", Folder: "/data", Full: true, Disk: host.Disk{Free: 1, Total: 2}, Files: host.Descriptors{Used: 1, Limit: 2},
		Lost: map[string]string{"r": "gone"}, Looked: true,
	})
	lost := func(s bus.Status) map[string]string { return s.Lost }
	finds(t, "a service", look(&n.Links, dir, lost),
		finding{"disk", Fail, remedy.FreeDisk, "for /data on there"}, finding{"descriptors", Pass, 0, "1 of 2 in use on there"},
		finding{"kept streams", Fail, remedy.RestoreStreams, "in /data on there: r: gone"}, finding{"stream files", Pass, 0, "none is damaged"})
	if !Serving(t.Context(), &n.Links) {
		t.Error("a service that answers is not there")
	}
}

// TestAwaitsReading: a service that is reading the files of its streams is asked again until it has, if that may be within the
// time that there is; one that takes longer, or cannot, is not waited for.
func TestAwaitsReading(t *testing.T) {
	n := startNode(t)
	var said bus.Status
	asked := 0
	sub, err := n.Links.Sys.Subscribe(bus.StatusSubject, func(m *nats.Msg) {
		asked++
		said.Looked = asked > 1
		said.Unseen = said.Unseen && asked < 2
		data, err := json.Marshal(said)
		if err == nil {
			err = m.Respond(data)
		}
		if err != nil {
			t.Error(err)
		}
	})
	must(t, err)
	defer func() { _ = sub.Unsubscribe() }()
	must(t, n.Links.Sys.Flush())
	for name, c := range map[string]struct {
		says   bus.Status
		wait   time.Duration
		asked  int
		looked bool
	}{
		"soon":      {bus.Status{Reads: true}, time.Hour, 2, true},
		"not seen":  {bus.Status{Unseen: true, Reads: true}, time.Hour, 2, true},
		"not there": {bus.Status{Unseen: true, Tried: true}, time.Hour, 1, false},
		"full":      {bus.Status{Unseen: true, Full: true}, time.Hour, 1, false},
		"later":     {bus.Status{Reads: true, ReadFor: 2 * time.Hour}, time.Hour, 1, false},
		"no time":   {bus.Status{Reads: true}, 0, 1, false},
		"it cannot": {bus.Status{Reads: true, Unread: "why"}, time.Hour, 1, false},
	} {
		said, asked = c.says, 0
		got := askServices(t.Context(), &n.Links, c.wait)
		if len(got) != 1 || got[0].Looked != c.looked || asked != c.asked {
			t.Errorf("%s: asked %d times, it says %+v", name, asked, got)
		}
	}
}
