package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// roomColumns reads a store.Room.
const roomColumns = `r.id, r.subject, r.epoch, r.policy, r.seq, r.archived,
	(SELECT count(*) FROM members m WHERE m.room = r.id)
	FROM rooms r`

func scanRoom(scan func(...any) error) (store.Room, error) {
	var r store.Room
	err := scan(Blob(r.ID[:]), &r.Subject, &r.Epoch, encoded{&r.Policy}, &r.Seq, &r.Archived, &r.Members)
	return r, err
}

// Room returns a room's record.
func (s *Store) Room(ctx context.Context, room crypto.ID) (store.Room, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	r, err := scanRoom(s.read.QueryRowContext(ctx, `SELECT `+roomColumns+` WHERE r.id = ?`, room[:]).Scan)
	if err != nil {
		return r, fmt.Errorf("room %s: %w", room, failure(err))
	}
	return r, nil
}

// RoomBySubject finds a room by its subject.
func (s *Store) RoomBySubject(ctx context.Context, subject string) (store.Room, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	r, err := scanRoom(s.read.QueryRowContext(ctx, `SELECT `+roomColumns+` WHERE r.subject = ?`, subject).Scan)
	if err != nil {
		return r, fmt.Errorf("room %s: %w", subject, failure(err))
	}
	return r, nil
}

// Rooms yields every room after an id, by id.
func (s *Store) Rooms(ctx context.Context, after crypto.ID) iter.Seq2[store.Room, error] {
	read := func(last []byte) ([]store.Room, error) {
		ctx, cancel := s.op(ctx)
		defer cancel()
		return rows(ctx, s.read, scanRoom, `SELECT `+roomColumns+` WHERE r.id > ? ORDER BY r.id LIMIT ?`, last, page)
	}
	return pages(after[:], read, func(r store.Room) []byte { return r.ID[:] })
}

// pages yields what read returns page by page, each after the key of the last.
func pages[T any](after []byte, read func(after []byte) ([]T, error), key func(T) []byte) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		after := after
		for {
			list, err := read(after)
			if err != nil {
				var zero T
				yield(zero, failure(err))
				return
			}
			for _, v := range list {
				if !yield(v, nil) {
					return
				}
				after = key(v)
			}
			if len(list) < page {
				return
			}
		}
	}
}

// Members lists a room's members by key.
func (s *Store) Members(ctx context.Context, room crypto.ID) ([]store.Member, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	list, err := rows(ctx, s.read, scanMember, `SELECT endpoint, role FROM members WHERE room = ? ORDER BY endpoint`, room[:])
	if err == nil && len(list) == 0 { // a room always has an owner
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("members of room %s: %w", room, failure(err))
	}
	return list, nil
}

func scanMember(scan func(...any) error) (store.Member, error) {
	var m store.Member
	err := scan(Blob(m.Endpoint[:]), &m.Role)
	return m, err
}

// Member returns one member of a room.
func (s *Store) Member(ctx context.Context, room crypto.ID, endpoint crypto.PublicKey) (store.Member, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	m, err := scanMember(s.read.QueryRowContext(ctx, `SELECT endpoint, role FROM members WHERE room = ? AND endpoint = ?`, room[:], endpoint[:]).Scan)
	if err != nil {
		return m, fmt.Errorf("member %s of room %s: %w", endpoint, room, failure(err))
	}
	return m, nil
}

// ListRoomsForEndpoint lists a member's rooms by id, through an index on the member.
func (s *Store) ListRoomsForEndpoint(ctx context.Context, endpoint crypto.PublicKey) ([]store.RoomRef, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	list, err := rows(ctx, s.read, func(scan func(...any) error) (store.RoomRef, error) {
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

// PutKeys keeps copies that one sealer made.
func (s *Store) PutKeys(ctx context.Context, room crypto.ID, epoch uint32, commit crypto.Hash, sealer crypto.PublicKey, keys []store.SealedKey) error {
	return s.keep(ctx, store.SealedCopy{Room: room, Epoch: epoch, Commit: commit}, store.By(sealer, keys), store.Full)
}

// CopyKeys keeps copies that another store has.
func (s *Store) CopyKeys(ctx context.Context, room crypto.ID, epoch uint32, commit crypto.Hash, copies []store.SealedKey) error {
	none := func(store.SealedKey, crypto.PublicKey, []crypto.PublicKey) bool { return false }
	return s.keep(ctx, store.SealedCopy{Room: room, Epoch: epoch, Commit: commit}, copies, none)
}

// limit says whether a member has as many copies of a key that an entry names as are kept (store.Full).
type limit func(k store.SealedKey, author crypto.PublicKey, there []crypto.PublicKey) bool

// keep puts copies of a key, in one transaction.
func (s *Store) keep(ctx context.Context, of store.SealedCopy, copies []store.SealedKey, full limit) error {
	ctx, cancel := s.op(ctx)
	defer cancel()
	if err := s.tryKeep(ctx, of, copies, full); err != nil {
		return fmt.Errorf("put keys: %w", failure(err))
	}
	return nil
}

func (s *Store) tryKeep(ctx context.Context, of store.SealedCopy, copies []store.SealedKey, full limit) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	author, named, err := authorOf(ctx, tx, of)
	if err != nil {
		return err
	}
	stagedAt := now()
	if named {
		stagedAt = 0
	}
	refused := 0
	for _, of.SealedKey = range copies {
		if named {
			there, err := sealersOf(ctx, tx, of)
			if err != nil {
				return err
			}
			if full(of.SealedKey, author, there) {
				refused++
				continue
			}
		}
		kept, err := keepOne(ctx, tx, of, stagedAt)
		if err != nil {
			return err
		}
		if !kept {
			refused++
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	if refused > 0 {
		return fmt.Errorf("%w: other copies, for %d of %d", store.ErrExists, refused, len(copies))
	}
	return nil
}

// keepOne keeps a copy, unless its sealer has made another. One that is staged again is as if staged now.
func keepOne(ctx context.Context, tx *sql.Tx, k store.SealedCopy, stagedAt int64) (kept bool, err error) {
	r, err := tx.ExecContext(ctx, `INSERT INTO room_keys (room, epoch, commitment, endpoint, sealer, sealed, staged_at) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (room, epoch, commitment, endpoint, sealer) DO UPDATE SET staged_at = excluded.staged_at WHERE sealed = excluded.sealed`,
		k.Room[:], k.Epoch, k.Commit[:], k.Endpoint[:], k.Sealer[:], k.Sealed, stagedAt)
	if err != nil {
		return false, err
	}
	n, err := r.RowsAffected()
	return n > 0, err
}

// authorOf returns who wrote the entry that names a key, if there is one.
func authorOf(ctx context.Context, tx *sql.Tx, k store.SealedCopy) (author crypto.PublicKey, named bool, err error) {
	err = tx.QueryRowContext(ctx, `SELECT author FROM epochs WHERE room = ? AND epoch = ? AND commitment = ?`, k.Room[:], k.Epoch, k.Commit[:]).Scan(Blob(author[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return author, false, nil
	}
	return author, true, err
}

// sealersOf returns who made the copies of a key that a member has.
func sealersOf(ctx context.Context, tx *sql.Tx, k store.SealedCopy) ([]crypto.PublicKey, error) {
	return rows(ctx, tx, func(scan func(...any) error) (sealer crypto.PublicKey, err error) {
		err = scan(Blob(sealer[:]))
		return sealer, err
	}, `SELECT sealer FROM room_keys WHERE room = ? AND epoch = ? AND commitment = ? AND endpoint = ?`, k.Room[:], k.Epoch, k.Commit[:], k.Endpoint[:])
}

// named selects the entry's record that names a key.
const named = `SELECT 1 FROM epochs WHERE room = ?1 AND epoch = ?2 AND commitment = ?3`

// HasCopy reports whether a copy is kept.
func (s *Store) HasCopy(ctx context.Context, of store.SealedCopy) (has bool, err error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	err = s.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM room_keys WHERE room = ? AND epoch = ? AND commitment = ? AND endpoint = ? AND sealer = ?)`,
		of.Room[:], of.Epoch, of.Commit[:], of.Endpoint[:], of.Sealer[:]).Scan(&has)
	if err != nil {
		return false, fmt.Errorf("look for a copy of a key: %w", failure(err))
	}
	return has, nil
}

// Unstage removes one sealer's copies of a key that no entry names.
func (s *Store) Unstage(ctx context.Context, room crypto.ID, epoch uint32, commit crypto.Hash, sealer crypto.PublicKey) error {
	ctx, cancel := s.op(ctx)
	defer cancel()
	_, err := s.write.ExecContext(ctx, `DELETE FROM room_keys WHERE room = ?1 AND epoch = ?2 AND commitment = ?3 AND sealer = ?4 AND NOT EXISTS (`+named+`)`,
		room[:], epoch, commit[:], sealer[:])
	if err != nil {
		return fmt.Errorf("unstage keys: %w", failure(err))
	}
	return nil
}

// ExpireStaged removes what was staged before a time and no entry names.
func (s *Store) ExpireStaged(ctx context.Context, before time.Time) (removed int, err error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	r, err := s.write.ExecContext(ctx, `DELETE FROM room_keys WHERE staged_at > 0 AND staged_at < ? AND NOT EXISTS (
		SELECT 1 FROM epochs e WHERE e.room = room_keys.room AND e.epoch = room_keys.epoch AND e.commitment = room_keys.commitment)`, before.UnixMilli())
	var n int64
	if err == nil {
		n, err = r.RowsAffected()
	}
	if err != nil {
		return 0, fmt.Errorf("expire staged keys: %w", failure(err))
	}
	return int(n), nil
}

// Key returns an endpoint's copies of an epoch's committed key.
func (s *Store) Key(ctx context.Context, room crypto.ID, epoch uint32, endpoint crypto.PublicKey) ([]store.SealedKey, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	var author crypto.PublicKey
	copies, err := rows(ctx, s.read, func(scan func(...any) error) (store.SealedKey, error) {
		k := store.SealedKey{Endpoint: endpoint}
		err := scan(Blob(author[:]), Blob(k.Sealer[:]), &k.Sealed)
		return k, err
	}, `SELECT e.author, k.sealer, k.sealed FROM epochs e
		JOIN room_keys k ON k.room = e.room AND k.epoch = e.epoch AND k.commitment = e.commitment AND k.endpoint = ?2
		WHERE e.room = ?1 AND e.epoch = CASE ?3 WHEN 0 THEN (SELECT max(epoch) FROM epochs WHERE room = ?1) ELSE ?3 END`,
		room[:], endpoint[:], epoch)
	if err == nil && len(copies) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("key of room %s: %w", room, failure(err))
	}
	return store.InOrder(copies, author), nil
}

// PutCards keeps cards, all or none.
func (s *Store) PutCards(ctx context.Context, cards ...store.Card) error {
	ctx, cancel := s.op(ctx)
	defer cancel()
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("put cards: %w", failure(err))
	}
	defer tx.Rollback()
	for _, c := range cards {
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO cards (endpoint, statement) VALUES (?, ?)`, c.Endpoint[:], c.Statement)
		if err != nil {
			return fmt.Errorf("put cards: %w", failure(err))
		}
	}
	return failure(tx.Commit())
}

// cardsAtOnce is how many endpoints one query asks for.
const cardsAtOnce = 500

// Cards returns the cards of endpoints.
func (s *Store) Cards(ctx context.Context, endpoints ...crypto.PublicKey) ([]store.Card, error) {
	var out []store.Card
	for chunk := range slices.Chunk(endpoints, cardsAtOnce) {
		cards, err := s.cards(ctx, chunk)
		if err != nil {
			return nil, fmt.Errorf("cards: %w", failure(err))
		}
		out = append(out, cards...)
	}
	return out, nil
}

func (s *Store) cards(ctx context.Context, endpoints []crypto.PublicKey) ([]store.Card, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	args := make([]any, len(endpoints))
	for i, endpoint := range endpoints {
		args[i] = endpoint[:]
	}
	return rows(ctx, s.read, scanCard, `SELECT endpoint, statement FROM cards WHERE endpoint IN (?`+strings.Repeat(`, ?`, len(endpoints)-1)+`)`, args...)
}

func scanCard(scan func(...any) error) (c store.Card, err error) {
	err = scan(Blob(c.Endpoint[:]), &c.Statement)
	return c, err
}

const userColumns = `endpoint, name, role, active, expires, revoked, added, added_by FROM users`

func scanUser(scan func(...any) error) (ledger.User, error) {
	var u ledger.User
	var expires, revoked, added int64
	err := scan(Blob(u.Key[:]), &u.Name, &u.Role, &u.Active, &expires, &revoked, &added, Blob(u.AddedBy[:]))
	u.Expires, u.Revoked, u.Added = fromMillis(expires), fromMillis(revoked), fromMillis(added)
	return u, err
}

// User returns what the allowlist says of a key.
func (s *Store) User(ctx context.Context, endpoint crypto.PublicKey) (ledger.User, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	u, err := scanUser(s.read.QueryRowContext(ctx, `SELECT `+userColumns+` WHERE endpoint = ?`, endpoint[:]).Scan)
	if err != nil {
		return u, fmt.Errorf("user %s: %w", endpoint, failure(err))
	}
	return u, nil
}

// Users yields the users after a key, by key.
func (s *Store) Users(ctx context.Context, after crypto.PublicKey) iter.Seq2[ledger.User, error] {
	read := func(last []byte) ([]ledger.User, error) {
		ctx, cancel := s.op(ctx)
		defer cancel()
		return rows(ctx, s.read, scanUser, `SELECT `+userColumns+` WHERE endpoint > ? ORDER BY endpoint LIMIT ?`, last, page)
	}
	return pages(after[:], read, func(u ledger.User) []byte { return u.Key[:] })
}

// IsAuthorized reports whether an endpoint may connect now.
func (s *Store) IsAuthorized(ctx context.Context, endpoint crypto.PublicKey) (bool, error) {
	return s.any(ctx, "allowlist", `SELECT EXISTS (SELECT 1 FROM users WHERE endpoint = ? AND active AND (expires = 0 OR expires > ?))`, endpoint[:], now())
}

// HasAdmin reports whether the bus has an active admin.
func (s *Store) HasAdmin(ctx context.Context) (bool, error) {
	return s.any(ctx, "allowlist", `SELECT EXISTS (SELECT 1 FROM users WHERE role = 'admin' AND active AND (expires = 0 OR expires > ?))`, now())
}

func (s *Store) any(ctx context.Context, what, query string, args ...any) (bool, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	var yes bool
	if err := s.read.QueryRowContext(ctx, query, args...).Scan(&yes); err != nil {
		return false, fmt.Errorf("%s: %w", what, failure(err))
	}
	return yes, nil
}

func now() int64 { return time.Now().UnixMilli() }
