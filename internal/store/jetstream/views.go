package jetstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// headKey in unibus_users says which entry of the bus log the users are current up to; a room's own
// record says so for a room.
const headKey = "_head"

// patience is how long whoever finds views behind the log leaves them to the writer of the entry.
const patience = 200 * time.Millisecond

// The records, as JSON. Seq is that of the entry a record comes from.
type (
	roomRecord struct {
		Subject   string        `json:"subject"`
		Epoch     uint32        `json:"epoch"`
		EpochTime time.Time     `json:"epoch_time"`
		Policy    ledger.Policy `json:"policy"`
		Left      bool          `json:"left"`
		Archived  bool          `json:"archived"`
		Seq       uint64        `json:"seq"`
	}
	memberRecord struct {
		Role ledger.Role `json:"role"` // empty: no member any more
		Seq  uint64      `json:"seq"`
	}
	userRecord struct {
		store.UserBody
		Seq uint64 `json:"seq"`
	}
	headRecord struct {
		Seq uint64 `json:"seq"`
	}
)

func roomKey(room crypto.ID) string { return room.String() }

func epochKey(room crypto.ID, epoch uint32) string {
	return "epoch." + room.String() + "." + strconv.FormatUint(uint64(epoch), 10)
}

func memberKey(room crypto.ID, endpoint crypto.PublicKey) string {
	return room.String() + "." + endpoint.String()
}

func roomsOfKey(endpoint crypto.PublicKey, room crypto.ID) string {
	return endpoint.String() + "." + room.String()
}

// subjectKey writes a subject in the characters keys may have.
func subjectKey(subject string) string {
	var b strings.Builder
	b.WriteString("subject.")
	for _, c := range []byte(subject) {
		switch {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c == '.', c == '-', c == '_':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "=%02x", c)
		}
	}
	return b.String()
}

// row is a record to be written.
type row struct {
	bucket *bucket
	key    string
	value  any
}

// rows writes view changes as records of the entry seq, that of the log's own record last.
func (s *Store) rows(seq uint64, views []ledger.View) (changes []row, last row) {
	last = row{s.users, headKey, headRecord{seq}}
	for _, v := range views {
		switch v := v.(type) {
		case ledger.RoomView:
			last = row{s.rooms, roomKey(v.ID), roomRecord{v.Subject, v.Epoch, v.EpochTime.UTC(), v.Policy, v.Left, v.Archived, seq}}
		case ledger.EpochView:
			changes = append(changes, row{s.rooms, epochKey(v.Room, v.Epoch), v.Commit.String()})
		case ledger.MemberView:
			m := memberRecord{v.Role, seq}
			changes = append(changes, row{s.members, memberKey(v.Room, v.Endpoint), m}, row{s.roomsOf, roomsOfKey(v.Endpoint, v.Room), m})
		case ledger.UserView:
			changes = append(changes, row{s.users, v.Key.String(), userRecord{store.NewUserBody(&v.User), seq}})
		}
	}
	return changes, last
}

// encode writes a record: plain text for a name or a commitment, JSON for the others.
func (r row) encode() ([]byte, error) {
	if text, ok := r.value.(string); ok {
		return []byte(text), nil
	}
	return json.Marshal(r.value)
}

// seqOf is the entry that a stored record comes from; 0 for what is the same for ever.
func seqOf(value []byte) uint64 {
	var r headRecord
	_ = json.Unmarshal(value, &r) // text has none, and a damaged record is replaced
	return r.Seq
}

// advance applies the views of an entry that was just committed, after those of the entries before.
func (s *Store) advance(ctx context.Context, c store.Change) error {
	changes, last := s.rows(c.Entry.Seq, c.Views)
	if c.Entry.Seq > 1 {
		current, err := s.current(ctx, last)
		if err == nil && current+1 < c.Entry.Seq {
			current, err = s.await(ctx, last, c.Entry.Seq-1)
		}
		if err != nil {
			return err
		}
		if current+1 < c.Entry.Seq {
			return s.heal(ctx, c.Entry.Log)
		}
	}
	return s.write(ctx, c.Entry.Seq, changes, last)
}

// current is the entry up to which the views of a log are written, of which last is the last.
func (s *Store) current(ctx context.Context, last row) (uint64, error) {
	found, err := last.bucket.fresh(ctx, last.key)
	return seqOf(found[last.key].value), err
}

// await gives the writer of earlier entries a while to complete them.
func (s *Store) await(ctx context.Context, last row, seq uint64) (current uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for current < seq {
		if current, err = s.current(ctx, last); err != nil {
			break
		}
		select {
		case <-ctx.Done():
			return current, nil
		case <-time.After(patience / 20):
		}
	}
	if ctx.Err() != nil {
		err = nil
	}
	return current, err
}

// write writes the records of one entry: whatever a later entry wrote stays.
func (s *Store) write(ctx context.Context, seq uint64, changes []row, last row) error {
	by := map[*bucket][]row{}
	for _, r := range changes {
		by[r.bucket] = append(by[r.bucket], r)
	}
	for i, b := range []*bucket{s.rooms, s.members, s.roomsOf, s.users} {
		if err := b.advance(ctx, seq, by[b]); err != nil {
			return err
		}
		if len(by[b]) > 0 {
			step("viewed " + strconv.Itoa(i))
		}
	}
	return last.bucket.advance(ctx, seq, []row{last})
}

// advance writes records of the entry seq where the present ones are of an earlier one.
func (b *bucket) advance(ctx context.Context, seq uint64, rows []row) error {
	return b.replace(ctx, rows, func(old record, value []byte) bool {
		if !bytes.HasPrefix(value, []byte("{")) { // the same for ever
			return !bytes.Equal(old.value, value)
		}
		return old.rev == 0 || seqOf(old.value) < seq
	})
}

// replace writes the records that are due, given what is there, each only over what it was due for.
func (b *bucket) replace(ctx context.Context, rows []row, due func(old record, value []byte) bool) error {
	for len(rows) > 0 {
		n := min(len(rows), maxKeys)
		for todo := rows[:n]; len(todo) > 0; {
			var err error
			if todo, err = b.replaceOnce(ctx, todo, due); err != nil {
				return err
			}
		}
		rows = rows[n:]
	}
	return nil
}

// replaceOnce returns the rows that have to be looked at again, since others wrote them meanwhile.
func (b *bucket) replaceOnce(ctx context.Context, rows []row, due func(old record, value []byte) bool) (again []row, err error) {
	keys := make([]string, len(rows))
	for i, r := range rows {
		keys[i] = r.key
	}
	found, err := b.at(ctx, 0, keys...) // an old answer fails the condition below
	if err != nil {
		return nil, err
	}
	type flight struct {
		row
		value  []byte
		rev    uint64
		future jetstream.PubAckFuture
	}
	var flights []flight
	for _, r := range rows {
		old := found[r.key]
		value, err := r.encode()
		if err != nil {
			return nil, err
		}
		if !due(old, value) {
			continue
		}
		future, err := b.s.js.PublishMsgAsync(b.message(r.key, value, int64(old.rev)))
		if err != nil {
			return nil, err
		}
		flights = append(flights, flight{r, value, old.rev, future})
	}
	for _, f := range flights {
		err := landed(ctx, f.future)
		if err != nil && !changed(err) {
			_, err = b.put(ctx, f.key, f.value, int64(f.rev))
		}
		switch {
		case err == nil:
		case changed(err) || errors.Is(err, errChanged):
			again = append(again, f.row)
		default:
			return nil, err
		}
	}
	return again, nil
}

// touch completes the views of a log that are behind it, as a crash in an Append leaves them.
func (s *Store) touch(ctx context.Context, log crypto.ID, current uint64, last row) error {
	h, err := s.head(ctx, log)
	if errors.Is(err, store.ErrNotFound) || err == nil && current >= h.Seq {
		return nil
	}
	if err == nil {
		current, err = s.await(ctx, last, h.Seq)
	}
	if err != nil || current >= h.Seq {
		return err
	}
	return s.heal(ctx, log)
}

// heal writes the views of the entries that nobody wrote them for.
func (s *Store) heal(ctx context.Context, log crypto.ID) error {
	state := new(ledger.State)
	current := uint64(0)
	for e, err := range s.Entries(ctx, log, 0) {
		if err != nil {
			return err
		}
		c, err := store.Advance(state, e.Statement)
		if err != nil {
			return fmt.Errorf("%w: log %s is damaged: %v", store.ErrInvalid, log, err)
		}
		changes, last := s.rows(e.Seq, c.Views)
		if e.Seq == 1 {
			if current, err = s.current(ctx, last); err != nil {
				return err
			}
		}
		if e.Seq <= current {
			continue
		}
		if err := s.write(ctx, e.Seq, changes, last); err != nil {
			return err
		}
	}
	return nil
}

// Heal completes the views of a log that are behind it.
func (s *Store) Heal(ctx context.Context, log crypto.ID) error {
	ctx, cancel := s.op(ctx)
	defer cancel()
	first, err := s.log.one(ctx, entryKey(log, 1))
	if err != nil {
		return fmt.Errorf("log %s: %w", log, failure(err))
	}
	state := new(ledger.State)
	c, err := store.Advance(state, first.value)
	if err != nil {
		return fmt.Errorf("%w: log %s is damaged: %v", store.ErrInvalid, log, err)
	}
	_, last := s.rows(1, c.Views)
	current, err := s.current(ctx, last)
	if err == nil {
		err = s.touch(ctx, log, current, last)
	}
	return failure(err)
}

// Rebuild makes the views of a log those of its state, whatever they say now, and reports how many
// records were not; with dry it only counts them.
func (s *Store) Rebuild(ctx context.Context, state *ledger.State, dry bool) (wrong int, err error) {
	changes, last := s.rows(state.Head.Seq, state.AllViews())
	changes = append(changes, last)
	var strays []row
	if state.Room != nil {
		changes = append(changes, row{s.rooms, subjectKey(state.Room.Subject), state.ID.String()})
		strays, err = s.strayMembers(ctx, state)
	} else {
		strays, err = s.strayUsers(ctx, state)
	}
	if err != nil {
		return 0, failure(err)
	}
	by := map[*bucket][]row{}
	for _, r := range append(changes, strays...) {
		by[r.bucket] = append(by[r.bucket], r)
	}
	for _, b := range []*bucket{s.rooms, s.members, s.roomsOf, s.users} {
		err := b.replace(ctx, by[b], func(old record, value []byte) bool {
			if old.rev > 0 && alike(old.value, value) {
				return false
			}
			wrong++
			return !dry
		})
		if err != nil {
			return wrong, failure(err)
		}
	}
	return wrong, nil
}

// strayMembers are records that end memberships which the room's log does not know.
func (s *Store) strayMembers(ctx context.Context, state *ledger.State) (rows []row, err error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	found, err := s.members.list(ctx, state.ID.String()+".*")
	for _, r := range found {
		m, room, err := member(r)
		if err != nil {
			return nil, err
		}
		if m.Role != "" && state.Room.Role(m.Endpoint) == "" {
			none := memberRecord{Seq: state.Head.Seq}
			rows = append(rows, row{s.members, r.key, none}, row{s.roomsOf, roomsOfKey(m.Endpoint, room), none})
		}
	}
	return rows, err
}

// strayUsers are empty records for users whom the bus log does not know.
func (s *Store) strayUsers(ctx context.Context, state *ledger.State) (rows []row, err error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	c, err := s.allowlist(ctx)
	if err != nil {
		return nil, err
	}
	defer c.RUnlock()
	for key := range c.users {
		if state.Bus.User(key) == nil {
			rows = append(rows, row{s.users, key.String(), ""})
		}
	}
	return rows, nil
}

// Behind lists the logs whose views are not as current as they are, or are missing.
func (s *Store) Behind(ctx context.Context) ([]crypto.ID, error) {
	heads := map[string]uint64{}
	err := s.log.scan(ctx, true, func(r record) error {
		log, n, _ := strings.Cut(r.key, ".")
		seq, err := strconv.ParseUint(n, 10, 64)
		heads[log] = max(heads[log], seq)
		return err
	}, "*.*")
	if err != nil {
		return nil, failure(err)
	}
	bus, err := s.log.get(ctx, busKey)
	if err != nil {
		return nil, failure(err)
	}
	head, err := s.users.get(ctx, headKey)
	if err != nil {
		return nil, failure(err)
	}
	current := map[string]uint64{string(bus.value): seqOf(head.value)}
	err = s.rooms.scan(ctx, false, func(r record) error { current[r.key] = seqOf(r.value); return nil }, "*")
	if err != nil {
		return nil, failure(err)
	}
	var out []crypto.ID
	for key, seq := range heads {
		if current[key] >= seq {
			continue
		}
		log, err := crypto.ParseID(key)
		if err != nil {
			return nil, fmt.Errorf("%w: the key %s is no log's", store.ErrInvalid, key)
		}
		if h, err := s.Head(ctx, log); errors.Is(err, store.ErrNotFound) || err == nil && current[key] >= h.Seq {
			continue // it never began
		} else if err != nil {
			return nil, err
		}
		out = append(out, log)
	}
	return out, nil
}

// get is the record of a key, an empty one if there is none, within OpTimeout.
func (b *bucket) get(ctx context.Context, key string) (record, error) {
	ctx, cancel := b.s.op(ctx)
	defer cancel()
	found, err := b.fresh(ctx, key)
	return found[key], err
}

// alike reports whether two records say the same but for the entry they come from.
func alike(a, b []byte) bool {
	strip := func(raw []byte) []byte {
		var m map[string]json.RawMessage
		if json.Unmarshal(raw, &m) != nil {
			return raw
		}
		if len(m) > 1 {
			delete(m, "seq")
		}
		out, err := json.Marshal(m)
		if err != nil {
			return raw
		}
		return out
	}
	return bytes.Equal(a, b) || bytes.Equal(strip(a), strip(b))
}
