package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/unibus/unibus"
)

// sub --format: how a message is written is said as kcat's -f says it, with %s for the body. What a format says is compiled
// once; text that stands in it goes out as it is, also to a terminal, since whoever reads has written it.

// format is how messages are written, piece by piece. Nothing follows the last piece.
type format []formatPiece

// formatPiece writes a piece of a message.
type formatPiece func(o *output, m *unibus.Message, raw bool) error

// formatFields are what stands behind a %, but for %s and %%.
var formatFields = map[byte]func(m *unibus.Message) string{
	'k': func(m *unibus.Message) string { return m.Sender.String() },
	'n': func(m *unibus.Message) string { return m.Name },
	't': func(m *unibus.Message) string { return m.Subject },
	'r': func(m *unibus.Message) string { return m.Room.String() },
	'o': (*unibus.Message).ID,
	'T': func(m *unibus.Message) string { return strconv.FormatInt(m.Time.UnixMilli(), 10) },
	'h': joinedHeaders,
	'S': func(m *unibus.Message) string { return strconv.Itoa(m.Size()) },
	'e': func(m *unibus.Message) string { return strconv.FormatUint(uint64(m.Epoch), 10) },
}

// What there is, in the words of the flag, which whoever misses it is shown.
const (
	formatFieldNames  = "%s body, %k sender's key, %n sender's name, %t subject, %r room id, %o id, %T time in ms, %h headers, %S size in bytes, %e epoch, %%"
	formatEscapeNames = `\n \t \r \0 \xHH, and two backslashes for one`
)

// formatLikely is what one may mean who writes a format that cannot be.
const formatLikely = `%n: %s\n`

// noField says what is not there of what may stand in a format, and what is.
func noField(what string) error {
	return instead(formatLikely, "there is no "+what+"; there are "+formatFieldNames+"; "+formatEscapeNames)
}

// joinedHeaders are headers as kcat writes them.
func joinedHeaders(m *unibus.Message) string {
	pairs := make([]string, len(m.Headers))
	for i, h := range m.Headers {
		pairs[i] = h.Key + "=" + h.Value
	}
	return strings.Join(pairs, ",")
}

// parseFormat compiles a format.
func parseFormat(text string) (format, error) {
	var f format
	var literal strings.Builder // what stands in the format itself, up to the next field
	flush := func() {
		if literal.Len() > 0 {
			f = append(f, writeLiteral(literal.String()))
			literal.Reset()
		}
	}
	for text != "" {
		switch {
		case text[0] == '\\':
			c, length, err := formatEscape(text)
			if err != nil {
				return nil, err
			}
			literal.WriteByte(c)
			text = text[length:]
		case strings.HasPrefix(text, "%%"):
			literal.WriteByte('%')
			text = text[2:]
		case text[0] == '%':
			piece := writeField(text[1:])
			if piece == nil {
				return nil, noField(fmt.Sprintf("%q", text[:min(2, len(text))]))
			}
			flush()
			f = append(f, piece)
			text = text[2:]
		default:
			literal.WriteByte(text[0])
			text = text[1:]
		}
	}
	flush()
	if f == nil {
		return nil, instead(formatLikely, "nothing would be written")
	}
	return f, nil
}

// formatEscape reads the escape that a text begins with, and says how long it is.
func formatEscape(text string) (c byte, length int, err error) {
	if len(text) >= 2 {
		if i := strings.IndexByte(`ntr0\`, text[1]); i >= 0 {
			return "\n\t\r\x00\\"[i], 2, nil
		}
	}
	if strings.HasPrefix(text, `\x`) && len(text) >= 4 {
		if n, err := strconv.ParseUint(text[2:4], 16, 8); err == nil {
			return byte(n), 4, nil
		}
	}
	return 0, 0, noField(text[:min(2, len(text))])
}

// writeLiteral writes what stands in a format itself.
func writeLiteral(text string) formatPiece {
	return func(o *output, _ *unibus.Message, _ bool) error {
		_, err := o.WriteString(text)
		return err
	}
}

// writeField writes what the letter at the beginning of a text stands for; nil if it stands for nothing.
func writeField(text string) formatPiece {
	if text == "" {
		return nil
	}
	if text[0] == 's' {
		return writeBody
	}
	field := formatFields[text[0]]
	if field == nil {
		return nil
	}
	return func(o *output, m *unibus.Message, raw bool) error {
		value := field(m)
		if o.terminal && !raw {
			value = visible(value)
		}
		_, err := o.WriteString(value)
		return err
	}
}

// writeBody writes a body, byte for byte; on a terminal nothing of it acts but newlines.
func writeBody(o *output, m *unibus.Message, raw bool) error {
	for _, part := range append(m.Parts, m.Body) {
		if o.terminal && !raw {
			part = []byte(visibleLines(string(part)))
		}
		if _, err := o.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// messageFormat writes a message as a format says.
func (o *output) messageFormat(m *unibus.Message, f messageFlags) error {
	for _, write := range f.format {
		if err := write(o, m, f.raw); err != nil {
			return err
		}
	}
	return nil
}
