package jetstream

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// decode reads a JSON record.
func decode(r record, v any) error {
	if err := json.Unmarshal(r.value, v); err != nil {
		return fmt.Errorf("%w: the record %s is damaged: %v", store.ErrDamaged, r.key, err)
	}
	return nil
}

// record returns a room's record as it is; the zero one if there is none.
func (s *Store) record(ctx context.Context, room crypto.ID) (v roomRecord, err error) {
	key := roomKey(room)
	found, err := s.rooms.fresh(ctx, key)
	if r, ok := found[key]; ok {
		err = decode(r, &v)
	}
	return v, err
}

// room returns a room's record, as current as its log.
func (s *Store) room(ctx context.Context, room crypto.ID) (roomRecord, error) {
	v, err := s.record(ctx, room)
	if err != nil {
		return v, err
	}
	behind, err := s.touch(ctx, room, v.Seq, row{bucket: s.rooms, key: roomKey(room)})
	if err == nil && behind {
		v, err = s.record(ctx, room)
	}
	if err == nil && v.Seq == 0 { // the log is not a room's
		err = store.ErrNotFound
	}
	return v, err
}

// whole is a room's record with its members counted.
func (v *roomRecord) whole(id crypto.ID, members []store.Member) store.Room {
	return store.Room{ID: id, Subject: v.Subject, Epoch: v.Epoch, Policy: v.Policy, Seq: v.Seq, Archived: v.Archived, Members: len(members)}
}

// Room returns a room's record.
func (s *Store) Room(ctx context.Context, room crypto.ID) (store.Room, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	r, err := s.whole(ctx, room)
	if err != nil {
		return r, fmt.Errorf("room %s: %w", room, failure(err))
	}
	return r, nil
}

func (s *Store) whole(ctx context.Context, room crypto.ID) (store.Room, error) {
	v, err := s.room(ctx, room)
	if err != nil {
		return store.Room{}, err
	}
	members, err := s.membersOf(ctx, room)
	if err != nil {
		return store.Room{}, err
	}
	return v.whole(room, members), nil
}

// RoomBySubject finds a room by its subject.
func (s *Store) RoomBySubject(ctx context.Context, subject string) (store.Room, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	named, err := s.rooms.one(ctx, subjectKey(subject))
	var id crypto.ID
	if err == nil {
		if id, err = crypto.ParseID(string(named.value)); err != nil {
			err = fmt.Errorf("%w: the record %s is damaged: %v", store.ErrDamaged, named.key, err)
		}
	}
	var r store.Room
	if err == nil {
		r, err = s.whole(ctx, id)
	}
	if err != nil {
		return r, fmt.Errorf("room %s: %w", subject, failure(err))
	}
	return r, nil
}

// Rooms yields every room after an id, by id. It holds their records, and who is in them, in memory.
func (s *Store) Rooms(ctx context.Context, after crypto.ID) iter.Seq2[store.Room, error] {
	return func(yield func(store.Room, error) bool) {
		rooms, err := s.everyRoom(ctx, after)
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

func (s *Store) everyRoom(ctx context.Context, after crypto.ID) ([]store.Room, error) {
	records := map[crypto.ID]roomRecord{}
	err := s.rooms.scan(ctx, "*", func(r record) error {
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
	members, err := s.everyMember(ctx, records)
	if err != nil {
		return nil, err
	}
	var out []store.Room
	for id, v := range records {
		out = append(out, v.whole(id, members[id]))
	}
	slices.SortFunc(out, func(a, b store.Room) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return out, nil
}

// everyMember finds who is in some rooms.
func (s *Store) everyMember(ctx context.Context, rooms map[crypto.ID]roomRecord) (map[crypto.ID][]store.Member, error) {
	found := map[string]record{} // the last of each: one that changes meanwhile comes twice
	err := s.members.scan(ctx, "*.*", func(r record) error {
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

// member reads a record of unibus_members.
func member(r record) (m store.Member, room crypto.ID, err error) {
	var v memberRecord
	if err := decode(r, &v); err != nil {
		return m, room, err
	}
	id, endpoint, _ := strings.Cut(r.key, ".")
	if room, err = crypto.ParseID(id); err == nil {
		m.Endpoint, err = crypto.ParsePublicKey(endpoint)
	}
	if err != nil {
		err = fmt.Errorf("%w: the record %s is damaged: %v", store.ErrDamaged, r.key, err)
	}
	m.Role = v.Role
	return m, room, err
}

func (s *Store) membersOf(ctx context.Context, room crypto.ID) ([]store.Member, error) {
	found, err := s.members.list(ctx, room.String()+".*")
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
func (s *Store) Members(ctx context.Context, room crypto.ID) ([]store.Member, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	_, err := s.room(ctx, room)
	var list []store.Member
	if err == nil {
		list, err = s.membersOf(ctx, room)
	}
	if err != nil {
		return nil, fmt.Errorf("members of room %s: %w", room, failure(err))
	}
	return list, nil
}

// Member returns one member of a room.
func (s *Store) Member(ctx context.Context, room crypto.ID, endpoint crypto.PublicKey) (store.Member, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	_, err := s.room(ctx, room)
	var m store.Member
	if err == nil {
		var r record
		if r, err = s.members.one(ctx, memberKey(room, endpoint)); err == nil {
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
func (s *Store) ListRoomsForEndpoint(ctx context.Context, endpoint crypto.PublicKey) ([]store.RoomRef, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	list, err := s.roomsFor(ctx, endpoint)
	if err != nil {
		return nil, fmt.Errorf("rooms of %s: %w", endpoint, failure(err))
	}
	return list, nil
}

func (s *Store) roomsFor(ctx context.Context, endpoint crypto.PublicKey) (list []store.RoomRef, err error) {
	is := func(m memberRecord) bool { return m.Role != "" }
	err = s.eachRoom(ctx, endpoint, is, func(id crypto.ID, m memberRecord, v roomRecord) {
		list = append(list, store.RoomRef{ID: id, Subject: v.Subject, Epoch: v.Epoch, Policy: v.Policy, Role: m.Role, Archived: v.Archived})
	})
	slices.SortFunc(list, func(a, b store.RoomRef) int { return a.ID.Compare(b.ID) })
	return list, err
}

// eachRoom calls f for the rooms of which an endpoint's record in the reverse index is one that is meant.
func (s *Store) eachRoom(ctx context.Context, endpoint crypto.PublicKey, meant func(memberRecord) bool, f func(crypto.ID, memberRecord, roomRecord)) error {
	found, err := s.roomsOf.list(ctx, endpoint.String()+".*")
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
	records, err := s.rooms.fresh(ctx, keys...)
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
func (s *Store) Created(ctx context.Context, endpoint crypto.PublicKey) (n int, err error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	is := func(m memberRecord) bool { return m.Creator }
	err = s.eachRoom(ctx, endpoint, is, func(_ crypto.ID, _ memberRecord, v roomRecord) {
		if !v.Archived {
			n++
		}
	})
	if err != nil {
		return 0, fmt.Errorf("rooms created by %s: %w", endpoint, failure(err))
	}
	return n, nil
}

// sealedKey is where a copy of a key is kept; "*" for any endpoint or sealer.
func sealedKey(room crypto.ID, epoch uint32, commit, endpoint, sealer string) string {
	return room.String() + "." + strconv.FormatUint(uint64(epoch), 10) + "." + commit + "." + endpoint + "." + sealer
}

// sealed reads a copy.
func sealed(r record) (k store.SealedKey, err error) {
	tokens := strings.Split(r.key, ".")
	if len(tokens) != 5 {
		return k, fmt.Errorf("%w: the key %s is no sealed copy's", store.ErrDamaged, r.key)
	}
	k.Sealed = r.value
	if k.Endpoint, err = crypto.ParsePublicKey(tokens[3]); err == nil {
		k.Sealer, err = crypto.ParsePublicKey(tokens[4])
	}
	if err != nil {
		err = fmt.Errorf("%w: the key %s is no sealed copy's: %v", store.ErrDamaged, r.key, err)
	}
	return k, err
}

// Key returns an endpoint's copies of an epoch's committed key.
func (s *Store) Key(ctx context.Context, room crypto.ID, epoch uint32, endpoint crypto.PublicKey) ([]store.SealedKey, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	copies, err := s.key(ctx, room, epoch, endpoint)
	if err != nil {
		return nil, fmt.Errorf("key of room %s: %w", room, failure(err))
	}
	return copies, nil
}

func (s *Store) key(ctx context.Context, room crypto.ID, epoch uint32, endpoint crypto.PublicKey) ([]store.SealedKey, error) {
	v, err := s.room(ctx, room)
	if err != nil {
		return nil, err
	}
	epoch = cmp.Or(epoch, v.Epoch)
	r, err := s.rooms.one(ctx, epochKey(room, epoch))
	if err != nil {
		return nil, err
	}
	commit, author, err := epochOf(r)
	if err != nil {
		return nil, err
	}
	found, err := s.keys.list(ctx, sealedKey(room, epoch, commit.String(), endpoint.String(), "*"))
	if err != nil {
		return nil, err
	}
	var copies []store.SealedKey
	for _, r := range found {
		k, err := sealed(r)
		if err != nil {
			return nil, err
		}
		copies = append(copies, k)
	}
	if len(copies) == 0 {
		return nil, store.ErrNotFound
	}
	return store.InOrder(copies, author), nil
}

// cardPrefix begins the keys of cards, which stand among the sealed keys.
const cardPrefix = "card."

func cardKey(endpoint crypto.PublicKey) string { return cardPrefix + endpoint.String() }

// PutCards keeps cards, side by side.
func (s *Store) PutCards(ctx context.Context, cards ...store.Card) error {
	ctx, cancel := s.op(ctx)
	defer cancel()
	writes := make([]write, len(cards))
	for i, c := range cards {
		writes[i] = write{cardKey(c.Endpoint), c.Statement, anyRevision}
	}
	if _, err := s.keys.putMany(ctx, writes); err != nil {
		return fmt.Errorf("put cards: %w", failure(err))
	}
	return nil
}

// Cards returns the cards of endpoints.
func (s *Store) Cards(ctx context.Context, endpoints ...crypto.PublicKey) ([]store.Card, error) {
	if len(endpoints) == 0 {
		return nil, nil
	}
	ctx, cancel := s.op(ctx)
	defer cancel()
	keys := make([]string, len(endpoints))
	for i, endpoint := range endpoints {
		keys[i] = cardKey(endpoint)
	}
	found, err := s.keys.fresh(ctx, keys...)
	var cards []store.Card
	for _, r := range found {
		var c store.Card
		if c, err = card(r); err != nil {
			break
		}
		cards = append(cards, c)
	}
	if err != nil {
		return nil, fmt.Errorf("cards: %w", failure(err))
	}
	return cards, nil
}

// card reads the record of a card.
func card(r record) (store.Card, error) {
	endpoint, err := crypto.ParsePublicKey(strings.TrimPrefix(r.key, cardPrefix))
	if err != nil {
		return store.Card{}, fmt.Errorf("%w: the key %s is no endpoint's", store.ErrDamaged, r.key)
	}
	return store.Card{Endpoint: endpoint, Statement: r.value}, nil
}
