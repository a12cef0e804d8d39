package outbox

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/unibus/unibus/internal/crypto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// frame finishes what waits as a frame at time 7, and says what is in it: bodies, by commas, how many bytes, and
// whether it tells of other streams.
func frame(t *testing.T, o *Outbox, limit int, follows ...crypto.Follows) string {
	t.Helper()
	content, n := o.Take()
	content, told := o.Finish(content, 7, follows)
	if len(content)+crypto.FrameOverhead > limit {
		t.Errorf("a frame of %d bytes, of at most %d", len(content)+crypto.FrameOverhead, limit)
	}
	var flags byte
	if told > 0 {
		flags = crypto.FlagFollows
	}
	c, err := crypto.ParseContent(flags, content)
	if err != nil || c.Time != 7 || len(c.Follows) != told {
		t.Fatalf("%v, %+v", err, c)
	}
	var bodies []string
	for r := range c.Records() {
		bodies = append(bodies, string(r.Body))
	}
	if len(bodies) != n {
		t.Errorf("%d messages, %d said", len(bodies), n)
	}
	return strings.Join(bodies, ",")
}

func TestOutbox(t *testing.T) {
	o := New(1000, false)
	for _, body := range []string{"one", "two", ""} {
		if !o.Fits(nil, []byte(body)) || !o.Takes(nil, []byte(body)) {
			t.Errorf("%q is not taken", body)
		}
		o.Add(nil, []byte(body))
	}
	if o.Waiting() != 3 {
		t.Errorf("%d wait", o.Waiting())
	}
	if o.Takes(nil, make([]byte, 1000)) {
		t.Error("more than a frame holds is taken")
	}
	if o.SetMost(3); o.Takes(nil, nil) {
		t.Error("more messages than a frame may have are taken")
	}
	if o.SetMost(4); !o.Takes(nil, nil) {
		t.Error("fewer messages than a frame may have are not taken")
	}
	if got := frame(t, o, 1000); got != "one,two," {
		t.Errorf("%q", got)
	}
	if got := frame(t, o, 1000); got != "" || o.Waiting() != 0 {
		t.Errorf("left behind: %q", got)
	}
}

// TestTarget: a frame takes what waits up to a size, and one message however large.
func TestTarget(t *testing.T) {
	o := New(1<<20, false)
	large := make([]byte, 2*Target)
	if !o.Takes(nil, large) {
		t.Error("a large message does not go into an empty frame")
	}
	o.Add(nil, make([]byte, Target/2))
	if o.Takes(nil, large) || !o.Takes(nil, make([]byte, Target/4)) || o.Takes(nil, make([]byte, Target/2)) {
		t.Error("what goes with another")
	}
}

// TestPieces: no frame is larger than may be, whatever is padded, and pieces make up the message.
func TestPieces(t *testing.T) {
	for _, pad := range []bool{false, true} {
		for limit := crypto.FrameOverhead + MinLimit*2; limit < 5000; limit += 17 {
			o := New(limit, pad)
			headers := []crypto.Field{{Key: "k", Value: "v"}}
			body := bytes.Repeat([]byte("0123456789"), 500)
			if o.Fits(headers, body) {
				t.Fatalf("%d bytes fit into %d", len(body), limit)
			}
			got := ""
			for rest, ok := body, true; len(rest) > 0; headers = nil {
				if rest, ok = o.AddPiece(headers, rest); !ok {
					t.Fatal("a piece does not fit")
				}
				got += frame(t, o, limit)
			}
			if got != string(body) {
				t.Fatalf("limit %d: the pieces are not the message", limit)
			}
		}
	}
	o := New(crypto.FrameOverhead+MinLimit, false)
	if _, ok := o.AddPiece([]crypto.Field{{Key: strings.Repeat("k", MinLimit)}}, []byte("body")); ok || o.Waiting() != 0 {
		t.Error("headers that do not fit are taken")
	}
	full := []crypto.Field{{Key: strings.Repeat("k", o.MaxHeaders()-crypto.RecordSize([]crypto.Field{{}}, 0))}}
	if _, ok := o.AddPiece(full, []byte("body")); ok || o.Waiting() != 0 { // what fills a frame leaves no place for a piece, ever
		t.Errorf("headers of %d bytes are taken, in a frame of %d", crypto.RecordSize(full, 0), o.MaxHeaders())
	}
}

// TestFollows: a frame tells of as many other streams as fit beside its messages.
func TestFollows(t *testing.T) {
	others := make([]crypto.Follows, 20)
	for i := range others {
		others[i] = crypto.Follows{Stream: [16]byte{byte(i)}, Frames: uint64(i), At: 2, Place: 3, Sealed: 4}
	}
	for _, v := range []struct{ body, told int }{{0, 16}, {100, 16}, {10_000, 16}, {63_000, 16}, {64_000, 4}, {64_045, 4}, {64_046, 3}, {64_200, 0}} {
		o := New(64_250+crypto.FrameOverhead, false)
		o.Add(nil, make([]byte, v.body))
		content, _ := o.Take()
		content, told := o.Finish(content, 7, others)
		if told != v.told || len(content) > o.Limit() {
			t.Errorf("beside %d bytes %d are told, want %d", v.body, told, v.told)
		}
		flags := byte(0)
		if told > 0 {
			flags = crypto.FlagFollows
		}
		c, err := crypto.ParseContent(flags, content)
		if err != nil || fmt.Sprint(c.Follows) != fmt.Sprint(others[:told]) {
			t.Errorf("%v, %v", err, c.Follows)
		}
	}
}
