package cli

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"github.com/unibus/unibus"

	"github.com/unibus/unibus/internal/shown"
)

// Widths that terminals have.
var terminals = []int{50, 80, 120}

const (
	aKey  = "UCZCFZ5Y5JRSPQ5PXJWJJXMQJIFTZ5LXZZ5MLPPPYTRVYXHFJ5UHHVLV"
	anID  = "pzgcd5xzmmi3bdptwf4kjw2hbdvrbxh3"
	aTime = "2026-11-28T12:34:56Z"
)

// shownAt is what is printed to a terminal of a width; 0: to a pipe.
func shownAt(width int, print func(o *output)) string {
	var b bytes.Buffer
	o := &output{Writer: bufio.NewWriter(&b), plain: true, width: width, terminal: width > 0}
	print(o)
	o.Flush()
	return b.String()
}

// letters counts the characters of a text that are not there to align it. Of a row that became lines the names of columns are
// in small letters.
func letters(text string) map[rune]int {
	count := map[rune]int{}
	for _, r := range strings.NewReplacer(" ", "", "\n", "").Replace(strings.ToUpper(text)) {
		count[r]++
	}
	return count
}

// hold checks what is true of every table: no line goes beyond the terminal, none ends with a space, and nothing is lost.
func hold(t *testing.T, name string, width int, text string, cells ...string) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line != strings.TrimRight(line, " ") {
			t.Errorf("%s at %d: %q ends with a space", name, width, line)
		}
		if n := columns(line); width > 0 && n > width && !strings.Contains(line, aKey) { // which is copied as a whole
			t.Errorf("%s at %d: %d columns: %s", name, width, n, line)
		}
	}
	// Of a cell that was wrapped beside others the pieces stand on lines of their own.
	for _, cell := range cells {
		for word := range strings.FieldsSeq(cell) {
			if breakable(word) && width > 0 && columns(word) > minColumn {
				continue
			}
			if !strings.Contains(strings.ToUpper(text), strings.ToUpper(word)) {
				t.Errorf("%s at %d: %q is not there:\n%s", name, width, word, text)
			}
		}
	}
	want, got := letters(strings.Join(cells, "")), letters(text)
	for r, n := range want {
		if got[r] < n {
			t.Errorf("%s at %d: %d of %d %q are lost:\n%s", name, width, n-got[r], n, r, text)
		}
	}
}

// TestTablesFit: whatever is in a table, it fits every terminal, is whole for a pipe, and no line ends with a space.
func TestTablesFit(t *testing.T) {
	long := strings.Repeat("some words here ", 12)
	for name, table := range map[string]struct {
		header []string
		rows   [][]string
	}{
		"short":           {[]string{"NAME", "ROLE"}, [][]string{{"bob", "user"}, {"carol", ""}}},
		"an empty cell":   {[]string{"NAME", "STATE", "KEY"}, [][]string{{"bob", "", ""}, {"", "x", "y"}}},
		"a text":          {[]string{"SEQ", "WHAT"}, [][]string{{"1", long}, {"2", "x"}}},
		"two texts":       {[]string{"BY", "SEQ", "WHAT"}, [][]string{{long, "1", long}}},
		"a subject":       {[]string{"ROOM", "ID"}, [][]string{{strings.Repeat("ops.alerts.", 12) + "x", "pzgcd5xz"}}},
		"one word":        {[]string{"ROOM", "ID"}, [][]string{{strings.Repeat("x", 200), "pzgcd5xz"}}},
		"wide characters": {[]string{"NAME", "WHAT"}, [][]string{{strings.Repeat("会議室", 20), "x"}, {"🚀🚀🚀", strings.Repeat("ロケット ", 30)}}},
		"a key":           {[]string{"NAME", "ROLE", "STATE", "KEY"}, [][]string{{"bob", "user", "until " + aTime, aKey}}},
		"an id":           {[]string{"SUBJECT", "ID"}, [][]string{{strings.Repeat("a.", 30) + "b", anID}}},
		"a time":          {[]string{"SEQ", "TIME", "BY", "WHAT"}, [][]string{{"1", aTime, "alice", long}}},
		"many columns": {
			[]string{"SUBJECT", "ENTRIES", "PLACES", "MESSAGES", "STREAMS", "SENDERS", "FINDINGS"},
			[][]string{{"ops.alerts", "12", "1-4000", "3999", "12", "4", "0"}, {"ops", "1", "-", "0", "0", "0", "0"}},
		},
		"names and values": {nil, [][]string{{"subject", strings.Repeat("ops.", 30) + "x"}, {"key", aKey}, {"stale", ""}, {"created", aTime + " by alice"}}},
	} {
		cells := table.header
		for _, row := range table.rows {
			cells = append(cells, row...)
		}
		for _, width := range append(terminals, 0) {
			text := shownAt(width, func(o *output) { o.table(table.header, table.rows) })
			if !strings.Contains(text, "  ") {
				t.Errorf("%s at %d is no table:\n%s", name, width, text)
			}
			hold(t, name, width, text, cells...)
		}
	}
}

// TestTableWraps: the widest column gives way, between words first; ids, keys and times stay in one piece.
func TestTableWraps(t *testing.T) {
	header := []string{"SEQ", "TIME", "BY", "WHAT"}
	rows := [][]string{{"1", aTime, "alice", "the bus, with alice as its first admin"}, {"2", aTime, "bob", "x"}}
	want := `SEQ  TIME                  BY     WHAT
1    2026-11-28T12:34:56Z  alice  the bus, with
                                  alice as its
                                  first admin
2    2026-11-28T12:34:56Z  bob    x
`
	if got := shownAt(50, func(o *output) { o.table(header, rows) }); got != want {
		t.Errorf("it is\n%s, want\n%s", got, want)
	}
	want = `ROOM             ID
会議室会議室会   pzgcd5xz
議室会議室
ops              nhfyp63b
`
	rows = [][]string{{strings.Repeat("会議室", 4), "pzgcd5xz"}, {"ops", "nhfyp63b"}}
	if got := shownAt(25, func(o *output) { o.table([]string{"ROOM", "ID"}, rows) }); got != want {
		t.Errorf("it is\n%s, want\n%s", got, want)
	}
	want = `name   bob
state  until 2026-11-28T12:34:56Z
key    ` + aKey + `

name   carol
state  active
key    ` + aKey + `
`
	rows = [][]string{{"bob", "until " + aTime, aKey}, {"carol", "active", aKey}}
	if got := shownAt(63, func(o *output) { o.table([]string{"NAME", "STATE", "KEY"}, rows) }); got != want {
		t.Errorf("it is\n%s, want\n%s", got, want)
	}
}

// TestTableIsSafe: what a terminal would act on is shown as escapes, and these take the room that they have.
func TestTableIsSafe(t *testing.T) {
	hostile := "bob\x1b[2J\nadmin\u202e\t" + strings.Repeat("\x07", 30)
	for _, width := range append(terminals, 0) {
		text := shownAt(width, func(o *output) { o.table([]string{"NAME", "ROLE"}, [][]string{{hostile, "user"}, {"bob", "user"}}) })
		hold(t, "a hostile name", width, text, visible(hostile))
		if lines := strings.Split(text, "\n"); strings.ContainsFunc(strings.Join(lines, ""), shown.Hidden) {
			t.Errorf("at %d: %q", width, text)
		}
	}
}

// TestTableGrows: rows that come later stand below those that came, under one header; without rows there is nothing at all.
func TestTableGrows(t *testing.T) {
	got := shownAt(0, func(o *output) {
		g := newGrid(o, []string{"OP", "WHAT"})
		g.print(nil)
		g.print([][]string{{"add", "bob"}})
		g.print([][]string{{"archive", "x"}})
		g.print([][]string{{"add", "carol"}})
	})
	if want := "OP   WHAT\nadd  bob\narchive  x\nadd      carol\n"; got != want {
		t.Errorf("it is\n%s, want\n%s", got, want)
	}
	if got := shownAt(80, func(o *output) { o.table([]string{"NAME"}, nil) }); got != "" {
		t.Errorf("of nothing there is %q", got)
	}
}

// TestTableInColour: the header is bold, up to its last letter.
func TestTableInColour(t *testing.T) {
	got := shownAt(80, func(o *output) {
		o.plain = false
		o.table([]string{"NAME", "KEY"}, [][]string{{"bob", aKey}, {"NAME", "KEY"}})
	})
	if head, _, _ := strings.Cut(got, "\n"); head != "\x1b[1mNAME  KEY\x1b[0m" || strings.Count(got, "\x1b[1m") != 1 {
		t.Errorf("it is %q", got)
	}
}

// TestWrapped: a text beside something fits, too, unless there is no room for it worth speaking of.
func TestWrapped(t *testing.T) {
	text := strings.Repeat("some words here ", 12)
	for _, width := range terminals {
		hold(t, "a text", width, shownAt(width, func(o *output) { o.WriteString(strings.Repeat(" ", 20) + o.wrapped(text, 20)) }), text)
	}
	if got := shownAt(30, func(o *output) { o.WriteString(o.wrapped(text, 20)) }); got != text {
		t.Errorf("it is %q", got)
	}
}

// TestDistinct: ids and keys are cut to what tells them apart, at least eight characters.
func TestDistinct(t *testing.T) {
	for _, c := range []struct {
		ids  []string
		want int
	}{
		{nil, 8},
		{[]string{anID}, 8},
		{[]string{anID, "b" + anID[1:]}, 8},
		{[]string{anID, anID}, 8},
		{[]string{anID, anID[:7] + "b" + anID[8:]}, 8},
		{[]string{anID, anID[:8] + "b" + anID[9:]}, 9},
		{[]string{aKey, aKey[:8] + "AAAA" + aKey[12:], aKey[:11] + "A" + aKey[12:]}, 12},
		{[]string{anID, anID[:31] + "b"}, 32},
		{[]string{"short", anID}, 8},
	} {
		if got := distinctLength(c.ids); got != c.want {
			t.Errorf("%v: %d, want %d", c.ids, got, c.want)
		}
	}
	ids := []string{anID, anID[:8] + "b" + anID[9:]}
	for _, c := range []struct {
		width int
		full  bool
		want  string
	}{{80, false, anID[:9]}, {80, true, anID}, {0, false, anID}} {
		shownAt(c.width, func(o *output) {
			if got := o.shortened(c.full, ids)(anID); got != c.want {
				t.Errorf("at %d, full %v: %s, want %s", c.width, c.full, got, c.want)
			}
		})
	}
}

// TestWritersInOrder: who wrote is listed by name, numbers in it by what they count; whoever has none by key.
func TestWritersInOrder(t *testing.T) {
	text := shownAt(80, func(o *output) {
		writerTable(o, []unibus.StoredWriter{{Name: "w10", Role: "member", Frames: 2}, {Name: "w9", Frames: 1}, {Frames: 3}}, func(string) string { return "UAAAAAAA" })
	})
	want := "WRITER    ROLE    FRAMES  LAST WROTE\nUAAAAAAA  former  3       -\nw9        former  1       -\nw10       member  2       -\n"
	if text != want {
		t.Errorf("it is\n%s, want\n%s", text, want)
	}
}

// TestShortRoom: of a room that others have made as much of the id is shown as names it.
func TestShortRoom(t *testing.T) {
	me := unibus.PublicKey{1}
	short := shortRoom(func(id string) string { return id[:8] }, me)
	for want, room := range map[string]unibus.RoomInfo{"aaaaaaaa": {Creator: me}, "aaaaaaaaaaaa": {}} {
		if got := short(&room); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
