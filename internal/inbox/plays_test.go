package inbox

import (
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/ledger"
)

// TestOrder: frames are delivered in the order of their counters, each once.
func TestOrder(t *testing.T) {
	play(t, []played{
		{"in order", whole, year, "a0 a1 A0 a2. A1", "a0 a1 A0 a2 A1"},
		{"out of order", whole, year, "a0 a2 a3 a1", "a0 a1 a2 a3"},
		{"the beginning out of order", whole, year, "a2 a1 a0 a3", "a0 a1 a2 a3"},
		{"repeated", whole, year, "a0 a0 a1 a0 a1 a3 a3 a2 a3", "a0 a1 a2 a3"},
		{"another frame under a used counter", whole, year, "a0 a1 a0=x a3 a3=x a2", "a0 a1 !replayed(a0) !replayed(a3) a2 a3"},
	})
}

// TestGaps: what is missing is waited for, and told once, when it is no longer.
func TestGaps(t *testing.T) {
	play(t, []played{
		{"a gap waits for the end", whole, year, "a0 a2 a3", "a0"},
		{"and for frames on their way", whole, year, "a0 a2 end a3", "a0"},
		{"a gap", whole, year, "a0 a2 a5 +2 end", "a0 a2? a5? !gap(a1) !gap(a3-4)"},
		{"a frame that comes after it was given up", whole, year, "a0 a2 +2 end a1 a3", "a0 a2? !gap(a1) a3"},
		{"released, and judged later", whole, year, "a0 a2 release end a3 +2 end", "a0 a2? a3 !gap(a1)"},
		{"released, and come late", whole, year, "a0 a5 release end a3 a2 a4 a3 +2 end", "a0 a5? dropped(a3) dropped(a2) dropped(a4) !gap(a1)"},
		{"released, and come late, with gaps of another stream, and behind it", whole, year, "b0 b2 a0 a1 a3 a5 release a1 a2 +2 end", "b0 a0 a1 b2? a3? a5? dropped(a2) !gap(b1) !gap(a4)"},
		{"what is damaged is not on its way", whole, year, "a0 lost=2 skip=3 a2 end a3", "a0 a2? !gap(a1) a3"},
		{"what is damaged under its subject", whole, year, "a0 lost=a2 skip=3 a2 end", "a0 a2? !gap(a1)"},
		{"what is damaged of another's", whole, year, "a0 lost=A2 skip=3 a2 end", "a0"},
		{"what was damaged before", whole, year, "skip=5 a0 lost=4 lost=7 a2 end", "a0"},
		{"old frames are not on their way", whole, year, "a0 a2s90 +93 end", "a0 a2? !gap(a1)"},
		{"old frames that were stored just now may be: their writer's clock is behind", whole, year, "a0s-999 a2s-999t-1 end a1s-999", "a0 a1 a2"},
		{"a clock that is behind does not hold up more", whole, year, "a0s-999 a2s-999t-1 +1 end", "a0 a2? !gap(a1)"},
		{"frames that were stored long ago are not on their way", whole, year, "a0s-999 a2s-999t-2 end", "a0 a2? !gap(a1)"},
		{"a server's clock that is ahead does not hold up more", whole, year, "a0s-999 a2s-999t999 +2 end", "a0 a2? !gap(a1)"},
		{"a clock that is ahead does not hold up more", whole, year, "a0 a2s9999 +2 end", "a0 a2? !gap(a1)"},
		{"gaps are told at the end only", whole, year, strings.Repeat("a0 ", 2) + ahead(2, 66), "a0 " + strings.Replace(ahead(2, 66), "a2", "a2?", 1)},
		{"the beginning is missing", whole, year, "a2 a3 +2 end", "a2? a3 !gap(a0-1)"},
		{"joined in the middle", middle, year, "skip=10 a100 a99 a98 a101", "a100? a101"},
		{"joined in the middle, behind a frame to know what comes", middle, year, "skip=10 a100~ a102 +2 end", "a102? !gap(a101)"},
		{"nothing is missing before the first wanted", middle, year, "skip=10 a100~ a102~ a103 +2 end", "a103"},
	})
}

// TestAstray: a stream goes on in the log and in time, and not after its end; what is refused takes its counter.
func TestAstray(t *testing.T) {
	play(t, []played{
		{"after the end", whole, year, "a0. a1 a2", "a0 !replayed(a1) !replayed(a2)"},
		{"its place in the log goes back", whole, year, "a0@3 a1@2 a2@3", "a0 !replayed(a1) a2"},
		{"its time goes back", whole, year, "a0s5 a1s4 a2s5", "a0 !replayed(a1) a2"},
		{"refused", whole, year, "a0 a1! a2 +2 end", "a0 a2"},
		{"a stream of refused frames", whole, year, "a0! a1! a2 +2 end", "a2"},
	})
}

// TestPieces: pieces are joined to messages, and one that cannot be whole is dropped to its end.
func TestPieces(t *testing.T) {
	play(t, []played{
		{"pieces", whole, year, "a0 a1+ A0 a2+ a3 a4", "a0 A0 a1a2a3 a4"},
		{"a piece is missing", whole, year, "a0 a1+ a3+ a4 a5 +2 end", "a0 dropped(a1-2) a5 !gap(a2)"},
		{"a piece is refused", whole, year, "a0+ a1!+ a2 a3", "dropped(a0-2) a3"},
		{"the last piece is refused", whole, year, "a0+ a1! a2", "dropped(a0-2) a2"},
		{"a message that is too large", whole, year, "a0+#50 a1+#51 a2 a3", "dropped(a0-1) a3"},
		{"a message of one piece too large", whole, year, "a0+#101 a1 a2", "dropped(a0) a2"},
		{"not whole at the end", whole, year, "a0+ a1+ finish", "open(a0-2)"},
		{"gaps at the end", whole, year, "a0 a2 A1 +2 finish", "a0 a2? A1? !gap(a1) !gap(A0)"},
		{"gaps at the end that may still be filled", whole, year, "a0 a2 +2 A1s2 finish", "a0 a2? A1? !gap(a1) gap(A0)"},
	})
}

// TestExpired: what may have expired is no finding, and nothing else is excused so.
func TestExpired(t *testing.T) {
	play(t, []played{
		{"expired: age", whole, hour, "first=2 skip=2 a0s-3601 a2 +2 end", "a0 a2? !lost(1) expired(a1)"},
		{"expired: age, by clocks that differ", whole, hour, "first=2 skip=2 a0s-3001 a2 +2 end", "a0 a2? !lost(1) expired(a1)"},
		{"not old enough", whole, hour, "first=2 skip=2 a0s-2990 a2 +2 end", "a0 a2? !lost(1) !gap(a1)"},
		{"nothing expires behind the first", whole, hour, "skip=66 first=2 a0s-3601 a2 +2 end", "a0 a2? !lost(1) !gap(a1)"},
		{"expired: the beginning, of an old member", whole, facts{keeps: ledger.Retain{Age: 3600}, joined: 2 * time.Hour}, "a2 +2 end", "a2? expired(a0-1)"},
		{"not expired: the beginning, of a young member", whole, hour, "a2 +2 end", "a2? !gap(a0-1)"},
		{"expired: bytes", whole, full, "first=2 skip=2 a0 a2#300 +2 end", "a0 " + padded("a2", 300) + "? expired(a1)"},
		{"not enough bytes", whole, full, "first=2 skip=2 a0 a2 +2 end", "a0 a2? !lost(1) !gap(a1)"},
		{"bytes from the first place on", whole, full, "a0#300 a2 first=2 +2 end", padded("a0", 300) + " a2? !lost(1) !gap(a1)"},
		{"without limits nothing expires", whole, facts{joined: 1e6 * time.Hour}, "first=2 skip=2 a0s-999999 a2 +2 end", "a0 a2? !lost(1) !gap(a1)"},
		{"expired: bytes that the room was found to hold", whole, full, "first=2 skip=2 a0 a2 holds=550 +2 end", "a0 a2? expired(a1)"},
		{"not enough bytes that it was found to hold", whole, full, "first=2 skip=2 a0 a2 holds=549 +2 end", "a0 a2? !lost(1) !gap(a1)"},
	})
}

// TestCut: what was not read of a room that begins later by now may have expired, or was taken away.
func TestCut(t *testing.T) {
	play(t, []played{
		{"nothing can have expired", whole, hour, "first=1 a0 cut=9 b0 end", "a0 b0 !lost(2-8)"},
		{"it is told once", whole, hour, "first=1 a0 cut=9 b0 end end +2 end", "a0 b0 !lost(2-8)"},
		{"cut twice before it is judged", whole, hour, "first=1 a0 cut=5 cut=9 b0 end", "a0 b0 !lost(2-8)"},
		{"cut again after it was", whole, hour, "first=1 a0 cut=5 b0 end cut=9 b1 end", "a0 b0 !lost(2-4) b1 !lost(6-8)"},
		{"at its end", whole, hour, "first=1 a0 cut=9 finish", "a0 !lost(2-8)"},
		{"frames that are missed by their writer, too", whole, hour, "first=1 a0 cut=9 a3 +2 end", "a0 a3? !lost(2-8) !gap(a1-2)"},
		{"nothing was read before", whole, facts{keeps: ledger.Retain{Age: 3600}, joined: 2 * time.Hour}, "cut=9 b0 end", "b0"},
		{"expired: age", whole, hour, "first=1 a0s-3601 cut=9 b0 end", "a0 b0"},
		{"not old enough", whole, hour, "first=1 a0s-2990 cut=9 b0 end", "a0 b0 !lost(2-8)"},
		{"expired: bytes", whole, full, "first=1 a0 cut=9 b0 holds=550 end", "a0 b0"},
		{"not enough bytes", whole, full, "first=1 a0 cut=9 b0 holds=549 end", "a0 b0 !lost(2-8)"},
		{"the room ceased to store", whole, facts{joined: time.Hour, unstored: 4}, "first=1 a0@1 cut=9 b0@5 end", "a0 b0"},
		{"the room began anew", whole, facts{joined: time.Hour, anew: time.Minute}, "first=1 a0@1 cut=9 b0@2 end", "a0 b0"},
		{"the room was archived", whole, facts{joined: time.Hour, archived: true}, "first=1 a0 cut=9 b0 end", "a0 b0"},
		{"not before what was read", whole, hour, "first=1 a0 a1 a2 a3 cut=3 end", "a0 a1 a2 a3"},
		{"of a room that stores nothing", Options{}, hour, "first=1 a0 cut=9 b0 end", "a0 b0"},
	})
}

// TestExcused: what is not for the reader, or was not to be stored, is no finding.
func TestExcused(t *testing.T) {
	play(t, []played{
		{"an epoch that is not for the reader", whole, facts{notOwed: "2"}, "a0@1 a4@3 +2 end", "a0 a4? unreadable(a1-3)"},
		{"the beginning in one", whole, facts{notOwed: "12"}, "a4@3 +2 end", "a4? unreadable(a0-3)"},
		{"only between the two", whole, facts{notOwed: "14"}, "a0@2 a4@3 +2 end", "a0 a4? !gap(a1-3)"},
		{"nothing was stored", whole, facts{unstored: 2}, "a0@1 a4@3 +2 end", "a0 a4? unstored(a1-3)"},
		{"nothing was stored later, and a frame came after it was emptied", whole, facts{unstored: 4}, "a4@3 +2 end", "a4? unstored(a0-3)"},
		{"nothing was stored before", whole, facts{unstored: 2}, "a0@3 a4@3 +2 end", "a0 a4? !gap(a1-3)"},
	})
}

// TestArchived: of what was on its way when a room was archived nobody can say what became of it.
func TestArchived(t *testing.T) {
	play(t, []played{
		{"on its way when the room was archived", whole, facts{archived: true}, "a0 a2 +2 end", "a0 a2? unacknowledged(a1)"},
		{"and all that was on its way", whole, facts{archived: true}, "a0 a2 a18 +2 end", "a0 a2? a18? unacknowledged(a1) unacknowledged(a3-17)"},
		{"longer ago than that", whole, facts{archived: true}, "a0 a2 a19 +2 end", "a0 a2? a19? !gap(a1) unacknowledged(a3-18)"},
		{"archived after its end", whole, facts{archived: true}, "a0 a2. +2 end", "a0 a2? !gap(a1)"},
		{"archived, and its writer says that it was stored", whole, facts{archived: true}, "a0 a3 b0[a:2/2] +2 end", "a0 !missing(a1) b0 a3? unacknowledged(a2)"},
		{"longer ago than that, by a frame that waits", whole, facts{archived: true}, "a0 a2 release +2 a19s2 end", "a0 a2? !gap(a1)"},
		{"on its way, by a frame that waits", whole, facts{archived: true}, "a0 a2 release +2 a18s2 end", "a0 a2? unacknowledged(a1)"},
	})
}

// TestBeginning: a room that does not begin with its first place has lost something, unless that may have expired.
func TestBeginning(t *testing.T) {
	play(t, []played{
		{"the room's beginning is missing", whole, hour, "first=4 skip=4 a0 end a1 finish", "a0 !lost(1-3) a1"},
		{"all of it is missing", whole, hour, "first=4 finish", "!lost(1-3)"},
		{"the room's beginning may have expired", whole, facts{keeps: ledger.Retain{Age: 3600}, joined: 2 * time.Hour}, "first=4 skip=4 a0 finish", "a0"},
		{"or was more than is kept", whole, full, "first=4 skip=4 a0#600 finish", padded("a0", 600)},
		{"or was emptied when nothing was stored", whole, facts{unstored: 3}, "first=4 skip=4 a0 finish", "a0"},
		{"or was there before it began anew", whole, facts{joined: time.Hour, anew: time.Minute}, "first=4 skip=4 a0 finish", "a0"},
		{"without limits nothing was trimmed", whole, facts{joined: 1e6 * time.Hour}, "first=2 skip=2 a0 end", "a0 !lost(1)"},
		{"the room's beginning, joined in the middle", middle, hour, "first=4 skip=10 a0 finish", "a0"},
	})
}

// TestFollows: what a writer says was stored of its other streams has to have been read.
func TestFollows(t *testing.T) {
	play(t, []played{
		{"follows: all was read", whole, year, "a0 a1 b0[a:2/2]", "a0 a1 b0"},
		{"follows: a tail is missing", whole, year, "a0 a1 b0[a:4/2]", "a0 a1 !missing(a2-3) b0"},
		{"follows: a stream is missing", whole, year, "skip=5 b0[a:4/2]", "!missing(a0-3) b0"},
		{"follows: told once", whole, year, "skip=5 a0 b0[a:2/2] c0[a:2/2] d0[a:3/2]", "a0 !missing(a1) b0 c0 !missing(a2) d0"},
		{"follows: told once, of a stream of which nothing was read", whole, year, "skip=5 b0[a:2/2] c0[a:2/2] d0[a:3/2]", "!missing(a0-1) b0 c0 !missing(a2) d0"},
		{"follows: a frame ahead was read", whole, year, "a1 b0[a:2/1] +2 end", "b0 a1? !gap(a0)"},
		{"follows: a tail, told before the frame behind it", whole, year, "a0 b0[a:2/1] a3 +2 end", "a0 !missing(a1) b0 a3? !gap(a2)"},
		{"follows: never acknowledged so far, says another process beside", whole, year, "a0 a1 b0[a:2/2] a3 +2 end", "a0 a1 b0 a3? !gap(a2)"},
		{"follows: never acknowledged", whole, year, "a0 a1 a4 b0[a:2/2] +2 end", "a0 a1 b0 a4? unacknowledged(a2-3)"},
		{"follows: some of it was", whole, year, "a0 a3 b0[a:2/2] +2 end", "a0 !missing(a1) b0 a3? unacknowledged(a2)"},
		{"follows: a gap of which some was", whole, year, "a0 a4 +2 b0[a:3/2] end", "a0 !missing(a1-2) b0 a4? unacknowledged(a3)"},
		{"follows: a gap that was given up, of which some was", whole, year, "a0 a4 release b0[a:3/2] +2 end", "a0 a4? b0 unacknowledged(a3) !gap(a1-2)"},
		{"follows: what was told of more is not excused by what was told of less", whole, year, "a0 a4 release b0[a:3/2] c0[a:1/1] +2 end", "a0 a4? b0 c0 unacknowledged(a3) !gap(a1-2)"},
		{"follows: stored before reading began", middle, year, "skip=20 b0[a:3/9]", "b0"},
		{"follows: stored where reading began", middle, year, "skip=20 b0[a:3/10]", "!missing(a0-2) b0"},
		{"follows: joined in the middle behind it", middle, year, "skip=20 a5 b0[a:3/10]", "a5? !missing(a0-2) b0"},
		{"follows: a place that the room has not reached again", whole, year, "a0 b0[a:3/10]", "a0 !missing(a1-2) b0"},
		{"follows: joined in the middle behind it, with a gap since", middle, year, "skip=20 a5 a7 release b0[a:3/10] +2 end", "a5? a7? !missing(a0-2) b0 unacknowledged(a6)"},
		{"follows: of an entry after its own", whole, year, "skip=5 b0@2[a:4/2@2] c0@2[d:4/2@3]", "!missing(a0-3) b0 c0"},
		{"follows: nothing was acknowledged", whole, year, "skip=5 b0[a:0/0]", "b0"},
		{"follows: of an epoch that is not for the reader", whole, facts{notOwed: "3"}, "skip=5 b0@3[a:4/2]", "b0"},
		{"follows: of a time when nothing was stored", whole, facts{unstored: 3}, "skip=5 b0@3[a:4/2]", "b0"},
		{"follows: of a time before nothing was stored", whole, facts{unstored: 5}, "skip=5 b0@3[a:4/2]", "b0"},
		{"follows: of a time after nothing was stored", whole, facts{unstored: 2}, "skip=5 b0@3[a:4/2]", "!missing(a0-3) b0"},
		{"follows: of a time before the room began anew", whole, facts{anew: -time.Second}, "skip=5 b0@3[a:4/2]", "b0"},
		{"follows: of a time since the room began anew", whole, facts{anew: time.Second}, "skip=5 b0@3[a:4/2]", "!missing(a0-3) b0"},
		{"follows: expired", whole, hour, "first=3 skip=5 +3601 b0[a:4/2]", "expired(a0-3) b0"},
		{"follows: behind enough others", whole, full, "first=3 skip=5 b0[a:4/2] c0#300 c1 +2 end", "b0 " + padded("c0", 300) + " c1 expired(a0-3)"},
		{"follows: behind others, and read after all", whole, full, "first=3 skip=5 b0[a:2/2] a1 a0 c0 +2 end", "b0 a0 a1 c0"},
		{"follows: behind others, when reading ends", whole, full, "first=3 skip=5 b0[a:4/2] c0#300 c1 finish", "b0 " + padded("c0", 300) + " c1 expired(a0-3)"},
		{"follows: behind too few others", whole, full, "first=3 skip=5 b0[a:4/2] c0 +2 end", "b0 c0 !lost(1-2) !missing(a0-3)"},
		{"follows: expired, by clocks that differ", whole, hour, "first=3 skip=5 +3001 b0[a:4/2]", "expired(a0-3) b0"},
		{"follows: not old enough", whole, hour, "first=3 skip=5 +2990 b0[a:4/2]", "!missing(a0-3) b0"},
		{"follows: refused", whole, year, "skip=5 b0![a:4/2]", ""},
		{"follows: another's stream", whole, year, "A0 b0[A:4/1]", "A0 !missing(A0-3) b0"},
	})
}

// TestLive: in a room that stores nothing a gap is nobody's doing.
func TestLive(t *testing.T) {
	play(t, []played{
		{"live: in order", live, year, "a5 a6 a4 a7", "a5? a6 a7"},
		{"live: a gap waits", live, year, "a5 a7 +1 end a6", "a5? a6 a7"},
		{"live: a gap", live, year, "a5 a7 +2 end", "a5? gap(a6) a7?"},
		{"live: follows mean nothing", live, year, "b0[a:3/0]", "b0"},
	})
}

// TestShared: where others read a part of the frames counters mean nothing.
func TestShared(t *testing.T) {
	play(t, []played{
		{"shared: counters mean nothing", Options{Shared: true}, year, "a5 a9 a7 a7", "a5? a9 a7 a7"},
	})
}
