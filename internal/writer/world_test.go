package writer

import (
	"testing"

	"github.com/unibus/unibus/internal/reader"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/roomtest"
)

func TestMain(m *testing.M) { roomtest.Main(m) }

// world is a bus, with what writes on it.
type world struct {
	*roomtest.World
	writer *Writer
}

func newWorld(t *testing.T) *world {
	w := roomtest.New(t)
	return &world{w, &Writer{Conn: w.Conn, Timeout: roomtest.Timeout, Context: w.Ctx, Tasks: &w.Tasks, Refused: w.Refused, Follow: w.Follow}}
}

// begin begins a stream.
func (w *world) begin(r *room.Room) *Stream {
	w.Helper()
	s, err := w.writer.Begin(w.Ctx, r)
	w.Must(err)
	return s
}

// read reads everything that a room has stored.
func (w *world) read(r *room.Room) (texts []string, notices []reader.Notice, err error) {
	w.Helper()
	rd := &reader.Reader{
		Conn: w.Conn, Past: w.Store, Timeout: roomtest.Timeout, Context: w.Ctx, Tasks: &w.Tasks, Tell: w.Logf, Refused: w.Refused,
		Follow: w.Follow, Rooms: func() int { return 1 },
	}
	s, err := rd.Read(w.Ctx, []*room.Room{r}, nil, reader.Options{All: true, End: true, Notice: func(n reader.Notice) { notices = append(notices, n) }})
	w.Must(err)
	defer s.Close()
	for m, err := range s.Messages() {
		if err != nil {
			return texts, notices, err
		}
		texts = append(texts, string(m.Body))
	}
	return texts, notices, nil
}
