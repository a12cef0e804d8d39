package jetstream

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// This file is store.Directory: the records of unibus_rooms, unibus_members and unibus_rooms_by_member. Who asks for one
// room has its views completed first if they are behind (repair.go).

// directory is store.Directory, and store.Inventory's count of rooms.
type directory struct {
	*conn
	*buckets
	repairer *repairer
}

// record returns a room's record as it is; the zero one if there is none.
func (d *directory) record(ctx context.Context, room crypto.ID) (v roomRecord, err error) {
	key := roomKey(room)
	found, err := d.rooms.latest(ctx, key)
	if r, ok := found[key]; ok {
		err = decode(r, &v)
	}
	return v, err
}

// room returns a room's record, as current as its log: where a crash left it behind, it is completed first. Without a
// record nothing says that there is a room, and its log is asked.
func (d *directory) room(ctx context.Context, room crypto.ID) (roomRecord, error) {
	v, err := d.record(ctx, room)
	if err != nil {
		return v, err
	}
	behind, err := d.repairer.catchUp(ctx, room, v.Seq, d.repairer.views.lastRow(room))
	if err == nil && behind {
		v, err = d.record(ctx, room)
	}
	if err == nil && v.Seq == 0 { // the log is not a room's
		err = store.ErrNotFound
	}
	return v, err
}

// counted is a room's record with its members counted.
func (v *roomRecord) counted(id crypto.ID, members []store.Member) store.Room {
	return store.Room{ID: id, Subject: v.Subject, Epoch: v.Epoch, Policy: v.Policy, Seq: v.Seq, Archived: v.Archived, Members: len(members)}
}

// Room returns a room's record.
func (d *directory) Room(ctx context.Context, room crypto.ID) (store.Room, error) {
	ctx, cancel := d.op(ctx)
	defer cancel()
	r, err := d.countedRoom(ctx, room)
	if err != nil {
		return r, fmt.Errorf("room %s: %w", room, failure(err))
	}
	return r, nil
}

// countedRoom is Room without a bound. The members are counted each time: a number that is kept would have to be written
// by whoever adds or removes one, and two of them at once could lose one.
func (d *directory) countedRoom(ctx context.Context, room crypto.ID) (store.Room, error) {
	v, err := d.room(ctx, room)
	if err != nil {
		return store.Room{}, err
	}
	members, err := d.membersOf(ctx, room)
	if err != nil {
		return store.Room{}, err
	}
	return v.counted(room, members), nil
}

// RoomBySubject finds a room by its subject.
func (d *directory) RoomBySubject(ctx context.Context, subject string) (store.Room, error) {
	ctx, cancel := d.op(ctx)
	defer cancel()
	named, err := d.rooms.one(ctx, subjectKey(subject))
	var id crypto.ID
	if err == nil {
		if id, err = crypto.ParseID(string(named.value)); err != nil {
			err = fmt.Errorf("%w: the record %s is damaged: %v", store.ErrDamaged, named.key, err)
		}
	}
	var r store.Room
	if err == nil {
		r, err = d.countedRoom(ctx, id)
	}
	if err != nil {
		return r, fmt.Errorf("room %s: %w", subject, failure(err))
	}
	return r, nil
}

// Rooms yields every room after an id, by id. It holds their records, and who is in them, in memory.
func (d *directory) Rooms(ctx context.Context, after crypto.ID) iter.Seq2[store.Room, error] {
	return func(yield func(store.Room, error) bool) {
		rooms, err := d.everyRoom(ctx, after)
		if err != nil {
			yield(store.Room{}, fmt.Errorf("rooms: %w", failure(err)))
			return
		}
		for _, r := range rooms {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// everyRoom is Rooms at once, in order.
func (d *directory) everyRoom(ctx context.Context, after crypto.ID) ([]store.Room, error) {
	records := map[crypto.ID]roomRecord{}
	err := d.rooms.scan(ctx, "*", func(r record) error {
		id, err := crypto.ParseID(r.key)
		if err != nil || bytes.Compare(id[:], after[:]) <= 0 {
			return nil // another kind of record, or one that was not asked for
		}
		var v roomRecord
		err = decode(r, &v)
		records[id] = v
		return err
	})
	if err != nil {
		return nil, err
	}
	members, err := d.everyMember(ctx, records)
	if err != nil {
		return nil, err
	}
	var out []store.Room
	for id, v := range records {
		out = append(out, v.counted(id, members[id]))
	}
	slices.SortFunc(out, func(a, b store.Room) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return out, nil
}

// everyMember finds who is in some rooms, in one pass over all memberships: to ask for each room's would be a request
// for each.
func (d *directory) everyMember(ctx context.Context, rooms map[crypto.ID]roomRecord) (map[crypto.ID][]store.Member, error) {
	found := map[string]record{} // the last of each: one that changes meanwhile comes twice
	err := d.members.scan(ctx, "*.*", func(r record) error {
		found[r.key] = r
		return nil
	})
	if err != nil {
		return nil, err
	}
	members := map[crypto.ID][]store.Member{}
	for _, r := range found {
		m, room, err := member(r)
		if err != nil {
			return nil, err
		}
		if _, wanted := rooms[room]; wanted && m.Role != "" {
			members[room] = append(members[room], m)
		}
	}
	return members, nil
}

// membersOf lists who is in a room, by key; nobody for an unknown one.
func (d *directory) membersOf(ctx context.Context, room crypto.ID) ([]store.Member, error) {
	found, err := d.members.list(ctx, room.String()+".*")
	if err != nil {
		return nil, err
	}
	var list []store.Member
	for _, r := range found {
		m, _, err := member(r)
		if err != nil {
			return nil, err
		}
		if m.Role != "" {
			list = append(list, m)
		}
	}
	slices.SortFunc(list, func(a, b store.Member) int { return bytes.Compare(a.Endpoint[:], b.Endpoint[:]) })
	return list, nil
}

// Members lists a room's members by key.
func (d *directory) Members(ctx context.Context, room crypto.ID) ([]store.Member, error) {
	ctx, cancel := d.op(ctx)
	defer cancel()
	_, err := d.room(ctx, room)
	var list []store.Member
	if err == nil {
		list, err = d.membersOf(ctx, room)
	}
	if err != nil {
		return nil, fmt.Errorf("members of room %s: %w", room, failure(err))
	}
	return list, nil
}

// Member returns one member of a room.
func (d *directory) Member(ctx context.Context, room crypto.ID, endpoint crypto.PublicKey) (store.Member, error) {
	ctx, cancel := d.op(ctx)
	defer cancel()
	_, err := d.room(ctx, room)
	var m store.Member
	if err == nil {
		var r record
		if r, err = d.members.one(ctx, memberKey(room, endpoint)); err == nil {
			m, _, err = member(r)
		}
	}
	if err == nil && m.Role == "" {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.Member{}, fmt.Errorf("member %s of room %s: %w", endpoint, room, failure(err))
	}
	return m, nil
}

// ListRoomsForEndpoint lists a member's rooms by id, through the reverse index.
func (d *directory) ListRoomsForEndpoint(ctx context.Context, endpoint crypto.PublicKey) ([]store.RoomRef, error) {
	ctx, cancel := d.op(ctx)
	defer cancel()
	list, err := d.roomsFor(ctx, endpoint)
	if err != nil {
		return nil, fmt.Errorf("rooms of %s: %w", endpoint, failure(err))
	}
	return list, nil
}

// roomsFor is ListRoomsForEndpoint without a bound.
func (d *directory) roomsFor(ctx context.Context, endpoint crypto.PublicKey) (list []store.RoomRef, err error) {
	is := func(m memberRecord) bool { return m.Role != "" }
	err = d.eachRoom(ctx, endpoint, is, func(id crypto.ID, m memberRecord, v roomRecord) {
		list = append(list, store.RoomRef{ID: id, Subject: v.Subject, Epoch: v.Epoch, Policy: v.Policy, Role: m.Role, Archived: v.Archived})
	})
	slices.SortFunc(list, func(a, b store.RoomRef) int { return a.ID.Compare(b.ID) })
	return list, err
}

// eachRoom calls f for the rooms of which an endpoint's record in the reverse index is one that is meant.
func (d *directory) eachRoom(ctx context.Context, endpoint crypto.PublicKey, meant func(memberRecord) bool, f func(crypto.ID, memberRecord, roomRecord)) error {
	found, err := d.roomsOf.list(ctx, endpoint.String()+".*")
	if err != nil {
		return err
	}
	of := map[string]memberRecord{}
	var keys []string
	for _, r := range found {
		var m memberRecord
		if err := decode(r, &m); err != nil {
			return err
		}
		if _, room, _ := strings.Cut(r.key, "."); meant(m) {
			of[room] = m
			keys = append(keys, room)
		}
	}
	records, err := d.rooms.latest(ctx, keys...)
	if err != nil {
		return err
	}
	for key, r := range records {
		id, err := crypto.ParseID(key)
		if err != nil {
			return fmt.Errorf("%w: the record %s is damaged: %v", store.ErrDamaged, key, err)
		}
		var v roomRecord
		if err := decode(r, &v); err != nil {
			return err
		}
		f(id, of[key], v)
	}
	return nil
}

// Created counts the rooms that an endpoint created and that are not archived. Its records in the reverse index
// stay when it is no member any more.
func (d *directory) Created(ctx context.Context, endpoint crypto.PublicKey) (n int, err error) {
	ctx, cancel := d.op(ctx)
	defer cancel()
	is := func(m memberRecord) bool { return m.Creator }
	err = d.eachRoom(ctx, endpoint, is, func(_ crypto.ID, _ memberRecord, v roomRecord) {
		if !v.Archived {
			n++
		}
	})
	if err != nil {
		return 0, fmt.Errorf("rooms created by %s: %w", endpoint, failure(err))
	}
	return n, nil
}
