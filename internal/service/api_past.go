package service

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/store"
)

// Frames leave in pages: a caller asks from a place, is given as many as fit one answer, and how far the room reaches, and
// asks again from the last that it has. What a page holds is the stream's to say (bus.Past); here it is only who may ask,
// and how it is written.

// maxFrames is how many bytes of a room's past one answer has at most. A single frame may be larger.
const maxFrames = 860 << 10

// frameHeaders is kept free in an answer for its headers. A frame is as much smaller than the most that
// a server takes, so that an answer with it alone fits.
const frameHeaders = 512

// frameLimit is how many bytes of frames an answer over a connection may have, whose servers take
// messages of maxPayload bytes.
func frameLimit(maxPayload int64) int { return int(max(min(maxFrames, maxPayload-frameHeaders), 1)) }

// pastAPI gives out what rooms have stored.
type pastAPI struct {
	past     *bus.Past
	maxBytes int // in one answer
	logs     *logs
}

// get answers GET /rooms/{room}/frames with a part of a room's past. Whether the caller is a member is looked up each time.
func (a *pastAPI) get(c *call) (int, any, error) {
	room, err := c.id("room")
	if err != nil {
		return 0, nil, err
	}
	q, err := c.framesQuery()
	if err != nil {
		return 0, nil, err
	}
	r, err := c.room(a.logs, room)
	switch {
	case err != nil:
		return 0, nil, err
	case r.Role(c.caller) == "" && !c.admin:
		return 0, nil, fmt.Errorf("room %s: %w: no longer a member", room, store.ErrDenied)
	case !r.Policy.Stored():
		return 0, nil, fmt.Errorf("room %s: %w: it stores nothing", room, store.ErrNotFound)
	}
	past, err := a.past.Frames(c.Context(), room, q, a.maxBytes)
	return http.StatusOK, &past, err
}

// framesQuery reads bytes, and one of after, since and last.
func (c *call) framesQuery() (q store.FramesQuery, err error) {
	bytes, err := c.number("bytes", 0, unbounded)
	if err == nil {
		err = c.one("after", "since", "last")
	}
	if err != nil {
		return q, err
	}
	q.Bytes = int(min(bytes, maxFrames))
	switch {
	case c.given("last") != "":
		q.Last, err = c.number("last", 0, unbounded)
		q.None = q.Last == 0
	case c.given("since") != "":
		q.Since, err = parseSince(c.given("since"))
	default:
		q.After, err = c.number("after", 0, unbounded)
	}
	return q, err
}

// parseSince reads a time as RFC 3339, or as Unix µs, which is how the times of frames are given.
func parseSince(text string) (time.Time, error) {
	if n, err := strconv.ParseInt(text, 10, 63); err == nil {
		return time.UnixMicro(n), nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, fmt.Errorf("%w: since is Unix µs, or a time as 2006-01-02T15:04:05Z", store.ErrInvalid)
	}
	return t, nil
}

// writeFrames answers with frames one after another, and in headers how far the room reaches.
func writeFrames(w http.ResponseWriter, p *store.Past) {
	size := 0
	for i := range p.Frames {
		size += p.Frames[i].Size()
	}
	body := make([]byte, 0, size)
	for i := range p.Frames {
		body = store.AppendFrame(body, &p.Frames[i])
	}
	w.Header().Set("Content-Type", store.FramesType)
	w.Header().Set("First", strconv.FormatUint(p.First, 10))
	w.Header().Set("Last", strconv.FormatUint(p.Last, 10))
	if p.Lost > 0 {
		w.Header().Set("Lost", strconv.FormatUint(p.Lost, 10))
	}
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body) // the caller has gone; there is nobody to tell
}
