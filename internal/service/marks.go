package service

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/newfile"
	"github.com/unibus/unibus/internal/store"
)

// Mark is what a room's stream was when it was last looked at. First and Last are places.
type Mark struct {
	First   uint64        `json:"first,omitzero"` // 0 while nothing was ever stored
	Began   time.Time     `json:"began,omitzero"` // when that was stored, if it is there
	Last    uint64        `json:"last"`
	Created time.Time     `json:"created"` // of the stream
	Age     time.Duration `json:"age,omitzero"`
	Bytes   int64         `json:"bytes,omitzero"`   // that it may hold
	Seq     uint64        `json:"seq,omitzero"`     // of the room's log
	Lost    uint64        `json:"lost,omitzero"`    // the place it once was at, if it was later found behind it
	Begun   uint64        `json:"begun,omitzero"`   // the place it once began at, if that was gone before its time
	Holes   uint64        `json:"holes,omitzero"`   // places between First and Last without a message: a room has none
	Taken   uint64        `json:"taken,omitzero"`   // of these, as many as a person has accepted
	Before  uint64        `json:"before,omitempty"` // what Seq was before it last grew
	Grown   time.Time     `json:"grown,omitzero"`   // and when that was noticed
}

// Marks are what is remembered of the rooms' streams, by room, so that one which was made anew or went
// back is noticed. It is for the operator only, kept now and then: that a stream is ahead is well, and
// what was stored after the last look is not missed. Readers find out for themselves.
type Marks map[string]Mark

// MarksFile is where a service with the data folder dir keeps them.
func MarksFile(dir string) string { return filepath.Join(dir, "streams.marks") }

// LoadMarks reads a file of marks: a line with a checksum, and JSON. Without a file there are none.
func LoadMarks(path string) (Marks, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return Marks{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("what is remembered of the streams: %w", err)
	}
	m := Marks{}
	if body, ok := unsealed(text); !ok || json.Unmarshal(body, &m) != nil {
		return nil, fmt.Errorf("what is remembered of the streams: %w: %s is damaged", store.ErrDamaged, path)
	}
	return m, nil
}

// Save writes the file anew, and returns when it is on disk.
func (m Marks) Save(path string) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return newfile.Replace(path, sealed(body))
}

// sealed is a text behind a line with its checksum, and unsealed what it is without; ok is false for another checksum.
func sealed(body []byte) []byte {
	sum := sha256.Sum256(body)
	return append([]byte(hex.EncodeToString(sum[:])+"\n"), body...)
}

func unsealed(text []byte) (body []byte, ok bool) {
	sum, body, _ := bytes.Cut(text, []byte("\n"))
	want := sha256.Sum256(body)
	return body, string(sum) == hex.EncodeToString(want[:])
}

// emptyWithin is how long after a room ceased to store messages, and began again perhaps, its stream may be emptied of what
// was there before: a service that is at it may be slow.
const emptyWithin = 2 * time.Minute

// Compare holds the stream of a room, whose log is at seq, against its mark at a time, and remembers what it is now.
// It returns what to tell, if there is something; nil for a stream that is not there. Changed reports whether the room's
// policy was changed after an entry of its log.
func (m Marks) Compare(room string, seq uint64, now *jetstream.StreamInfo, at time.Time, changed func(since uint64) bool) string {
	was, known := m[room]
	switch {
	case now == nil && known:
		return fmt.Sprintf("its stream is gone, which was at %d", max(was.Last, was.Lost))
	case now == nil:
		return ""
	}
	next := Mark{
		First: now.State.FirstSeq, Began: now.State.FirstTime, Last: now.State.LastSeq, Created: now.Created,
		Age: now.Config.MaxAge, Bytes: max(now.Config.MaxBytes, 0), Seq: seq, Lost: was.Lost, Begun: was.Begun,
		Holes: holes(now.State),
	}
	next.Taken = min(was.Taken, next.Holes)
	next.Before, next.Grown = was.Before, was.Grown
	since := was.Seq
	if at.Sub(was.Grown) < emptyWithin {
		since = was.Before
	}
	if known && seq != was.Seq {
		next.Before, next.Grown = since, at
	}
	var tell string
	switch {
	case known && next.Last < was.Last && !next.Created.Equal(was.Created):
		tell = fmt.Sprintf("its stream was made anew: it is at %d, and was at %d", next.Last, was.Last)
	case known && next.Last < was.Last:
		tell = fmt.Sprintf("its stream is shorter than it was left: it is at %d, and was at %d", next.Last, was.Last)
	}
	if tell != "" {
		next.Lost = max(next.Lost, was.Last)
	}
	if was.early(next, now.State.Bytes, at) && !changed(since) {
		next.Begun = cmp.Or(next.Begun, was.First)
		tell = cmp.Or(tell, fmt.Sprintf("its stream lost its beginning: it begins at %d, and began at %d", next.First, was.First))
	}
	if next.Holes > max(was.Holes, next.Taken) {
		tell = cmp.Or(tell, "its stream lost messages: "+next.lacks())
	}
	if next.Last >= next.Lost {
		next.Lost = 0 // what was there is there again, as far as numbers tell
	}
	if next.First <= next.Begun {
		next.Begun = 0
	}
	m[room] = next
	return tell
}

// holes is how many places of a stream hold no message.
func holes(s jetstream.StreamState) uint64 {
	if places := s.LastSeq - s.FirstSeq + 1; s.Msgs > 0 && places > s.Msgs {
		return places - s.Msgs
	}
	return 0
}

// largest is what one message of a stream takes at most: a frame and what the server adds to it.
const largest = 1<<20 + 64<<10

// early reports whether a stream with so many bytes lost what it began with before its limits allow that. Only for
// something new does a server remove what is old, and no more than it has to.
func (m Mark) early(next Mark, bytes uint64, at time.Time) bool {
	switch {
	case m.First == 0 || next.First <= m.First || !next.Created.Equal(m.Created):
		return false
	case next.Age != m.Age || next.Bytes != m.Bytes:
		return false
	case m.Bytes > 0 && next.Last > m.Last && bytes+largest > uint64(m.Bytes):
		return false
	}
	return m.Age == 0 || !m.Began.IsZero() && at.Sub(m.Began) < m.Age-clocks
}

// Short says what a stream lacks, as it was found to once; empty for nothing.
func (m Mark) Short() string {
	switch {
	case m.Lost > 0:
		return fmt.Sprintf("it is at %d, and was at %d", m.Last, m.Lost)
	case m.Begun > 0:
		return fmt.Sprintf("it begins at %d, and began at %d", m.First, m.Begun)
	case m.Holes > m.Taken:
		return m.lacks()
	}
	return ""
}

func (m Mark) lacks() string {
	return fmt.Sprintf("it lacks %d of its places %d to %d", m.Holes, m.First, m.Last)
}

// Accepted is a mark of a stream that a person takes for what it has to be.
func (m Mark) Accepted() Mark {
	m.Lost, m.Begun, m.Taken = 0, 0, m.Holes
	return m
}

const (
	listShare   = 20               // listing the streams takes at most one in so many seconds
	listTimeout = 10 * time.Second // for the whole list
	behindLimit = 30 * time.Second // that a copy may not be current before it is told
	clocks      = time.Minute      // by which those of two servers may differ
)

// marks looks at the streams.
type marks struct {
	file     string // empty: nothing is kept
	store    store.Backend
	next     time.Time // when to look again
	known    Marks     // nil until they are read
	changed  bool
	anew     bool                 // nothing was remembered when they were first looked at
	kept     bool                 // the data folder was one of a bus before the service started
	lost     map[string]string    // rooms by subject, and what is wrong with their streams
	behind   map[string]time.Time // streams not current, since when
	copies   bus.Copies           // of streams, at the last look
	unlike   map[string]string    // streams whose copies were not alike then, and in what
	patience time.Duration
}

func newMarks(o Options) *marks {
	m := &marks{store: o.Store, behind: map[string]time.Time{}, patience: behindLimit}
	if o.Dir != "" {
		m.file = MarksFile(o.Dir)
		record, err := keptRecord(o.Dir)
		m.kept = record != "" || err != nil
	}
	return m
}

// look lists the streams and tells what is wrong with them, if it is time to. It reports whether it has, and whether any
// of them are on several servers.
func (m *marks) look(ctx context.Context, w *watch) (looked, copied bool) {
	if time.Now().Before(m.next) || w.filled {
		return false, false
	}
	began := time.Now()
	m.next = began.Add(watchEvery)
	if !m.read(w) {
		return true, false
	}
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	found, err := list(ctx, w.links)
	m.next = began.Add(max(watchEvery, listShare*time.Since(began)))
	if err != nil {
		return true, false // whoever needs the streams says so
	}
	m.tellBehind(w, found)
	if err := m.compare(ctx, w, found); err == nil {
		m.save(w)
	}
	for _, info := range found {
		copied = copied || info.Config.Replicas > 1
	}
	return true, copied
}

// read reads the file, again each time: doctor --repair may have written it.
func (m *marks) read(w *watch) bool {
	if m.file == "" {
		m.known = Marks{}
		return true
	}
	known, err := LoadMarks(m.file)
	if err != nil {
		w.say(slog.LevelWarn, "marks", err.Error(), "streams that went back would not be noticed", "error", err)
		return false
	}
	first := m.known == nil
	m.anew = first && len(known) == 0
	m.known = known
	for room, mark := range known {
		if short := mark.Short(); first && short != "" {
			w.log.Warn("a room's stream is not what it once was", "room", room, "what", short)
		}
	}
	return true
}

func list(ctx context.Context, l *bus.Links) (map[string]*jetstream.StreamInfo, error) {
	js, err := jetstream.New(l.Store)
	if err != nil {
		return nil, err
	}
	found := map[string]*jetstream.StreamInfo{}
	streams := js.ListStreams(ctx)
	for info := range streams.Info() {
		found[info.Config.Name] = info
	}
	return found, streams.Err()
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
func (m *marks) compare(ctx context.Context, w *watch, found map[string]*jetstream.StreamInfo) error {
	before := maps.Clone(m.known)
	gone := maps.Clone(m.known)
	were := m.lost
	m.lost = map[string]string{}
	for r, err := range m.store.Rooms(ctx, crypto.ID{}) {
		if err != nil {
			return err
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
		tell := m.known.Compare(room, r.Seq, info, time.Now(), m.policyChanged(ctx, r.ID))
		if lacks := cmp.Or(tell, m.known[room].Short()); lacks != "" {
			m.lost[r.Subject] = lacks
		}
		if tell != "" {
			w.say(slog.LevelError, "room "+room, tell, tell, "room", r.Subject, "id", room)
		} else {
			delete(w.said, "room "+room)
		}
	}
	for room := range gone {
		delete(m.known, room)
	}
	if m.anew && m.kept && m.file != "" && len(m.known) > 0 {
		m.anew = false
		w.log.Warn("nothing was remembered of the rooms' streams: whether they lost something before is not known", "file", m.file, "streams", len(m.known))
	}
	for room := range were {
		if m.lost[room] == "" {
			w.log.Warn("a room's stream is taken for what it has to be again", "room", room, "was", were[room])
		}
	}
	w.gauges.lost.Set(float64(len(m.lost)))
	m.changed = !maps.Equal(before, m.known)
	return nil
}

// policyChanged returns what looks into a room's log: a change of its policy may have emptied its stream. A log that
// cannot be read excuses nothing.
func (m *marks) policyChanged(ctx context.Context, room crypto.ID) func(since uint64) bool {
	return func(since uint64) bool {
		s, err := store.Load(ctx, m.store, room)
		if err != nil || s.Room == nil {
			return false
		}
		terms := s.Room.Terms
		return len(terms) > 0 && terms[len(terms)-1].Seq > since
	}
}

// tellBehind tells of streams that have not been current on all their servers for a while.
func (m *marks) tellBehind(w *watch, found map[string]*jetstream.StreamInfo) {
	for name := range m.behind {
		if info := found[name]; info == nil || bus.Current(info) {
			delete(m.behind, name)
		}
	}
	var late []string
	for name, info := range found {
		if bus.Current(info) || !strings.HasPrefix(name, "UNIBUS_") && !strings.HasPrefix(name, "KV_unibus_") {
			continue
		}
		if m.behind[name].IsZero() {
			m.behind[name] = time.Now()
		}
		if time.Since(m.behind[name]) >= m.patience {
			late = append(late, name)
		}
	}
	w.gauges.behind.Set(float64(len(late)))
	if len(late) == 0 {
		w.well("behind", "every copy of the streams is current again")
		return
	}
	slices.Sort(late)
	w.say(slog.LevelWarn, "behind", strings.Join(late, " "), "copies of streams are behind", "streams", len(late), "names", bus.Few(late))
}

// tellUnlike tells of streams whose copies were not alike at two looks, in the same: one that a damaged disk has shortened
// is current for all that its servers know.
func (m *marks) tellUnlike(ctx context.Context, w *watch) {
	copies, err := bus.LookAtCopies(ctx, w.links.Sys)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		w.say(slog.LevelWarn, "copies", err.Error(), "the copies of streams could not be compared", "error", err)
		return
	}
	unlike := copies.Unlike(m.copies)
	for name, in := range unlike {
		if m.unlike[name] == "" { // what it is changes with each message
			w.say(slog.LevelError, "copies "+name, in, "the copies of a stream are not alike: "+bus.Recopy, "stream", name, "what", in)
		}
	}
	for name := range m.unlike {
		if unlike[name] == "" {
			w.well("copies "+name, "the copies of a stream are alike again", "stream", name)
		}
	}
	w.well("copies", "the copies of streams can be compared again")
	m.copies, m.unlike = copies, unlike
}

// save keeps what changed.
func (m *marks) save(w *watch) {
	if m.file == "" || !m.changed || w.filled {
		return
	}
	if err := m.known.Save(m.file); err != nil {
		w.say(slog.LevelWarn, "marks", err.Error(), "what streams are at is not remembered", "error", err)
		return
	}
	m.changed = false
}
