package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/vectors"
)

func load(t testing.TB) *vectors.File {
	t.Helper()
	f, err := vectors.Load()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func fold(l vectors.Log) (*ledger.State, error) {
	var statements [][]byte
	for _, e := range l.Entries {
		statements = append(statements, e)
	}
	return ledger.Verify(statements)
}

func TestVectorLogs(t *testing.T) {
	f := load(t)
	for _, v := range append(slices.Clone(f.BusLogs), f.RoomLogs...) {
		t.Run(v.Name, func(t *testing.T) {
			s, err := fold(v)
			if (err == nil) != v.OK {
				t.Fatalf("ok %v %s: got %v", v.OK, v.Why, err)
			}
			if !v.OK {
				if s.Head.Seq != uint64(len(v.Entries)-1) && !strings.Contains(v.Name, "dropped") && !strings.Contains(v.Name, "swapped") {
					t.Errorf("refused at entry %d of %d: %v", s.Head.Seq+1, len(v.Entries), err)
				}
				return
			}
			if s.ID.String() != v.ID {
				t.Errorf("id %s, want %s", s.ID, v.ID)
			}
			if v.Head != "" && s.Head.Hash.String() != v.Head {
				t.Errorf("head %s, want %s", s.Head.Hash, v.Head)
			}
			if s.Bus != nil {
				compareUsers(t, s, v)
			} else {
				compareMembers(t, s, v)
			}
			again(t, s)
		})
	}
}

func compareUsers(t *testing.T, s *ledger.State, v vectors.Log) {
	t.Helper()
	var got, want []string
	for u := range s.Bus.Users {
		got = append(got, fmt.Sprint(u.Key, u.Name, u.Role, u.Active))
	}
	for _, u := range v.Users {
		want = append(want, fmt.Sprint(u.Key, u.Name, u.Role, u.Active))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("users %v, want %v", got, want)
	}
}

func compareMembers(t *testing.T, s *ledger.State, v vectors.Log) {
	t.Helper()
	var got, want []string
	for k, r := range s.Room.Members() {
		got = append(got, fmt.Sprint(k, r))
	}
	for _, m := range v.Members {
		want = append(want, fmt.Sprint(m.Key, m.Role))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("members %v, want %v", got, want)
	}
	if s.Room.Epoch().Number != v.Epoch || s.Room.Subject != v.Subject || s.Room.Bus.String() != v.Bus {
		t.Errorf("epoch %d subject %s bus %s", s.Room.Epoch().Number, s.Room.Subject, s.Room.Bus)
	}
}

// again checks that a snapshot loads to the same state.
func again(t *testing.T, s *ledger.State) {
	t.Helper()
	a, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ledger.LoadSnapshot(a)
	if err != nil {
		t.Fatal(err)
	}
	b, err := back.Snapshot()
	if err != nil || !bytes.Equal(a, b) || back.ID != s.ID || back.Head != s.Head {
		t.Errorf("snapshot does not load to the same state: %v", err)
	}
}

func TestVectorFrames(t *testing.T) {
	f := load(t)
	rooms := map[string]*ledger.State{}
	for _, l := range f.RoomLogs {
		if l.OK {
			s, err := fold(l)
			if err != nil {
				t.Fatal(err)
			}
			rooms[l.Name] = s
		}
	}
	for _, v := range f.Frames {
		t.Run(v.Name, func(t *testing.T) {
			s := rooms[v.RoomLog]
			if s == nil {
				t.Fatalf("no room log %q", v.RoomLog)
			}
			keys := func(epoch uint32) (*crypto.FrameKey, error) {
				return crypto.NewFrameKey(crypto.RoomKey(f.Commitments[epoch-1].Key), s.ID, epoch)
			}
			sender, err := crypto.ParsePublicKey(v.Sender)
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.Judge(v.Frame, sender, keys, v.Live)
			if err == nil {
				err = got.Refused
			}
			if (err == nil) != v.OK {
				t.Fatalf("ok %v %s: got %v", v.OK, v.Why, err)
			}
			if want, ok := frameReasons[v.Why]; ok && !errors.Is(err, want) {
				t.Errorf("refused as %v, want %v", err, want)
			}
			if v.OK {
				compareFrame(t, got, v)
			}
		})
	}
}

// frameReasons are the refusals whose distinction changes what a reader does next.
var frameReasons = map[string]error{
	"fork, proven":  ledger.ErrForkProven,
	"fork, claimed": ledger.ErrForkClaimed,
	"forged":        ledger.ErrForged,
	"withheld":      ledger.ErrWithheld,
	"not a writer":  ledger.ErrNotWriter,
	"content":       crypto.ErrContent,
	"signature":     crypto.ErrSignature,
}

func compareFrame(t *testing.T, got *ledger.Verdict, v vectors.Frame) {
	t.Helper()
	h := got.Header
	if h.Epoch != v.Epoch || h.At != v.At || h.Counter != v.Counter || h.Flags != v.Flags || got.Content.Time != v.Time || got.Former != v.Former {
		t.Errorf("got %+v, time %d, former %v", h, got.Content.Time, got.Former)
	}
	var records []crypto.Record
	for r := range got.Content.Records() {
		records = append(records, r)
	}
	if len(records) != len(v.Records) {
		t.Fatalf("%d records, want %d", len(records), len(v.Records))
	}
	for i, r := range records {
		if !bytes.Equal(r.Body, v.Records[i].Body) || len(r.Headers) != len(v.Records[i].Headers) {
			t.Errorf("record %d differs", i)
		}
		for j, f := range r.Headers {
			if f.Key != v.Records[i].Headers[j][0] || f.Value != v.Records[i].Headers[j][1] {
				t.Errorf("record %d header %d is %v", i, j, f)
			}
		}
	}
}
