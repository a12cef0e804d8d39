package service

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// What a handler of the API is given: a request and who makes it. What it has in its path, its query and its body is
// read here, in the same way for every route; what cannot be read is ErrInvalid.

const (
	maxRequest = 1 << 20
	maxPage    = 600 << 10 // bytes of statements in one answer: more than one has
	maxRecords = 1000      // users or rooms in one answer

	unbounded = math.MaxInt64 // of numbers in a query
)

// handle answers one authenticated request with a status and what its body is made of, nil for none; or with an error
// that is answered as a problem (problem.go).
type handle func(*call) (status int, body any, err error)

// call is one authenticated request.
type call struct {
	*http.Request
	caller crypto.PublicKey
	admin  bool
	query  url.Values // each name once; see readQuery
}

// maxCommas bounds the values of a body before any is looked at: a key, an id or a card takes more than 16 bytes.
const maxCommas = maxRequest / 16

// fields are where the fields of a body go, by name.
type fields map[string]any

// body reads a request's JSON body, an object that has some fields. Others are passed over, also those whose names differ in
// case alone, which the library would take.
func (c *call) body(into fields) error {
	var whole bytes.Buffer
	whole.Grow(int(min(max(c.ContentLength, 0), maxRequest)) + bytes.MinRead) // or it grows again and again
	if _, err := whole.ReadFrom(io.LimitReader(c.Body, maxRequest+1)); err != nil {
		return fmt.Errorf("%w: %v", store.ErrInvalid, err)
	}
	raw := whole.Bytes()
	if len(raw) > maxRequest || bytes.Count(raw, []byte(",")) > maxCommas {
		return fmt.Errorf("%w: the limit is %d bytes, and %d values", errTooLarge, maxRequest, maxCommas)
	}
	given, err := into.read(raw)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(into)) {
		if !given[name] {
			return lacking(name)
		}
	}
	return nil
}

// read takes an object apart, in which each name may stand once, and says which have a value. Each value is read where it stands:
// a body may be a megabyte, and every look at it counts.
func (into fields) read(raw []byte) (given map[string]bool, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	given = map[string]bool{}
	if begins, _ := d.Token(); begins != json.Delim('{') { // null has no fields
		return given, wrong(raw, nil)
	}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, wrong(raw, err)
		}
		name := token.(string) // what stands before a colon is a string
		if _, twice := given[name]; twice {
			return nil, fmt.Errorf("%w: %s is given twice", store.ErrInvalid, name)
		}
		value := bytes.TrimLeft(raw[d.InputOffset():], ": \t\r\n")
		given[name] = !bytes.HasPrefix(value, []byte("null"))
		to, is := into[name]
		if !is {
			to = new(json.RawMessage)
		}
		if err := d.Decode(to); err != nil {
			return nil, wrong(raw, ofField(name, err))
		}
	}
	if _, err := d.Token(); err != nil { // the end of the object
		return nil, wrong(raw, err)
	}
	if _, err := d.Token(); err != io.EOF { // nothing comes after it
		return nil, wrong(raw, errors.New("something comes after it"))
	}
	return given, nil
}

// ofField is what is wrong with the value of a field, with the field's name.
func ofField(name string, err error) error {
	if of, is := errors.AsType[*json.UnmarshalTypeError](err); is {
		of.Field = strings.TrimSuffix(name+"."+of.Field, ".")
	}
	return err
}

// wrong is what is wrong with a body, in the words of who reads it whole, or else as it was found.
func wrong(raw []byte, found error) error {
	if err := cmp.Or(json.Unmarshal(raw, &struct{}{}), found); err != nil {
		return unexpected(err)
	}
	return nil
}

// lacking says that a body has no value for a field.
func lacking(name string) error {
	return fmt.Errorf("%w: the body is not as expected: it lacks %s", store.ErrInvalid, name)
}

// unexpected says what is wrong with a body, without the Go types that it was to be.
func unexpected(err error) error {
	var of *json.UnmarshalTypeError
	switch {
	case !errors.As(err, &of):
	case of.Field == "":
		err = fmt.Errorf("it is no object, but %s", of.Value)
	default:
		err = fmt.Errorf("%s cannot be %s", of.Field, of.Value)
	}
	return fmt.Errorf("%w: the body is not as expected: %v", store.ErrInvalid, err)
}

// readQuery reads the query, and refuses one that can be read in more ways than one. Names in it that are of no use to a route
// are passed over, and so are fields of bodies.
func (c *call) readQuery() (err error) {
	c.query, err = url.ParseQuery(c.URL.RawQuery)
	if err != nil {
		return fmt.Errorf("%w: the query is not NAME=VALUE, with & between", store.ErrInvalid)
	}
	for name, given := range c.query {
		if len(given) > 1 {
			return fmt.Errorf("%w: %s is given twice", store.ErrInvalid, name)
		}
	}
	return nil
}

// given is what the query has under a name; an empty value counts as none.
func (c *call) given(name string) string { return c.query.Get(name) }

// one refuses a query that has several of some names that do not go together.
func (c *call) one(names ...string) error {
	n := 0
	for _, name := range names {
		if c.given(name) != "" {
			n++
		}
	}
	if n > 1 {
		return fmt.Errorf("%w: %s: one of them", store.ErrInvalid, strings.Join(names, ", "))
	}
	return nil
}

// id reads the id that the path has under a name; ErrInvalid for what is none.
func (c *call) id(name string) (crypto.ID, error) {
	return written(c.PathValue(name), crypto.ParseID)
}

// endpoint reads the key that the path names; ErrInvalid for what is none.
func (c *call) endpoint() (crypto.PublicKey, error) {
	return written(c.PathValue("endpoint"), crypto.ParsePublicKey)
}

// written reads an id or a key of a path or a query. What people type may have spaces around it, what programs send has not.
func written[T any](text string, parse func(string) (T, error)) (v T, err error) {
	if v, err = parse(text); err == nil && strings.TrimSpace(text) != text {
		err = errors.New("an id or a key has no spaces around it")
	}
	if err != nil {
		return v, fmt.Errorf("%w: %v", store.ErrInvalid, err)
	}
	return v, nil
}

// number reads a number of the query, or takes the other where it has none; ErrInvalid for what is none, or larger than the
// most that it may be.
func (c *call) number(name string, otherwise, most uint64) (uint64, error) {
	s := c.given(name)
	if s == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || n > most {
		return 0, fmt.Errorf("%w: %s is not a number from 0 to %d", store.ErrInvalid, name, most)
	}
	return n, nil
}

// room is a room as its log has it, if the caller is or was in it, or is an admin of the bus, who reads any. To anyone
// else there is no such room: ErrNotFound.
func (c *call) room(logs *logs, room crypto.ID) (*ledger.Room, error) {
	s, err := c.log(logs, room)
	if err != nil {
		return nil, err
	}
	return s.Room, nil
}

// log is room, and where its log ends.
func (c *call) log(logs *logs, room crypto.ID) (*ledger.State, error) {
	s, err := logs.state(c.Context(), room)
	if err == nil && (s.Room == nil || !c.admin && !s.Room.Known(c.caller)) {
		err = fmt.Errorf("room %s: %w", room, store.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}
