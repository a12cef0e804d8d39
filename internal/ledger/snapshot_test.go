package ledger

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

func TestSnapshots(t *testing.T) {
	s := play(t, "alice create r\nalice invite bob:member\nbob leave")
	good, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	back, err := LoadSnapshot(good)
	if err != nil || fmt.Sprint(back.Room.Members()) != fmt.Sprint(s.Room.Members()) || !back.Room.Left {
		t.Errorf("%v", err)
	}
	b := play(t, "alice found alice\nalice add bob:admin\nalice revoke bob\nalice add bob=carol:user")
	if raw, err := b.Snapshot(); err != nil {
		t.Error(err)
	} else if again, err := LoadSnapshot(raw); err != nil || again.Bus.ByName("bob").Key != key("carol") || again.Bus.admins != 1 || standing(again) != standing(b) {
		t.Errorf("one who was revoked counts again: %v", err)
	}
	for n := range good {
		if _, err := LoadSnapshot(good[:n]); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("cut to %d: %v", n, err)
		}
		if n < len(good)-sha256.Size {
			if _, err := LoadSnapshot(withSum(bytes.Clone(good[:n]))); !errors.Is(err, ErrSnapshot) {
				t.Fatalf("cut to %d, with a checksum: %v", n, err)
			}
		}
		flipped := bytes.Clone(good)
		flipped[n] ^= 1
		if _, err := LoadSnapshot(flipped); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("flipped at %d: %v", n, err)
		}
	}
	if _, err := LoadSnapshot(withSum([]byte{0xa0})); !errors.Is(err, ErrSnapshot) {
		t.Errorf("an empty one: %v", err)
	}
	for name, change := range map[string]func(in *snapshot){
		"of another version":    func(in *snapshot) { in.V++ },
		"with a part of a hash": func(in *snapshot) { in.Hashes = in.Hashes[1:] },
		"without hashes":        func(in *snapshot) { in.Hashes = nil },
		"of no log":             func(in *snapshot) { in.Room = nil },
		"of two kinds of log":   func(in *snapshot) { in.Bus = &busSnapshot{} },
		"without an epoch":      func(in *snapshot) { in.Room.Epochs = nil },
		"without a policy":      func(in *snapshot) { in.Room.Terms = nil },
	} {
		var in snapshot
		if err := cbor.Unmarshal(good[:len(good)-sha256.Size], &in); err != nil {
			t.Fatal(err)
		}
		change(&in)
		bad, err := cbor.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := LoadSnapshot(withSum(bad)); !errors.Is(err, ErrSnapshot) {
			t.Errorf("one %s: %v", name, err)
		}
	}
}
