package unibus

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
)

// UserChange is what is to change of a user on the allowlist; nil stays as it is.
type UserChange struct {
	Key     PublicKey
	Name    *string
	Expires *time.Time // when access ends by itself; zero: never
	Role    Role       // RoleAdmin or RoleUser; empty: as it is
}

// SetUsers changes what users are called, until when they may connect, also of those whose time is over, and whether they are
// admins: names and ends of as many as one likes, 2,000 to an entry, and then roles, an entry each. What is so already is
// left out, and where nothing is left nothing is done. ErrInvalid for a name that cannot be, ErrNotFound when one was never
// on the list or is revoked, ErrExists when a name is taken, ErrDenied for an end, or the role, of the last admin whose access
// does not end by itself: then none of the entry they were to be in is changed. A connection that has another end than before is dropped, and comes again.
func (c *Client) SetUsers(ctx context.Context, changes ...UserChange) error {
	for _, u := range changes {
		if u.Name == nil {
			continue
		}
		if err := checkName(*u.Name); err != nil {
			return err
		}
	}
	for batch := range slices.Chunk(changes, usersPerEntry) {
		if err := changeAllowlist(ctx, c, changing(batch)); err != nil {
			return err
		}
		names := map[string]PublicKey{}
		for _, u := range batch {
			if u.Name != nil {
				names[*u.Name] = u.Key
			}
		}
		if err := c.pins.Names.ReplaceAll(ctx, c.Bus(), names); err != nil {
			return err
		}
	}
	for _, u := range changes {
		if u.Role == "" {
			continue
		}
		if err := changeAllowlist(ctx, c, u.promoting); err != nil {
			return err
		}
	}
	return nil
}

// changing makes the entry of the bus log that changes users.
func changing(users []UserChange) mirror.Next {
	return func(_ context.Context, s *ledger.State) (*mirror.Proposal, error) {
		set := &ledger.SetUsers{}
		for _, u := range users {
			change, err := u.entry(s.Bus)
			if err != nil {
				return nil, err
			}
			if change.Name != nil || change.Expires != nil {
				set.Users = append(set.Users, change)
			}
		}
		if len(set.Users) == 0 {
			return nil, nil
		}
		if err := keepsAdmin(s.Bus.Users, changed(s.Bus.Users, ending(set.Users))); err != nil {
			return nil, err
		}
		return &mirror.Proposal{Body: set}, nil
	}
}

// ending gives users the ends that changes give them.
func ending(changes []ledger.UserChange) func(*User) {
	ends := map[PublicKey]time.Time{}
	for _, c := range changes {
		switch {
		case c.Expires == nil:
		case *c.Expires == 0:
			ends[c.Key] = time.Time{}
		default:
			ends[c.Key] = time.UnixMilli(int64(*c.Expires))
		}
	}
	return func(u *User) {
		if end, ok := ends[u.Key]; ok {
			u.Expires = end
		}
	}
}

// entry is the change as an entry of the bus log has it, without what is so already.
func (u *UserChange) entry(on *ledger.Bus) (ledger.UserChange, error) {
	out := ledger.UserChange{Key: u.Key}
	is, err := u.listed(on)
	if err != nil {
		return out, err
	}
	if u.Name != nil && *u.Name != is.Name {
		if other := on.ByName(*u.Name); other != nil {
			return out, nameTaken(other)
		}
		out.Name = u.Name
	}
	if u.Expires != nil && u.Expires.UnixMilli() != is.Expires.UnixMilli() {
		var ms crypto.Number
		if !u.Expires.IsZero() {
			ms = crypto.Number(u.Expires.UnixMilli())
		}
		out.Expires = &ms
	}
	return out, nil
}

// promoting makes the entry of the bus log that gives the user the role.
func (u *UserChange) promoting(_ context.Context, s *ledger.State) (*mirror.Proposal, error) {
	is, err := u.listed(s.Bus)
	if err != nil || is.Role == u.Role {
		return nil, err
	}
	as := func(other *User) {
		if other.Key == u.Key {
			other.Role = u.Role
		}
	}
	if err := keepsAdmin(s.Bus.Users, changed(s.Bus.Users, as)); err != nil {
		return nil, err
	}
	return &mirror.Proposal{Body: &ledger.UserRole{Key: u.Key, Role: u.Role}}, nil
}

// listed is the user as it is; ErrNotFound for who is not on the allowlist.
func (u *UserChange) listed(on *ledger.Bus) (*ledger.User, error) {
	is := on.User(u.Key)
	if is != nil && !is.Active {
		return nil, revoked(u.Key.String(), is)
	}
	if is == nil {
		return nil, fmt.Errorf("user %s: %w: not on the allowlist", u.Key, ErrNotFound)
	}
	return is, nil
}
