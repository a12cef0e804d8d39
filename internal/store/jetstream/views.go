package jetstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

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
		Subject  string        `json:"subject"`
		Epoch    uint32        `json:"epoch"`
		Policy   ledger.Policy `json:"policy"`
		Archived bool          `json:"archived"`
		Seq      uint64        `json:"seq"`
	}
	memberRecord struct {
		Role    ledger.Role `json:"role"`              // empty: no member any more
		Creator bool        `json:"creator,omitempty"` // of the room, member or not
		Seq     uint64      `json:"seq"`
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

// epochRecord says which key an epoch has, and who wrote the entry that began it.
func epochRecord(commit crypto.Hash, by crypto.PublicKey) string {
	return commit.String() + " " + by.String()
}

// epochOf reads what epochRecord wrote.
func epochOf(r record) (commit crypto.Hash, by crypto.PublicKey, err error) {
	hash, author, _ := strings.Cut(string(r.value), " ")
	if commit, err = crypto.ParseHash(hash); err == nil {
		by, err = crypto.ParsePublicKey(author)
	}
	if err != nil {
		err = fmt.Errorf("%w: the record %s is damaged: %v", store.ErrDamaged, r.key, err)
	}
	return commit, by, err
}

// commitOf is the commitment in an epoch's record as it is written there; empty for none.
func commitOf(r record) string {
	commit, _, _ := strings.Cut(string(r.value), " ")
	return commit
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
	var creator crypto.PublicKey // of the room, whose own view comes first
	for _, v := range views {
		switch v := v.(type) {
		case ledger.RoomView:
			creator = v.Creator
			last = row{s.rooms, roomKey(v.ID), roomRecord{v.Subject, v.Epoch, v.Policy, v.Archived, seq}}
		case ledger.EpochView:
			changes = append(changes, row{s.rooms, epochKey(v.Room, v.Epoch), epochRecord(v.Commit, v.By)})
		case ledger.MemberView:
			changes = append(changes, s.memberRows(v, memberRecord{v.Role, v.Endpoint == creator, seq})...)
		case ledger.UserView:
			changes = append(changes, row{s.users, v.Key.String(), userRecord{store.NewUserBody(&v.User), seq}})
		}
	}
	return changes, last
}

// memberRows are the records of a member: one by room and one by member.
func (s *Store) memberRows(v ledger.MemberView, m memberRecord) []row {
	return []row{{s.members, memberKey(v.Room, v.Endpoint), m}, {s.roomsOf, roomsOfKey(v.Endpoint, v.Room), m}}
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
			return s.heal(ctx, c.Entry.Log, current)
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
	due := func(old record, value []byte) bool {
		if !bytes.HasPrefix(value, []byte("{")) { // the same for ever
			return !bytes.Equal(old.value, value)
		}
		return old.rev == 0 || seqOf(old.value) < seq
	}
	if err := s.replace(ctx, changes, false, due); err != nil {
		return err
	}
	return s.replace(ctx, []row{last}, false, due)
}

// replace writes the records that are due, given what is there, each only over what it was due for,
// bucket by bucket. What is there is looked up as of now if that is wanted; an old answer makes no difference else, since
// it fails the condition of the write.
func (s *Store) replace(ctx context.Context, rows []row, current bool, due func(old record, value []byte) bool) error {
	by := map[*bucket][]row{}
	for _, r := range rows {
		by[r.bucket] = append(by[r.bucket], r)
	}
	for i, b := range []*bucket{s.rooms, s.members, s.roomsOf, s.users} {
		if len(by[b]) == 0 {
			continue
		}
		for chunk := range slices.Chunk(by[b], maxKeys) {
			if err := b.replace(ctx, chunk, current, due); err != nil {
				return err
			}
		}
		step("viewed " + strconv.Itoa(i))
	}
	return nil
}

// replace looks again at what others wrote meanwhile, until nothing is due.
func (b *bucket) replace(ctx context.Context, rows []row, current bool, due func(old record, value []byte) bool) error {
	values := map[string][]byte{}
	var keys []string
	for _, r := range rows {
		value, err := r.encode()
		if err != nil {
			return err
		}
		values[r.key] = value
		keys = append(keys, r.key)
	}
	for len(keys) > 0 {
		var seq uint64
		if current {
			var err error
			if seq, err = b.index(ctx); err != nil {
				return err
			}
		}
		current = true // once more only when others have written
		found, err := b.at(ctx, seq, keys...)
		if err != nil {
			return err
		}
		var writes []write
		for _, key := range keys {
			if old := found[key]; due(old, values[key]) {
				writes = append(writes, write{key, values[key], int64(old.rev)})
			}
		}
		again, err := b.putMany(ctx, writes)
		if err != nil {
			return err
		}
		keys = keys[:0]
		for _, w := range again {
			keys = append(keys, w.key)
		}
	}
	return nil
}

// touch completes the views of a log that are behind it, as a crash in an Append leaves them, and
// reports whether they were. They are current up to an entry, as last says. ErrNotFound for an
// unknown log.
func (s *Store) touch(ctx context.Context, log crypto.ID, current uint64, last row) (behind bool, err error) {
	h, err := s.head(ctx, log)
	if err != nil || current >= h.Seq {
		return false, err
	}
	if current, err = s.await(ctx, last, h.Seq); err == nil && current < h.Seq {
		err = s.heal(ctx, log, current)
	}
	return true, err
}

// heal writes the views of the entries after current, which nobody wrote them for.
func (s *Store) heal(ctx context.Context, log crypto.ID, current uint64) error {
	var fold ledger.Fold
	for e, err := range s.Entries(ctx, log, 0) {
		if err != nil {
			return err
		}
		c, err := store.Advance(&fold, e.Statement)
		if err != nil {
			return fmt.Errorf("%w: log %s is damaged: %v", store.ErrDamaged, log, err)
		}
		if e.Seq <= current {
			continue
		}
		changes, last := s.rows(e.Seq, c.Views)
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
	last := row{bucket: s.rooms, key: roomKey(log)}
	bus, err := s.log.get(ctx, busKey)
	if string(bus.value) == log.String() {
		last = row{bucket: s.users, key: headKey}
	}
	var current uint64
	if err == nil {
		current, err = s.current(ctx, last)
	}
	if err == nil {
		_, err = s.touch(ctx, log, current, last)
	}
	if err != nil {
		return fmt.Errorf("heal log %s: %w", log, failure(err))
	}
	return nil
}

// Rebuild makes the views of a log those of its state, whatever they say now, and reports how many
// records were not; with dry it only counts them.
func (s *Store) Rebuild(ctx context.Context, state *ledger.State, dry bool) (wrong int, err error) {
	if err := s.reaches(ctx, state); err != nil && (dry || !errors.Is(err, store.ErrShort)) {
		return 0, fmt.Errorf("log %s: %w", state.ID, failure(err))
	}
	views := state.AllViews()
	if r := state.Room; r != nil && r.Role(r.Creator()) == "" { // is no member, and has a record all the same
		views = append(views, ledger.MemberView{Room: state.ID, Endpoint: r.Creator()})
	}
	changes, last := s.rows(state.Head.Seq, views)
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
	err = s.replace(ctx, append(changes, strays...), true, func(old record, value []byte) bool {
		if old.rev > 0 && alike(old.value, value) {
			return false
		}
		wrong++
		return !dry
	})
	return wrong, failure(err)
}

// reaches makes sure that a log goes as far as its views: they are written after its entries. ErrShort when it ends
// before, ErrConflict when it has grown since.
func (s *Store) reaches(ctx context.Context, state *ledger.State) error {
	ctx, cancel := s.op(ctx)
	defer cancel()
	last := row{bucket: s.rooms, key: roomKey(state.ID)}
	if state.Bus != nil {
		last = row{bucket: s.users, key: headKey}
	}
	listed, err := s.current(ctx, last)
	if err != nil || listed <= state.Head.Seq {
		return err
	}
	next := entryKey(state.ID, state.Head.Seq+1)
	found, err := s.log.fresh(ctx, next)
	switch {
	case err != nil:
		return err
	case len(found[next].value) > 0:
		return store.ErrConflict
	}
	return fmt.Errorf("%w: it ends at entry %d, and what the store lists is of entry %d", store.ErrShort, state.Head.Seq, listed)
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
		if m.Role != "" && state.Room.Role(m.Endpoint) == "" && m.Endpoint != state.Room.Creator() {
			none := ledger.MemberView{Room: room, Endpoint: m.Endpoint}
			rows = append(rows, s.memberRows(none, memberRecord{Seq: state.Head.Seq})...)
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
	err := s.log.scan(ctx, "*.*", func(r record) error {
		log, n, _ := strings.Cut(r.key, ".")
		seq, err := strconv.ParseUint(n, 10, 64)
		heads[log] = max(heads[log], seq)
		return err
	})
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
	err = s.rooms.scan(ctx, "*", func(r record) error { current[r.key] = seqOf(r.value); return nil })
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
			return nil, fmt.Errorf("%w: the key %s is no log's", store.ErrDamaged, key)
		}
		if h, err := store.HeadOf(ctx, s, log); errors.Is(err, store.ErrNotFound) || err == nil && current[key] >= h.Seq {
			continue // it never began
		} else if err != nil {
			return nil, err
		}
		out = append(out, log)
	}
	return out, nil
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
