package service

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// roomAPI finds rooms, and says who is in them: to their members, and all of it to admins of the bus.
type roomAPI struct {
	directory store.Directory
	logs      *logs
	past      *bus.Past
}

// ofMember answers GET /members/{endpoint}/rooms: one's own rooms, and for an admin anybody's.
func (a *roomAPI) ofMember(c *call) (int, any, error) {
	key, err := c.endpoint()
	if err != nil {
		return 0, nil, err
	}
	if key != c.caller && !c.admin {
		return 0, nil, fmt.Errorf("%w: only an admin lists the rooms of someone else", store.ErrDenied)
	}
	list, err := a.directory.ListRoomsForEndpoint(c.Context(), key)
	if list == nil {
		list = []store.RoomRef{}
	}
	return http.StatusOK, list, err
}

// list answers GET /rooms?subject= with the room that has a subject, to who may read it, and GET /rooms?after= with a page of
// all rooms, to admins.
func (a *roomAPI) list(c *call) (int, any, error) {
	if err := c.one("subject", "after"); err != nil {
		return 0, nil, err
	}
	if subject := c.given("subject"); subject != "" {
		r, err := a.directory.RoomBySubject(c.Context(), subject)
		var log *ledger.Room
		if err == nil {
			log, err = c.room(a.logs, r.ID)
		}
		if errors.Is(err, store.ErrNotFound) { // in the same words whether it exists or not
			err = fmt.Errorf("room %s: %w", subject, store.ErrNotFound)
		}
		if err != nil {
			return 0, nil, err
		}
		return a.withStream(c, r, log)
	}
	if !c.admin {
		return 0, nil, fmt.Errorf("%w: only an admin lists all rooms", store.ErrDenied)
	}
	if c.given("stream") != "" {
		return 0, nil, fmt.Errorf("%w: stream is for one room, with subject", store.ErrInvalid)
	}
	var after crypto.ID
	if s := c.given("after"); s != "" {
		var err error
		if after, err = written(s, crypto.ParseID); err != nil {
			return 0, nil, err
		}
	}
	list := []store.Room{}
	for r, err := range a.directory.Rooms(c.Context(), after) {
		if err != nil {
			return 0, nil, err
		}
		if list = append(list, r); len(list) == maxRecords {
			break
		}
	}
	return http.StatusOK, list, nil
}

// get answers GET /rooms/{room} with what its log says, for which nobody waits until a store lists it, and what it has stored.
func (a *roomAPI) get(c *call) (int, any, error) {
	room, err := c.id("room")
	if err != nil {
		return 0, nil, err
	}
	log, err := c.log(a.logs, room)
	if err != nil {
		return 0, nil, err
	}
	return a.withStream(c, store.RoomOf(log), log.Room)
}

// withStream answers with a room, and with what it has stored, for those who may read that: it is left out where it cannot be
// had, unless it is insisted on, and where it is not wanted, since it costs the servers something.
func (a *roomAPI) withStream(c *call, r store.Room, log *ledger.Room) (int, any, error) {
	body := store.RoomBody{Room: r}
	wanted := c.given("stream")
	if wanted != "" && wanted != "0" && wanted != "1" {
		return 0, nil, fmt.Errorf("%w: stream is 0 or 1", store.ErrInvalid)
	}
	if wanted == "0" || !log.Policy.Stored() || log.Role(c.caller) == "" && !c.admin {
		return http.StatusOK, &body, nil
	}
	stream, err := a.past.Stored(c.Context(), r.ID)
	if err != nil && wanted == "1" {
		return 0, nil, err
	}
	body.Stream = stream
	return http.StatusOK, &body, nil
}

// members answers GET /rooms/{room}/members.
func (a *roomAPI) members(c *call) (int, any, error) {
	room, err := c.id("room")
	if err != nil {
		return 0, nil, err
	}
	if _, err := c.room(a.logs, room); err != nil {
		return 0, nil, err
	}
	list, err := a.directory.Members(c.Context(), room)
	return http.StatusOK, list, err
}
