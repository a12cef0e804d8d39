package ledger

import (
	"maps"
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

// Role is what a user may do on the bus, or a member in a room.
type Role string

// Roles on the bus are admin and user; roles in a room owner, admin, member and reader.
const (
	RoleOwner  Role = "owner"
	RoleAdmin  Role = "admin"
	RoleMember Role = "member"
	RoleReader Role = "reader"
	RoleUser   Role = "user"
)

// onBus reports whether it is a role that a user may have.
func (r Role) onBus() bool { return r == RoleAdmin || r == RoleUser }

// Bus is the allowlist that a bus log folds to. A user's record is never changed but replaced (change), so that states
// before this one, which share it, say what they said.
type Bus struct {
	Name    string // the founder's name
	Founded []byte // the first statement
	users   map[crypto.PublicKey]*User
	names   map[string]crypto.PublicKey // of active users
	admins  int
}

// User is someone the bus log speaks of.
type User struct {
	Key     crypto.PublicKey
	Name    string
	Role    Role
	Active  bool
	Expires time.Time // zero: never
	AddedBy crypto.PublicKey
	Added   time.Time
	Revoked time.Time // when last revoked, as that entry claims; zero: never
}

// Same reports whether two records of a user say the same of who may connect, as what, and until when.
func (u *User) Same(v *User) bool {
	return u.Name == v.Name && u.Role == v.Role && u.Active == v.Active && u.Expires.Equal(v.Expires)
}

// ActiveAt reports whether the user may connect at a time.
func (u *User) ActiveAt(now time.Time) bool {
	return u != nil && u.Active && (u.Expires.IsZero() || now.Before(u.Expires))
}

// User returns what the log says of a key; nil for nothing. The caller must not change it.
func (b *Bus) User(key crypto.PublicKey) *User { return b.users[key] }

// WasOut reports whether someone's access ever ended by being revoked, or never was.
func (b *Bus) WasOut(key crypto.PublicKey) bool {
	u := b.users[key]
	return u == nil || !u.Revoked.IsZero()
}

// ByName returns the active user of a name; nil for none.
func (b *Bus) ByName(name string) *User {
	if key, ok := b.names[name]; ok {
		return b.users[key]
	}
	return nil
}

// Users calls yield for every user the log speaks of, in no order.
func (b *Bus) Users(yield func(*User) bool) {
	for _, u := range b.users {
		if !yield(u) {
			return
		}
	}
}

// isAdmin reports whether a key may change the allowlist, as entries say: expiry is no rule of logs, which know no time.
func (b *Bus) isAdmin(key crypto.PublicKey) bool {
	u := b.users[key]
	return u != nil && u.Active && u.Role == RoleAdmin
}

// isActive reports whether a key was added and not revoked since, in the same sense.
func (b *Bus) isActive(key crypto.PublicKey) bool {
	u := b.users[key]
	return u != nil && u.Active
}

// copy returns a list that may be changed, but for the records in it.
func (b *Bus) copy() *Bus {
	next := *b
	next.users, next.names = maps.Clone(b.users), maps.Clone(b.names)
	return &next
}

// change replaces a user's record by one that edit has changed.
func (b *Bus) change(key crypto.PublicKey, edit func(u *User)) {
	u := *b.users[key]
	if u.Role == RoleAdmin && u.Active {
		b.admins--
	}
	delete(b.names, u.Name)
	edit(&u)
	if u.Role == RoleAdmin && u.Active {
		b.admins++
	}
	if u.Active {
		b.names[u.Name] = key
	}
	b.users[key] = &u
}

// add makes a user active; the name must be free.
func (b *Bus) add(u User) {
	if old := b.users[u.Key]; old != nil {
		u.Revoked = old.Revoked
	}
	u.Active = true
	b.users[u.Key] = &u
	b.names[u.Name] = u.Key
	if u.Role == RoleAdmin {
		b.admins++
	}
}

// ValidName checks a user's name: 1 to 64 of ASCII letters, digits and ._-/
func ValidName(name string) error {
	if len(name) < 1 || len(name) > 64 {
		return breaks("a name has 1 to 64 characters")
	}
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '.', c == '_', c == '-', c == '/':
		default:
			return breaks("a name is made of ASCII letters, digits and ._-/")
		}
	}
	return nil
}
