package bus

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/unibus/unibus/internal/store"
)

// How an embedded server gets over a full disk, and over a want of descriptors. A stream that could not write refuses
// everything from then on, without an answer to whoever publishes, and a server of a cluster turns JetStream off: both
// until JetStream starts again (nats-server 2.15.2: filestore.go setWriteErr, jetstream.go handleOutOfSpace). So while
// the disk is full, RefuseWrites lets JetStream say so to those who publish, and once there is room, or there are
// descriptors, RestartJetStream begins anew with what is on disk. The server itself and its connections go on meanwhile.

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
	settle(s.ns)
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
