package inbox_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"hash/maphash"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/inbox"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store/storetest"
	"github.com/unibus/unibus/internal/vectors"
)

var update = flag.Bool("update", false, "write testdata/reading.json")

const readingFile = "../../testdata/reading.json"

// The vectors are sequences of frames, and what a reader must say of them: they speak for any implementation, so they
// are real frames of real logs. They are made from the drawings below, which TestReading compares with the file.
type (
	readingFileJSON struct {
		Note  string            `json:"note"`
		Rooms []*readingRoom    `json:"rooms"`
		Cases []*readingVector  `json:"cases"`
		Names map[string]string `json:"names"`
	}
	readingRoom struct {
		Name    string           `json:"name"`
		Entries []vectors.Bytes  `json:"entries"`
		Keys    []vectors.Bytes  `json:"keys"` // of its epochs, from the first
		room    *ledger.State    // the fold
		by      *crypto.Identity // its owner
		keys    []*crypto.FrameKey
	}
	readingVector struct {
		Name     string          `json:"name"`
		Room     string          `json:"room"`
		Reader   string          `json:"reader"`
		From     uint64          `json:"from"`  // the place that reading begins at; 1: the start
		First    uint64          `json:"first"` // the first place there is, as the server says
		Now      int64           `json:"now"`   // Unix ms
		Frames   []readingFrame  `json:"frames"`
		Messages []readingText   `json:"messages"`
		Notices  []readingNotice `json:"notices"`
	}
	readingFrame struct {
		Place  uint64        `json:"place"`
		Sender string        `json:"sender"`
		Frame  vectors.Bytes `json:"frame"`
	}
	readingText struct {
		Sender  string        `json:"sender"`
		Stream  vectors.Bytes `json:"stream"`
		Counter uint64        `json:"counter"`
		Body    string        `json:"body"`
	}
	readingNotice struct {
		Kind    string        `json:"kind"`
		Finding bool          `json:"finding"`
		Sender  string        `json:"sender"`
		Stream  vectors.Bytes `json:"stream"`
		From    uint64        `json:"from"`
		To      uint64        `json:"to"`
	}
)

var readingTime = time.UnixMilli(1_767_225_600_000).UTC()

func readingPerson(name string) *crypto.Identity {
	var seed [32]byte
	copy(seed[:], "reading "+name)
	id, err := crypto.NewIdentity(seed)
	if err != nil {
		panic(err)
	}
	return id
}

func roomKeyOf(epoch int) crypto.RoomKey { return crypto.RoomKey{'k', byte(epoch)} }

// drawRoom makes a room's log: each body is an entry by alice, a minute after the one before.
func drawRoom(t *testing.T, name string, p ledger.Policy, next ...func(s *ledger.State) ledger.Body) *readingRoom {
	t.Helper()
	r := &readingRoom{Name: name, room: new(ledger.State), by: readingPerson("alice")}
	commit := roomKeyOf(1).Commit(1)
	bodies := append([]func(*ledger.State) ledger.Body{func(*ledger.State) ledger.Body {
		return &ledger.Create{Bus: crypto.ID{'b', 'u', 's'}, Subject: name, Policy: p, Nonce: make([]byte, 16), Commit: &commit}
	}}, next...)
	for i, body := range bodies {
		statement, err := r.room.Next(r.by, body(r.room), readingTime.Add(time.Duration(i)*time.Minute))
		if err == nil {
			_, err = storetest.Advance(r.room, statement)
		}
		if err != nil {
			t.Fatal(err)
		}
		r.Entries = append(r.Entries, statement)
	}
	for i := range r.room.Room.Epochs {
		key := roomKeyOf(i + 1)
		r.Keys = append(r.Keys, key[:])
	}
	return r
}

// open folds a room's log as the file has it.
func (r *readingRoom) open(t *testing.T) {
	t.Helper()
	r.room = new(ledger.State)
	for _, e := range r.Entries {
		if _, err := storetest.Advance(r.room, e); err != nil {
			t.Fatal(err)
		}
	}
	r.keys = nil
	for i, k := range r.Keys {
		key, err := crypto.NewFrameKey(crypto.RoomKey(k), r.room.ID, uint32(i+1))
		if err != nil {
			t.Fatal(err)
		}
		if crypto.RoomKey(k).Commit(uint32(i+1)) != r.room.Room.Epochs[i].Commit {
			t.Fatalf("room %s: key %d is not that of its epoch", r.Name, i+1)
		}
		r.keys = append(r.keys, key)
	}
}

// drawn is a frame as it is drawn.
type drawn struct {
	stream  string // the first letter is whose: a alice, b bob, c carol
	counter uint64
	text    string
	at      uint64 // the entry it names; 0: the last
	sealed  time.Duration
	more    bool
	final   bool
	follows []crypto.Follows
	place   uint64 // 0: the next
	forged  bool   // a bit of it is flipped
	again   bool   // the very frame before
}

func streamOf(name string) (s [16]byte) {
	copy(s[:], "stream "+name)
	return s
}

func writerOf(stream string) string {
	return map[byte]string{'a': "alice", 'b': "bob", 'c': "carol"}[stream[0]]
}

// seal makes the frame.
func (d drawn) seal(t *testing.T, r *readingRoom, n int) []byte {
	t.Helper()
	at := d.at
	if at == 0 {
		at = r.room.Head.Seq
	}
	head, _ := r.room.HashAt(at)
	epoch := r.room.Room.EpochAt(at).Number
	h := crypto.Header{At: at, Head: [16]byte(head[:16]), Stream: streamOf(d.stream), Counter: d.counter}
	content := crypto.AppendContentTime(nil, uint64(readingTime.Add(time.Hour+d.sealed).UnixMicro()))
	if d.more {
		h.Flags |= crypto.FlagMore
	}
	if d.final {
		h.Flags |= crypto.FlagFinal
	}
	if len(d.follows) > 0 {
		h.Flags |= crypto.FlagFollows
		content = crypto.AppendFollows(content, d.follows)
	}
	content = crypto.AppendRecord(content, nil, []byte(d.text))
	frame, err := readingPerson(writerOf(d.stream)).SealFrame(nil, r.room.ID, r.keys[epoch-1], h, content, [32]byte{'f', byte(n), byte(n >> 8)})
	if err != nil {
		t.Fatal(err)
	}
	if d.forged {
		frame[len(frame)-1] ^= 1
	}
	return frame
}

// told is what a writer says of another stream.
func told(stream string, frames, at, place uint64) []crypto.Follows {
	return []crypto.Follows{{Stream: streamOf(stream), Frames: frames, At: at, Place: place, Sealed: uint64(readingTime.Add(time.Hour).UnixMicro())}}
}

// drawer draws rooms and cases.
type drawer struct {
	t      *testing.T
	rooms  []*readingRoom
	cases  []*readingVector
	frames int // that were drawn, so that each is sealed with a nonce of its own
}

// room draws a room.
func (w *drawer) room(name string, p ledger.Policy, next ...func(s *ledger.State) ledger.Body) *readingRoom {
	r := drawRoom(w.t, name, p, next...)
	r.open(w.t)
	w.rooms = append(w.rooms, r)
	return r
}

// draw draws a case: frames of a room, in the order of their places, which bob reads from its start.
func (w *drawer) draw(name string, r *readingRoom, frames ...drawn) *readingVector {
	v := &readingVector{Name: name, Room: r.Name, Reader: "bob", From: 1, First: 1, Now: readingTime.Add(2 * time.Hour).UnixMilli()}
	place := uint64(0)
	for _, d := range frames {
		if place++; d.place > 0 {
			place = d.place
		}
		if d.again {
			v.Frames = append(v.Frames, readingFrame{place, v.Frames[len(v.Frames)-1].Sender, v.Frames[len(v.Frames)-1].Frame})
			continue
		}
		w.frames++
		v.Frames = append(v.Frames, readingFrame{place, writerOf(d.stream), d.seal(w.t, r, w.frames)})
	}
	w.cases = append(w.cases, v)
	return v
}

// frame is one of a stream, made at the last entry of its room.
func frame(stream string, counter uint64, text string) drawn {
	return drawn{stream: stream, counter: counter, text: text}
}

// What else there is to say of a frame: the entry that it is made at, what it tells of another stream, its place, that a
// bit of it is flipped, that its message goes on, that its stream ends, and how much later it is sealed.
func (d drawn) madeAt(entry uint64) drawn             { d.at = entry; return d }
func (d drawn) tells(follows []crypto.Follows) drawn  { d.follows = follows; return d }
func (d drawn) placed(place uint64) drawn             { d.place = place; return d }
func (d drawn) flipped() drawn                        { d.forged = true; return d }
func (d drawn) goesOn() drawn                         { d.more = true; return d }
func (d drawn) ends() drawn                           { d.final = true; return d }
func (d drawn) sealedLater(after time.Duration) drawn { d.sealed = after; return d }

// letIn invites people, with a new key where history is joined.
func letIn(names ...string) func(*ledger.State) ledger.Body {
	return func(s *ledger.State) ledger.Body {
		invite := new(ledger.Invite)
		for _, name := range names {
			invite.Members = append(invite.Members, ledger.NewMember{Key: readingPerson(name).Key(), Role: ledger.RoleMember})
		}
		if s.Room.Policy.History == ledger.HistoryJoined {
			invite.Rekey = nextKey(s)
		}
		return invite
	}
}

// putOut removes somebody.
func putOut(name string) func(*ledger.State) ledger.Body {
	return func(s *ledger.State) ledger.Body {
		return &ledger.Remove{Keys: []crypto.PublicKey{readingPerson(name).Key()}, Rekey: nextKey(s)}
	}
}

func nextKey(s *ledger.State) *ledger.Rekey {
	epoch := s.Room.Epoch().Number + 1
	return &ledger.Rekey{Epoch: epoch, Commit: roomKeyOf(int(epoch)).Commit(epoch)}
}

// setPolicy changes a room's policy; beginAnew says as well that what was stored is gone.
func setPolicy(p ledger.Policy) func(*ledger.State) ledger.Body {
	return func(*ledger.State) ledger.Body { return &ledger.SetPolicy{Policy: p} }
}

func beginAnew(p ledger.Policy) func(*ledger.State) ledger.Body {
	return func(*ledger.State) ledger.Body { return &ledger.SetPolicy{Policy: p, Anew: true} }
}

// drawings are the cases.
func drawings(t *testing.T) (rooms []*readingRoom, cases []*readingVector) {
	w := &drawer{t: t}
	kept := ledger.DefaultPolicy()
	joined, short, few, live := kept, kept, kept, kept
	joined.History = ledger.HistoryJoined
	short.Retain = &ledger.Retain{Age: 600}
	few.Retain = &ledger.Retain{Bytes: 1500}
	live.Retain = nil
	plain := w.room("plain", kept, letIn("bob", "carol"))
	inAndOut := w.room("joined", joined, letIn("bob"), putOut("bob"), letIn("bob"))
	aged := w.room("aged", short, letIn("bob"))
	small := w.room("small", few, letIn("bob"))
	paused := w.room("paused", kept, letIn("bob"), setPolicy(live), setPolicy(kept))
	renewed := w.room("renewed", kept, letIn("bob"), beginAnew(kept))
	drawStreams(w, plain)
	drawTold(w, plain)
	drawNotOwed(w, inAndOut, paused)
	drawExpired(w, aged, small)
	drawAnew(w, renewed)
	return w.rooms, w.cases
}

// drawStreams draws what happens within a stream.
func drawStreams(w *drawer, plain *readingRoom) {
	w.draw("in order, of two writers", plain, frame("a", 0, "one"), frame("b", 0, "two"), frame("a", 1, "three"))
	w.draw("out of order", plain, frame("a", 1, "two"), frame("a", 0, "one"), frame("a", 2, "three"))
	w.draw("a repetition is nothing", plain, frame("a", 0, "one"), frame("a", 1, "two"), drawn{again: true})
	w.draw("another frame under a used counter", plain, frame("a", 0, "one"), frame("a", 0, "other"))
	w.draw("a hole in a stream", plain, frame("a", 0, "one"), frame("a", 3, "four"))
	w.draw("a stream without its beginning", plain, frame("a", 2, "three"))
	w.draw("a decoy under the counter of what is missing", plain, frame("a", 0, "one"), frame("a", 1, "x").flipped(), frame("a", 2, "three"))
	w.draw("a decoy before what it is for", plain, frame("a", 0, "x").flipped(), frame("a", 0, "one"))
	w.draw("pieces", plain, frame("a", 0, "he").goesOn(), frame("a", 1, "ll").goesOn(), frame("a", 2, "o").ends())
	w.draw("a piece is missing", plain, frame("a", 0, "he").goesOn(), frame("a", 2, "o"), frame("a", 3, "next"))
	w.draw("more after its end", plain, frame("a", 0, "one").ends(), frame("a", 1, "two"))
	w.draw("a seal time that goes back", plain, frame("a", 0, "one").sealedLater(time.Second), frame("a", 1, "two"))
}

// drawTold draws what writers tell of their other streams.
func drawTold(w *drawer, plain *readingRoom) {
	w.draw("a whole stream is missing, and its writer tells of it", plain, frame("a2", 0, "two").placed(2).tells(told("a", 1, 2, 1)))
	w.draw("a stream's end is missing, and its writer tells of it", plain, frame("a", 0, "one"), frame("a2", 0, "next").placed(3).tells(told("a", 2, 2, 2)))
	w.draw("what is told is there", plain, frame("a", 0, "one"), frame("a", 1, "two"), frame("a2", 0, "next").tells(told("a", 2, 2, 2)))
	w.draw("never acknowledged", plain, frame("a", 0, "one"), frame("a", 2, "three"), frame("a2", 0, "next").tells(told("a", 1, 2, 1)))
	w.draw("never acknowledged, in part", plain, frame("a", 0, "one"), frame("a", 3, "four"), frame("a2", 0, "next").placed(4).tells(told("a", 2, 2, 2)))
	w.draw("told of a place before reading began", plain, frame("a2", 0, "next").placed(9).tells(told("a", 2, 2, 3))).From = 5
}

// drawNotOwed draws what a reader was not owed the key of, and what was not stored.
func drawNotOwed(w *drawer, inAndOut, paused *readingRoom) {
	w.draw("a hole in an epoch that is not for the reader", inAndOut, frame("a", 0, "one").madeAt(2), frame("a", 5, "six").madeAt(4))
	w.draw("a hole within an epoch that is", inAndOut, frame("a", 0, "one").madeAt(4), frame("a", 5, "six").madeAt(4))
	w.draw("told of an epoch that is not for the reader", inAndOut, frame("a2", 0, "next").madeAt(4).placed(2).tells(told("a", 1, 3, 1)))
	w.draw("a hole while nothing was stored", paused, frame("a", 0, "one").madeAt(2), frame("a", 5, "six").madeAt(4))
	w.draw("a hole after storing began again", paused, frame("a", 0, "one").madeAt(4), frame("a", 5, "six").madeAt(4))
}

// drawExpired draws what may have expired, and what may not.
func drawExpired(w *drawer, aged, small *readingRoom) {
	w.draw("old enough to have expired", aged, frame("a", 3, "four").placed(7)).First = 7
	w.draw("old enough, but the server says that it has what was before", aged,
		frame("a", 0, "one").sealedLater(time.Second).placed(101), frame("a", 3, "four").sealedLater(time.Minute).placed(102))
	w.draw("behind enough others to have expired", small, frame("a", 3, "four").placed(7), frame("a", 4, "five"), frame("a", 5, "six")).First = 7
	w.draw("behind too few others", small, frame("a", 3, "four").placed(7)).First = 7
	w.draw("told, and old enough to have expired", aged, frame("a2", 0, "next").sealedLater(50*time.Minute).placed(9).tells(told("a", 1, 2, 1))).First = 9
}

// drawAnew draws what is told of a room that began anew.
func drawAnew(w *drawer, renewed *readingRoom) {
	w.draw("told of what was stored before the room began anew", renewed, frame("a2", 0, "next").madeAt(3).tells(told("a", 4, 2, 9)))
	w.draw("told of what was stored after it", renewed, frame("a2", 0, "next").madeAt(3).placed(2).tells(told("a", 1, 3, 1)))
}

// reader answers from a room's log.
type reader struct {
	s  *ledger.State
	me crypto.PublicKey
}

func (l reader) Owes(epoch uint32) bool { return l.s.Room.Owes(l.me, epoch) }
func (l reader) OwesAt(at uint64) bool {
	return l.s.Room.Owes(l.me, l.s.Room.EpochAt(at).Number)
}
func (l reader) StoredSince(at uint64) bool    { return l.s.Room.StoredSince(at, l.s.Head.Seq) }
func (l reader) Kept(since uint64) ledger.Kept { return l.s.Room.Kept(since) }
func (l reader) Created() time.Time            { return l.s.Room.EpochAt(1).Time }
func (l reader) Began() (at uint64, when time.Time) {
	at = l.s.Room.Anew
	return at, l.s.Room.EpochAt(at).Time
}
func (l reader) Archived() bool { return l.s.Room.Archived != 0 }

func (l reader) Joined(sender crypto.PublicKey) (uint64, time.Time) {
	return l.s.Room.Joined(sender)
}

// read reads the frames of a case, in their order, to the end of what is stored.
func (v *readingVector) read(t *testing.T, r *readingRoom, keys map[string]crypto.PublicKey) (messages []readingText, notices []readingNotice) {
	t.Helper()
	names := map[crypto.PublicKey]string{}
	for name, key := range keys {
		names[key] = name
	}
	now := time.UnixMilli(v.Now)
	b := inbox.New(
		inbox.Options{Stored: true, Start: v.From <= v.First, From: v.From, Limit: 1 << 20, Patience: time.Second}, reader{r.room, keys[v.Reader]},
		func(m inbox.Message) {
			messages = append(messages, readingText{names[m.Sender], m.Stream[:], m.Counter, string(m.Body) + string(bytes.Join(m.Parts, nil))})
		},
		func(n inbox.Notice) {
			notices = append(notices, readingNotice{string(n.Kind), n.Finding, names[n.Sender], n.Stream[:], n.From, n.To})
		},
	)
	b.Reached(v.First)
	seed := maphash.MakeSeed()
	for _, f := range v.Frames {
		sender := keys[f.Sender]
		verdict, err := r.room.Judge(f.Frame, sender, func(epoch uint32) (*crypto.FrameKey, error) { return r.keys[epoch-1], nil }, false)
		if errors.Is(err, ledger.ErrForged) {
			h, _ := crypto.ParseHeader(f.Frame)
			notices = append(notices, readingNotice{"forged", true, f.Sender, h.Stream[:], h.Counter, h.Counter})
			b.Damaged(sender, f.Place, f.Place)
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		b.Take(inbox.Frame{
			Sender: sender, Header: verdict.Header, Content: verdict.Content, Size: len(f.Frame), Sum: maphash.Bytes(seed, f.Frame),
			Place: f.Place, Refused: verdict.Refused != nil, Former: verdict.Former,
		}, now)
	}
	for due := b.Due(now); !due.IsZero(); due = b.Due(now) {
		now = due
	}
	b.Finish(now)
	return messages, notices
}

// TestReading: the sequences of frames in testdata/reading.json are read as it says.
func TestReading(t *testing.T) {
	rooms, cases := drawings(t)
	keys, names := map[string]crypto.PublicKey{}, map[string]string{}
	for _, name := range []string{"alice", "bob", "carol"} {
		keys[name] = readingPerson(name).Key()
		names[name] = keys[name].String()
	}
	if *update {
		byName := map[string]*readingRoom{}
		for _, r := range rooms {
			byName[r.Name] = r
		}
		for _, v := range cases {
			v.Messages, v.Notices = v.read(t, byName[v.Room], keys)
		}
		write(t, &readingFileJSON{
			Note:  "SPEC.md, section 6: frames as they are stored, in the order of their places, and what a reader who began at a place says of them once everything stored has been read; frames and streams are hex, times Unix ms; from and to are counters, or of what is lost, which has no sender, places: those before the first, holes behind it are left out",
			Names: names, Rooms: rooms, Cases: cases,
		})
	}
	raw, err := os.ReadFile(readingFile)
	if err != nil {
		t.Fatal(err)
	}
	var file readingFileJSON
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) != len(cases) {
		t.Fatalf("the file has %d cases, drawn are %d: go test ./internal/inbox -run TestReading -update", len(file.Cases), len(cases))
	}
	byName := map[string]*readingRoom{}
	for i, r := range file.Rooms {
		r.open(t)
		byName[r.Name] = r
		if !slices.EqualFunc(r.Entries, rooms[i].Entries, func(a, b vectors.Bytes) bool { return bytes.Equal(a, b) }) {
			t.Errorf("room %s is drawn otherwise", r.Name)
		}
	}
	for i, v := range file.Cases {
		t.Run(v.Name, func(t *testing.T) {
			if v.Name != cases[i].Name || len(v.Frames) != len(cases[i].Frames) {
				t.Fatalf("it is drawn otherwise, as %s", cases[i].Name)
			}
			for j, f := range v.Frames {
				if !bytes.Equal(f.Frame, cases[i].Frames[j].Frame) {
					t.Errorf("frame %d is drawn otherwise", j)
				}
			}
			messages, notices := v.read(t, byName[v.Room], keys)
			if got, want := fmt.Sprint(messages), fmt.Sprint(v.Messages); got != want {
				t.Errorf("messages %s, want %s", got, want)
			}
			if got, want := fmt.Sprint(notices), fmt.Sprint(v.Notices); got != want {
				t.Errorf("notices %s, want %s", got, want)
			}
		})
	}
}

func write(t *testing.T, f *readingFileJSON) {
	t.Helper()
	text, err := json.MarshalIndent(f, "", " ")
	if err == nil {
		err = os.WriteFile(readingFile, append(text, '\n'), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// String tells a message of a vector.
func (m readingText) String() string {
	return fmt.Sprintf("%s/%s:%d=%s", m.Sender, hex.EncodeToString(m.Stream), m.Counter, m.Body)
}
