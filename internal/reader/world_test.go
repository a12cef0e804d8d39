package reader

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/inbox"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/roomtest"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/writer"
)

func TestMain(m *testing.M) { roomtest.Main(m) }

// world is a bus, with what its founder reads and writes with.
type world struct {
	*roomtest.World
	reader *Reader
	writer *writer.Writer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{World: roomtest.New(t)}
	w.reader, w.writer = w.readerOf(w.Client), w.writerOf(w.Client)
	return w
}

// readerOf is a reader of a client's. Nobody follows logs for it: what frames name it has to fetch.
func (w *world) readerOf(c *roomtest.Client) *Reader {
	return &Reader{
		Conn: c.Conn, Past: c.Store, Timeout: roomtest.Timeout, Context: w.Ctx, Tasks: &w.Tasks, Tell: w.Logf, Refused: w.Refused,
		Follow: w.Follow, Rooms: func() int { return 1 },
	}
}

// writerOf is a writer of a client's.
func (w *world) writerOf(c *roomtest.Client) *writer.Writer {
	return &writer.Writer{Conn: c.Conn, Timeout: roomtest.Timeout, Context: w.Ctx, Tasks: &w.Tasks, Refused: w.Refused, Follow: w.Follow}
}

// publish sends the founder's messages, each as a stream of its own.
func (w *world) publish(r *room.Room, bodies ...string) {
	w.Helper()
	w.publishAs(w.writer, r, bodies...)
}

// publishAs sends somebody's messages, each as a stream of its own.
func (w *world) publishAs(by *writer.Writer, r *room.Room, bodies ...string) {
	w.Helper()
	for _, body := range bodies {
		s, err := by.Begin(w.Ctx, r)
		w.Must(err)
		w.Must(s.Once(w.Ctx, []byte(body)))
	}
}

// read begins to read rooms.
func (w *world) read(o Options, rooms ...*room.Room) *Reading {
	w.Helper()
	s, err := w.reader.Read(w.Ctx, rooms, nil, o)
	w.Must(err)
	w.Cleanup(func() { s.Close() })
	return s
}

// noticed keeps what a reading tells. It is safe for concurrent use.
type noticed struct {
	mu  sync.Mutex
	all []Notice
}

// add is for Options.Notice.
func (n *noticed) add(what Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, what)
}

// String has all of it, as "kind from-to", with a ! for a finding.
func (n *noticed) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, what := range n.all {
		finding := ""
		if what.Finding {
			finding = "!"
		}
		out = append(out, fmt.Sprintf("%s%s %d-%d", finding, what.Kind, what.From, what.To))
	}
	return fmt.Sprint(out)
}

// rest is what a reading yields until it ends, and why it did.
func rest(s *Reading) (texts []string, err error) {
	for m, err := range s.Messages() {
		if err != nil {
			return texts, err
		}
		texts = append(texts, string(m.Body))
	}
	return texts, nil
}

// next is the next message of a reading.
func (w *world) next(s *Reading) string {
	w.Helper()
	for m, err := range s.Messages() {
		w.Must(err)
		return string(m.Body)
	}
	w.Fatal("the reading has ended")
	return ""
}

// everything reads all that rooms have stored.
func (w *world) everything(rooms ...*room.Room) (texts []string, notices string, err error) {
	w.Helper()
	var told noticed
	texts, err = rest(w.read(Options{All: true, End: true, Notice: told.add}, rooms...))
	return texts, told.String(), err
}

// stored is a room that stores messages for an hour, so that nothing expires meanwhile.
func stored() ledger.Policy {
	p := ledger.DefaultPolicy()
	p.Retain.Age = 3600
	return p
}

// live is a policy of a room that stores nothing.
func live() ledger.Policy {
	p := ledger.DefaultPolicy()
	p.Retain = nil
	return p
}

// put has the server store a frame under somebody's subject, whoever made it. It returns the place.
func (w *world) put(r *room.Room, sender crypto.PublicKey, frame []byte) uint64 {
	w.Helper()
	js, err := jetstream.New(w.Node.Links().Store)
	w.Must(err)
	ack, err := js.Publish(w.Ctx, bus.StoredSubject(r.ID, sender), frame)
	w.Must(err)
	return ack.Sequence
}

// show has the server show a frame under somebody's subject to those who listen.
func (w *world) show(r *room.Room, sender crypto.PublicKey, frame []byte) {
	w.Helper()
	w.Must(w.Node.Links().Store.Publish(bus.LiveSubject(r.ID, sender), frame))
}

// stream is a room's stream, as its server has it.
func (w *world) stream(r *room.Room) jetstream.Stream {
	w.Helper()
	js, err := jetstream.New(w.Node.Links().Store)
	w.Must(err)
	s, err := js.Stream(w.Ctx, bus.StreamName(r.ID))
	w.Must(err)
	return s
}

// made is a frame that a client makes as it likes.
type made struct {
	text   string
	change func(h *crypto.Header)
	sealed time.Time      // zero: now
	key    crypto.RoomKey // zero: the room's, of the epoch
}

// frame makes it, of a stream of its own, at the end of the log as r has it.
func (w *world) frame(r *room.Room, m made) []byte {
	w.Helper()
	s := r.State()
	h := crypto.Header{Epoch: s.Room.Epoch().Number, At: s.Head.Seq, Head: [16]byte(s.Head.Hash[:16]), Flags: crypto.FlagFinal}
	if s.Room.Policy.Encrypted() {
		h.Suite = crypto.SuiteEncrypted
	}
	copy(h.Stream[:], m.text)
	if m.change != nil {
		m.change(&h)
	}
	if m.key == (crypto.RoomKey{}) {
		var err error
		m.key, err = r.Keys.Get(w.Ctx, s.Room.Epochs, min(max(h.Epoch, 1), s.Room.Epoch().Number))
		w.Must(err)
	}
	key, err := crypto.NewFrameKey(m.key, r.ID, h.Epoch)
	w.Must(err)
	if m.sealed.IsZero() {
		m.sealed = time.Now()
	}
	content := crypto.AppendRecord(crypto.AppendContentTime(nil, uint64(m.sealed.UnixMicro())), nil, []byte(m.text))
	frame, err := r.Identity.SealFrame(nil, r.ID, key, h, content, [32]byte{1})
	w.Must(err)
	return frame
}

// invited is a user that the founder has invited to a room, and the room as that user has it.
func (w *world) invited(name string, role ledger.Role, r *room.Room) (*roomtest.Client, *room.Room) {
	w.Helper()
	c := w.User(name)
	w.Must(room.Changes{Room: r}.Invite(w.Ctx, role, c.Key()))
	return c, c.Open(r.ID)
}

// altered is a server that changes its answers about the past.
type altered struct {
	Past
	mu    sync.Mutex
	alter func(q store.FramesQuery, past *store.Past) error // nil: it does not
}

// set changes how answers are changed.
func (a *altered) set(alter func(q store.FramesQuery, past *store.Past) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.alter = alter
}

// Frames changes an answer.
func (a *altered) Frames(ctx context.Context, id crypto.ID, q store.FramesQuery) (store.Past, error) {
	past, err := a.Past.Frames(ctx, id, q)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.alter != nil {
		past.Frames = slices.Clone(past.Frames)
		err = cmp.Or(a.alter(q, &past), err)
	}
	return past, err
}

// endAt has a server say that a room ends at a place.
func endAt(place uint64) func(store.FramesQuery, *store.Past) error {
	return func(_ store.FramesQuery, past *store.Past) error {
		past.Last = min(past.Last, place)
		past.Frames = slices.DeleteFunc(past.Frames, func(f store.Frame) bool { return f.Seq > place })
		return nil
	}
}

// lies has the reader's server change its answers about the past.
func (w *world) lies(alter func(q store.FramesQuery, past *store.Past) error) *altered {
	a := &altered{Past: w.Store, alter: alter}
	w.reader.Past = a
	return a
}

// message is one of a stream, for tests of the order of a batch.
func message(stream byte, place uint64) Message {
	return Message{Message: inbox.Message{Stream: [16]byte{stream}, Place: place}}
}
