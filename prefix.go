package unibus

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/remedy"
)

// A room is named by its subject, or by how its id begins. Whoever makes a room gives it any subject, also one that begins the
// id of another room, and with some work has its id begin with a word. So a name that may be either has to be only one of them.

// How many characters of a room's id name it at least, and up to how many they may be a word if no digit is among them: to make
// a room whose id begins with a longer one is too much work.
const (
	minPrefix = 6
	maxWord   = 11
)

// isPrefix reports whether a name may be the beginning of an id, and whether it may be a word as well.
func isPrefix(name string) (prefix, word bool) {
	name = strings.ToLower(name)
	if len(name) < minPrefix || len(name) > len(crypto.ID{}.String()) || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		return false, false
	}
	return true, len(name) <= maxWord && !strings.ContainsAny(name, "234567")
}

// begun are the rooms whose ids begin with a name and that it may mean: those of the caller, and for a bus admin who is in none
// of them, those of all. A name that may be a word means only those that the caller has made; if it is also a subject that
// means a room already, as verified, they are looked for only among what was verified.
func (o *rooms) begun(ctx context.Context, name string, pinned ID) ([]ID, error) {
	prefix, word := isPrefix(name)
	if !prefix {
		return nil, nil
	}
	lower := strings.ToLower(name)
	others := func(id ID) bool { return !strings.HasPrefix(id.String(), lower) }
	var found []ID
	err := o.pinnedLogs(ctx, others, func(s *ledger.State) error {
		gone, err := o.lost.has(ctx, s)
		if err == nil && !gone && s.Room.Role(o.c.Key()) != "" {
			found = append(found, s.ID)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if !word || pinned.IsZero() {
		refs, err := o.c.link.store.ListRoomsForEndpoint(ctx, o.c.Key())
		if err != nil {
			return nil, err
		}
		for _, ref := range refs {
			if !others(ref.ID) && !slices.Contains(found, ref.ID) {
				found = append(found, ref.ID)
			}
		}
	}
	if word {
		return madeHere(ctx, o, found)
	}
	if me := o.c.self.Allowlist().User(o.c.Key()); len(found) == 0 && me != nil && me.Role == RoleAdmin {
		for r, err := range o.c.link.store.Rooms(ctx, ID{}) {
			if err != nil {
				return nil, err
			}
			if !others(r.ID) {
				found = append(found, r.ID)
			}
		}
	}
	return found, nil
}

// madeHere are those of some rooms that the caller has made.
func madeHere(ctx context.Context, o *rooms, ids []ID) (made []ID, err error) {
	for _, id := range ids {
		r, err := o.byID(ctx, id)
		if err != nil {
			return nil, err
		}
		if r.Info().Creator == o.c.Key() {
			made = append(made, id)
		}
	}
	return made, nil
}

// ambiguous is the ErrInvalid of a subject that means a room, and that begins the ids of others.
func ambiguous(name string, means ID, begun []ID) error {
	for _, id := range begun {
		if id != means {
			return fmt.Errorf("room %s: %w: it is the subject of the room %s, and the id of the room %s begins so: give the id of the one that is meant", name, ErrInvalid, means, id)
		}
	}
	return nil
}

// begunSo opens the one room whose id begins with a name that is no subject.
func begunSo(ctx context.Context, o *rooms, name string, begun []ID) (*Room, error) {
	switch len(begun) {
	case 0:
		return nil, remedy.With(fmt.Errorf("room %s: %w", name, ErrNotFound), remedy.Remedy{Kind: remedy.ListRooms, Room: name})
	case 1:
		return o.byID(ctx, begun[0])
	}
	return nil, fmt.Errorf("room %s: %w: the ids of %d rooms begin so", name, ErrInvalid, len(begun))
}
