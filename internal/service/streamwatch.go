package service

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/shown"
	"github.com/unibus/unibus/internal/store"
)

// A look at the streams has three parts: how far each is behind (tellBehind), what of it was lost since it was last looked at
// (compare, by marks.go), and, where there are several servers, whether their copies are alike (tellUnlike). Each tells what
// is wrong when that begins and when it is over.

const (
	listShare   = 20               // listing the streams takes at most one in so many seconds
	listTimeout = 10 * time.Second // for the whole list
	behindLimit = 30 * time.Second // that a copy may not be current before it is told
)

// streamWatch looks at the streams, and tells of those that are not what they were (marks.go), whose copies are behind, or
// whose copies are not alike. It is for the goroutine of the watch alone, which says when to look.
type streamWatch struct {
	changes
	store  logsAndRooms
	links  *bus.Links
	gauges gauges

	file     string    // of the marks; empty: nothing is kept
	next     time.Time // when to look again
	known    Marks     // nil until they are read
	changed  bool
	compared bool                 // streams were held against the marks since the service started
	anew     bool                 // nothing was remembered when they were first looked at
	kept     bool                 // the data folder was one of a bus before the service started
	lost     map[string]string    // rooms by subject, and what is wrong with their streams
	behind   map[string]time.Time // streams not current, since when
	copies   bus.Copies           // of streams, at the last look
	unlike   map[string]string    // streams whose copies were not alike then, and in what
	patience time.Duration
	rooms    roomTally
}

// logsAndRooms is what says which streams there have to be, and what their rooms' logs say of them.
type logsAndRooms interface {
	store.Log
	store.Directory
}

// newStreamWatch has looked at nothing yet.
func newStreamWatch(o Options, g gauges) *streamWatch {
	w := &streamWatch{
		changes: newChanges(o.Log), store: o.Store, links: o.Links, gauges: g,
		behind: map[string]time.Time{}, patience: behindLimit,
	}
	if o.Dir != "" {
		w.file = MarksFile(o.Dir)
		record, err := keptRecord(o.Dir)
		w.kept = record != "" || err != nil
	}
	return w
}

// look lists the streams and tells what is wrong with them, if it is time to. It reports whether it has, and whether any
// of them are on several servers.
func (w *streamWatch) look(ctx context.Context) (looked, copied bool) {
	if time.Now().Before(w.next) {
		return false, false
	}
	began := time.Now()
	w.next = began.Add(watchEvery)
	if !w.read() {
		return true, false
	}
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	found, err := streams(ctx, w.links)
	w.next = began.Add(max(watchEvery, listShare*time.Since(began)))
	if err != nil {
		return true, false // whoever needs the streams says so
	}
	w.measure(found)
	w.tellBehind(found)
	if err := w.compare(ctx, found); err == nil {
		w.compared = true
		w.save()
	}
	for _, info := range found {
		copied = copied || info.Config.Replicas > 1
	}
	return true, copied
}

// last looks once more, however short ago the last look was, and keeps what was found.
func (w *streamWatch) last(ctx context.Context) {
	w.next = time.Time{}
	w.look(ctx)
	w.save()
}

// read reads the file, again each time: an operator may have it written anew meanwhile.
func (w *streamWatch) read() bool {
	if w.file == "" {
		w.known = Marks{}
		return true
	}
	known, err := LoadMarks(w.file)
	if err != nil {
		w.report(slog.LevelWarn, "marks", err.Error(), "streams that went back would not be noticed", "error", err)
		return false
	}
	first := w.known == nil
	w.anew = first && len(known) == 0
	w.known = known
	for room, mark := range known {
		if short := mark.Short(); first && short != "" {
			w.log.Warn("a room's stream is not what it once was", "room", room, "what", short)
		}
	}
	return true
}

// streams is every stream there is, by name; without those that nobody leads just now.
func streams(ctx context.Context, l *bus.Links) (map[string]*jetstream.StreamInfo, error) {
	js, err := jetstream.New(l.Store)
	if err != nil {
		return nil, err
	}
	found := map[string]*jetstream.StreamInfo{}
	all := js.ListStreams(ctx)
	for info := range all.Info() {
		found[info.Config.Name] = info
	}
	return found, all.Err()
}

// one is a stream; nil for one that is not there.
func one(ctx context.Context, l *bus.Links, name string) (*jetstream.StreamInfo, error) {
	js, err := jetstream.New(l.Store)
	if err != nil {
		return nil, err
	}
	stream, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return stream.CachedInfo(), nil
}

// compare holds the rooms' streams against their marks.
func (w *streamWatch) compare(ctx context.Context, found map[string]*jetstream.StreamInfo) error {
	before := maps.Clone(w.known)
	gone := maps.Clone(w.known)
	were := w.lost
	w.lost = map[string]string{}
	rooms := 0
	for r, err := range w.store.Rooms(ctx, crypto.ID{}) {
		if err != nil {
			return err
		}
		if !r.Archived {
			rooms++
		}
		room := r.ID.String()
		if !r.Policy.Stored() || r.Archived {
			continue // its stream may go
		}
		delete(gone, room)
		info := found[bus.StreamName(r.ID)]
		if info == nil { // a list lacks those that nobody leads just now
			var err error
			if info, err = one(ctx, w.links, bus.StreamName(r.ID)); err != nil {
				continue
			}
		}
		tell := w.known.Compare(room, r.Seq, info, time.Now(), w.policyChanged(ctx, r.ID))
		if lacks := cmp.Or(tell, w.known[room].Short()); lacks != "" {
			w.lost[r.Subject] = lacks
		}
		if tell != "" {
			w.report(slog.LevelError, "room "+room, tell, tell, "room", r.Subject, "id", room)
		} else {
			w.forget("room " + room)
		}
	}
	for room := range gone {
		delete(w.known, room)
	}
	if w.anew && w.kept && w.file != "" && len(w.known) > 0 {
		w.anew = false
		w.log.Warn("nothing was remembered of the rooms' streams: whether they lost something before is not known", "file", w.file, "streams", len(w.known))
	}
	for room := range were {
		if w.lost[room] == "" {
			w.log.Warn("a room's stream is taken for what it has to be again", "room", room, "was", were[room])
		}
	}
	w.rooms.set(rooms)
	w.gauges.lost.Set(float64(len(w.lost)))
	w.changed = !maps.Equal(before, w.known)
	return nil
}

// measure counts what the rooms' streams hold.
func (w *streamWatch) measure(found map[string]*jetstream.StreamInfo) {
	var frames, bytes uint64
	for name, info := range found {
		if strings.HasPrefix(name, "UNIBUS_") {
			frames += info.State.Msgs
			bytes += info.State.Bytes
		}
	}
	w.gauges.frames.Set(float64(frames))
	w.gauges.bytes.Set(float64(bytes))
}

// policyChanged returns what looks into a room's log: a change of its policy may have emptied its stream. A log that
// cannot be read excuses nothing.
func (w *streamWatch) policyChanged(ctx context.Context, room crypto.ID) func(since uint64) bool {
	return func(since uint64) bool {
		s, err := store.Load(ctx, w.store, room)
		if err != nil || s.Room == nil {
			return false
		}
		terms := s.Room.Terms
		return len(terms) > 0 && terms[len(terms)-1].Seq > since
	}
}

// tellBehind tells of streams that have not been current on all their servers for a while.
func (w *streamWatch) tellBehind(found map[string]*jetstream.StreamInfo) {
	for name := range w.behind {
		if info := found[name]; info == nil || bus.Current(info) {
			delete(w.behind, name)
		}
	}
	var late []string
	for name, info := range found {
		if bus.Current(info) || !strings.HasPrefix(name, "UNIBUS_") && !strings.HasPrefix(name, "KV_unibus_") {
			continue
		}
		if w.behind[name].IsZero() {
			w.behind[name] = time.Now()
		}
		if time.Since(w.behind[name]) >= w.patience {
			late = append(late, name)
		}
	}
	w.gauges.behind.Set(float64(len(late)))
	if len(late) == 0 {
		w.resolved("behind", "every copy of the streams is current again")
		return
	}
	slices.Sort(late)
	w.report(slog.LevelWarn, "behind", strings.Join(late, " "), "copies of streams are behind", "streams", len(late), "names", shown.Few(late))
}

// tellUnlike tells of streams whose copies were not alike at two looks, in the same: one that a damaged disk has shortened
// is current for all that its servers know.
func (w *streamWatch) tellUnlike(ctx context.Context) {
	copies, err := bus.LookAtCopies(ctx, w.links.Sys)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		w.report(slog.LevelWarn, "copies", err.Error(), "the copies of streams could not be compared", "error", err)
		return
	}
	unlike := copies.Unlike(w.copies)
	for name, in := range unlike {
		if w.unlike[name] == "" { // what it is changes with each message
			w.report(slog.LevelError, "copies "+name, in, "the copies of a stream are not alike: "+bus.Recopy, "stream", name, "what", in)
		}
	}
	for name := range w.unlike {
		if unlike[name] == "" {
			w.resolved("copies "+name, "the copies of a stream are alike again", "stream", name)
		}
	}
	w.resolved("copies", "the copies of streams can be compared again")
	w.copies, w.unlike = copies, unlike
}

// save keeps what changed.
func (w *streamWatch) save() {
	if w.file == "" || !w.changed {
		return
	}
	if err := w.known.Save(w.file); err != nil {
		w.report(slog.LevelWarn, "marks", err.Error(), "what streams are at is not remembered", "error", err)
		return
	}
	w.changed = false
}
