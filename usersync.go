package unibus

import (
	"context"
	"fmt"
)

// UserDiff is how the allowlist differs from a list of those who are to be on it.
type UserDiff struct {
	Add    []NewUser
	Rename []Renaming
	Revoke []User // whom the list does not have
}

// Renaming is a user who is to be called otherwise.
type Renaming struct {
	User User // as it is
	Name string
}

// Empty reports whether there is no difference.
func (d *UserDiff) Empty() bool { return len(d.Add)+len(d.Rename)+len(d.Revoke) == 0 }

// CompareUsers says what is to be done so that those of a list, and nobody else, are on an allowlist, as Users lists it. Of
// who is there already only the name is compared, unless the list has none: role, end and card stay as they are. ErrInvalid
// when a key or a name stands twice in the list, or a name cannot be.
func CompareUsers(on []User, list []NewUser) (UserDiff, error) {
	var d UserDiff
	there := map[PublicKey]User{}
	for _, u := range on {
		if u.Active {
			there[u.Key] = u
		}
	}
	wanted, names := map[PublicKey]bool{}, map[string]bool{}
	for _, u := range list {
		is, known := there[u.Key]
		if u.Name = u.name(); known && u.Name == (&NewUser{Key: u.Key}).name() {
			u.Name = is.Name
		}
		if err := u.check(); err != nil {
			return UserDiff{}, err
		}
		if wanted[u.Key] || names[u.Name] {
			return UserDiff{}, fmt.Errorf("user %s (%s): %w: the list has the key, or the name, twice", u.Name, u.Key, ErrInvalid)
		}
		wanted[u.Key], names[u.Name] = true, true
		switch {
		case !known:
			d.Add = append(d.Add, u)
		case u.Name != is.Name:
			d.Rename = append(d.Rename, Renaming{is, u.Name})
		}
	}
	for _, u := range on {
		if u.Active && !wanted[u.Key] {
			d.Revoke = append(d.Revoke, u)
		}
	}
	return d, nil
}

// Apply makes the difference none: it revokes, renames and adds, in this order, so that names are free. Its kinds of errors are
// those of RevokeUsers, SetUsers and AddUsers; what was done before stays done, and the next CompareUsers finds the rest.
// ErrExists when people are to have each other's names: that takes a third name between.
func (d *UserDiff) Apply(ctx context.Context, c *Client) error {
	if len(d.Revoke) > 0 {
		keys := make([]PublicKey, len(d.Revoke))
		for i, u := range d.Revoke {
			keys[i] = u.Key
		}
		if err := c.RevokeUsers(ctx, "", keys...); err != nil {
			return err
		}
	}
	// A name that another gives up is free in the entry after that.
	for left := d.Rename; len(left) > 0; {
		var now []UserChange
		var later []Renaming
		for _, r := range left {
			if c.self.Allowlist().ByName(r.Name) == nil {
				now = append(now, UserChange{Key: r.User.Key, Name: &r.Name})
			} else {
				later = append(later, r)
			}
		}
		if len(now) == 0 {
			return nameTaken(c.self.Allowlist().ByName(left[0].Name))
		}
		if err := c.SetUsers(ctx, now...); err != nil {
			return err
		}
		left = later
	}
	if len(d.Add) == 0 {
		return nil
	}
	return c.AddUsers(ctx, d.Add...)
}
