package service

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// What a handler of the API is given: a request and who makes it. What it has in its path, its query and its body is
// read here, in the same way for every route; what cannot be read is ErrInvalid.

const (
	maxRequest = 1 << 20
	maxPage    = 600 << 10 // bytes of statements in one answer
	maxRecords = 1000      // users or rooms in one answer
)

// handle answers one authenticated request with a status and what its body is made of, nil for none; or with an error
// that is answered as a problem (problem.go).
type handle func(*call) (status int, body any, err error)

// call is one authenticated request.
type call struct {
	*http.Request
	caller crypto.PublicKey
	admin  bool
}

// body reads a request's JSON body.
func (c *call) body(v any) error {
	raw, err := io.ReadAll(io.LimitReader(c.Body, maxRequest+1))
	if err != nil {
		return fmt.Errorf("%w: %v", store.ErrInvalid, err)
	}
	if len(raw) > maxRequest {
		return fmt.Errorf("%w: the limit is %d bytes", errTooLarge, maxRequest)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%w: the body is not as expected: %v", store.ErrInvalid, err)
	}
	return nil
}

// id reads the id that the path has under a name; ErrInvalid for what is none.
func (c *call) id(name string) (crypto.ID, error) {
	id, err := crypto.ParseID(c.PathValue(name))
	if err != nil {
		return id, fmt.Errorf("%w: %v", store.ErrInvalid, err)
	}
	return id, nil
}

// endpoint reads the key that the path names; ErrInvalid for what is none.
func (c *call) endpoint() (crypto.PublicKey, error) {
	key, err := crypto.ParsePublicKey(c.PathValue("endpoint"))
	if err != nil {
		return key, fmt.Errorf("%w: %v", store.ErrInvalid, err)
	}
	return key, nil
}

// number reads a number of the query, or takes the other where it has none; ErrInvalid for what is none.
func (c *call) number(name string, otherwise uint64) (uint64, error) {
	s := c.URL.Query().Get(name)
	if s == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%w: %s is not a number", store.ErrInvalid, name)
	}
	return n, nil
}

// room is a room as its log has it, if the caller is or was in it, or is an admin of the bus, who reads any. To anyone
// else there is no such room: ErrNotFound.
func (c *call) room(logs *logs, room crypto.ID) (*ledger.Room, error) {
	s, err := logs.state(c.Context(), room)
	if err == nil && (s.Room == nil || !c.admin && !s.Room.Known(c.caller)) {
		err = fmt.Errorf("room %s: %w", room, store.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return s.Room, nil
}
