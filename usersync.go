package unibus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/unibus/unibus/internal/errlist"
)

// UserDiff is how the allowlist differs from a list of those who are to be on it.
type UserDiff struct {
	Add    []NewUser
	Rename []Renaming
	Revoke []User // whom the list does not have

	names map[string]PublicKey // that the list gives
	cards []NewUser            // who is there, and for whom it has a card
	on    []User               // the allowlist
	taken map[string]User      // the names on it, and whose they are
}

// Renaming is a user who is to be called otherwise.
type Renaming struct {
	User User // as it is
	Name string
}

// Empty reports whether there is no difference.
func (d *UserDiff) Empty() bool { return len(d.Add)+len(d.Rename)+len(d.Revoke) == 0 }

// CompareUsers says what is to be done so that those of a list, and nobody else, are on an allowlist, as Users lists it. Of
// who is there already only the name is compared, unless the list has none: role and end stay as they are. ErrInvalid
// when a key or a name stands twice in the list, or a name cannot be.
func CompareUsers(on []User, list []NewUser) (UserDiff, error) {
	d := UserDiff{on: on, taken: map[string]User{}, names: map[string]PublicKey{}}
	there := map[PublicKey]User{}
	for _, u := range on {
		if u.Active {
			there[u.Key], d.taken[u.Name] = u, u
		}
	}
	wanted := map[PublicKey]bool{}
	for _, u := range list {
		is, known := there[u.Key]
		if u.Name = u.name(); known && u.Name == (&NewUser{Key: u.Key}).name() {
			u.Name = is.Name
		}
		if err := u.Check(); err != nil {
			return UserDiff{}, err
		}
		if _, named := d.names[u.Name]; named || wanted[u.Key] {
			return UserDiff{}, fmt.Errorf("user %s (%s): %w: the list has the key, or the name, twice", u.Name, u.Key, ErrInvalid)
		}
		wanted[u.Key], d.names[u.Name] = true, u.Key
		if known && u.Card != nil {
			d.cards = append(d.cards, u)
		}
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

// Check says what is against a client making the difference none: ErrDenied when it is no admin's, or none would be left,
// ErrExists when names are those of others who keep them. It changes nothing, and asks nobody.
func (d *UserDiff) Check(c *Client) error {
	_, err := d.plan(c)
	return err
}

// plan is rounds, of a difference that a client can make none.
func (d *UserDiff) plan(c *Client) ([][]Renaming, error) {
	if d.Empty() {
		return nil, nil
	}
	if err := needAdmin(c.self.Allowlist(), c.Key()); err != nil {
		return nil, err
	}
	if err := d.keepsAdmin(d.Revoke, d.Add); err != nil {
		return nil, err
	}
	_, last := d.inTurn(c.Key())
	return d.rounds(last)
}

// keepsAdmin is errLastAdmin when the allowlist would be left without an admin, with users revoked and others added.
func (d *UserDiff) keepsAdmin(revoked []User, added []NewUser) error {
	before := func(yield func(*User) bool) {
		for i := range d.on {
			if !yield(&d.on[i]) {
				return
			}
		}
	}
	keys := make([]PublicKey, len(revoked))
	for i, u := range revoked {
		keys[i] = u.Key
	}
	after := func(yield func(*User) bool) {
		for u := range without(before, keys) {
			if !yield(u) {
				return
			}
		}
		for _, u := range added {
			if u.Admin && !yield(&User{Role: RoleAdmin, Active: true, Expires: u.Expires}) {
				return
			}
		}
	}
	return keepsAdmin(before, after)
}

// inTurn are those to be revoked first, so that names are free, and those to be revoked when all others are added: whoever
// does it, who could do nothing after that, and admins who have to stay until there are new ones.
func (d *UserDiff) inTurn(by PublicKey) (first, last []PublicKey) {
	others := slices.DeleteFunc(slices.Clone(d.Revoke), func(u User) bool { return u.Key == by })
	stay := d.keepsAdmin(others, nil) != nil
	for _, u := range d.Revoke {
		if u.Key == by || stay && u.Role == RoleAdmin {
			last = append(last, u.Key)
		} else {
			first = append(first, u.Key)
		}
	}
	return first, last
}

// rounds are the renamings in an order in which each name is free when its turn comes: a name that another gives up is free in
// the entry after that. Of those who are to have each other's, one is called by its key in between; and so is who is revoked last,
// where others are to have its name.
func (d *UserDiff) rounds(last []PublicKey) (rounds [][]Renaming, err error) {
	if err := d.clashes(); err != nil {
		return nil, err
	}
	taken, left := maps.Clone(d.taken), slices.Clone(d.Rename)
	for _, u := range d.Revoke {
		switch _, wanted := d.names[u.Name]; {
		case !slices.Contains(last, u.Key):
			delete(taken, u.Name)
		case wanted:
			left = append(left, Renaming{u, freeName(u.Key, d.taken)})
		}
	}
	for len(left) > 0 {
		var now, later []Renaming
		for _, r := range left {
			if _, busy := taken[r.Name]; busy {
				later = append(later, r)
			} else {
				now = append(now, r)
			}
		}
		if len(now) == 0 {
			i, err := inCircle(left, taken)
			if err != nil {
				return nil, err
			}
			now = []Renaming{{left[i].User, freeName(left[i].User.Key, taken)}}
			later[i].User.Name = now[0].Name
		}
		for _, r := range now {
			delete(taken, r.User.Name)
			u := r.User
			u.Name = r.Name
			taken[r.Name] = u
		}
		rounds, left = append(rounds, now), later
	}
	return rounds, nil
}

// inCircle is the place of one of those who are to have each other's names, where each is to have one that is taken.
func inCircle(left []Renaming, taken map[string]User) (i int, err error) {
	for range left { // from wherever it begins, the way from one to who has its name comes into a circle
		by := taken[left[i].Name]
		if i = slices.IndexFunc(left, func(r Renaming) bool { return r.User.Key == by.Key }); i < 0 {
			return 0, nameTaken(&by)
		}
	}
	return i, nil
}

// freeName is a name for a user that nobody has, as one that is added without a name has it.
func freeName(key PublicKey, taken map[string]User) string {
	name := (&NewUser{Key: key}).name()
	for n := 2; ; n++ {
		if _, busy := taken[name]; !busy {
			return name
		}
		name = fmt.Sprintf("%s-%d", (&NewUser{Key: key}).name(), n)
	}
}

// clashes is the ErrExists of names that are to be somebody's, and are those of others who keep them.
func (d *UserDiff) clashes() error {
	kept := maps.Clone(d.taken)
	for _, u := range d.Revoke {
		delete(kept, u.Name)
	}
	for _, r := range d.Rename {
		delete(kept, r.User.Name)
	}
	var errs []error
	check := func(name string) {
		if by, busy := kept[name]; busy {
			errs = append(errs, nameTaken(&by))
		}
	}
	for _, r := range d.Rename {
		check(r.Name)
	}
	for _, u := range d.Add {
		check(u.Name)
	}
	return errlist.Join(errs...)
}

// Apply makes the difference none: it revokes, renames and adds, in this order, so that names are free, and last of all
// revokes the caller, if that is to be, and admins in whose place others are added. Its kinds of errors are those of
// RevokeUsers, SetUsers and AddUsers; with that of Check nothing is done. What was done before stays done, and the next
// CompareUsers finds the rest. The cards of the list are published, also of who is there already (PublishCards).
func (d *UserDiff) Apply(ctx context.Context, c *Client) error {
	rounds, err := d.plan(c)
	if err != nil {
		return err
	}
	first, last := d.inTurn(c.Key())
	if err := revokeAll(ctx, c, first); err != nil {
		return err
	}
	for _, round := range rounds {
		changes := make([]UserChange, len(round))
		for i, r := range round {
			changes[i] = UserChange{Key: r.User.Key, Name: &r.Name}
		}
		if err := c.SetUsers(ctx, changes...); err != nil {
			return err
		}
	}
	if len(d.Add) > 0 {
		if err := c.AddUsers(ctx, d.Add...); err != nil {
			return err
		}
	}
	if err := PublishCards(ctx, c, d.cards...); err != nil {
		return err
	}
	if err := revokeAll(ctx, c, last); err != nil {
		return err
	}
	// The list says what its names mean, also where an earlier call was ended before it could be noted that they mean that.
	return c.pins.Names.ReplaceAll(ctx, c.Bus(), d.names)
}

// revokeAll revokes those who are still there: another admin may be at the same.
func revokeAll(ctx context.Context, c *Client, keys []PublicKey) error {
	for {
		keys = slices.DeleteFunc(slices.Clone(keys), func(key PublicKey) bool {
			u := c.self.Allowlist().User(key)
			return u == nil || !u.Active
		})
		if len(keys) == 0 {
			return nil
		}
		known := c.self.Bus.State().Head
		err := c.RevokeUsers(ctx, "", keys...)
		if !errors.Is(err, ErrNotFound) || c.self.Bus.State().Head == known {
			return err
		}
	}
}
