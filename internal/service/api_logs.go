package service

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// logAPI reads logs: that of the bus for everyone, a room's for those who are or were in it.
type logAPI struct {
	store     store.Log
	directory store.Directory
	logs      *logs
	bus       crypto.ID
}

// get answers GET /logs/{log}?after=&limit= with entries, as many as fit one answer, and where the log ends; limit=0 asks for
// the end alone. ErrNotFound for a room that the caller may not read, ErrDamaged for a log that ends before what was read
// of it, or lacks an entry.
func (a *logAPI) get(c *call) (int, any, error) {
	log, err := c.id("log")
	if err != nil {
		return 0, nil, err
	}
	after, err := c.number("after", 0, unbounded)
	if err != nil {
		return 0, nil, err
	}
	limit, err := c.number("limit", maxRecords, unbounded)
	if err != nil {
		return 0, nil, err
	}
	body := store.LogBody{Log: log, Entries: [][]byte{}}
	if log != a.bus {
		if _, err := c.room(a.logs, log); err != nil {
			return 0, nil, err
		}
	}
	was := a.logs.reached(log)
	body.Head, err = store.HeadOf(c.Context(), a.store, log)
	if err == nil {
		err = goesOn(log, was, body.Head)
	}
	if err != nil || limit == 0 {
		return http.StatusOK, body, err
	}
	size, whole := 0, true
	for e, err := range a.store.Entries(c.Context(), log, after) {
		if err != nil {
			return 0, nil, err
		}
		size += len(e.Statement)
		if size > maxPage || e.Seq > body.Head.Seq {
			whole = false
			break
		}
		if body.Entries = append(body.Entries, e.Statement); uint64(len(body.Entries)) == limit {
			whole = false
			break
		}
	}
	if next := after + uint64(len(body.Entries)) + 1; whole && next <= body.Head.Seq {
		return 0, nil, fmt.Errorf("log %s: %w: entry %d is missing, and the log goes to entry %d", log, store.ErrDamaged, next, body.Head.Seq)
	}
	return http.StatusOK, body, nil
}

// heads answers POST /heads with where logs end: those that the caller may read, and leaves the others out.
func (a *logAPI) heads(c *call) (int, any, error) {
	var in store.LogsBody
	if err := c.body(fields{"logs": &in.Logs}); err != nil {
		return 0, nil, err
	}
	if len(in.Logs) > store.MaxHeads {
		return 0, nil, fmt.Errorf("%w: the heads of at most %d logs in one request", store.ErrInvalid, store.MaxHeads)
	}
	if slices.Contains(in.Logs, crypto.ID{}) {
		return 0, nil, lacking("an id in logs")
	}
	slices.SortFunc(in.Logs, crypto.ID.Compare)
	logs := slices.Compact(in.Logs)
	was := make([]ledger.Head, len(logs))
	for i, log := range logs {
		was[i] = a.logs.reached(log)
	}
	heads, err := a.store.Heads(c.Context(), logs...)
	if err != nil {
		return 0, nil, err
	}
	may, err := a.readable(c)
	if err != nil {
		return 0, nil, err
	}
	places := []store.PlaceBody{}
	for i, log := range logs {
		if heads[i].Seq == 0 {
			continue
		}
		ok, err := may(log)
		if ok && err == nil {
			err = goesOn(log, was[i], heads[i])
		}
		if err != nil {
			return 0, nil, err
		}
		if ok {
			places = append(places, store.PlaceBody{Log: log, Seq: heads[i].Seq, Hash: heads[i].Hash})
		}
	}
	return http.StatusOK, places, nil
}

// readable says which logs the caller may read, as call.room does. The views know the caller's rooms; only of a
// room that the caller is not in the log is asked whether that was different once.
func (a *logAPI) readable(c *call) (may func(log crypto.ID) (bool, error), err error) {
	in := map[crypto.ID]bool{a.bus: true}
	if !c.admin {
		rooms, err := a.directory.ListRoomsForEndpoint(c.Context(), c.caller)
		if err != nil {
			return nil, err
		}
		for _, r := range rooms {
			in[r.ID] = true
		}
	}
	return func(log crypto.ID) (bool, error) {
		if c.admin || in[log] {
			return true, nil
		}
		_, err := c.room(a.logs, log)
		if errors.Is(err, store.ErrNotFound) {
			return false, nil
		}
		return err == nil, err
	}, nil
}
