package admin

import (
	"context"
	"fmt"
	"iter"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/store"
	unibusjs "github.com/unibus/unibus/internal/store/jetstream"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// served is a bus in servers, examined as the store that its service serves from, or may not serve from.
type served struct {
	*node
	store store.Backend
	rooms []*ledger.State // three that store messages
}

// serve starts a server with a filled store, and no streams of rooms.
func serve(t *testing.T) *served {
	t.Helper()
	n := startNode(t)
	s := &served{node: n, store: n.open(t, 1)}
	_, s.rooms = migrated(t, s.store)
	return s
}

// examine looks at the streams.
func (s *served) examine(t *testing.T, look Look) func(func(Check)) {
	return func(report func(Check)) {
		look.Report = report
		Streams(t.Context(), s.acc, s.URL(), s.store, true, look)
	}
}

// change changes the stream of a room behind everyone's back.
func (s *served) change(t *testing.T, room *ledger.State, change func(*jetstream.StreamConfig)) {
	t.Helper()
	stream, err := s.streams(t).Stream(t.Context(), bus.StreamName(room.ID))
	must(t, err)
	config := stream.CachedInfo().Config
	change(&config)
	_, err = s.streams(t).UpdateStream(t.Context(), config)
	must(t, err)
}

// replicasWell is what is told of so many streams on one server.
func replicasWell(streams int) finding {
	return finding{"replicas", Pass, 0, fmt.Sprintf("%d streams, each on 1", streams)}
}

var (
	settingsWell = finding{"stream settings", Pass, 0, "every room's stream is as it has to be"}
	streamsWell  = finding{"streams", Pass, 0, "one for every stored room, and no other"}
)

// buckets is in how many the store is kept.
const buckets = 6

// TestStreamsMissing: a room without its stream is told of, and a repair makes it; one that stores nothing needs none.
func TestStreamsMissing(t *testing.T) {
	s := serve(t)
	newRoom(t, s.store, s.rooms[0].Room.Bus, "live", nil)
	finds(t, "none made", s.examine(t, onlyLook), replicasWell(buckets), settingsWell,
		finding{"streams", Fail, remedy.MakeStreams, "rooms without their stream: r.0, r.1, r.2"})
	finds(t, "a repair", s.examine(t, repair), replicasWell(buckets), settingsWell,
		finding{"streams", Pass, 0, "made for rooms without: r.0, r.1, r.2"})
	finds(t, "all made", s.examine(t, onlyLook), replicasWell(buckets+3), settingsWell, streamsWell)
	write(t, s.store, s.rooms[0], &ledger.Archive{})
	finds(t, "an archived room", s.examine(t, onlyLook), replicasWell(buckets+3), settingsWell, streamsWell)
	must(t, s.streams(t).DeleteStream(t.Context(), bus.StreamName(s.rooms[0].ID)))
	finds(t, "an archived room without its stream", s.examine(t, repair), replicasWell(buckets+2), settingsWell, streamsWell)
}

// TestStreamSettings: a setting that is not as it has to be is told of; a repair changes it, if servers do.
func TestStreamSettings(t *testing.T) {
	s := serve(t)
	finds(t, "made", s.examine(t, repair), replicasWell(buckets), settingsWell, finding{"streams", Pass, 0, "made"})
	s.change(t, s.rooms[1], func(c *jetstream.StreamConfig) { c.MaxAge, c.AllowDirect = time.Hour, false })
	finds(t, "two settings", s.examine(t, onlyLook), replicasWell(buckets+3),
		finding{"stream settings", Fail, remedy.Repair, "not as they have to be: " + s.rooms[1].Room.Subject + " (max_age, allow_direct)"}, streamsWell)
	finds(t, "a repair", s.examine(t, repair), replicasWell(buckets+3),
		finding{"stream settings", Pass, 0, "made as they have to be: " + s.rooms[1].Room.Subject + " (max_age, allow_direct)"}, streamsWell)
	finds(t, "after the repair", s.examine(t, onlyLook), replicasWell(buckets+3), settingsWell, streamsWell)
	inMemory := bus.StreamForm(s.rooms[1].ID, s.rooms[1].Room.Policy)
	inMemory.Storage = jetstream.MemoryStorage
	must(t, s.streams(t).DeleteStream(t.Context(), inMemory.Name))
	_, err := s.streams(t).CreateStream(t.Context(), inMemory)
	must(t, err)
	finds(t, "in memory", s.examine(t, repair), replicasWell(buckets+3),
		finding{"stream settings", Fail, remedy.RemakeStreams, "not as they have to be: " + s.rooms[1].Room.Subject + " (storage)"}, streamsWell)
}

// TestStreamsOfRoomsThatStoreNothing: the stream of a room that stores nothing any more stays, and nobody is told to remove
// it: with it would go what its places count from.
func TestStreamsOfRoomsThatStoreNothing(t *testing.T) {
	s := serve(t)
	s.examine(t, repair)(func(Check) {})
	room := s.rooms[0]
	policy := room.Room.Policy.Copy()
	policy.Retain = nil
	write(t, s.store, room, &ledger.SetPolicy{Policy: policy})
	checks := map[string]Check{}
	s.examine(t, Look{Served: true})(func(c Check) { checks[c.Name] = c })
	if c := checks["streams"]; c.Status != Pass {
		t.Errorf("%+v", c)
	}
}

// TestStreamsOfNoRoom: a stream without a room is removed by nobody but a person, and only where the service serves from, and
// the views list every room.
func TestStreamsOfNoRoom(t *testing.T) {
	s := serve(t)
	finds(t, "made", s.examine(t, repair), replicasWell(buckets), settingsWell, finding{"streams", Pass, 0, "made"})
	for _, name := range []string{"UNIBUS_other", "others"} {
		_, err := s.streams(t).CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name}})
		must(t, err)
	}
	for _, c := range []struct {
		look Look
		help remedy.Kind
	}{{onlyLook, remedy.LeaveStreams}, {repair, remedy.LeaveStreams}, {Look{Served: true}, remedy.RestoreOrRemove}, {Look{Served: true, Repair: true}, remedy.RestoreOrRemove}} {
		finds(t, fmt.Sprintf("%+v", c.look), s.examine(t, c.look), replicasWell(buckets+4), settingsWell,
			finding{"streams", Warn, c.help, "without a room in this store: UNIBUS_other"})
	}
	finds(t, "views that are wrong", func(report func(Check)) {
		Streams(t.Context(), s.acc, s.URL(), s.store, false, Look{Served: true, Report: report})
	},
		replicasWell(buckets+4), settingsWell, finding{"streams", Warn, remedy.RepairFirst, "UNIBUS_other"})
}

// TestStreamsOfLostRoom: the stream of a room of which the store has nothing any more may be all that is left of it. It is to
// be told of as that, and what helps is a backup, which brings the room back beside what is there.
func TestStreamsOfLostRoom(t *testing.T) {
	s := serve(t)
	s.examine(t, repair)(func(Check) {})
	archive := filepath.Join(t.TempDir(), "archive")
	_, err := Backup(t.Context(), s.store, archive, time.UnixMilli(1e12), quiet)
	must(t, err)
	lost := s.rooms[1]
	for _, name := range unibusjs.Buckets {
		bucket, err := s.streams(t).Stream(t.Context(), "KV_"+name)
		must(t, err)
		info, err := bucket.Info(t.Context(), jetstream.WithSubjectFilter(">"))
		must(t, err)
		for subject := range info.State.Subjects {
			if strings.Contains(subject, lost.ID.String()) || strings.HasSuffix(subject, ".subject."+lost.Room.Subject) {
				must(t, bucket.Purge(t.Context(), jetstream.WithPurgeSubject(subject)))
			}
		}
	}
	var told Check
	s.examine(t, Look{Served: true})(func(c Check) {
		if c.Name == "streams" {
			told = c
		}
	})
	says := "without a room in this store: " + bus.StreamName(lost.ID) + "; it has lost their rooms"
	if told.Status != Warn || told.Help != (remedy.Remedy{Kind: remedy.RestoreOrRemove, InServers: true}) || !strings.Contains(told.Detail, says) {
		t.Errorf("%+v", told)
	}
	_, err = Restore(t.Context(), archive, s.URL(), s.acc, quiet)
	must(t, err)
	finds(t, "restored", s.examine(t, Look{Served: true}), replicasWell(buckets+3), settingsWell, streamsWell)
}

// TestStreamsUnanswered: whoever does not answer is told of, and nothing is said of streams.
func TestStreamsUnanswered(t *testing.T) {
	s := serve(t)
	file, other := filled(t, t.TempDir()+"/a.db"), startNode(t)
	closed := filled(t, t.TempDir()+"/a.db")
	closed.Close()
	over, end := context.WithCancel(t.Context())
	end()
	soon := Access{Keys: s.acc.Keys, Timeout: time.Second}
	for _, c := range []struct {
		what    string
		ctx     context.Context
		servers string
		acc     Access
		store   store.Backend
		tells   string
	}{
		{"nobody there", t.Context(), "nats://127.0.0.1:1", soon, s.store, "unavailable"},
		{"another's servers", t.Context(), other.URL(), s.acc, s.store, "not allowed"},
		{"a store that is closed", t.Context(), s.URL(), s.acc, closed, "the rooms cannot be listed"},
		{"nobody waits", over, s.URL(), s.acc, &unhurried{file}, "the streams cannot be listed"},
	} {
		finds(t, c.what, func(report func(Check)) { Streams(c.ctx, c.acc, c.servers, c.store, true, Look{Report: report}) }, finding{"replicas", Fail, 0, c.tells})
	}
}

// TestRepairEnds: servers that do not answer about one stream are not asked about all the others.
func TestRepairEnds(t *testing.T) {
	rooms := roomStreams{}
	var found []foundStream
	for i := range 100 {
		r := &store.Room{ID: crypto.ID{byte(i)}, Subject: strconv.Itoa(i), Policy: ledger.DefaultPolicy()}
		rooms[bus.StreamName(r.ID)] = r
		found = append(found, foundStream{name: bus.StreamName(r.ID)})
	}
	for _, silence := range []error{store.ErrUnavailable, context.DeadlineExceeded} {
		asked := 0
		silent := func(store.Room) error {
			asked++
			return fmt.Errorf("%w: no answer", silence)
		}
		finds(t, "settings", func(report func(Check)) { rooms.settings(found, silent, reporter{"stream settings", report}) },
			finding{"stream settings", Fail, remedy.RepairLater, silence.Error()})
		finds(t, "missing", func(report func(Check)) { rooms.complete(nil, silent, noHelp, Look{Report: report}) }, finding{"streams", Fail, 0, silence.Error()})
		if asked != 2 {
			t.Errorf("%v: asked %d times", silence, asked)
		}
	}
}

// TestRepairOfNoRoom: a stream is made as a room's log says, and not at all without one.
func TestRepairOfNoRoom(t *testing.T) {
	s := serve(t)
	for what, id := range map[string]crypto.ID{"the bus": s.rooms[0].Room.Bus, "no log": {1}} {
		if err := ensureStream(t.Context(), s.Links.Store, s.store, store.Room{ID: id}); err == nil {
			t.Errorf("%s has a stream", what)
		}
	}
}

// TestReplicas: copies that are behind come first, then different numbers of them.
func TestReplicas(t *testing.T) {
	streams := func(replicas ...int) (found []foundStream) {
		for i, n := range replicas {
			found = append(found, foundStream{strconv.Itoa(i), jetstream.StreamConfig{Replicas: n}})
		}
		return found
	}
	for _, c := range []struct {
		what   string
		found  []foundStream
		behind []string
		want   []finding
	}{
		{"none", nil, nil, nil},
		{"one", streams(1), nil, []finding{{"replicas", Pass, 0, "1 stream, each on 1"}}},
		{"alike", streams(3, 3), nil, []finding{{"replicas", Pass, 0, "2 streams, each on 3"}}},
		{"not alike", streams(3, 1, 3), nil, []finding{{"replicas", Warn, remedy.Scale, "1 on 1, 2 on 3"}}},
		{"behind", streams(3, 1, 3), []string{"2", "0"}, []finding{{"replicas", Warn, remedy.AwaitCopies, "not current on every server: 2 streams: 0, 2"}}},
	} {
		finds(t, c.what, func(report func(Check)) { reportReplicas(c.found, c.behind, reporter{"replicas", report}) }, c.want...)
	}
}

// unhurried is a store that answers whoever does not wait any more, too.
type unhurried struct{ *sqlite.Store }

func (u *unhurried) Rooms(ctx context.Context, after crypto.ID) iter.Seq2[store.Room, error] {
	return u.Store.Rooms(context.WithoutCancel(ctx), after)
}
