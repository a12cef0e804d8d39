package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
)

func (a *app) userCmd() *cobra.Command {
	return group("user", "The allowlist: who may connect", a.userAddCmd(), a.userRevokeCmd(), a.userLsCmd(), a.userShowCmd())
}

func (a *app) userAddCmd() *cobra.Command {
	var name, file string
	var until time.Time
	var admin, skip bool
	c := &cobra.Command{
		Use: "add KEY|CARD|-", Short: "Allow someone to connect", Args: cobra.MaximumNArgs(1),
		Annotations: map[string]string{founds: "a bus, in an empty store"},
		Long:        "Put a key, or the card that whoami --card prints, on the allowlist. With - or --file many are\nadded, one KEY or CARD and optionally a NAME a line: all, or none if one is there already; with --skip-existing those\nwho are there under the same name are left as they are. Who was revoked before is in those rooms again\nfrom which nobody has kicked them since.",
		Example: `  unibus user add UA… --name bob
  unibus user add --file team.txt --skip-existing`,
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := a.newUsers(args, name, file)
			if err != nil {
				return err
			}
			for i := range list {
				list[i].Admin, list[i].Expires = admin, until
			}
			return a.with(cmd.Context(), func(c *unibus.Client) error {
				if skip {
					if list, err = a.missing(c, list); err != nil {
						return err
					}
				}
				if len(list) > 0 {
					err = c.AddUsers(cmd.Context(), list...)
				}
				if errors.Is(err, unibus.ErrExists) {
					return alreadyThere(cmd.Context(), c, err)
				}
				if err != nil {
					return err
				}
				shown := make([]userJSON, len(list))
				for i, u := range list {
					added, err := c.User(cmd.Context(), u.Key.String())
					if err != nil {
						return err
					}
					shown[i] = newUserJSON(&added)
				}
				return a.out.value(shown, func() {
					for _, u := range shown {
						fmt.Fprintf(a.out, "added %s as %s\n", u.Key, u.Name)
					}
				})
			})
		},
	}
	f := c.Flags()
	f.StringVar(&name, "name", "", "`NAME` to call it by (default made from the key)")
	f.BoolVar(&admin, "admin", false, "may change the allowlist as well")
	f.Var(newValue(&until, expiry), "expires", "when access ends by itself: a duration (720h, 30d) or a `DATE`")
	f.StringVar(&file, "file", "", "add everyone in `FILE`, a KEY [NAME] a line")
	f.BoolVar(&skip, "skip-existing", false, "leave those as they are who are there already, and name them")
	return c
}

// missing are those of a list who are not on the allowlist yet, under the same key and name; who is, is told.
func (a *app) missing(c *unibus.Client, list []unibus.NewUser) ([]unibus.NewUser, error) {
	there := map[unibus.PublicKey]string{}
	for _, u := range c.Users() {
		if u.Active {
			there[u.Key] = u.Name
		}
	}
	var out []unibus.NewUser
	for _, u := range list {
		name, known := there[u.Key]
		switch {
		case !known:
			out = append(out, u)
		case u.Name != name && u.Name != named(unibus.NewUser{Key: u.Key}).Name:
			return nil, fmt.Errorf("user %s: %w: on the allowlist as %s, not %s", u.Key, unibus.ErrExists, name, u.Name)
		default:
			a.notice("%s (%s) is there already", name, u.Key)
		}
	}
	return out, nil
}

// alreadyThere says what helps when someone is there already, to whoever may know what would be there.
func alreadyThere(ctx context.Context, c *unibus.Client, err error) error {
	me, uerr := c.User(ctx, c.Key().String())
	if uerr == nil && me.Role != unibus.RoleAdmin {
		return hinted(fmt.Errorf("user add: %w: only an admin of the bus adds users", unibus.ErrDenied), "unibus user ls shows who is an admin")
	}
	if unibus.Hint(err) != "" {
		return err
	}
	return hinted(err, "unibus user show USER shows it; another name, role or end takes unibus user revoke and then user add")
}

// newUsers reads whom to add, from the arguments or a file, before anything is done.
func (a *app) newUsers(args []string, name, file string) ([]unibus.NewUser, error) {
	switch {
	case len(args) == 0 && file == "", len(args) == 1 && file != "":
		return nil, usage("give one KEY, a CARD, - for standard input, or --file")
	case file != "" || args[0] == "-":
		if name != "" {
			return nil, usage("--name is for one user: in a list the name follows the key")
		}
		return a.userFile(file)
	}
	u, err := unibus.ParseUser(args[0])
	if err != nil {
		return nil, err
	}
	u.Name = name
	return []unibus.NewUser{named(u)}, nil
}

func (a *app) userFile(file string) ([]unibus.NewUser, error) {
	var in io.Reader = a.in
	if file != "" {
		f, err := os.Open(file)
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("--file: %w: there is no file %s", unibus.ErrNotFound, file)
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	var out []unibus.NewUser
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		u, err := unibus.ParseUser(fields[0])
		if err == nil && len(fields) > 2 {
			err = fmt.Errorf("%w: more than KEY and NAME", unibus.ErrInvalid)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if len(fields) == 2 {
			u.Name = fields[1]
		}
		out = append(out, named(u))
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, usage("nobody to add")
	}
	return out, nil
}

// named gives a user a name made from its key, if it has none.
func named(u unibus.NewUser) unibus.NewUser {
	if u.Name == "" {
		u.Name = strings.ToLower(u.Key.String()[:12])
	}
	return u
}

// expiry reads a duration from now, in days too, or a date.
func expiry(text string) (time.Time, error) {
	t, err := parseWhen(text, time.Now(), 1)
	if err == nil && t.Before(time.Now()) {
		err = errors.New("that is past")
	}
	return t, err
}

// since reads how long ago, or when.
func since(text string) (time.Time, error) { return parseWhen(text, time.Now(), -1) }

// parseWhen reads a duration before (sign -1) or after now, or a time.
func parseWhen(s string, now time.Time, sign time.Duration) (time.Time, error) {
	if d, err := parseDuration(s); err == nil {
		return now.Add(sign * d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New("neither a duration (90m, 24h, 30d) nor a time (2006-01-02, 2006-01-02T15:04:05Z)")
}

// parseDuration reads Go's durations and whole days.
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	d, err := time.ParseDuration(s)
	if err == nil && d < 0 {
		err = errors.New("negative")
	}
	return d, err
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
	case u.Active && time.Until(*u.Expires) < 48*time.Hour:
		return "until " + stamp(*u.Expires)
	case u.Active:
		return "until " + u.Expires.UTC().Format(time.DateOnly)
	case u.Revoked != nil:
		return "revoked"
	case u.Expires != nil && u.Expires.Before(time.Now()):
		return "expired"
	}
	return "revoked"
}

func (a *app) userRevokeCmd() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "revoke USER…", Short: "End someone's access, and list the rooms now stale", Args: cobra.MinimumNArgs(1),
		Annotations: map[string]string{asks: "whether to revoke them"},
		Long:        "Take users off the allowlist. Their connections are dropped, and no server lets them in again.\nWhat is listed are the rooms whose present key they still hold: an owner or admin of each renews\nit with unibus rekey.",
		RunE: a.client(func(ctx context.Context, c *unibus.Client, args []string) error {
			keys, already, err := revocable(ctx, c, args)
			if err != nil {
				return err
			}
			if i := slices.Index(keys, c.Key()); i >= 0 {
				if err := a.confirm("revoke " + args[i] + ", which is yourself"); err != nil {
					return err
				}
			} else if err := a.confirmOnTerminal("revoke " + strings.Join(args, ", ")); err != nil {
				return err
			}
			err = c.RevokeUsers(ctx, reason, keys...)
			if errors.Is(err, unibus.ErrNotFound) && already != nil {
				return already
			}
			if err != nil {
				return err
			}
			stale, err := staleRooms(ctx, c, keys)
			if err != nil { // what was to be done is
				a.notice("the stale rooms could not be listed: %v", err)
			}
			return a.out.value(map[string]any{"revoked": keys, "stale": stale}, func() {
				for i, key := range keys {
					a.notice("revoked %s (%s)", args[i], key)
				}
				for _, s := range stale {
					fmt.Fprintln(a.out, s)
				}
				if len(stale) > 0 {
					a.notice("these rooms are stale: an owner or admin of each runs unibus rekey %s", strings.Join(stale, " "))
				}
			})
		}),
	}
	c.Flags().StringVar(&reason, "reason", "", "a `TEXT` for the log")
	c.ValidArgsFunction = a.completeUsers
	return c
}

// staleRooms lists the rooms that people were in, and that are stale now.
func staleRooms(ctx context.Context, c *unibus.Client, keys []unibus.PublicKey) ([]string, error) {
	stale := []string{}
	for _, key := range keys {
		rooms, err := c.RoomsOf(ctx, key)
		if err != nil {
			return nil, err
		}
		for _, r := range rooms {
			if r.Info().Stale {
				stale = append(stale, r.Subject())
			}
		}
	}
	return stale, nil
}

// revocable resolves whom to revoke. Who was revoked already is not there to be revoked, which already says.
func revocable(ctx context.Context, c *unibus.Client, names []string) (keys []unibus.PublicKey, already, err error) {
	keys = make([]unibus.PublicKey, len(names))
	for i, name := range names {
		u, err := anyUser(ctx, c, name)
		if err != nil {
			return nil, nil, err
		}
		if !u.Active && already == nil {
			already = fmt.Errorf("user %s: %w: revoked already, at %s", name, unibus.ErrNotFound, stamp(u.Revoked))
		}
		keys[i] = u.Key
	}
	return keys, already, nil
}

func (a *app) userLsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List the allowlist", Args: cobra.NoArgs,
		RunE: a.client(func(_ context.Context, c *unibus.Client, _ []string) error {
			list := []userJSON{}
			for _, u := range c.Users() {
				list = append(list, newUserJSON(&u))
			}
			return a.out.value(list, func() {
				var rows [][]string
				for _, u := range list {
					rows = append(rows, []string{u.Name, u.Role, u.state(), u.Key})
				}
				a.out.table([]string{"NAME", "ROLE", "STATE", "KEY"}, rows)
			})
		}),
	}
}

func (a *app) userShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show USER", Short: "Show one user, also one who was revoked", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeUsers,
		RunE: a.client(func(ctx context.Context, c *unibus.Client, args []string) error {
			u, err := anyUser(ctx, c, args[0])
			if err != nil {
				return err
			}
			j := newUserJSON(&u)
			return a.out.value(j, func() {
				by := j.AddedBy
				if adder, err := c.User(ctx, j.AddedBy); err == nil {
					by = adder.Name + " (" + j.AddedBy + ")"
				}
				revoked := ""
				if j.Revoked != nil {
					revoked = stamp(*j.Revoked)
				}
				a.out.pairs("key", j.Key, "name", j.Name, "role", j.Role, "state", j.state(), "expires", stamp(u.Expires), "revoked", revoked, "added", stamp(j.Added), "by", by)
			})
		}),
	}
}

// anyUser finds a user, or else the one who was revoked and had the name: a name is free for another then.
func anyUser(ctx context.Context, c *unibus.Client, name string) (unibus.User, error) {
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
	return u, hinted(fmt.Errorf("user %s: %w: %d who were revoked had that name", name, unibus.ErrInvalid, len(keys)), "name one by key: "+strings.Join(keys, ", "))
}
