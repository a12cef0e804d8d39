package ledger

import (
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

func (r Role) onBus() bool { return r == RoleAdmin || r == RoleUser }

// Bus is the allowlist that a bus log folds to.
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

func (b *Bus) isAdmin(key crypto.PublicKey) bool {
	u := b.users[key]
	return u != nil && u.Active && u.Role == RoleAdmin
}

func (b *Bus) isActive(key crypto.PublicKey) bool {
	u := b.users[key]
	return u != nil && u.Active
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

// Found is the bus log's first entry: its author is the first admin.
type Found struct {
	Name string           `cbor:"name" json:"name"`
	Key  crypto.PublicKey `cbor:"key" json:"key"`
}

func (f *Found) check(s *State, by crypto.PublicKey) error {
	if s.Head.Seq != 0 {
		return breaks("the bus is founded already")
	}
	if by != f.Key {
		return denied("a bus is founded by the key it names")
	}
	return ValidName(f.Name)
}

func (f *Found) apply(s *State, e *Entry) {
	s.Bus = &Bus{
		Name: f.Name, Founded: e.Statement,
		users: map[crypto.PublicKey]*User{}, names: map[string]crypto.PublicKey{},
	}
	s.Bus.add(User{Key: f.Key, Name: f.Name, Role: RoleAdmin, AddedBy: e.By, Added: e.Time})
}

// Add allows users to connect.
type Add struct {
	Users []NewUser `cbor:"users" json:"users"`
}

// NewUser is one user of an Add. Expires is Unix ms.
type NewUser struct {
	Key     crypto.PublicKey `cbor:"key" json:"key"`
	Name    string           `cbor:"name" json:"name"`
	Role    Role             `cbor:"role" json:"role"`
	Expires *crypto.Number   `cbor:"expires,omitempty" json:"expires,omitempty"`
}

func (a *Add) check(s *State, by crypto.PublicKey) error {
	if !s.Bus.isAdmin(by) {
		return denied("only an admin adds users")
	}
	if len(a.Users) == 0 {
		return breaks("it adds nobody")
	}
	keys, names := map[crypto.PublicKey]bool{}, map[string]bool{}
	for _, u := range a.Users {
		if !u.Role.onBus() {
			return breaks("a user's role is admin or user")
		}
		if err := ValidName(u.Name); err != nil {
			return err
		}
		if keys[u.Key] || s.Bus.isActive(u.Key) {
			return breaks("%s is already on the allowlist", u.Key)
		}
		if names[u.Name] || s.Bus.ByName(u.Name) != nil {
			return breaks("the name %s is already taken", u.Name)
		}
		keys[u.Key], names[u.Name] = true, true
	}
	return nil
}

func (a *Add) apply(s *State, e *Entry) {
	for _, u := range a.Users {
		user := User{Key: u.Key, Name: u.Name, Role: u.Role, AddedBy: e.By, Added: e.Time}
		if u.Expires != nil {
			user.Expires = crypto.Millis(uint64(*u.Expires))
		}
		s.Bus.add(user)
	}
}

// Revoke ends users' access.
type Revoke struct {
	Keys   []crypto.PublicKey `cbor:"keys" json:"keys"`
	Reason *string            `cbor:"reason,omitempty" json:"reason,omitempty"`
}

func (r *Revoke) check(s *State, by crypto.PublicKey) error {
	if !s.Bus.isAdmin(by) {
		return denied("only an admin revokes users")
	}
	if err := distinct(r.Keys); err != nil {
		return err
	}
	admins := s.Bus.admins
	for _, key := range r.Keys {
		if !s.Bus.isActive(key) {
			return breaks("%s is not on the allowlist", key)
		}
		if s.Bus.isAdmin(key) {
			admins--
		}
	}
	if admins == 0 {
		return breaks("the last admin cannot be revoked")
	}
	return nil
}

func (r *Revoke) apply(s *State, e *Entry) {
	for _, key := range r.Keys {
		u := s.Bus.users[key]
		if u.Role == RoleAdmin {
			s.Bus.admins--
		}
		u.Active, u.Revoked = false, e.Time
		delete(s.Bus.names, u.Name)
	}
}

// UserRole makes an active user an admin or a plain user.
type UserRole struct {
	Key  crypto.PublicKey `cbor:"key" json:"key"`
	Role Role             `cbor:"role" json:"role"`
}

func (r *UserRole) check(s *State, by crypto.PublicKey) error {
	switch {
	case !s.Bus.isAdmin(by):
		return denied("only an admin changes roles")
	case !r.Role.onBus():
		return breaks("a user's role is admin or user")
	case !s.Bus.isActive(r.Key):
		return breaks("%s is not on the allowlist", r.Key)
	case r.Role == RoleUser && s.Bus.admins == 1 && s.Bus.isAdmin(r.Key):
		return breaks("the last admin cannot become a user")
	}
	return nil
}

func (r *UserRole) apply(s *State, _ *Entry) {
	u := s.Bus.users[r.Key]
	if u.Role == RoleAdmin {
		s.Bus.admins--
	}
	if u.Role = r.Role; u.Role == RoleAdmin {
		s.Bus.admins++
	}
}

// distinct checks that a list names someone, and nobody twice.
func distinct(keys []crypto.PublicKey) error {
	if len(keys) == 0 {
		return breaks("it names nobody")
	}
	seen := make(map[crypto.PublicKey]bool, len(keys))
	for _, key := range keys {
		if seen[key] {
			return breaks("%s stands twice in it", key)
		}
		seen[key] = true
	}
	return nil
}
