package ledger

import (
	"errors"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
)

// TestJudge: what a reader may believe of a frame, and why of another it may not. A frame that is not authentic has
// no verdict.
func TestJudge(t *testing.T) {
	const log = `
		alice create ops                              # 1, epoch 1
		alice invite bob:member carol:reader dave:member
		alice rekey                                   # 3, epoch 2
		alice remove dave rekey                       # 4, epoch 3
	`
	open, archived := play(t, log), play(t, log+"alice archive")
	plain := play(t, "alice create ops none")
	noKeys := errors.New("no keys")
	for name, v := range map[string]judged{
		"as it should be":               {of: open, who: "alice", at: 4, epoch: 3, live: true},
		"made before":                   {of: open, who: "bob", at: 2, epoch: 1},
		"before its sender was gone":    {of: open, who: "dave", at: 3, epoch: 2},
		"in time, but it comes now":     {of: open, who: "dave", at: 3, epoch: 2, live: true, why: ErrNotWriter},
		"after its sender was gone":     {of: open, who: "dave", at: 4, epoch: 3, why: ErrNotWriter},
		"before its sender came":        {of: open, who: "bob", at: 1, epoch: 1, why: ErrNotWriter},
		"of a reader":                   {of: open, who: "carol", at: 4, epoch: 3, why: ErrNotWriter},
		"of a stranger":                 {of: open, who: "eve", at: 4, epoch: 3, err: ErrForged},
		"of one yet to come, perhaps":   {of: open, who: "eve", at: 5, epoch: 3, err: ErrAhead},
		"of an epoch before its place":  {of: open, who: "alice", at: 4, epoch: 2, why: ErrEpoch},
		"of an epoch after its place":   {of: open, who: "alice", at: 3, epoch: 3, why: ErrEpoch},
		"of no epoch":                   {of: open, who: "alice", at: 4, epoch: 0, err: ErrForged},
		"of an epoch that is not there": {of: open, who: "alice", at: 4, epoch: 4, err: ErrForged},
		"of an epoch to come":           {of: open, who: "alice", at: 5, epoch: 4, err: ErrAhead},
		"of an entry to come":           {of: open, who: "alice", at: 5, epoch: 3, err: ErrWithheld},
		"of no entry":                   {of: open, who: "alice", at: 0, epoch: 3, err: ErrForged},
		"of another history":            {of: open, who: "bob", at: 4, epoch: 3, change: func(f *drawnFrame) { f.h.Head[0] ^= 1 }, err: ErrForkClaimed},
		"of an owner's other history":   {of: open, who: "alice", at: 4, epoch: 3, change: func(f *drawnFrame) { f.h.Head[0] ^= 1 }, err: ErrForkProven},
		"before the room was archived":  {of: archived, who: "alice", at: 4, epoch: 3, live: true},
		"after it":                      {of: archived, who: "alice", at: 5, epoch: 3, why: ErrEnded},
		"with content that is none":     {of: open, who: "alice", at: 4, epoch: 3, change: func(f *drawnFrame) { f.content = []byte("short") }, why: crypto.ErrContent},
		"under another key":             {of: open, who: "alice", at: 4, epoch: 3, change: func(f *drawnFrame) { f.key = crypto.RoomKey{9} }, err: crypto.ErrOpen},
		"signed by another":             {of: open, who: "alice", at: 4, epoch: 3, change: func(f *drawnFrame) { f.signer = "bob" }, err: crypto.ErrOpen},
		"without encryption":            {of: open, who: "alice", at: 4, epoch: 3, change: func(f *drawnFrame) { f.plain = true }, err: ErrSuite},
		"with one in a room without":    {of: plain, who: "alice", at: 1, epoch: 1, err: ErrSuite},
		"in a room without":             {of: plain, who: "alice", at: 1, epoch: 1, change: func(f *drawnFrame) { f.plain = true }},
		"in it, and signed by another":  {of: plain, who: "alice", at: 1, epoch: 1, change: func(f *drawnFrame) { f.plain, f.signer = true, "bob" }, err: crypto.ErrSignature},
		"without a key":                 {of: open, who: "alice", at: 4, epoch: 3, change: func(f *drawnFrame) { f.noKeys = noKeys }, err: noKeys},
	} {
		t.Run(name, v.judge)
	}
	if _, err := open.Judge([]byte("no frame"), key("alice"), nil, false); !errors.Is(err, ErrForged) || !errors.Is(err, crypto.ErrHeader) {
		t.Errorf("what is no frame: %v", err)
	}
}

// judged is a frame, and what is to be said of it.
type judged struct {
	of     *State
	who    string
	at     uint64
	epoch  uint32
	live   bool
	closed bool // by somebody without a key
	change func(f *drawnFrame)
	err    error // without a verdict, but for the forks and what is withheld
	why    error // refused
}

func (v judged) judge(t *testing.T) {
	f := drawnFrame{signer: v.who, key: crypto.RoomKey{byte(v.epoch)}, content: crypto.AppendContentTime(nil, 1)}
	f.h = crypto.Header{Epoch: v.epoch, At: v.at}
	if own, ok := v.of.HashAt(v.at); ok {
		copy(f.h.Head[:], own[:])
	}
	if v.change != nil {
		v.change(&f)
	}
	keys := func(epoch uint32) (*crypto.FrameKey, error) {
		if f.noKeys != nil {
			return nil, f.noKeys
		}
		return crypto.NewFrameKey(crypto.RoomKey{byte(epoch)}, v.of.ID, epoch)
	}
	frame := f.seal(t, v.of.ID)
	got, err := v.of.Judge(frame, key(v.who), keys, v.live)
	if v.closed {
		got, err = JudgeClosed(v.of, frame, key(v.who))
	}
	if !errors.Is(err, v.err) {
		t.Fatalf("the error is %v, want %v", err, v.err)
	}
	told := err == nil || errors.Is(err, ErrForkClaimed) || errors.Is(err, ErrForkProven) || errors.Is(err, ErrWithheld)
	if told != (got != nil) {
		t.Fatalf("the verdict is %+v, the error %v", got, err)
	}
	if err == nil && (!errors.Is(got.Refused, v.why) || got.Former != (v.who == "dave" || v.who == "carol")) {
		t.Errorf("refused as %v, want %v; former %v", got.Refused, v.why, got.Former)
	}
}

// drawnFrame is what a test says of a frame.
type drawnFrame struct {
	signer  string
	key     crypto.RoomKey
	h       crypto.Header
	content []byte
	plain   bool
	noKeys  error // of the reader
}

func (f *drawnFrame) seal(t *testing.T, room crypto.ID) []byte {
	t.Helper()
	var k *crypto.FrameKey
	if !f.plain {
		var err error
		if k, err = crypto.NewFrameKey(f.key, room, f.h.Epoch); err != nil {
			t.Fatal(err)
		}
	}
	frame, err := people[f.signer].SealFrame(nil, room, k, f.h, f.content, [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// TestJudgeClosed: what whoever has no key may say of a frame. Of a room without encryption that is all there is.
func TestJudgeClosed(t *testing.T) {
	const log = `
		alice create ops                              # 1, epoch 1
		alice invite bob:member carol:reader dave:member
		alice rekey                                   # 3, epoch 2
		alice remove dave rekey                       # 4, epoch 3
	`
	open, archived := play(t, log), play(t, log+"alice archive")
	plain := play(t, "alice create ops none")
	for name, v := range map[string]judged{
		"as it should be":               {of: open, who: "alice", at: 4, epoch: 3},
		"before its sender was gone":    {of: open, who: "dave", at: 3, epoch: 2},
		"after its sender was gone":     {of: open, who: "dave", at: 4, epoch: 3, why: ErrNotWriter},
		"of a reader":                   {of: open, who: "carol", at: 4, epoch: 3, why: ErrNotWriter},
		"of a stranger":                 {of: open, who: "eve", at: 4, epoch: 3, err: ErrForged},
		"of an epoch before its place":  {of: open, who: "alice", at: 4, epoch: 2, why: ErrEpoch},
		"of an epoch that is not there": {of: open, who: "alice", at: 4, epoch: 4, err: ErrForged},
		"of an entry to come":           {of: open, who: "alice", at: 5, epoch: 3, err: ErrWithheld},
		"of one yet to come, perhaps":   {of: open, who: "eve", at: 5, epoch: 3, err: ErrAhead},
		"of another history":            {of: open, who: "bob", at: 4, epoch: 3, change: func(f *drawnFrame) { f.h.Head[0] ^= 1 }, err: ErrForkClaimed},
		"of an owner's other history":   {of: open, who: "alice", at: 4, epoch: 3, change: func(f *drawnFrame) { f.h.Head[0] ^= 1 }, err: ErrForkProven},
		"after it was archived":         {of: archived, who: "alice", at: 5, epoch: 3, why: ErrEnded},
		"without encryption":            {of: open, who: "alice", at: 4, epoch: 3, change: func(f *drawnFrame) { f.plain = true }, err: ErrSuite},
		"under a key that nobody has":   {of: open, who: "alice", at: 4, epoch: 3, change: func(f *drawnFrame) { f.key = crypto.RoomKey{9} }}, // nobody sees that without one
		"in a room without":             {of: plain, who: "alice", at: 1, epoch: 1, change: func(f *drawnFrame) { f.plain = true }},
		"in it, and signed by another":  {of: plain, who: "alice", at: 1, epoch: 1, change: func(f *drawnFrame) { f.plain, f.signer = true, "bob" }, err: crypto.ErrSignature},
	} {
		v.closed = true
		t.Run(name, v.judge)
	}
	if _, err := JudgeClosed(open, []byte("no frame"), key("alice")); err == nil {
		t.Error("what is no frame has a verdict")
	}
}
