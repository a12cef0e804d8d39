package cli

import (
	"bufio"
	"bytes"
	"testing"
	"time"

	"github.com/unibus/unibus"
)

// formatted is a message as a format writes it, on a terminal or not.
func formatted(t *testing.T, text string, m *unibus.Message, terminal, raw bool) string {
	t.Helper()
	f, err := parseFormat(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	var b bytes.Buffer
	o := &output{Writer: bufio.NewWriter(&b), terminal: terminal}
	if err := o.messageFormat(m, messageFlags{format: f, raw: raw}); err != nil {
		t.Fatal(err)
	}
	if err := o.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestFormat: each field stands for what it is called, each escape for its byte, and all other text for itself, byte for byte.
func TestFormat(t *testing.T) {
	m := &unibus.Message{
		Room: unibus.ID{1}, Subject: "ops", Sender: unibus.PublicKey{2}, Name: "bob", Time: time.UnixMicro(1_234_567), Epoch: 7,
		Stream: unibus.StreamID{0xab}, Counter: 3, Index: 4, Body: []byte("text"),
		Headers: []unibus.Header{{Key: "a", Value: "1"}, {Key: "b", Value: ""}},
	}
	for text, want := range map[string]string{
		"%s": "text", "%k": m.Sender.String(), "%n": "bob", "%t": "ops", "%r": m.Room.String(), "%o": m.ID(), "%T": "1234",
		"%h": "a=1,b=", "%S": "4", "%e": "7", "%%": "%", "%%s": "%s", "%n%s": "bobtext", "<%n>: %s.": "<bob>: text.", "ü%s": "ütext",
		`\n\t\r\0\\`: "\n\t\r\x00\\", `\x41\xfFB`: "A\xffB", `\\n`: `\n`, `%s\n`: "text\n",
	} {
		if got := formatted(t, text, m, false, false); got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
	m.Body, m.Parts = nil, [][]byte{[]byte("one "), []byte("two")}
	if got := formatted(t, "%S %s", m, false, false); got != "7 one two" {
		t.Errorf("in parts: got %q", got)
	}
}

// TestFormatOnATerminal: on a terminal nothing that others wrote acts, but newlines of a body; what stands in the format itself
// does, and whoever asks for it has all as it is.
func TestFormatOnATerminal(t *testing.T) {
	m := &unibus.Message{
		Name: "b\x1bob", Headers: []unibus.Header{{Key: "k\x07", Value: "v"}},
		Body: []byte("a\x1b[2J\nb"), Parts: [][]byte{[]byte("\x07")},
	}
	const text = `\x1b[1m%n %h %s`
	for _, c := range []struct {
		terminal, raw bool
		want          string
	}{
		{true, false, "\x1b[1m" + `b\x1bob k\x07=v \x07a\x1b[2J` + "\nb"},
		{true, true, "\x1b[1mb\x1bob k\x07=v \x07a\x1b[2J\nb"},
		{false, false, "\x1b[1mb\x1bob k\x07=v \x07a\x1b[2J\nb"},
	} {
		if got := formatted(t, text, m, c.terminal, c.raw); got != c.want {
			t.Errorf("terminal %v, raw %v: got %q, want %q", c.terminal, c.raw, got, c.want)
		}
	}
}

// TestNoFormat: a format with a field or an escape that there is not, or that is cut off, is refused, and so is one that writes
// nothing.
func TestNoFormat(t *testing.T) {
	for _, text := range []string{"", "%", "%x", "text%", "%ß", `\`, `\y`, `\x`, `\x4`, `\xg1`, `\x-1`, "text\\"} {
		if f, err := parseFormat(text); err == nil || f != nil {
			t.Errorf("%q is a format of %d pieces, %v", text, len(f), err)
		}
	}
}
