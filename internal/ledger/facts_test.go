package ledger

import (
	"fmt"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

// TestOwes: a key is owed to whoever was a member while it was in use, and to those to whom later keys lead back.
func TestOwes(t *testing.T) {
	joined := play(t, `
		alice create ops joined
		alice invite bob:member rekey       # 2
		alice invite carol:reader rekey     # 3
		alice remove bob rekey              # 4
		alice invite bob:member rekey       # 5
		alice rekey                         # 6
	`)
	shared := play(t, `
		alice create ops shared
		alice rekey                         # 2
		alice policy joined rekey:noprev    # 3
		alice rekey                         # 4
		alice policy shared rekey           # 5
		alice rekey                         # 6
		alice invite bob:member             # still 6
		alice remove bob rekey              # 7
		alice rekey                         # 8
	`)
	plain := play(t, `
		alice create ops joined none
		alice invite bob:reader
	`)
	for _, v := range []struct {
		of   *State
		who  string
		owed string // epochs from 0
	}{
		{joined, "alice", "01111110"}, {joined, "bob", "00110110"}, {joined, "carol", "00011110"}, {joined, "dave", "00000000"},
		{shared, "alice", "0111111110"}, {shared, "bob", "0000011000"}, {plain, "bob", "11"},
	} {
		for epoch, want := range v.owed {
			if got := v.of.Room.Owes(key(v.who), uint32(epoch)); got != (want == '1') {
				t.Errorf("%s, history %s: epoch %d is owed: %v", v.who, v.of.Room.Policy.History, epoch, got)
			}
		}
	}
}

// TestOutSince: who was removed after an entry is no longer who was there at it, also when invited again.
func TestOutSince(t *testing.T) {
	s := play(t, `
		alice create ops
		alice invite bob:admin carol:member   # 2
		alice remove bob rekey                # 3
		alice invite bob:member               # 4
	`)
	for who, want := range map[string]string{"alice": "0000", "bob": "1100", "carol": "0000", "dave": "1111"} {
		for i, c := range want {
			if got := s.Room.OutSince(key(who), uint64(i)+1); got != (c == '1') {
				t.Errorf("%s is out since %d: %v", who, i+1, got)
			}
		}
	}
}

// TestMaySeal: copies count of whoever could hand out the key while it was in use, of its author, and of the member.
func TestMaySeal(t *testing.T) {
	s := play(t, `
		alice create ops
		alice invite bob:admin carol:member
		alice rekey                         # 2
		alice role carol:admin
		alice role carol:member
		bob rekey                           # 3
		alice remove bob rekey              # 4
		alice invite bob:member
	`)
	for who, want := range map[string]string{"alice": "011110", "bob": "011100", "carol": "001000", "dave": "000000"} {
		for epoch, c := range want {
			if got := s.Room.MaySeal(key(who), key("alice"), uint32(epoch)); got != (c == '1') {
				t.Errorf("%s seals for alice in epoch %d: %v", who, epoch, got)
			}
			if own := epoch > 0 && epoch < 5; s.Room.MaySeal(key(who), key(who), uint32(epoch)) != own {
				t.Errorf("%s seals for itself in epoch %d: %v", who, epoch, !own)
			}
		}
	}
	plain := play(t, `alice create ops shared none`)
	if plain.Room.MaySeal(key("alice"), key("alice"), 1) {
		t.Error("there is a key to seal in a room without encryption")
	}
}

// TestStoredSince: what was made in between is there as long as no policy, and no owner, said otherwise.
func TestStoredSince(t *testing.T) {
	s := play(t, `
		alice create ops
		alice policy live
		alice policy stored
		alice rekey
		alice policy stored anew
		alice rekey
	`)
	for _, v := range []struct {
		from, to uint64
		want     bool
	}{
		{1, 1, true}, {1, 2, false}, {2, 2, false}, {1, 4, false}, {2, 3, false}, {3, 3, true}, {3, 4, true},
		{4, 5, false}, {5, 5, true}, {5, 6, true}, {3, 6, false},
	} {
		if got := s.Room.StoredSince(v.from, v.to); got != v.want {
			t.Errorf("stored from entry %d to %d: %v", v.from, v.to, got)
		}
	}
	if s.Room.Anew != 5 {
		t.Errorf("begun anew at %d", s.Room.Anew)
	}
	snapshot, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := LoadSnapshot(snapshot); err != nil || again.Room.Anew != 5 {
		t.Errorf("a snapshot forgets it: %v", err)
	}
}

// TestSame: two records of a user are the same if they say the same of its access, whoever made it and when.
func TestSame(t *testing.T) {
	one := User{Name: "bob", Role: RoleUser, Active: true, Expires: time.UnixMilli(1e12)}
	for what, v := range map[string]struct {
		change func(u *User)
		same   bool
	}{
		"as it is":       {func(*User) {}, true},
		"added later":    {func(u *User) { u.Added = time.UnixMilli(2) }, true},
		"another name":   {func(u *User) { u.Name = "rob" }, false},
		"another role":   {func(u *User) { u.Role = RoleAdmin }, false},
		"active no more": {func(u *User) { u.Active = false }, false},
		"another expiry": {func(u *User) { u.Expires = time.Time{} }, false},
	} {
		other := one
		v.change(&other)
		if one.Same(&other) != v.same || other.Same(&one) != v.same {
			t.Errorf("%s: the same %v", what, !v.same)
		}
	}
}

// TestKept: the strictest limit counts, each by itself, and none is none. What was there when a limit became stricter may
// be larger than half of it.
func TestKept(t *testing.T) {
	s := play(t, `
		alice create ops retain=100,0
		alice policy retain=0,50
		alice policy live
		alice policy retain=10,70
		alice policy retain=20,60
		alice policy retain=20,4000000
		alice policy retain=20,3000000
	`)
	big := uint64(3000000)
	for since, want := range map[uint64]Kept{
		1: {10, true, 0}, 2: {10, true, 0}, 3: {10, true, 0}, 4: {10, true, 0},
		5: {20, true, 30}, 6: {20, true, min(big/2, big-largest)}, 7: {20, true, big / 2},
	} {
		if got := s.Room.Kept(since); got != want {
			t.Errorf("since %d: %v, want %v", since, got, want)
		}
	}
	if got := play(t, "alice create ops retain=0,0").Room.Kept(1); got != (Kept{}) {
		t.Errorf("without a limit: %v", got)
	}
}

// TestJoined: the time at which somebody may have begun to write is that of the epoch before.
func TestJoined(t *testing.T) {
	s := play(t, `
		alice create ops
		alice rekey
		alice invite bob:member
	`)
	for who, seq := range map[string]uint64{"alice": 1, "bob": 2} {
		if _, got := s.Room.Joined(key(who)); !got.Equal(at(seq)) {
			t.Errorf("%s joined at %v", who, got)
		}
	}
	if seq, _ := s.Room.Joined(key("bob")); seq != 3 {
		t.Errorf("bob joined by entry %d", seq)
	}
	if seq, when := s.Room.Joined(key("carol")); seq != 0 || !when.IsZero() {
		t.Errorf("a stranger joined by entry %d, at %v", seq, when)
	}
}

// retention reads AGE,BYTES.
func retention(s string) *Retain {
	var age, bytes uint64
	if _, err := fmt.Sscanf(s, "%d,%d", &age, &bytes); err != nil {
		panic(err)
	}
	return &Retain{crypto.Number(age), crypto.Number(bytes)}
}

// TestAgeing: an epoch is due beyond a limit, and overdue a quarter beyond, by time or by messages.
func TestAgeing(t *testing.T) {
	s := play(t, `alice create ops`)
	for _, v := range []struct {
		after    RekeyAfter
		age      time.Duration
		messages uint64
		want     Age
	}{
		{RekeyAfter{}, 1e6 * time.Hour, 1 << 50, Fresh},
		{RekeyAfter{Age: 100}, 100 * time.Second, 0, Fresh},
		{RekeyAfter{Age: 100}, 101 * time.Second, 0, Due},
		{RekeyAfter{Age: 100}, 125 * time.Second, 0, Due},
		{RekeyAfter{Age: 100}, 126 * time.Second, 0, Overdue},
		{RekeyAfter{Age: 100}, -time.Hour, 0, Fresh}, // a clock that is behind
		{RekeyAfter{Messages: 8}, 1e6 * time.Hour, 8, Fresh},
		{RekeyAfter{Messages: 8}, 0, 9, Due},
		{RekeyAfter{Messages: 8}, 0, 10, Due},
		{RekeyAfter{Messages: 8}, 0, 11, Overdue},
		{RekeyAfter{Age: 100, Messages: 8}, 101 * time.Second, 11, Overdue},
	} {
		s.Room.Policy.RekeyAfter = v.after
		if got := s.Room.Ageing(at(1).Add(v.age), v.messages); got != v.want {
			t.Errorf("%+v after %v and %d messages: %d, want %d", v.after, v.age, v.messages, got, v.want)
		}
	}
	s = play(t, "alice create ops\nalice archive")
	s.Room.Policy.RekeyAfter = RekeyAfter{Age: 1}
	if got := s.Room.Ageing(at(1).Add(time.Hour), 0); got != Fresh {
		t.Errorf("an archived room is due: %d", got)
	}
}
