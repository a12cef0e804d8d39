package admin

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/inbox"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// began is when the rooms of these tests are made, and ended when their exports are.
var (
	began = time.UnixMilli(1e12).UTC()
	ended = began.Add(time.Hour)
)

// audited is a bus with one room, whose frames a test draws: alice owns it, bob is a member, carol was one until entry 4,
// dave is a reader, and eve is nobody there.
type audited struct {
	t      *testing.T
	people map[string]*crypto.Identity
	logs   []Log
	room   *ledger.State
	key    *crypto.FrameKey // nil: the room is not encrypted
}

// newAudited makes the bus and the room.
func newAudited(t *testing.T, encryption string, retain *ledger.Retain) *audited {
	t.Helper()
	w := &audited{t: t, people: map[string]*crypto.Identity{}, room: new(ledger.State)}
	for i, name := range []string{"alice", "bob", "carol", "dave", "eve"} {
		w.people[name] = identity(t, byte(i))
	}
	alice, bus := w.people["alice"], new(ledger.State)
	next := func(s *ledger.State, body ledger.Body) *ledger.State {
		t.Helper()
		statement, err := s.Next(alice, body, began)
		must(t, err)
		e, err := s.Check(statement)
		must(t, err)
		if s = s.With(e); s.Head.Seq == 1 {
			w.logs = append(w.logs, Log{ID: s.ID})
		}
		w.logs[len(w.logs)-1].Statements = append(w.logs[len(w.logs)-1].Statements, statement)
		return s
	}
	bus = next(bus, &ledger.Found{Name: "alice", Key: alice.Key()})
	create := &ledger.Create{Bus: bus.ID, Subject: "r", Nonce: make([]byte, 16)}
	create.Policy = ledger.Policy{Encryption: encryption, History: ledger.HistoryShared, Retain: retain}
	first, second := crypto.RoomKey{1}, crypto.RoomKey{2}
	var rekey *ledger.Rekey
	if create.Policy.Encrypted() {
		commit := first.Commit(1)
		create.Commit, rekey = &commit, &ledger.Rekey{Epoch: 2, Commit: second.Commit(2), Previous: make([]byte, crypto.PreviousSize)}
	}
	w.room = next(w.room, create)
	w.room = next(w.room, &ledger.Invite{Members: []ledger.NewMember{
		{Key: w.people["bob"].Key(), Role: ledger.RoleMember}, {Key: w.people["carol"].Key(), Role: ledger.RoleMember}, {Key: w.people["dave"].Key(), Role: ledger.RoleReader},
	}})
	w.room = next(w.room, &ledger.MemberRole{Key: w.people["bob"].Key(), Role: ledger.RoleMember})
	w.room = next(w.room, &ledger.Remove{Keys: []crypto.PublicKey{w.people["carol"].Key()}, Rekey: rekey})
	if rekey != nil {
		var err error
		w.key, err = crypto.NewFrameKey(second, w.room.ID, 2)
		must(t, err)
	}
	return w
}

// frames are drawn as words, one a place: SENDER, STREAM and COUNTER, as in "alice.1.0", and then what is wrong with it:
//
//	~TEXT     another frame, that says TEXT
//	@N        it names entry N of the log
//	=NAME     it stands under the name of another
//	fork      it names another entry than the log's
//	flip      a bit of it is another
//	final     its stream ends with it
//	missing   its writer says that 3 frames of its stream 9 are stored
//
// joined by "+". "-" is a place that holds nothing.
func (w *audited) frames(text string) (frames []store.Frame) {
	w.t.Helper()
	for i, word := range strings.Fields(text) {
		if word == "-" {
			continue
		}
		parts := strings.Split(word, "+")
		frames = append(frames, w.frame(uint64(i)+1, parts[0], parts[1:]))
	}
	return frames
}

// frame is one of them.
func (w *audited) frame(place uint64, who string, wrong []string) store.Frame {
	w.t.Helper()
	name, counted, _ := strings.Cut(who, ".")
	stream, counter, _ := strings.Cut(counted, ".")
	h := crypto.Header{Epoch: 1, At: 4, Stream: [16]byte{stream[0], name[0]}}
	var err error
	h.Counter, err = strconv.ParseUint(counter, 10, 64)
	must(w.t, err)
	under, flip, text := name, false, ""
	var follows []crypto.Follows
	fork := byte(0)
	for _, what := range wrong {
		switch {
		case what == "fork":
			fork = 1
		case what == "flip":
			flip = true
		case what == "final":
			h.Flags |= crypto.FlagFinal
		case what == "missing":
			h.Flags |= crypto.FlagFollows
			follows = []crypto.Follows{{Stream: [16]byte{'9', name[0]}, Frames: 3, At: 4, Place: 1, Sealed: uint64(began.UnixMicro())}}
		case what[0] == '@':
			h.At = uint64(what[1] - '0')
		case what[0] == '=':
			under = what[1:]
		default:
			text = what
		}
	}
	own, _ := w.room.HashAt(h.At)
	copy(h.Head[:], own[:])
	h.Head[0] ^= fork
	content := crypto.AppendContentTime(nil, uint64(began.UnixMicro())+h.Counter)
	if follows != nil {
		content = crypto.AppendFollows(content, follows)
	}
	content = crypto.AppendRecord(content, nil, []byte(text))
	data, err := w.people[name].SealFrame(nil, w.room.ID, w.key, h, content, [32]byte{byte(place)})
	must(w.t, err)
	if flip {
		data[len(data)-1] ^= 1
	}
	f := store.Frame{Seq: place, Time: began.Add(time.Duration(place) * time.Second), Data: data}
	if under != "nobody" {
		f.Sender = w.people[under].Key()
	}
	return f
}

// past is what the room gives of drawn frames.
func (w *audited) past(first, last uint64, frames []store.Frame) Past {
	return Past{Room: w.room.ID, Last: last, First: func() uint64 { return first }, Frames: func(yield func(store.Frame, error) bool) {
		for _, f := range frames {
			if !yield(f, nil) {
				return
			}
		}
	}}
}

// told exports what the room gives, and returns what is said of that, a word for each notice: KIND FROM-TO, with a ! for a
// finding.
func (w *audited) told(p Past, made time.Time) (string, CheckedFrames) {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "export")
	must(w.t, Export(path, w.logs, []Past{p}, made))
	var words []string
	logs, err := VerifyArchive(w.t.Context(), path, knowsNothing, ended, func(n Told) {
		word := fmt.Sprintf("%s %d-%d", n.Kind, n.From, n.To)
		if n.Finding {
			word = fmt.Sprintf("%s! %d-%d", n.Kind, n.From, n.To)
		}
		excused := strings.Contains(n.Why, "unless its writer says")
		if excused != (n.Kind == inbox.Gap && n.Finding && w.key != nil) {
			w.t.Errorf("of %s it is said that %s", word, n.Why)
		}
		words = append(words, word)
	})
	must(w.t, err)
	if len(logs) != 2 || logs[0].Frames != nil || logs[1].Frames == nil {
		w.t.Fatalf("%+v", logs)
	}
	slices.Sort(words)
	return strings.Join(words, ", "), *logs[1].Frames
}

// TestAudit: what is wrong with the frames of an export, of a room with encryption and of one without, where the two differ
// because the signature is inside what is encrypted.
func TestAudit(t *testing.T) {
	for encryption, of := range map[string]int{ledger.EncryptionNone: 0, ledger.EncryptionE2E: 1} {
		w := newAudited(t, encryption, &ledger.Retain{})
		for _, c := range []struct {
			what, frames string
			last         uint64 // more than there is; 0: as much
			says         [2]string
		}{
			{"as it should be", "alice.1.0 bob.1.0 alice.1.1 bob.1.1+final alice.1.2", 0, [2]string{}},
			{"nothing at all", "", 0, [2]string{}},
			{"one left out", "alice.1.0 - alice.1.2", 0, [2]string{"gap! 1-1, lost! 2-2", "gap! 1-1, lost! 2-2"}},
			{"one left out, and the places counted anew", "alice.1.0 alice.1.2", 0, [2]string{"gap! 1-1", "gap! 1-1"}},
			{"the first of a stream left out so", "alice.1.1 alice.1.2", 0, [2]string{"gap! 0-0", "gap! 0-0"}},
			{"the last left out", "alice.1.0 alice.1.1", 4, [2]string{"lost! 3-4", "lost! 3-4"}},
			{"all left out", "", 4, [2]string{"lost! 1-4", "lost! 1-4"}},
			{"two exchanged", "alice.1.1 alice.1.0", 0, [2]string{"reordered 0-0", "reordered 0-0"}},
			{"two of two senders exchanged", "alice.1.0 bob.1.0 alice.1.1+=bob bob.1.1+=alice", 0, [2]string{"forged! 1-1, forged! 1-1", "gap! 0-0, gap! 0-0"}},
			{"one of them put under a name", "bob.1.0+=alice", 0, [2]string{"forged! 0-0", ""}}, // it could be alice's: nobody sees without the key
			{"two under one counter", "alice.1.0 alice.1.0+other", 0, [2]string{"replayed! 0-0", "replayed! 0-0"}},
			{"one twice", "alice.1.0 alice.1.0", 0, [2]string{"", "replayed! 0-0"}}, // drawn again it is encrypted again
			{"behind the end of its stream", "alice.1.0+final alice.1.1", 0, [2]string{"replayed! 1-1", "replayed! 1-1"}},
			{"back in the log", "alice.1.0 alice.1.1+@1", 0, [2]string{"replayed! 1-1", "refused! 1-1, replayed! 1-1"}},
			{"of somebody who was removed", "carol.1.0", 0, [2]string{"refused! 0-0", "refused! 0-0"}},
			{"of a reader", "dave.1.0", 0, [2]string{"refused! 0-0", "refused! 0-0"}},
			{"of a stranger", "eve.1.0", 0, [2]string{"forged! 0-0", "forged! 0-0"}},
			{"of nobody", "alice.1.0+=nobody", 0, [2]string{"forged! 0-0", "forged! 0-0"}},
			{"of another history", "bob.1.0+fork", 0, [2]string{"fork! 0-0", "fork! 0-0"}},
			{"of entries that are left out", "bob.1.0+@5", 0, [2]string{"withheld! 0-0", "withheld! 0-0"}},
			{"damaged", "alice.1.0+text+flip", 0, [2]string{"forged! 0-0", ""}},
			{"its writer knows of more", "alice.1.0+missing", 0, [2]string{"missing! 0-2", ""}},
		} {
			frames := w.frames(c.frames)
			p := w.past(1, max(c.last, uint64(len(strings.Fields(c.frames)))), frames)
			for _, made := range []time.Time{ended, {}, ended.AddDate(900, 0, 0)} { // what a manifest says of the time excuses nothing
				said, found := w.told(p, made)
				if said != c.says[of] || found.Findings != uint64(strings.Count(said, "!")) || found.Frames != uint64(len(frames)) || found.Last != p.Last {
					t.Errorf("%s, %s, made %v: %q, not %q; %+v", encryption, c.what, made, said, c.says[of], found)
				}
				if sealed := found.Sealed > 0; sealed && w.key == nil || !sealed && w.key != nil && found.Senders > 0 {
					t.Errorf("%s: %+v", c.what, found)
				}
			}
		}
	}
}

// TestAuditExpired: what the room's own policy lets expire is not missing, also where it expired while it was read; what no
// policy says is.
func TestAuditExpired(t *testing.T) {
	hour := &ledger.Retain{Age: 60} // so that all of it may be gone by then
	for _, c := range []struct {
		what   string
		retain *ledger.Retain
		frames string
		first  uint64 // before the room is read
		meant  string // what is said where it rises to the frame that comes next
	}{
		{"from the front", hour, "- - alice.1.2", 3, "expired 0-1"},
		{"from the front, of a room that keeps all", &ledger.Retain{}, "- - alice.1.2", 3, "gap! 0-1, lost! 1-2"},
		{"and it is said to be there", hour, "- - alice.1.2", 1, "expired 0-1"},
		{"while it was read", hour, "alice.1.0 - - alice.1.3", 1, "expired 1-2"},
		{"while it was read, sooner than it may", &ledger.Retain{Age: 7200}, "alice.1.0 - - alice.1.3", 1, "gap! 1-2, lost! 2-3"},
		{"while it was read, of a room that keeps all", &ledger.Retain{}, "alice.1.0 - - alice.1.3", 1, "gap! 1-2, lost! 2-3"},
	} {
		w := newAudited(t, ledger.EncryptionE2E, c.retain)
		p := w.past(c.first, uint64(len(strings.Fields(c.frames))), nil)
		first := c.first
		p.First = func() uint64 { return first }
		p.Frames = func(yield func(store.Frame, error) bool) {
			for _, f := range w.frames(c.frames) {
				if f.Seq > 1 {
					first = f.Seq
				}
				if !yield(f, nil) {
					return
				}
			}
		}
		if said, _ := w.told(p, ended); said != c.meant {
			t.Errorf("%s: %q, not %q", c.what, said, c.meant)
		}
	}
}

// TestAuditMuch: of very many that are wrong some are told, and all are counted.
func TestAuditMuch(t *testing.T) {
	w := newAudited(t, ledger.EncryptionNone, &ledger.Retain{})
	frames := w.frames(strings.Repeat("bob.1.0+=alice ", maxTold+7))
	said, found := w.told(w.past(1, maxTold+7, frames), ended)
	if n := strings.Count(said, "forged!"); n != maxTold || found.Findings != maxTold+7 || found.Untold != 7 {
		t.Errorf("%d told, %+v", n, found)
	}
}

// TestAuditClock: of an encrypted room the time of its oldest frame counts for all of them, so that a server's clock that
// goes back makes nothing a repetition.
func TestAuditClock(t *testing.T) {
	w := newAudited(t, ledger.EncryptionE2E, &ledger.Retain{})
	frames := w.frames("alice.1.0 alice.1.1")
	frames[1].Time = began
	if said, _ := w.told(w.past(1, 2, frames), ended); said != "" {
		t.Errorf("it tells %q", said)
	}
}

// TestAuditAnew: a frame that does not fit the log is of before the room began anew if it was sealed before that, as its
// writer signed; where that is encrypted, if it was stored before, as the server says.
func TestAuditAnew(t *testing.T) {
	for _, c := range []struct {
		encryption, frame string
		stored            time.Duration // after the room was made
		says              string
	}{
		{ledger.EncryptionNone, "bob.1.0+@6", time.Second, "refused 0-0"},
		{ledger.EncryptionNone, "bob.1.0+@6", time.Hour, "refused 0-0"},
		{ledger.EncryptionNone, "bob.1.2000000000+@6", time.Second, "withheld! 2000000000-2000000000"}, // in µs
		{ledger.EncryptionE2E, "bob.1.0+@6", time.Second, "refused 0-0"},
		{ledger.EncryptionE2E, "bob.1.0+@6", time.Hour, "withheld! 0-0"},
	} {
		w := newAudited(t, c.encryption, &ledger.Retain{})
		statement, err := w.room.Next(w.people["alice"], &ledger.SetPolicy{Policy: w.room.Room.Policy, Anew: true}, began.Add(1000*time.Second))
		must(t, err)
		e, err := w.room.Check(statement)
		must(t, err)
		w.room = w.room.With(e)
		w.logs[1].Statements = append(w.logs[1].Statements, statement)
		frames := w.frames(c.frame)
		frames[0].Time = began.Add(c.stored)
		if said, _ := w.told(w.past(1, 1, frames), ended); said != c.says {
			t.Errorf("%s, stored after %v, with encryption %s: %q, not %q", c.frame, c.stored, c.encryption, said, c.says)
		}
	}
}

// TestAuditManyStreams: of the order of frames no more is remembered than of as many streams as a reader holds.
func TestAuditManyStreams(t *testing.T) {
	w := newAudited(t, ledger.EncryptionNone, &ledger.Retain{})
	a := newRoomAudit(nil, w.room, ended, func(Told) {})
	for i := range inbox.MaxStreams + 9 {
		a.order(&storedFrame{}, crypto.Header{Stream: [16]byte{byte(i), byte(i >> 8), byte(i >> 16)}})
	}
	if n := len(a.highest); n > inbox.MaxStreams {
		t.Errorf("%d are remembered", n)
	}
}

// TestExportFails: an export of which a frame cannot be had, or is none, is not there at all.
func TestExportFails(t *testing.T) {
	w := newAudited(t, ledger.EncryptionNone, &ledger.Retain{})
	broken := errors.New("broken")
	p := w.past(1, 2, nil)
	p.Frames = func(yield func(store.Frame, error) bool) {
		_ = yield(w.frames("alice.1.0")[0], nil) && yield(store.Frame{}, broken)
	}
	large := w.past(1, 1, []store.Frame{{Seq: 1, Data: make([]byte, maxItem+1)}})
	for _, c := range []struct {
		p    Past
		kind error
	}{{p, broken}, {large, store.ErrIntegrity}} {
		dir := t.TempDir()
		if err := Export(filepath.Join(dir, "export"), w.logs, []Past{c.p}, ended); !errors.Is(err, c.kind) {
			t.Errorf("%v, not %v", err, c.kind)
		}
		if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
			t.Errorf("there is %v, %v", left, err)
		}
	}
}
