package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fvbommel/sortorder"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/errlist"
	"github.com/unibus/unibus/internal/remedy"
)

// The allowlist: who is on it (ls, show) and who is taken off (revoke). Putting people on it is in useradd.go. All see
// a user as userJSON, which also says in a word what state someone is in.

// newUser makes the group user.
func newUser(a *app) *cobra.Command {
	return newGroup("user", "The allowlist: who may connect", `  unibus user add UA… --name bob
  unibus user ls
  unibus user revoke bob --reason 'left the team'`,
		newUserAdd(a), newUserSet(a), newUserSync(a), newUserRevoke(a), newUserLs(a), newUserShow(a))
}

// userJSON is a user as scripts see it.
type userJSON struct {
	Key     string     `json:"key"`
	Name    string     `json:"name"`
	Role    string     `json:"role"`
	Active  bool       `json:"active"`
	Expires *time.Time `json:"expires"`
	AddedBy string     `json:"added_by"`
	Added   time.Time  `json:"added"`
	Revoked *time.Time `json:"revoked,omitempty"`
}

// newUserJSON is a user as of now: who has expired is not active.
func newUserJSON(u *unibus.User) userJSON {
	j := userJSON{Key: u.Key.String(), Name: u.Name, Role: string(u.Role), Active: u.ActiveAt(time.Now()), AddedBy: u.AddedBy.String(), Added: u.Added}
	if !u.Expires.IsZero() {
		j.Expires = &u.Expires
	}
	if !u.Active { // who was added again is not revoked any more
		j.Revoked = &u.Revoked
	}
	return j
}

// state tells in a word or two whether a user may connect, and until when.
func (u *userJSON) state() string {
	switch {
	case u.Active && u.Expires == nil:
		return "active"
	case u.Active:
		return "until " + formatTime(*u.Expires)
	case u.Revoked != nil:
		return "revoked"
	case u.Expires != nil && u.Expires.Before(time.Now()):
		return "expired"
	}
	return "revoked"
}

// userRevokeCommand is user revoke and its flags.
type userRevokeCommand struct {
	a *app
	// reason is for the log; empty: none is given.
	reason string
}

// newUserRevoke makes user revoke.
func newUserRevoke(a *app) *cobra.Command {
	r := &userRevokeCommand{a: a}
	c := &cobra.Command{
		Use: "revoke USER…", Aliases: []string{"rm"}, Short: "End someone's access, and list the rooms now stale", Args: cobra.MinimumNArgs(1), ValidArgsFunction: completer{a}.users,
		Annotations: map[string]string{annotationAsks: "whether to revoke them"},
		Long:        "Take users off the allowlist. Their connections are dropped, and no server lets them in again.\nWhat is listed are the rooms whose present key they still hold: an owner or admin of each renews\nit with unibus rekey. The last admin whose access has no end cannot be revoked.",
		Example: `  unibus user revoke bob --reason 'left the team'
  unibus user revoke bob --yes | xargs -r unibus rekey`,
		RunE: a.client(r.run),
	}
	c.Flags().StringVar(&r.reason, "reason", "", "a `TEXT` for the log")
	return c
}

// revokedJSON is who was revoked, and which rooms are stale for it.
type revokedJSON struct {
	Revoked []unibus.PublicKey `json:"revoked"`
	Stale   []string           `json:"stale"`
}

// run revokes all of them in one entry, and then lists the rooms whose key they still hold. That these cannot be listed is
// no failure: who was to be revoked is.
func (r *userRevokeCommand) run(ctx context.Context, c *unibus.Client, names []string) error {
	a := r.a
	keys, already, err := revocable(ctx, c, names)
	if err != nil {
		return noneOf(names, err, "revoked")
	}
	if err := r.confirm(c, names, keys); err != nil {
		return err
	}
	// Of several the library may find one revoked already; which one, and when, is known here.
	err = c.RevokeUsers(ctx, r.reason, keys...)
	if errors.Is(err, unibus.ErrNotFound) && already != nil {
		return noneOf(names, already, "revoked")
	}
	if err != nil {
		return err
	}
	stale, all := staleRooms(ctx, a, c, keys)
	return a.out.value(revokedJSON{keys, all}, func() {
		for i, key := range keys {
			a.notice("revoked %s (%s)", names[i], key)
		}
		for _, s := range stale {
			fmt.Fprintln(a.out, s)
		}
		a.tellStale(stale)
	})
}

// tellStale says what is to be done about rooms whose key somebody has who was revoked.
func (c *console) tellStale(rooms []string) {
	if len(rooms) > 0 {
		c.notice("these rooms are stale: an owner or admin of each runs unibus rekey %s", strings.Join(rooms, " "))
	}
}

// confirm asks whether they are meant; for whoever revokes themselves there is no way back.
func (r *userRevokeCommand) confirm(c *unibus.Client, names []string, keys []unibus.PublicKey) error {
	if i := slices.Index(keys, c.Key()); i >= 0 {
		return r.a.confirm("revoke " + names[i] + ", which is yourself")
	}
	return r.a.confirmOnTerminal("revoke " + strings.Join(names, ", "))
}

// staleRooms lists the rooms that people were in, and that are known to be stale now, and tells when others may be: then all is
// nil, for a script is not to take some for all.
func staleRooms(ctx context.Context, a *app, c *unibus.Client, keys []unibus.PublicKey) (stale, all []string) {
	stale = []string{}
	var errs error
	for _, key := range keys {
		rooms, err := c.RoomsOf(ctx, key)
		errs = errlist.Join(errs, err)
		for _, r := range rooms {
			if r.Info().Stale && !slices.Contains(stale, r.Subject()) {
				stale = append(stale, r.Subject())
			}
		}
	}
	if errs != nil { // what was to be done is
		a.notice("not all stale rooms could be listed: %s", oneLine(errs.Error()))
		return stale, nil
	}
	return stale, stale
}

// revocable resolves whom to revoke. Who was revoked already is not there to be revoked, which already says.
func revocable(ctx context.Context, c *unibus.Client, names []string) (keys []unibus.PublicKey, already, err error) {
	keys = make([]unibus.PublicKey, len(names))
	for i, name := range names {
		u, err := presentOrFormer(ctx, c, name)
		if err != nil {
			return nil, nil, err
		}
		if !u.Active && already == nil {
			already = fmt.Errorf("user %s: %w: revoked already, at %s", name, unibus.ErrNotFound, formatTime(u.Revoked))
		}
		keys[i] = u.Key
	}
	return keys, already, once(names, keys)
}

// userLsCommand is user ls and its flags.
type userLsCommand struct {
	a *app
	// full shows keys whole on a terminal, too.
	full bool
}

// newUserLs makes user ls.
func newUserLs(a *app) *cobra.Command {
	l := &userLsCommand{a: a}
	c := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List the allowlist", Args: cobra.NoArgs,
		Example: `  unibus user ls
  unibus user ls -o json | jq -r '.[] | select(.active) | .name'
  unibus user ls -o json | jq -r '.[] | select(.role == "admin") | .key'`,
		RunE: a.client(l.run),
	}
	defineFull(c, &l.full, "keys")
	return c
}

// run lists everyone the allowlist speaks of by name, numbers in it by what they count; also those who were revoked.
func (l *userLsCommand) run(_ context.Context, c *unibus.Client, _ []string) error {
	list := []userJSON{}
	for _, u := range c.Users() {
		list = append(list, newUserJSON(&u))
	}
	slices.SortStableFunc(list, func(x, y userJSON) int { return sortorder.NaturalCompare(x.Name, y.Name) })
	return l.a.out.value(list, func() {
		var keys []string
		for _, u := range list {
			keys = append(keys, u.Key)
		}
		short := l.a.out.shortened(l.full, keys)
		var rows [][]string
		for _, u := range list {
			rows = append(rows, []string{u.Name, u.Role, u.state(), short(u.Key)})
		}
		l.a.out.table([]string{"NAME", "ROLE", "STATE", "KEY"}, rows)
	})
}

// userShowCommand is user show and its flags.
type userShowCommand struct {
	a *app
	// full shows keys whole on a terminal, too.
	full bool
}

// newUserShow makes user show.
func newUserShow(a *app) *cobra.Command {
	s := &userShowCommand{a: a}
	c := &cobra.Command{
		Use: "show USER", Short: "Show one user, also one who was revoked", Args: cobra.ExactArgs(1), ValidArgsFunction: completer{a}.users,
		Example: `  unibus user show bob
  unibus user show bob -o json | jq -r .key`,
		RunE: a.client(s.run),
	}
	defineFull(c, &s.full, "keys of others")
	return c
}

// run prints one user.
func (s *userShowCommand) run(ctx context.Context, c *unibus.Client, args []string) error {
	u, err := presentOrFormer(ctx, c, args[0])
	if err != nil {
		return err
	}
	switch {
	case !u.Active:
		s.a.notice("%s", hintUser(remedy.Remedy{Kind: remedy.AllowFormer, Key: u.Key, User: u.Name}))
	case !u.ActiveAt(time.Now()):
		s.a.notice("%s", hintUser(remedy.Remedy{Kind: remedy.Extend, User: u.Name}))
	}
	j := newUserJSON(&u)
	return s.a.out.value(j, func() {
		short := shortUsers(s.a.out, s.full, c)
		by := short(j.AddedBy)
		if adder, err := c.User(ctx, j.AddedBy); err == nil {
			by = adder.Name + " (" + by + ")"
		}
		revoked := ""
		if j.Revoked != nil {
			revoked = formatTime(*j.Revoked)
		}
		s.a.out.pairs("key", j.Key, "name", j.Name, "role", j.Role, "state", j.state(), "expires", formatTime(u.Expires), "revoked", revoked, "added", formatTime(j.Added), "by", by)
	})
}

// shortUsers shortens keys to what tells all from each other that the allowlist speaks of, so that a command takes them.
func shortUsers(out *output, whole bool, c *unibus.Client) func(key string) string {
	var keys []string
	for _, u := range c.Users() {
		keys = append(keys, u.Key.String())
	}
	return out.shortened(whole, keys)
}

// presentOrFormer finds a user, or else the one who was revoked and had the name: a name is free for another then.
func presentOrFormer(ctx context.Context, c *unibus.Client, name string) (unibus.User, error) {
	u, err := c.User(ctx, name)
	if !errors.Is(err, unibus.ErrNotFound) {
		return u, err
	}
	var keys []string
	for _, former := range c.Users() {
		if former.Name == name {
			u, keys = former, append(keys, former.Key.String())
		}
	}
	switch len(keys) {
	case 0:
		return u, err
	case 1:
		return u, nil
	}
	return u, hinted(fmt.Errorf("user %s: %w: %d who were revoked had that name", name, unibus.ErrInvalid, len(keys)), hintKeys(keys))
}
