package attack

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/service"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/jetstream"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// backend is the store as those see it who run it. Whoever has the file has also the one that says how far its logs
// reached.
func (s *site) backend(f func(ctx context.Context, v store.Backend)) {
	s.Helper()
	var v store.Backend
	var err error
	if s.kind == "jetstream" {
		v, err = jetstream.Open(s.ctx, s.store, jetstream.Options{Existing: true})
	} else {
		v, err = sqlite.Open(s.ctx, s.file(), sqlite.Options{Existing: true})
	}
	s.must(err)
	f(s.ctx, v)
	s.must(v.Close())
}

// exec changes a file past everything that guards it.
func (s *site) exec(statement string, args ...any) {
	s.Helper()
	db, err := sql.Open("sqlite", "file:"+s.file()+"?_pragma=busy_timeout(5000)")
	s.must(err)
	_, err = db.ExecContext(s.ctx, statement, args...)
	s.must(err)
	s.must(db.Close())
}

// forget makes the store forget the last entry of a log. Whoever was connected to it is no more.
func (s *site) forget(log unibus.ID) {
	s.Helper()
	var head uint64
	s.backend(func(ctx context.Context, v store.Backend) {
		h, err := store.HeadOf(ctx, v, log)
		s.must(err)
		head = h.Seq
	})
	if s.kind == "jetstream" {
		stream, err := s.js.Stream(s.ctx, "KV_"+jetstream.Buckets[0])
		s.must(err)
		s.must(stream.Purge(s.ctx, natsjs.WithPurgeSubject(fmt.Sprintf("$KV.%s.%s.%d", jetstream.Buckets[0], log, head))))
		return
	}
	s.stop()
	s.exec(`DELETE FROM entries WHERE log = ? AND seq = ?`, log[:], head)
	s.exec(`UPDATE rooms SET seq = ? WHERE id = ? AND seq = ?`, head-1, log[:], head)
	s.must(os.RemoveAll(filepath.Join(s.dir, "heads."+service.SQLiteFile)))
	s.start()
}

// replace puts other bytes in the place of copies of a room's committed keys; change returns nil for those that stay.
func (s *site) replace(room unibus.ID, change func(k store.SealedCopy) []byte) {
	s.Helper()
	s.backend(func(ctx context.Context, v store.Backend) {
		for k, err := range v.Sealed(ctx, room, 1) {
			s.must(err)
			if sealed := change(k); sealed != nil {
				s.overwrite(k, sealed)
			}
		}
	})
}

func (s *site) overwrite(k store.SealedCopy, sealed []byte) {
	s.Helper()
	if s.kind == "jetstream" {
		subject := fmt.Sprintf("$KV.unibus_room_keys.%s.%d.%s.%s.%s", k.Room, k.Epoch, k.Commit, k.Endpoint, k.Sealer)
		_, err := s.js.Publish(s.ctx, subject, sealed)
		s.must(err)
		return
	}
	s.exec(`UPDATE room_keys SET sealed = ? WHERE room = ? AND epoch = ? AND commitment = ? AND endpoint = ? AND sealer = ?`,
		sealed, k.Room[:], k.Epoch, k.Commit[:], k.Endpoint[:], k.Sealer[:])
}

// copies are those of a room's committed keys as the store has them.
func (s *site) copies(room unibus.ID) (out []store.SealedCopy) {
	s.Helper()
	s.replace(room, func(k store.SealedCopy) []byte {
		out = append(out, k)
		return nil
	})
	return out
}

// rewrite replaces what a room's stream holds with what change makes of it.
func (s *site) rewrite(room unibus.ID, change func(frames []*nats.Msg) []*nats.Msg) {
	s.Helper()
	s.must(Rewrite(s.ctx, s.js, room, change))
}
