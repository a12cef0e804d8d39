package crypto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"unicode/utf8"
)

// ErrContent says that an authentic frame's content does not parse.
var ErrContent = errors.New("malformed frame content")

const timeSize = 8

// Field is one header of a message; keys may repeat.
type Field struct{ Key, Value string }

// Record is one message of a frame, or a part of one. Body aliases the frame's content.
type Record struct {
	Headers []Field
	Body    []byte
}

// Content is what a frame carries: when it was sealed, in Unix microseconds, and its records.
type Content struct {
	Time    uint64
	Records []Record
}

// AppendContentTime begins a frame's content.
func AppendContentTime(dst []byte, micros uint64) []byte {
	return binary.BigEndian.AppendUint64(dst, micros)
}

// RecordSize is the most bytes AppendRecord adds for a body and headers.
func RecordSize(headers []Field, body int) int {
	n := 2*binary.MaxVarintLen32 + body
	for _, f := range headers {
		n += 2*binary.MaxVarintLen32 + len(f.Key) + len(f.Value)
	}
	return n
}

// AppendRecord adds a record to a frame's content.
func AppendRecord(dst []byte, headers []Field, body []byte) []byte {
	n := uvarintSize(uint64(len(headers))) + len(body)
	for _, f := range headers {
		n += uvarintSize(uint64(len(f.Key))) + len(f.Key) + uvarintSize(uint64(len(f.Value))) + len(f.Value)
	}
	dst = binary.AppendUvarint(dst, uint64(n))
	dst = binary.AppendUvarint(dst, uint64(len(headers)))
	for _, f := range headers {
		dst = append(binary.AppendUvarint(dst, uint64(len(f.Key))), f.Key...)
		dst = append(binary.AppendUvarint(dst, uint64(len(f.Value))), f.Value...)
	}
	return append(dst, body...)
}

// AppendPadding fills the content with zeros to its Padmé size.
func AppendPadding(content []byte) []byte {
	return append(content, make([]byte, Padme(len(content))-len(content))...)
}

// Padme is the padded size for a content of n bytes: at most 12 % more, and only O(log log n) bits
// of its length left to see.
func Padme(n int) int {
	if n < 2 {
		return n
	}
	e := bits.Len(uint(n)) - 1
	mask := 1<<(e-bits.Len(uint(e))) - 1
	return (n + mask) &^ mask
}

func uvarintSize(u uint64) int { return (bits.Len64(u|1) + 6) / 7 }

// ParseContent reads a frame's content to the last byte. The error is ErrContent. Memory stays in
// proportion to the content whatever it claims.
func ParseContent(content []byte) (Content, error) {
	if len(content) < timeSize {
		return Content{}, fmt.Errorf("%w: no time", ErrContent)
	}
	c := Content{Time: binary.BigEndian.Uint64(content)}
	rest := content[timeSize:]
	for len(rest) > 0 {
		n, tail, err := uvarint(rest)
		if err != nil {
			return Content{}, err
		}
		if n == 0 {
			if !allZero(tail) {
				return Content{}, fmt.Errorf("%w: padding is not zero", ErrContent)
			}
			return c, nil
		}
		if n > uint64(len(tail)) {
			return Content{}, fmt.Errorf("%w: record longer than the frame", ErrContent)
		}
		r, err := parseRecord(tail[:n])
		if err != nil {
			return Content{}, err
		}
		c.Records = append(c.Records, r)
		rest = tail[n:]
	}
	return c, nil
}

func parseRecord(b []byte) (Record, error) {
	count, b, err := uvarint(b)
	if err != nil {
		return Record{}, err
	}
	if count > uint64(len(b)/2) { // every header has two lengths of its own
		return Record{}, fmt.Errorf("%w: more headers than bytes", ErrContent)
	}
	var r Record
	if count > 0 {
		r.Headers = make([]Field, count)
	}
	for i := range r.Headers {
		if r.Headers[i].Key, b, err = text(b); err != nil {
			return Record{}, err
		}
		if r.Headers[i].Value, b, err = text(b); err != nil {
			return Record{}, err
		}
	}
	r.Body = b
	return r, nil
}

func text(b []byte) (string, []byte, error) {
	n, b, err := uvarint(b)
	if err != nil {
		return "", nil, err
	}
	if n > uint64(len(b)) || !utf8.Valid(b[:n]) {
		return "", nil, fmt.Errorf("%w: header is cut short or not UTF-8", ErrContent)
	}
	return string(b[:n]), b[n:], nil
}

// uvarint reads a minimal varint.
func uvarint(b []byte) (uint64, []byte, error) {
	n, size := binary.Uvarint(b)
	if size <= 0 || (size > 1 && b[size-1] == 0) {
		return 0, nil, fmt.Errorf("%w: length cut short or not minimal", ErrContent)
	}
	return n, b[size:], nil
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
