package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/host"
	"github.com/unibus/unibus/internal/store"
)

// What the operator is told. One goroutine looks every watchEvery at the disk, the descriptors and the
// streams (streamwatch.go), says in a line of the log what is wrong when that begins, changes or ends, and lets
// an embedded server get over a full disk (bus/health.go).

const (
	watchEvery  = 10 * time.Second
	lookFull    = time.Second // at a full disk, or without descriptors: what lacked them works again soon after
	advisoryGap = time.Minute // between two lines about the same advisory
	advisories  = 1000        // kinds of advisories remembered for that
)

// embedded is what the watch needs of an embedded server.
type embedded interface {
	Trouble() <-chan struct{}
	OutOfFiles() bool
	Streams(ctx context.Context) ([]string, error)
	Scrub(ctx context.Context, names ...string) (lacking map[string]bus.Lack, err error)
	ScrubTime(ctx context.Context, names ...string) (time.Duration, error)
	NeedsRestart() bool
	RefuseWrites(refuse bool) error
	RestartJetStream() error
}

// watch looks after the machine and the streams.
type watch struct {
	changes
	dir     string // data folder; empty: none is known
	kept    bool   // the store is on this disk, and nowhere else
	server  embedded
	links   *bus.Links
	store   store.Log
	seen    *seen
	streams *streamWatch
	scrub   *scrub
	disk    func(dir string) (host.Disk, error)
	files   func() (host.Descriptors, error)

	full    atomic.Pointer[string] // why nothing can be kept; nil: it can
	status  atomic.Pointer[bus.Status]
	tried   bool // the streams were to be looked at, since the service started
	filled  bool // the disk is full
	scarce  bool // descriptors are
	gauges  gauges
	traffic *traffic
}

// gauges are what the watch finds, as /metrics shows it.
type gauges struct{ free, total, full, behind, lost, frames, bytes prometheus.Gauge }

// newWatch has looked at nothing yet. What it finds goes to a registry as well.
func newWatch(o Options, seen *seen, registry prometheus.Registerer) *watch {
	w := &watch{
		changes: newChanges(o.Log), dir: o.Dir, kept: o.KeptHere, server: o.Server, links: o.Links, store: o.Store, seen: seen,
		disk: host.DiskOf, files: host.OpenFiles, scrub: newScrub(o.Log, o.Server),
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		registry.MustRegister(g)
		return g
	}
	w.gauges = gauges{
		free:   gauge("unibus_disk_free_bytes", "Room left on the disk of the data folder."),
		total:  gauge("unibus_disk_bytes", "Size of the disk of the data folder."),
		full:   gauge("unibus_disk_full", "1 while nothing can be kept because the disk is full."),
		behind: gauge("unibus_streams_behind", "Streams of which a copy has not been current for a while."),
		lost:   gauge("unibus_streams_lost", "Streams that were found made anew, or shorter than they were left."),
		frames: gauge("unibus_stored_frames", "Frames that the rooms' streams hold, on all servers of the bus together, each counted once."),
		bytes:  gauge("unibus_stored_bytes", "What these take, each counted once."),
	}
	w.traffic = newTraffic(o.Links.Sys)
	registry.MustRegister(w.traffic)
	w.streams = newStreamWatch(o, w.gauges)
	return w
}

// run looks until ctx ends. A look at the streams waits for the servers no longer than marks allows.
func (w *watch) run(ctx context.Context) {
	advisory, err := w.advise()
	if err != nil {
		w.log.Warn("the servers' advisories are not heard", "error", err)
	} else {
		defer func() { _ = advisory.Unsubscribe() }() // the connection may be gone
	}
	w.publish()
	answers, err := w.links.Sys.Subscribe(bus.StatusSubject, w.answer)
	if err != nil {
		w.log.Warn("doctor will get no answer", "error", err)
	} else {
		defer func() { _ = answers.Unsubscribe() }() // as above
	}
	var trouble <-chan struct{}
	if w.server != nil {
		trouble = w.server.Trouble()
	}
	defer w.leave()
	for {
		w.machine()
		w.traffic.ask(ctx)
		looked, copied := false, false
		if !w.filled { // what cannot be kept need not be looked at
			looked, copied = w.streams.look(ctx)
		}
		if looked {
			w.tried = true
			w.busLog(ctx)
		}
		w.publish()
		if copied {
			w.streams.tellUnlike(ctx)
		}
		every := watchEvery
		if w.filled || w.scarce {
			every = lookFull
		}
		select {
		case <-ctx.Done():
			return
		case <-trouble:
		case <-time.After(every):
		}
	}
}

// lastLook is how long the streams are looked at when the service stops.
const lastLook = 500 * time.Millisecond

// leave notes how the streams are left.
func (w *watch) leave() {
	if w.filled {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastLook)
	defer cancel()
	w.streams.last(ctx)
}

// machine looks at the disk and the descriptors.
func (w *watch) machine() {
	w.descriptors()
	if d, err := w.disk(w.dir); err == nil && w.dir != "" {
		w.room(d)
	}
	w.recover()
}

// busLog tells when the bus log is behind what this service has seen of it. Nobody gets in by that while it runs: what it
// has read of the log counts.
func (w *watch) busLog(ctx context.Context) {
	switch err := w.seen.hasLast(ctx, w.store); {
	case errors.Is(err, store.ErrDamaged):
		w.report(slog.LevelError, "bus log", err.Error(), "the store lost the end of the bus log: "+takeAsItIs(w.seen.file), "error", err)
	case err == nil:
		w.resolved("bus log", "the bus log goes on from what was seen of it again")
	}
}

// descriptors tells when they run out.
func (w *watch) descriptors() {
	out := w.server != nil && w.server.OutOfFiles()
	d, err := w.files()
	w.scarce = out || err == nil && d.Share() >= host.Nearly
	switch {
	case out || err == nil && d.Share() >= 1:
		w.report(slog.LevelError, "files", "none left", "no file descriptors are left: new connections are not accepted "+moreFiles, "limit", d.Limit)
	case err == nil && d.Share() >= host.Nearly:
		w.report(slog.LevelWarn, "files", "few left", "file descriptors are running out "+moreFiles, "open", d.Used, "limit", d.Limit)
	case err == nil:
		w.resolved("files", "there are file descriptors again", "open", d.Used, "limit", d.Limit)
	}
}

// publish makes what was found what is answered.
func (w *watch) publish() {
	s := &bus.Status{Folder: w.dir, Full: w.filled, Lost: maps.Clone(w.streams.lost), Unseen: !w.streams.compared, Tried: w.tried}
	s.Host, _ = os.Hostname() // only a name to show
	if w.dir != "" {
		s.Disk, _ = w.disk(w.dir) // unknown: not told
	}
	s.Files, _ = w.files()
	w.status.Store(s)
}

// answer tells the operator.
func (w *watch) answer(m *nats.Msg) {
	if m.Reply == "" {
		return
	}
	status := *w.status.Load()
	w.scrub.tellOf(&status)
	body, err := json.Marshal(status)
	if err == nil {
		_ = m.Respond(body) // who asked may be gone
	}
}

// room judges the disk. Full, it stays so until there is room worth writing to.
func (w *watch) room(d host.Disk) {
	w.gauges.free.Set(float64(d.Free))
	w.gauges.total.Set(float64(d.Total))
	lack := w.server != nil && w.server.NeedsRestart() && !d.HasRoom()
	switch {
	case d.Full() || lack || w.filled && !d.HasRoom():
		w.filled = true
		reason := fmt.Sprintf("the disk of the server is full (%s)", w.dir)
		w.full.Store(&reason)
		w.gauges.full.Set(1)
		w.report(slog.LevelError, "disk", "full", "the disk is full: nothing is kept until there is room", "folder", w.dir, "disk", d)
	case d.Used() >= host.Nearly:
		w.report(slog.LevelWarn, "disk", "nearly full", "the disk is nearly full", "folder", w.dir, "disk", d)
		w.filled = false
	default:
		w.resolved("disk", "the disk has room again", "folder", w.dir, "disk", d)
		w.filled = false
	}
}

// recover makes JetStream say so while the disk is full, and starts it again when it is not, nor are descriptors scarce:
// it would lack them itself.
func (w *watch) recover() {
	if w.server == nil {
		if !w.filled {
			w.writable()
		}
		return
	}
	if w.filled {
		if err := w.server.RefuseWrites(true); err != nil {
			w.report(slog.LevelWarn, "refuse", err.Error(), "publishers cannot be told of the full disk", "error", err)
		}
		return
	}
	if w.server.NeedsRestart() {
		if w.scarce {
			return
		}
		if err := w.server.RestartJetStream(); err != nil {
			w.report(slog.LevelError, "restart", err.Error(), "JetStream does not start again, after it could not write", "error", err)
			return
		}
		w.log.Warn("JetStream was started again, after it could not write")
	} else if w.full.Load() != nil {
		if err := w.server.RefuseWrites(false); err != nil {
			w.report(slog.LevelError, "allow", err.Error(), "publications are still refused", "error", err)
			return
		}
	}
	w.forget("restart")
	w.forget("refuse")
	w.forget("allow")
	w.writable()
}

// writable has requests that write answered again.
func (w *watch) writable() {
	w.full.Store(nil)
	w.gauges.full.Set(0)
}

// healthy is an error while nothing can be kept.
func (w *watch) healthy() error {
	if why := w.full.Load(); why != nil {
		return fmt.Errorf("%w: %s", store.ErrUnavailable, *why)
	}
	return nil
}

// refuse answers requests that would write with the reason why they cannot be, while that is so and no
// other server could keep it instead. A store
// without room would say it in words of its own, or not at all.
func (w *watch) refuse(next http.Handler) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if err := w.healthy(); err != nil && w.kept && writes(r) {
			writeProblem(out, err)
			return
		}
		next.ServeHTTP(out, r)
	})
}

// writes reports whether a request of the API may change the store.
func writes(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return false
	case http.MethodPost:
		return r.URL.Path != "/heads" && r.URL.Path != "/cards/query"
	}
	return true
}

// advise logs what servers tell of themselves that an operator has to know: a quorum lowered by hand, a
// server that is full or was removed, a stream without a quorum. They tell it in the system account.
func (w *watch) advise() (*nats.Subscription, error) {
	said := map[string]time.Time{} // by kind and server or stream; for the goroutine of the subscription alone
	return w.links.Sys.Subscribe("$JS.EVENT.ADVISORY.>", func(m *nats.Msg) {
		kind, worth := strings.CutPrefix(m.Subject, "$JS.EVENT.ADVISORY.")
		if !worth || !strings.HasPrefix(kind, "SERVER.") && !strings.HasPrefix(kind, "STREAM.QUORUM_LOST.") {
			return
		}
		var about struct{ Server, Stream, Cluster string }
		_ = json.Unmarshal(m.Data, &about) // the subject says enough
		key := kind + " " + about.Server + " " + about.Stream
		if time.Since(said[key]) < advisoryGap {
			return
		}
		if len(said) >= advisories {
			clear(said)
		}
		said[key] = time.Now()
		args := []any{"advisory", kind}
		for _, named := range [][2]string{{"server", about.Server}, {"stream", about.Stream}, {"cluster", about.Cluster}} {
			if named[1] != "" { // each kind of advisory has its own
				args = append(args, named[0], named[1])
			}
		}
		w.log.Warn("advisory of a NATS server", args...)
	})
}
