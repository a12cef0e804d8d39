package remote

import (
	"context"
	"fmt"
	"net/url"
	"strconv"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// This file reads the past of stored rooms (SPEC.md §7), which is no part of store.Store: only a service has it.

// past reads the past of rooms.
type past struct{ *client }

// Frames returns a part of a stored room's past. ErrUnavailable when it cannot be read as far as it
// reaches, or as fits an answer.
func (p *past) Frames(ctx context.Context, room crypto.ID, q store.FramesQuery) (store.Past, error) {
	header, raw, err := p.ask(ctx, p.timeout, "GET", "/rooms/"+room.String()+"/frames?"+framesQuery(q).Encode(), nil)
	if err != nil {
		return store.Past{}, err
	}
	out := store.Past{}
	first, err := strconv.ParseUint(header.Get("First"), 10, 64)
	if err == nil {
		out.First = first
		out.Last, err = strconv.ParseUint(header.Get("Last"), 10, 64)
	}
	if err != nil {
		return store.Past{}, fmt.Errorf("%w: the service does not say how far the room reaches", store.ErrUnavailable)
	}
	if lost := header.Get("Lost"); lost != "" {
		if out.Lost, err = strconv.ParseUint(lost, 10, 64); err != nil || out.Lost > out.Last {
			return store.Past{}, fmt.Errorf("%w: the service does not say what is lost", store.ErrUnavailable)
		}
	}
	// What the frames hold is not looked at: whoever reads them verifies each.
	out.Frames, err = store.ParseFrames(raw)
	return out, err
}

// Stored is what a room has stored; nil if it stores nothing, or the service does not say.
func (p *past) Stored(ctx context.Context, room crypto.ID) (*store.Stream, error) {
	var body store.RoomBody
	err := p.call(ctx, "GET", "/rooms/"+room.String()+"?stream=1", nil, &body)
	return body.Stream, err
}

// framesQuery writes which frames are wanted: none but the room's ends, the last so many, those since a time, or those after
// a place, the first of these that q says.
func framesQuery(q store.FramesQuery) url.Values {
	v := url.Values{}
	switch {
	case q.None:
		v.Set("last", "0")
	case q.Last > 0:
		v.Set("last", strconv.FormatUint(q.Last, 10))
	case !q.Since.IsZero():
		v.Set("since", strconv.FormatInt(q.Since.UnixMicro(), 10))
	default:
		v.Set("after", strconv.FormatUint(q.After, 10))
	}
	if q.Bytes > 0 {
		v.Set("bytes", strconv.Itoa(q.Bytes))
	}
	return v
}
