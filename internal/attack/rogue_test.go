package attack

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/jetstream"
	"github.com/unibus/unibus/internal/store/remote"
	"github.com/unibus/unibus/internal/store/sqlite"
	"github.com/unibus/unibus/internal/store/storetest"
)

// rogue is someone in a room who uses the store as it is, and keeps none of a client's manners.
type rogue struct {
	*scene
	store.Store
	id   *unibus.Identity
	room unibus.ID
}

func (s *scene) rogue(id *unibus.Identity, room unibus.ID) *rogue {
	s.Helper()
	r := &rogue{scene: s, id: id, room: room}
	var err error
	switch {
	case !s.straight:
		conn, err := bus.Dial(bus.DialOptions{Servers: s.url, Identity: id, Bus: s.alice.Bus(), Rooms: []crypto.ID{room}, Timeout: soon})
		s.must(err)
		s.Cleanup(conn.Close)
		r.Store = remote.New(remote.Options{Transport: conn, Identity: id, Bus: s.alice.Bus(), Inbox: conn.Inbox(), OpTimeout: soon})
	case s.carries:
		r.Store, err = jetstream.Open(s.ctx, s.store, jetstream.Options{Existing: true})
	default:
		r.Store, err = sqlite.Open(s.ctx, s.file(), sqlite.Options{Existing: true})
	}
	s.must(err)
	s.Cleanup(func() { r.Close() })
	return r
}

// put keeps the same bytes as a copy for each.
func (r *rogue) put(epoch uint32, commit crypto.Hash, sealed []byte, to ...unibus.PublicKey) error {
	var keys []store.SealedKey
	for _, key := range to {
		keys = append(keys, store.SealedKey{Endpoint: key, Sealed: sealed})
	}
	return r.PutKeys(r.ctx, r.room, epoch, commit, r.id.Key(), keys)
}

// own are the rogue's copies of a key; epoch 0: of the latest.
func (r *rogue) own(epoch uint32) []store.SealedKey {
	r.Helper()
	copies, err := r.Key(r.ctx, r.room, epoch, r.id.Key())
	r.must(err)
	return copies
}

// log is the room's log.
func (r *rogue) log() *ledger.State {
	r.Helper()
	s, err := store.Load(r.ctx, r.Store, r.room)
	r.must(err)
	return s
}

// append signs and stores an entry, whatever a client would say of it.
func (r *rogue) append(body ledger.Body) error {
	r.Helper()
	s := r.log()
	entry, err := s.Next(r.id, body, time.Now())
	r.must(err)
	change, err := storetest.Advance(s, entry)
	if err != nil {
		return err
	}
	return r.Append(r.ctx, change)
}

// seal is a copy of a key for someone.
func (r *rogue) seal(key crypto.RoomKey, epoch uint32, to *unibus.Identity) []byte {
	r.Helper()
	statement, err := to.Card()
	r.must(err)
	card, err := crypto.OpenCard(statement, to.Key())
	r.must(err)
	sealed, err := crypto.SealKey(key, r.room, epoch, to.Key(), card.Sealing)
	r.must(err)
	return sealed
}

// rekey begins an epoch of the rogue's own making, with what it says the key before is, for those it likes.
func (r *rogue) rekey(previous []byte, to ...*unibus.Identity) {
	r.Helper()
	epoch := r.log().Room.Epoch().Number + 1
	key := crypto.RoomKey{0: 7, 31: byte(epoch)}
	for _, id := range to {
		r.must(r.put(epoch, key.Commit(epoch), r.seal(key, epoch, id), id.Key()))
	}
	r.must(r.append(&ledger.Rekey{Epoch: epoch, Commit: key.Commit(epoch), Previous: previous}))
}

var (
	zeros = make([]byte, crypto.SealedSize)
	none  = make([]byte, crypto.PreviousSize) // a previous that says that its author was given none
)

// rogueAdmin makes a room with bob, and with mallory as an admin, where something is said.
func (s *scene) rogueAdmin(subject string) (alices, bobs *unibus.Room, mallory *unibus.Identity, r *rogue) {
	s.Helper()
	alices, bobs = s.share(subject)
	mallory = s.add("mallory")
	s.must(alices.Invite(s.ctx, unibus.RoleAdmin, mallory.Key()))
	return alices, bobs, mallory, s.rogue(mallory, alices.ID())
}

// say publishes each text, where anything carries messages.
func (s *scene) say(r *unibus.Room, texts ...string) {
	s.Helper()
	if s.carries {
		s.send(r, texts...)
	}
}

// reads checks what somebody reads who knows nothing of before, or has the key to, where nothing carries messages.
func (s *scene) reads(id *unibus.Identity, subject string, want ...string) {
	s.Helper()
	p, r := s.fresh(id, subject)
	defer p.Close()
	if !s.carries {
		if held, err := r.HoldsKey(s.ctx); !held || err != nil {
			s.Errorf("holds the key: %v, %v", held, err)
		}
		return
	}
	if got, notices, err := s.stored(r, unibus.SubscribeOptions{All: true}); err != nil || !slices.Equal(got, want) {
		s.Errorf("read %q, %v, %v; want %q", got, notices, err, want)
	}
}

// fault checks that a key cannot be had by the fault of someone.
func (s *scene) fault(id *unibus.Identity, subject, who string) {
	s.Helper()
	p, r := s.fresh(id, subject)
	defer p.Close()
	if !s.carries {
		if held, err := r.HoldsKey(s.ctx); held || !errors.Is(err, unibus.ErrIntegrity) || !strings.Contains(err.Error(), who) {
			s.Errorf("holds the key: %v, %v; want one that names %s", held, err, who)
		}
		return
	}
	_, notices, err := s.stored(r, unibus.SubscribeOptions{All: true})
	if !errors.Is(err, unibus.ErrIntegrity) || !slices.ContainsFunc(notices, func(n unibus.Notice) bool {
		return n.Kind == unibus.NoticeKey && n.Finding && strings.Contains(n.Why, who)
	}) {
		s.Errorf("%v, %v; want one that names %s", err, notices, who)
	}
}

// garbage is as long as a copy.
func garbage() []byte { return bytes.Repeat([]byte{1}, crypto.SealedSize) }
