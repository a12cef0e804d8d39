package sqlite

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// This file is store.Directory: queries over the tables rooms and members, which appending keeps as current as the
// logs.

// directory is store.Directory, and store.Inventory's count of rooms.
type directory struct{ *database }

// roomColumns reads a store.Room.
const roomColumns = `r.id, r.subject, r.epoch, r.policy, r.seq, r.archived,
	(SELECT count(*) FROM members m WHERE m.room = r.id)
	FROM rooms r`

// scanRoom reads the columns of roomColumns.
func scanRoom(scan func(...any) error) (store.Room, error) {
	var r store.Room
	err := scan(Blob(r.ID[:]), &r.Subject, &r.Epoch, encoded{&r.Policy}, &r.Seq, &r.Archived, &r.Members)
	return r, err
}

// Room returns a room's record.
func (d *directory) Room(ctx context.Context, room crypto.ID) (store.Room, error) {
	ctx, cancel := d.op(ctx)
	defer cancel()
	r, err := scanRoom(d.read.QueryRowContext(ctx, `SELECT `+roomColumns+` WHERE r.id = ?`, room[:]).Scan)
	if err != nil {
		return r, fmt.Errorf("room %s: %w", room, failure(err))
	}
	return r, nil
}

// RoomBySubject finds a room by its subject.
func (d *directory) RoomBySubject(ctx context.Context, subject string) (store.Room, error) {
	ctx, cancel := d.op(ctx)
	defer cancel()
	r, err := scanRoom(d.read.QueryRowContext(ctx, `SELECT `+roomColumns+` WHERE r.subject = ?`, subject).Scan)
	if err != nil {
		return r, fmt.Errorf("room %s: %w", subject, failure(err))
	}
	return r, nil
}

// Rooms yields every room after an id, by id.
func (d *directory) Rooms(ctx context.Context, after crypto.ID) iter.Seq2[store.Room, error] {
	read := func(last []byte) ([]store.Room, error) {
		ctx, cancel := d.op(ctx)
		defer cancel()
		return rows(ctx, d.read, scanRoom, `SELECT `+roomColumns+` WHERE r.id > ? ORDER BY r.id LIMIT ?`, last, page)
	}
	return pages(after[:], read, func(r store.Room) []byte { return r.ID[:] })
}

// Members lists a room's members by key.
func (d *directory) Members(ctx context.Context, room crypto.ID) ([]store.Member, error) {
	ctx, cancel := d.op(ctx)
	defer cancel()
	list, err := rows(ctx, d.read, scanMember, `SELECT endpoint, role FROM members WHERE room = ? ORDER BY endpoint`, room[:])
	if err == nil && len(list) == 0 { // a room always has an owner
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("members of room %s: %w", room, failure(err))
	}
	return list, nil
}

// scanMember reads an endpoint and its role.
func scanMember(scan func(...any) error) (store.Member, error) {
	var m store.Member
	err := scan(Blob(m.Endpoint[:]), &m.Role)
	return m, err
}

// Member returns one member of a room.
func (d *directory) Member(ctx context.Context, room crypto.ID, endpoint crypto.PublicKey) (store.Member, error) {
	ctx, cancel := d.op(ctx)
	defer cancel()
	m, err := scanMember(d.read.QueryRowContext(ctx, `SELECT endpoint, role FROM members WHERE room = ? AND endpoint = ?`, room[:], endpoint[:]).Scan)
	if err != nil {
		return m, fmt.Errorf("member %s of room %s: %w", endpoint, room, failure(err))
	}
	return m, nil
}

// ListRoomsForEndpoint lists a member's rooms by id, through an index on the member.
func (d *directory) ListRoomsForEndpoint(ctx context.Context, endpoint crypto.PublicKey) ([]store.RoomRef, error) {
	ctx, cancel := d.op(ctx)
	defer cancel()
	list, err := rows(ctx, d.read, func(scan func(...any) error) (store.RoomRef, error) {
		var r store.RoomRef
		err := scan(Blob(r.ID[:]), &r.Subject, &r.Epoch, encoded{&r.Policy}, &r.Role, &r.Archived)
		return r, err
	}, `SELECT r.id, r.subject, r.epoch, r.policy, m.role, r.archived FROM members m JOIN rooms r ON r.id = m.room WHERE m.endpoint = ?`, endpoint[:])
	if err != nil {
		return nil, fmt.Errorf("rooms of %s: %w", endpoint, failure(err))
	}
	slices.SortFunc(list, func(a, b store.RoomRef) int { return a.ID.Compare(b.ID) })
	return list, nil
}

// Created counts the rooms that an endpoint created and that are not archived, in an index of just those.
func (d *directory) Created(ctx context.Context, endpoint crypto.PublicKey) (n int, err error) {
	ctx, cancel := d.op(ctx)
	defer cancel()
	err = d.read.QueryRowContext(ctx, `SELECT count(*) FROM rooms WHERE creator = ? AND NOT archived`, endpoint[:]).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("rooms created by %s: %w", endpoint, failure(err))
	}
	return n, nil
}
