package remote

import (
	"context"
	"fmt"
	"iter"
	"net/url"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// This file is store.Directory over the API, a route a method. What the caller may not see the service leaves out, or
// denies.

// directory is store.Directory.
type directory struct{ *client }

// Room returns a room's record.
func (d *directory) Room(ctx context.Context, room crypto.ID) (r store.Room, err error) {
	return r, d.call(ctx, "GET", "/rooms/"+room.String()+"?stream=0", nil, &r)
}

// RoomBySubject finds a room by its subject.
func (d *directory) RoomBySubject(ctx context.Context, subject string) (r store.Room, err error) {
	return r, d.call(ctx, "GET", "/rooms?stream=0&subject="+url.QueryEscape(subject), nil, &r)
}

// Rooms yields every room after an id, by id, for bus admins.
func (d *directory) Rooms(ctx context.Context, after crypto.ID) iter.Seq2[store.Room, error] {
	return pages(func() ([]store.Room, error) {
		var page []store.Room
		err := d.call(ctx, "GET", "/rooms?after="+after.String(), nil, &page)
		if len(page) > 0 {
			after = page[len(page)-1].ID
		}
		return page, err
	})
}

// pages yields what read returns until it returns nothing.
func pages[T any](read func() ([]T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			list, err := read()
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			if len(list) == 0 {
				return
			}
			for _, v := range list {
				if !yield(v, nil) {
					return
				}
			}
		}
	}
}

// Members lists a room's members by key.
func (d *directory) Members(ctx context.Context, room crypto.ID) (list []store.Member, err error) {
	return list, d.call(ctx, "GET", "/rooms/"+room.String()+"/members", nil, &list)
}

// Member returns one member of a room, of the list of all: the API has no route for one.
func (d *directory) Member(ctx context.Context, room crypto.ID, endpoint crypto.PublicKey) (store.Member, error) {
	list, err := d.Members(ctx, room)
	if err != nil {
		return store.Member{}, err
	}
	for _, m := range list {
		if m.Endpoint == endpoint {
			return m, nil
		}
	}
	return store.Member{}, fmt.Errorf("member %s of room %s: %w", endpoint, room, store.ErrNotFound)
}

// ListRoomsForEndpoint lists a member's rooms by id.
func (d *directory) ListRoomsForEndpoint(ctx context.Context, endpoint crypto.PublicKey) (list []store.RoomRef, err error) {
	return list, d.call(ctx, "GET", "/members/"+endpoint.String()+"/rooms", nil, &list)
}
