package unibus

import (
	"context"
	"time"

	"github.com/unibus/unibus/internal/store"
)

// Stored is how much a room has stored and who sent it, by the word of the server: nothing of it is verified, as Verify does.
type Stored struct {
	Frames  uint64         `json:"frames"` // each with some messages, a piece of one, or that its writer has ended
	Bytes   uint64         `json:"bytes"`  // that they take on the server's disk
	First   *time.Time     `json:"first,omitempty"`
	Last    *time.Time     `json:"last,omitempty"`
	Writers []StoredWriter `json:"writers"` // those who sent most, of more than 1,000
}

// StoredWriter is somebody whose frames a room has stored. Name and Role are verified, and what they are now; empty for who
// has none any more.
type StoredWriter struct {
	Key    PublicKey  `json:"key"`
	Name   string     `json:"name"`
	Role   Role       `json:"role"`
	Frames uint64     `json:"frames"`
	Last   *time.Time `json:"last,omitempty"` // when the last was stored; nil: the server did not say
}

// StoredIn asks how much a room has stored, without reading any of it. It is nil for a room that stores nothing, for whoever
// is in it no more, straight at a store without messages, and where the service does not know it.
func StoredIn(ctx context.Context, r *Room) (*Stored, error) {
	if r.c.link.past == nil || !r.r.Ledger().Policy.Stored() {
		return nil, nil
	}
	said, err := r.c.link.past.Stored(ctx, r.r.ID)
	if err != nil || said == nil {
		return nil, err
	}
	s := &Stored{Frames: said.Frames, Bytes: said.Bytes, First: inUTC(said.Began), Last: inUTC(said.Time), Writers: []StoredWriter{}}
	for _, w := range said.Writers {
		s.Writers = append(s.Writers, storedWriter(r, w))
	}
	return s, nil
}

// storedWriter is who a server says has sent frames, as this client knows them.
func storedWriter(r *Room, w store.Writer) StoredWriter {
	known := StoredWriter{Key: w.Endpoint, Role: r.r.Ledger().Role(w.Endpoint), Frames: w.Frames, Last: inUTC(w.Time)}
	if u := r.c.self.Allowlist().User(w.Endpoint); u != nil {
		known.Name = u.Name
	}
	return known
}

// inUTC is a time, if there is one, as it is printed.
func inUTC(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	utc := t.UTC()
	return &utc
}
