package crypto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"unicode/utf8"
)

// This file writes and reads the content of a frame, that which is encrypted (SPEC.md §6): a time, then what else the
// writer has stored, if a flag says so, then records, then padding. Writers append one part after the other; readers have
// all of it checked by ParseContent before they take records out of it.

// ErrContent says that an authentic frame's content does not parse.
var ErrContent = errors.New("malformed frame content")

const (
	// timeSize is how many bytes the time takes, a u64.
	timeSize = 8

	// MaxFollows is the most other streams a frame may tell of.
	MaxFollows = 16
	// FollowsSize is how many bytes each of them takes.
	FollowsSize = 16 + 4*8
)

// Field is one header of a message; keys may repeat.
type Field struct{ Key, Value string }

// Record is one message of a frame, or a part of one. Body aliases the frame's content.
type Record struct {
	Headers []Field
	Body    []byte
}

// Follows tells of another stream of the same writer in the same room: how many of its first frames were
// acknowledged, without a hole, and of the last of these the log's entry it was made at, its place in the room's
// stream, and when it was sealed, in Unix microseconds (SPEC.md §6). With no frame these are zero.
type Follows struct {
	Stream [16]byte
	Frames uint64
	At     uint64
	Place  uint64
	Sealed uint64
}

// Content is what a frame carries: when it was sealed, in Unix microseconds, what else its writer had stored
// before, and records.
type Content struct {
	Time    uint64
	Follows []Follows

	records []byte // valid, without padding
}

// AppendContentTime begins a frame's content.
func AppendContentTime(dst []byte, micros uint64) []byte {
	return binary.BigEndian.AppendUint64(dst, micros)
}

// AppendFollows tells, right after a content's time, of other streams: at most MaxFollows. The frame's header
// carries FlagFollows.
func AppendFollows(dst []byte, others []Follows) []byte {
	dst = append(dst, byte(len(others)))
	for _, f := range others {
		dst = append(dst, f.Stream[:]...)
		for _, n := range []uint64{f.Frames, f.At, f.Place, f.Sealed} {
			dst = binary.BigEndian.AppendUint64(dst, n)
		}
	}
	return dst
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

// uvarintSize is how many bytes a number takes as a varint.
func uvarintSize(u uint64) int { return (bits.Len64(u|1) + 6) / 7 }

// ParseContent checks the content of a frame with these flags to the last byte. The error is ErrContent.
// It holds nothing but the content itself: records are taken apart one at a time, by Records.
func ParseContent(flags byte, content []byte) (Content, error) {
	if len(content) < timeSize {
		return Content{}, fmt.Errorf("%w: no time", ErrContent)
	}
	c := Content{Time: binary.BigEndian.Uint64(content)}
	content = content[timeSize:]
	if flags&FlagFollows != 0 {
		var err error
		if c.Follows, content, err = parseFollows(content); err != nil {
			return Content{}, err
		}
	}
	for rest := content; len(rest) > 0; {
		n, tail, err := uvarint(rest)
		if err != nil {
			return Content{}, err
		}
		if n == 0 {
			if !allZero(tail) {
				return Content{}, fmt.Errorf("%w: padding is not zero", ErrContent)
			}
			c.records = content[:len(content)-len(rest)]
			return c, nil
		}
		if n > uint64(len(tail)) {
			return Content{}, fmt.Errorf("%w: record longer than the frame", ErrContent)
		}
		if err := checkRecord(tail[:n]); err != nil {
			return Content{}, err
		}
		rest = tail[n:]
	}
	c.records = content
	return c, nil
}

// parseFollows reads the other streams that a content tells of, and returns what stands behind them.
func parseFollows(b []byte) ([]Follows, []byte, error) {
	if len(b) == 0 || b[0] > MaxFollows || len(b) < 1+int(b[0])*FollowsSize {
		return nil, nil, fmt.Errorf("%w: streams it follows are cut short, or too many", ErrContent)
	}
	others := make([]Follows, b[0])
	b = b[1:]
	for i := range others {
		copy(others[i].Stream[:], b)
		for n, field := range []*uint64{&others[i].Frames, &others[i].At, &others[i].Place, &others[i].Sealed} {
			*field = binary.BigEndian.Uint64(b[16+8*n:])
		}
		b = b[FollowsSize:]
	}
	return others, b, nil
}

// Records yields the records, and whether each is the last.
func (c Content) Records() iter.Seq2[Record, bool] {
	return func(yield func(Record, bool) bool) {
		for rest := c.records; len(rest) > 0; {
			n, tail, _ := uvarint(rest) // ParseContent has checked everything
			rest = tail[n:]
			if !yield(parseRecord(tail[:n]), len(rest) == 0) {
				return
			}
		}
	}
}

// checkRecord reads a record to its last byte.
func checkRecord(b []byte) error {
	count, b, err := uvarint(b)
	if err != nil {
		return err
	}
	if count > uint64(len(b)/2) { // every header has two lengths of its own
		return fmt.Errorf("%w: more headers than bytes", ErrContent)
	}
	for range 2 * count {
		if _, b, err = text(b); err != nil {
			return err
		}
	}
	return nil
}

// parseRecord takes a checked record apart.
func parseRecord(b []byte) (r Record) {
	count, b, _ := uvarint(b)
	if count > 0 {
		r.Headers = make([]Field, count)
	}
	var key, value []byte
	for i := range r.Headers {
		key, b, _ = text(b)
		value, b, _ = text(b)
		r.Headers[i] = Field{string(key), string(value)}
	}
	r.Body = b
	return r
}

// text reads a string with its length before it, and returns what stands behind it.
func text(b []byte) (text, rest []byte, err error) {
	n, b, err := uvarint(b)
	if err != nil {
		return nil, nil, err
	}
	if n > uint64(len(b)) || !utf8.Valid(b[:n]) {
		return nil, nil, fmt.Errorf("%w: header is cut short or not UTF-8", ErrContent)
	}
	return b[:n], b[n:], nil
}

// uvarint reads a minimal varint.
func uvarint(b []byte) (uint64, []byte, error) {
	n, size := binary.Uvarint(b)
	if size <= 0 || (size > 1 && b[size-1] == 0) {
		return 0, nil, fmt.Errorf("%w: length cut short or not minimal", ErrContent)
	}
	return n, b[size:], nil
}

// allZero reports whether bytes are nothing but zeros.
func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
