package unibus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/tasks"
)

// Room is a room as this client has verified it. It is safe for concurrent use.
type Room struct {
	*chain

	keys keyring

	smu    sync.Mutex
	feeds  map[*feed]bool
	pubs   map[*Publisher]bool
	forks  []pins.Fork // proven: unless settled, nothing is delivered or published any more
	alarms map[crypto.PublicKey]bool
	used   usage
	pub    *Publisher // the one behind Publish
}

// RoomInfo is what a room's log says of it.
type RoomInfo struct {
	ID       ID        `json:"room_id"`
	Subject  string    `json:"subject"`
	Epoch    uint32    `json:"epoch"`
	Policy   Policy    `json:"policy"`
	Role     Role      `json:"role"` // of this client; empty for an admin looking on
	Members  int       `json:"members"`
	Stale    bool      `json:"stale"`
	Seq      uint64    `json:"seq"`
	Archived bool      `json:"archived"`
	Created  time.Time `json:"created"`
	Creator  PublicKey `json:"creator"`
}

// Info returns the room's state as last verified.
func (r *Room) Info() RoomInfo {
	s := r.state()
	first := s.Room.Epochs[0]
	return RoomInfo{
		ID: s.ID, Subject: s.Room.Subject, Epoch: s.Room.Epoch().Number, Policy: s.Room.Policy,
		Role: s.Room.Role(r.c.id.Key()), Members: len(s.Room.Members()), Seq: s.Head.Seq,
		Archived: s.Room.Archived != 0, Created: first.Time, Creator: first.By,
		Stale: ledger.Stale(s.Room, r.c.bus.state().Bus, time.Now()),
	}
}

// room is what the room's log says, as last verified.
func (r *Room) room() *ledger.Room { return r.state().Room }

// ID is the room's id.
func (r *Room) ID() ID { return r.id }

// Subject is the room's subject.
func (r *Room) Subject() string { return r.room().Subject }

// Member is a member of a room; Name is empty for someone not on the allowlist any more.
type Member struct {
	Key    PublicKey `json:"key"`
	Name   string    `json:"name"`
	Role   Role      `json:"role"`
	Active bool      `json:"active"` // on the allowlist
}

// Members lists the room's members, those who manage it first, then by name.
func (r *Room) Members() []Member {
	var out []Member
	now, bus := time.Now(), r.c.bus.state().Bus
	for key, role := range r.room().Members() {
		m := Member{Key: key, Role: role}
		if u := bus.User(key); u != nil {
			m.Name, m.Active = u.Name, u.ActiveAt(now)
		}
		out = append(out, m)
	}
	rank := []Role{RoleOwner, RoleAdmin, RoleMember, RoleReader}
	slices.SortFunc(out, func(a, b Member) int {
		if d := slices.Index(rank, a.Role) - slices.Index(rank, b.Role); d != 0 {
			return d
		}
		if d := strings.Compare(a.Name, b.Name); d != 0 {
			return d
		}
		return strings.Compare(a.Key.String(), b.Key.String())
	})
	return out
}

// Refresh brings the room up to date with the store.
func (r *Room) Refresh(ctx context.Context) error { return r.sync(ctx) }

// Room opens a room by subject, id, or a prefix of at least 6 characters of the id of one of the
// caller's rooms, and verifies its log. ErrNotFound covers rooms that are none of the caller's
// business.
func (c *Client) Room(ctx context.Context, name string) (*Room, error) {
	if c.bus.id.IsZero() {
		return nil, fmt.Errorf("room %s: %w: the store is empty", name, ErrNotFound)
	}
	if id, err := crypto.ParseID(name); err == nil {
		return c.openRoom(ctx, id)
	}
	if err := ledger.ValidSubject(name); err != nil {
		return nil, fmt.Errorf("room %q: %w: it is neither a subject nor an id", name, ErrInvalid)
	}
	pinned, err := c.pins.Subject(ctx, c.bus.id, name)
	if err != nil {
		return nil, err
	}
	if pinned.IsZero() {
		return c.roomBySubject(ctx, name)
	}
	// The store is asked all the same, beside the work: it must not say anything else now.
	asked := make(chan error, 1)
	go func() { asked <- c.stillNamed(ctx, name, pinned) }()
	r, err := c.openRoom(ctx, pinned)
	if named := <-asked; named != nil {
		return nil, named
	}
	return r, err
}

// stillNamed checks that a subject means the pinned room in the store as well.
func (c *Client) stillNamed(ctx context.Context, subject string, pinned ID) error {
	now, err := c.store.RoomBySubject(ctx, subject)
	if errors.Is(err, ErrNotFound) {
		return nil // a room that is gone shows at its log, and one that was left is not shown
	}
	if err != nil {
		return err
	}
	if now.ID == pinned {
		return nil
	}
	if c.o.Confirm {
		return c.pins.PinSubject(ctx, c.bus.id, subject, now.ID, true)
	}
	err = fmt.Errorf("room %s: %w: the subject meant the room %s and now means %s", subject, ErrIntegrity, pinned, now.ID)
	return withHint(err, "if that is intended, say so once: unibus room show %s --yes", subject)
}

func (c *Client) roomBySubject(ctx context.Context, name string) (*Room, error) {
	found, err := c.store.RoomBySubject(ctx, name)
	if errors.Is(err, ErrNotFound) {
		id, err := c.roomByPrefix(ctx, name)
		if err != nil {
			return nil, err
		}
		return c.openRoom(ctx, id)
	}
	if err != nil {
		return nil, err
	}
	r, err := c.openRoom(ctx, found.ID)
	if err != nil {
		return nil, err
	}
	if r.Subject() != name {
		return nil, fmt.Errorf("room %s: %w: the store gave the room %s instead", name, ErrIntegrity, r.Subject())
	}
	return r, c.pins.PinSubject(ctx, c.bus.id, name, r.id, false)
}

const minPrefix = 6

func (c *Client) roomByPrefix(ctx context.Context, prefix string) (ID, error) {
	missing := withHint(fmt.Errorf("room %s: %w", prefix, ErrNotFound), "unibus rooms ls shows the rooms you are in")
	if len(prefix) < minPrefix {
		return ID{}, missing
	}
	refs, err := c.store.ListRoomsForEndpoint(ctx, c.id.Key())
	if err != nil {
		return ID{}, err
	}
	var match []ID
	for _, ref := range refs {
		if strings.HasPrefix(ref.ID.String(), strings.ToLower(prefix)) {
			match = append(match, ref.ID)
		}
	}
	switch len(match) {
	case 0:
		return ID{}, missing
	case 1:
		return match[0], nil
	}
	return ID{}, fmt.Errorf("room %s: %w: %d of your rooms have ids that begin so", prefix, ErrInvalid, len(match))
}

// openRoom verifies a room's log, once per client; later calls bring it up to date.
func (c *Client) openRoom(ctx context.Context, id ID) (*Room, error) {
	r, err := c.pinnedRoom(ctx, id)
	if err != nil {
		return nil, err
	}
	return c.opened(r, r.sync(ctx))
}

// pinnedRoom is a room as open already, or as pinned, not brought up to date.
func (c *Client) pinnedRoom(ctx context.Context, id ID) (*Room, error) {
	c.mu.Lock()
	r := c.rooms[id]
	c.mu.Unlock()
	if r != nil {
		return r, nil
	}
	l, err := c.openChain(ctx, id)
	if err != nil {
		return nil, err
	}
	r = &Room{chain: l, feeds: map[*feed]bool{}, pubs: map[*Publisher]bool{}, alarms: map[crypto.PublicKey]bool{}}
	r.keys.room, r.keys.turn = r, make(chan struct{}, 1)
	return r, r.loadForks(ctx)
}

// opened remembers a room that was brought up to date, if it is one; synced is what came of that.
func (c *Client) opened(r *Room, synced error) (*Room, error) {
	if errors.Is(synced, ErrNotFound) {
		return nil, withHint(fmt.Errorf("room %s: %w", r.id, ErrNotFound), "unibus rooms ls shows the rooms you are in")
	}
	if synced != nil {
		return nil, synced
	}
	if r.room() == nil {
		return nil, fmt.Errorf("room %s: %w: that is the id of the bus", r.id, ErrInvalid)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if open := c.rooms[r.id]; open != nil {
		return open, nil
	}
	c.rooms[r.id] = r
	return r, nil
}

// syncAtOnce is how many logs are brought up to date at the same time.
const syncAtOnce = 8

// ListMyRooms lists the rooms this client is a member of, by room id, as their logs say.
func (c *Client) ListMyRooms(ctx context.Context) ([]RoomRef, error) {
	rooms, err := c.MyRooms(ctx)
	if err != nil {
		return nil, err
	}
	refs := make([]RoomRef, len(rooms))
	for i, r := range rooms {
		info := r.Info()
		refs[i] = RoomRef{ID: info.ID, Subject: info.Subject, Epoch: info.Epoch, Policy: info.Policy, Role: info.Role}
	}
	return refs, nil
}

// MyRooms opens every room this client is a member of, by room id.
func (c *Client) MyRooms(ctx context.Context) ([]*Room, error) {
	rooms, err := c.RoomsOf(ctx, c.id.Key())
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(rooms, func(r *Room) bool { return r.Info().Role == "" }), nil
}

// RoomsOf opens every room a user is a member of, by room id; of others' rooms only a bus admin
// learns. What the store's view lists but the log does not bear out is ErrIntegrity.
func (c *Client) RoomsOf(ctx context.Context, key PublicKey) ([]*Room, error) {
	if c.bus.id.IsZero() {
		return nil, nil
	}
	refs, err := c.store.ListRoomsForEndpoint(ctx, key)
	if err != nil {
		return nil, err
	}
	ids := make([]ID, len(refs))
	for i, ref := range refs {
		ids[i] = ref.ID
	}
	rooms, err := c.openAll(ctx, ids)
	if err != nil {
		return nil, err
	}
	for i, r := range rooms {
		if room := r.room(); !room.Known(key) || room.Subject != refs[i].Subject {
			return nil, fmt.Errorf("room %s: %w: the store lists it for %s, its log does not", refs[i].Subject, ErrIntegrity, key)
		}
	}
	return rooms, nil
}

// AllRooms opens every room of the bus, by room id; for bus admins.
func (c *Client) AllRooms(ctx context.Context) ([]*Room, error) {
	if c.bus.id.IsZero() {
		return nil, nil
	}
	var ids []ID
	for r, err := range c.store.Rooms(ctx, ID{}) {
		if err != nil {
			return nil, err
		}
		ids = append(ids, r.ID)
	}
	slices.SortFunc(ids, ID.Compare)
	return c.openAll(ctx, ids)
}

// openAll opens rooms, asking the store once where all of their logs end, and for entries only of those that
// have grown.
func (c *Client) openAll(ctx context.Context, ids []ID) ([]*Room, error) {
	rooms := make([]*Room, len(ids))
	before := make([]ledger.Head, len(ids))
	err := c.forEach(ctx, len(ids), func(i int) (err error) {
		if rooms[i], err = c.pinnedRoom(ctx, ids[i]); err == nil {
			before[i] = rooms[i].head()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	heads, err := c.store.Heads(ctx, ids...)
	if err != nil {
		return nil, err
	}
	err = c.forEach(ctx, len(ids), func(i int) (err error) {
		r := rooms[i]
		rooms[i], err = c.opened(r, r.settled(ctx, r.log.SyncTo(ctx, before[i], heads[i])))
		return err
	})
	return rooms, err
}

// forEach calls f for the numbers up to n, a few at once.
func (c *Client) forEach(ctx context.Context, n int, f func(i int) error) error {
	errs := make([]error, n)
	var working tasks.Group
	run := working.Limit(syncAtOnce)
	for i := range n {
		if !run(ctx, func() { errs[i] = f(i) }) {
			errs[i] = ctx.Err()
		}
	}
	working.Wait()
	return errors.Join(errs...)
}

// CreateRoom makes a room with the caller as its owner. ErrExists when the subject is taken.
func (c *Client) CreateRoom(ctx context.Context, subject string, p Policy) (*Room, error) {
	if err := ledger.ValidSubject(subject); err != nil {
		return nil, fmt.Errorf("room %q: %w: %w", subject, ErrInvalid, err)
	}
	if err := c.founded(ctx); err != nil {
		return nil, err
	}
	if !c.active(c.id.Key()) {
		return nil, c.explain(ErrDenied)
	}
	switch there, err := c.store.RoomBySubject(ctx, subject); {
	case err == nil:
		return c.madeBefore(ctx, subject, there.ID, p)
	case !errors.Is(err, ErrNotFound):
		return nil, err
	}
	create := &ledger.Create{Bus: c.bus.id, Subject: subject, Policy: p, Nonce: random[[16]byte]()}
	proposal := mirror.Proposal{Body: create}
	if p.Encrypted() {
		proposal.Key = &mirror.Key{Epoch: 1, Key: newRoomKey()}
		commit := proposal.Key.Key.Commit(1)
		create.Commit = &commit
	}
	var log *mirror.Log
	err := c.inTurn(ctx, func() (err error) {
		log, err = c.peer().Create(ctx, proposal, c.bus.id)
		return err
	})
	var r *Room
	if err == nil {
		err = c.pins.PinSubject(ctx, c.bus.id, subject, log.ID(), true)
	}
	if err == nil {
		r, err = c.openRoom(ctx, log.ID())
	}
	switch {
	case errors.Is(err, ErrExists):
		return nil, fmt.Errorf("room %s: %w", subject, ErrExists)
	case errors.Is(err, ErrUnavailable):
		if log != nil {
			err = errors.Join(err, c.pins.Set(context.WithoutCancel(ctx), c.making(subject), log.ID().String()))
		}
		return nil, withHint(fmt.Errorf("room %s: %w", subject, err), "it may have been made all the same: unibus room show %s", subject)
	}
	return r, err
}

// making is what remembers the room of which nobody knows whether it was made.
func (c *Client) making(subject string) string {
	return "room in the making at " + c.bus.id.String() + ": " + subject
}

// madeBefore returns the room that has a subject, if it is the one whose making was not answered, and has the policy that
// is wanted; ErrExists for another.
func (c *Client) madeBefore(ctx context.Context, subject string, there ID, p Policy) (*Room, error) {
	made, err := c.pins.Setting(ctx, c.making(subject))
	if err != nil {
		return nil, err
	}
	if made != there.String() {
		return nil, fmt.Errorf("room %s: %w", subject, ErrExists)
	}
	r, err := c.openRoom(ctx, there)
	if err != nil {
		return nil, err
	}
	if !reflect.DeepEqual(r.Info().Policy, p) {
		return nil, fmt.Errorf("room %s: %w, with another policy", subject, ErrExists)
	}
	return r, errors.Join(c.pins.PinSubject(ctx, c.bus.id, subject, there, true), c.pins.Set(ctx, c.making(subject), "made"))
}

// active reports whether someone is on the allowlist now, as last verified.
func (c *Client) active(key PublicKey) bool { return c.bus.state().Bus.User(key).ActiveAt(time.Now()) }

// wasOut reports whether someone's access to the bus ever ended, as last verified.
func (c *Client) wasOut(key PublicKey) bool {
	u := c.bus.state().Bus.User(key)
	return u == nil || !u.Revoked.IsZero()
}

// end stops the room's subscriptions and publishers, for a reason.
func (r *Room) end(err error) {
	r.lostRights(err)
	r.smu.Lock()
	feeds, pubs := slices.Collect(maps.Keys(r.feeds)), slices.Collect(maps.Keys(r.pubs))
	r.smu.Unlock()
	for _, f := range feeds {
		f.cancel(err)
	}
	for _, p := range pubs {
		p.end(err)
	}
}

// lostRights has the connection's rights in the room gained anew by whoever uses it next, when these have ended.
func (r *Room) lostRights(err error) {
	if errors.Is(err, ErrDenied) && r.c.conn != nil {
		r.c.conn.Release(r.id)
	}
}

// judgeSelf ends the subscriptions of a room that this client may not read any more, or that has
// ended.
func (r *Room) judgeSelf() {
	if err := r.readable(); err != nil {
		r.end(err)
	}
}

// readable says why the room may not be read, if it may not.
func (r *Room) readable() (err error) {
	if frozen := r.isFrozen(); frozen != nil {
		return frozen
	}
	me, room := r.c.id.Key(), r.room()
	if room.Role(me) == "" {
		err = fmt.Errorf("room %s: %w: you are not a member", room.Subject, ErrDenied)
		if room.Known(me) {
			err = fmt.Errorf("room %s: %w: you are no longer a member", room.Subject, ErrDenied)
		}
		err = withHint(err, "an owner or admin of the room can let you in: unibus invite %s %s", room.Subject, r.c.nameOf(me))
	}
	if err == nil && !r.c.active(me) {
		err = r.c.explain(ErrDenied)
	}
	return err
}

// nameOf is how people call a key here: its name on the allowlist, or the key itself.
func (c *Client) nameOf(key PublicKey) string {
	if u := c.bus.state().Bus.User(key); u != nil {
		return u.Name
	}
	return key.String()
}
