package bus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/store"
)

// How an embedded server gets over a full disk, and over a want of descriptors. A stream that could not write refuses
// everything from then on, without an answer to whoever publishes, and a server of a cluster turns JetStream off: both
// until JetStream starts again (nats-server 2.15.2: filestore.go setWriteErr, jetstream.go handleOutOfSpace). So while
// the disk is full, RefuseWrites lets JetStream say so to those who publish, and once there is room, or there are
// descriptors, RestartJetStream begins anew with what is on disk. The server itself and its connections go on meanwhile.

// signs are what a server's log says of its machine. The server has no other way to tell.
type signs struct {
	stuck   atomic.Bool            // something could not be written since JetStream was last started
	noFiles atomic.Bool            // a connection could not be accepted, or a file not opened
	started atomic.Bool            // the server listens
	fatal   atomic.Pointer[string] // why it never will; nil: nothing is known
	trouble chan struct{}
}

func newSigns() *signs { return &signs{trouble: make(chan struct{}, 1)} }

// note looks at a line of the log.
func (s *signs) note(line string) {
	noSpace := strings.Contains(line, "no space left") || strings.HasPrefix(line, "JetStream out of ")
	// A stream that is stuck repeats, with each message that it does not keep, what it met once.
	noFiles := strings.Contains(line, "too many open files") && !strings.Contains(line, "failed to store a msg")
	if !noSpace && !noFiles {
		return
	}
	if noSpace || strings.Contains(line, "Critical write error") {
		s.stuck.Store(true)
	}
	if noFiles {
		s.noFiles.Store(true)
	}
	select {
	case s.trouble <- struct{}{}:
	default: // whoever looks has not looked yet
	}
}

// Trouble is sent to when the server met a full disk, or had no descriptors left.
func (s *Server) Trouble() <-chan struct{} { return s.signs.trouble }

// OutOfFiles reports whether the server lacked a descriptor since it was last asked.
func (s *Server) OutOfFiles() bool { return s.signs.noFiles.Swap(false) }

// NeedsRestart reports whether JetStream could not write, so that it does not work until it is started
// again.
func (s *Server) NeedsRestart() bool { return s.signs.stuck.Load() }

// storeAccounts are those that may have JetStream.
var storeAccounts = []string{AccountStore, AccountBus}

// RefuseWrites makes JetStream of a server that stands alone answer publications with "resource limits
// exceeded", or take them again. In a cluster others take over from a server whose disk is full.
func (s *Server) RefuseWrites(refuse bool) error {
	if s.ns.JetStreamIsClustered() || !s.ns.JetStreamEnabled() {
		return nil
	}
	limit := server.JetStreamAccountLimits{
		MaxMemory: -1, MaxStore: -1, MaxStreams: -1, MaxConsumers: -1, MaxAckPending: -1, MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1,
	}
	if refuse {
		limit.MaxStore = 0
	}
	var failed []error
	for _, name := range storeAccounts {
		account, err := s.ns.LookupAccount(name)
		if err != nil || !account.JetStreamEnabled() {
			continue
		}
		if err := account.UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{"": limit}); err != nil {
			failed = append(failed, fmt.Errorf("limits of the account %s: %w: %v", name, store.ErrUnavailable, err))
		}
	}
	return errors.Join(failed...)
}

// RestartJetStream starts JetStream again with what is on disk, as the server itself does when it is told
// to by a changed configuration (reload.go restartJetStream).
func (s *Server) RestartJetStream() error {
	if err := s.ns.ShutdownJetStream(); err != nil {
		return fmt.Errorf("stop JetStream: %w: %v", store.ErrUnavailable, err)
	}
	if s.ns.JetStreamConfig() != nil { // the server is about to turn it off by itself
		return fmt.Errorf("start JetStream again: %w: it is still stopping", store.ErrUnavailable)
	}
	s.signs.stuck.Store(false)
	err := s.ns.EnableJetStream(&server.JetStreamConfig{
		StoreDir: s.opts.StoreDir, SyncInterval: s.opts.SyncInterval, SyncAlways: s.opts.SyncAlways,
		MaxMemory: s.opts.JetStreamMaxMemory, MaxStore: s.opts.JetStreamMaxStore, Domain: s.opts.JetStreamDomain,
		Strict: !s.opts.NoJetStreamStrict, CompressOK: true, UniqueTag: s.opts.JetStreamUniqueTag,
	})
	if err != nil {
		s.signs.stuck.Store(true)
		return errors.Join(fmt.Errorf("start JetStream again: %w: %v", store.ErrUnavailable, err), s.ns.ShutdownJetStream())
	}
	return nil
}

// Exposed returns the address where the server listens beyond this machine without TLS; empty if it does
// not.
func (s *Server) Exposed() string {
	if s.opts.TLSConfig != nil || Loopback(s.opts.Host) {
		return ""
	}
	return net.JoinHostPort(s.opts.Host, fmt.Sprint(s.opts.Port))
}

// Loopback reports whether a host, as a listen address names it, is reached from this machine only.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// startLimit is how long a server may take to listen.
const startLimit = 10 * time.Second

// ready waits until the server listens, and returns false when it cannot, or does not in time, or ctx ends.
func (s *Server) ready(ctx context.Context) bool {
	for deadline := time.Now().Add(startLimit); ctx.Err() == nil && s.signs.fatal.Load() == nil && time.Now().Before(deadline); {
		if s.ns.ReadyForConnections(100 * time.Millisecond) {
			return true
		}
	}
	return false
}

// stopLimit is how long a server may take to stop before it is left behind: it steps down from what it
// leads, which takes a second, and closes its files.
const stopLimit = 2400 * time.Millisecond

// A server that stops closes the connections of its clients one after the other, within closeWithin, after
// warning them.
const (
	closeWithin = 50 * time.Millisecond
	warnBefore  = time.Millisecond
)

// shutdown stops the server, and returns false when that took too long. Every message that was
// acknowledged is on disk by then: what is lost is a tidy end. It lets nobody in any more before it stops:
// a login that has to be asked about after that ends the process with a panic (nats-server 2.15.2,
// events.go newRespInbox).
func shutdown(ns *server.Server) bool {
	done := make(chan struct{})
	go func() { // ends with the process at the latest
		defer close(done)
		ns.LameDuckShutdown()
		ns.Shutdown() // one that does not listen yet, or any more, is not a lame duck
		ns.WaitForShutdown()
	}()
	select {
	case <-done:
		return true
	case <-time.After(stopLimit):
		return false
	}
}

// Current reports whether every copy of a stream has all that its leader has.
func Current(info *jetstream.StreamInfo) bool {
	if info.Cluster == nil {
		return info.Config.Replicas == 1
	}
	if info.Cluster.Leader == "" || len(info.Cluster.Replicas)+1 != info.Config.Replicas {
		return false
	}
	for _, r := range info.Cluster.Replicas {
		if !r.Current || r.Offline {
			return false
		}
	}
	return true
}

// Few names a few of many, in order.
func Few(list []string) string {
	list = slices.Sorted(slices.Values(list))
	if len(list) > 5 {
		return strings.Join(list[:5], ", ") + fmt.Sprintf(" and %d more", len(list)-5)
	}
	return strings.Join(list, ", ")
}
