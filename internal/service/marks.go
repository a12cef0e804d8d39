package service

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/newfile"
	"github.com/unibus/unibus/internal/store"
)

// What is remembered of streams, and what of it being otherwise means. This file knows no server and no clock: a stream as
// it is now is held against its mark, and what to tell comes out. Looking and telling is streamwatch.go's.

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
	Anew    uint64        `json:"anew,omitzero"`    // the place it was at when it was made anew, and
	Made    time.Time     `json:"made,omitzero"`    // when that which it was before had been made
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
	if body, ok := withoutSum(text); !ok || json.Unmarshal(body, &m) != nil {
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
	return newfile.Replace(path, withSum(body))
}

// withSum is a text behind a line with its checksum.
func withSum(body []byte) []byte {
	sum := sha256.Sum256(body)
	return append([]byte(hex.EncodeToString(sum[:])+"\n"), body...)
}

// withoutSum is the text behind its checksum, which has to be that of the text.
func withoutSum(text []byte) (body []byte, ok bool) {
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
		Age: now.Config.MaxAge, Bytes: max(now.Config.MaxBytes, 0), Seq: seq, Lost: was.Lost, Begun: was.Begun, Anew: was.Anew, Made: was.Made,
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
	case was.Last > 0 && !next.Created.Equal(was.Created) && !next.Created.Equal(was.Made):
		tell = fmt.Sprintf("its stream was made anew: it is at %d, and was at %d", next.Last, was.Last)
		next.Anew, next.Made = max(next.Anew, was.Last), cmp.Or(was.Made, was.Created)
	case next.Last < was.Last:
		tell = fmt.Sprintf("its stream is shorter than it was left: it is at %d, and was at %d", next.Last, was.Last)
	}
	if next.Last < was.Last {
		next.Lost = max(next.Lost, was.Last)
	}
	if next.Created.Equal(next.Made) { // it is the one that it was before
		next.Anew, next.Made = 0, time.Time{}
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

// clocks is by how much those of two servers may differ.
const clocks = time.Minute

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
	case m.Anew > 0:
		return fmt.Sprintf("it was made anew: it is at %d, and what it was before was at %d", m.Last, m.Anew)
	case m.Begun > 0:
		return fmt.Sprintf("it begins at %d, and began at %d", m.First, m.Begun)
	case m.Holes > m.Taken:
		return m.lacks()
	}
	return ""
}

// lacks says how many messages are missing inside a stream.
func (m Mark) lacks() string {
	return fmt.Sprintf("it lacks %d of its places %d to %d", m.Holes, m.First, m.Last)
}

// Accepted is a mark of a stream that a person takes for what it has to be.
func (m Mark) Accepted() Mark {
	m.Lost, m.Begun, m.Taken = 0, 0, m.Holes
	m.Anew, m.Made = 0, time.Time{}
	return m
}
