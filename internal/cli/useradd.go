package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/errlist"
	"github.com/unibus/unibus/internal/remedy"
)

// user add: whom to add is read whole, from an argument, a file or stdin, before anything is done; then all are added
// in one entry of the bus log, or none.

// userAddCommand is user add and its flags.
type userAddCommand struct {
	a *app
	// name is what the one user that is given is called; empty: a name made from the key.
	name string
	// file holds a list of users; empty: the argument says whom to add.
	file string
	// admin and expires are of everyone who is added; a zero time is no end.
	admin   bool
	expires time.Time
	// skipExisting leaves those out who are there under the same name, so that a list can be given again.
	skipExisting bool
}

// newUserAdd makes user add.
func newUserAdd(a *app) *cobra.Command {
	u := &userAddCommand{a: a}
	c := &cobra.Command{
		Use: "add KEY|CARD|- | --file FILE", Short: "Allow someone to connect", Args: cobra.MaximumNArgs(1),
		Annotations: map[string]string{annotationFounds: "a bus, in an empty store"},
		Long:        "Put a key, or the card that whoami --card prints, on the allowlist. With - or --file many are\nadded, one KEY or CARD and optionally a NAME a line: all, or none if one is there already; with --skip-existing those\nwho are there under the same name are left as they are. Who was revoked before is in those rooms again\nfrom which nobody has kicked them since, and which got no new key since: that leaves out who has no access.",
		Example: `  unibus user add UA… --name bob
  unibus user add --file team.txt --skip-existing`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := nameGiven(cmd, u.name); err != nil {
				return err
			}
			list, err := u.list(args)
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), func(c *unibus.Client) error { return u.run(cmd.Context(), c, list) })
		},
	}
	f := c.Flags()
	f.StringVar(&u.name, "name", "", "`NAME` to call it by (default made from the key)")
	f.BoolVar(&u.admin, "admin", false, "may change the allowlist as well")
	defineExpires(c, &u.expires, parseExpiry, "when access ends by itself: in so long (12h, 30d), or at a `DATE`", "30d", "90d")
	f.StringVar(&u.file, "file", "", "add everyone in `FILE`, a KEY or CARD [NAME] a line")
	f.BoolVar(&u.skipExisting, "skip-existing", false, "leave those as they are who are there already, and name them")
	return c
}

// run adds those of the list who are to be added, and prints them as the bus has them now. ErrExists when one is there
// already.
func (u *userAddCommand) run(ctx context.Context, c *unibus.Client, list []unibus.NewUser) (err error) {
	var there []unibus.NewUser
	if u.skipExisting {
		if list, there, err = u.absent(c, list); err != nil {
			return err
		}
	} else {
		err = u.noneThere(c, list)
	}
	if err == nil && len(list) > 0 {
		revoked := revokedBefore(c)
		if err = c.AddUsers(ctx, list...); err == nil {
			u.a.tellAllowedAgain(revoked, list)
		}
	}
	if err == nil {
		err = unibus.PublishCards(ctx, c, there...)
	}
	if errors.Is(err, unibus.ErrExists) {
		return alreadyThere(ctx, c, err)
	}
	if errors.Is(err, unibus.ErrInvalid) && u.name != "" {
		return hinted(err, hintNamed(u.name))
	}
	if err != nil {
		return err
	}
	// They are asked for again, for the name and the end that the bus has them under.
	shown := make([]userJSON, len(list))
	for i, one := range list {
		added, err := c.User(ctx, one.Key.String())
		if err != nil {
			return err
		}
		shown[i] = newUserJSON(&added)
	}
	return u.a.out.value(shown, func() {
		for _, one := range shown {
			fmt.Fprintf(u.a.out, "added %s as %s\n", one.Key, one.Name)
		}
	})
}

// listed are those who are on the allowlist, be their time over or not, by key.
func listed(c *unibus.Client) map[unibus.PublicKey]unibus.User {
	there := map[unibus.PublicKey]unibus.User{}
	for _, known := range c.Users() {
		if known.Active {
			there[known.Key] = known
		}
	}
	return there
}

// tellAllowedAgain says who of those that were added was among the revoked: that may not be remembered by who has an old list.
func (a *app) tellAllowedAgain(revoked map[unibus.PublicKey]unibus.User, list []unibus.NewUser) {
	for _, one := range list {
		if was, ok := revoked[one.Key]; ok {
			a.notice("%s (%s) was revoked at %s, and is let in again", was.Name, one.Key, formatTime(was.Revoked))
		}
	}
}

// revokedBefore are those who were on the allowlist, and are not, by key.
func revokedBefore(c *unibus.Client) map[unibus.PublicKey]unibus.User {
	revoked := map[unibus.PublicKey]unibus.User{}
	for _, known := range c.Users() {
		if !known.Active {
			revoked[known.Key] = known
		}
	}
	return revoked
}

// expiredAt says of someone whose time is over since when; of others nothing.
func expiredAt(u unibus.User) string {
	if u.ActiveAt(time.Now()) {
		return ""
	}
	return ", expired at " + formatTime(u.Expires)
}

// absent are those of a list who are not on the allowlist yet, and those who are, under the same key and name, each of whom is told.
func (u *userAddCommand) absent(c *unibus.Client, list []unibus.NewUser) (out, there []unibus.NewUser, err error) {
	on := listed(c)
	var errs []error
	for _, one := range list {
		is, known := on[one.Key]
		switch {
		case !known:
			out = append(out, one)
		case one.Name != is.Name && one.Name != "":
			err := fmt.Errorf("user %s: %w: on the allowlist as %s, not %s%s", one.Key, unibus.ErrExists, is.Name, one.Name, expiredAt(is))
			errs = append(errs, hinted(err, hintCalledOtherwise))
		default:
			there = append(there, one)
			u.a.notice("%s (%s) is there already%s", is.Name, one.Key, expiredAt(is))
		}
	}
	return out, there, errlist.Join(errs...)
}

// noneThere is ErrExists when some of a list are on the allowlist already, each of whom is told in a line.
func (u *userAddCommand) noneThere(c *unibus.Client, list []unibus.NewUser) error {
	there := listed(c)
	n := 0
	for _, one := range list {
		if is, ok := there[one.Key]; ok {
			n++
			if len(list) > 1 {
				u.a.err.print("unibus: user %s: on the allowlist as %s%s\n", one.Key, is.Name, expiredAt(is))
			}
		}
	}
	if n == 0 || len(list) == 1 {
		return nil // of one the library says it
	}
	return hinted(fmt.Errorf("user add: %w: %d of %d; nobody was added", unibus.ErrExists, n, len(list)), hintSkipExisting)
}

// alreadyThere says what helps when someone is there already, to whoever may know what would be there.
func alreadyThere(ctx context.Context, c *unibus.Client, err error) error {
	me, uerr := c.User(ctx, c.Key().String())
	if uerr == nil && me.Role != unibus.RoleAdmin {
		return hinted(fmt.Errorf("user add: %w: only an admin of the bus adds users", unibus.ErrDenied), hintWhoIsAdmin)
	}
	var own hintError
	if remedy.Of(err).Kind != remedy.None || errors.As(err, &own) {
		return err
	}
	return hinted(err, hintUserThere)
}

// list reads whom to add, from the arguments or a file, before anything is done.
func (u *userAddCommand) list(args []string) ([]unibus.NewUser, error) {
	var list []unibus.NewUser
	switch {
	case len(args) == 0 && u.file == "", len(args) == 1 && u.file != "":
		return nil, hinted(usage("give one KEY, a CARD, - for standard input, or --file"), hintUseLine(u.a.cmd))
	case u.file != "" || args[0] == "-":
		if u.name != "" {
			return nil, superfluous("name", "--name is for one user: in a list the name follows the key")
		}
		var err error
		if list, err = listedIn(u.a, cmp.Or(u.file, "-")); err != nil {
			return nil, err
		}
	default:
		one, err := unibus.ParseUser(args[0])
		if err != nil {
			return nil, hinted(err, hintKey)
		}
		one.Name = u.name
		list = []unibus.NewUser{one}
	}
	for i := range list {
		list[i].Admin, list[i].Expires = u.admin, u.expires
	}
	return list, nil
}

// listedIn reads a list from a file; - is stdin.
func listedIn(a *app, file string) ([]unibus.NewUser, error) {
	f, err := a.openInput("file", file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := parseUserList(f)
	if file == "-" {
		file = "standard input"
	}
	return list, each(err, func(one error) error {
		if errors.Is(one, unibus.ErrInvalid) {
			one = hinted(one, hintKeyLine)
		}
		return fmt.Errorf("%s: %w", file, one)
	})
}

// maxWrong is how many lines of a list are told of that cannot be.
const maxWrong = 10

// parseUserList reads KEY [NAME], or CARD [NAME], a line each; what follows # and empty lines are left out. A key or a name
// that stands there twice is refused; the error is of each line that is.
func parseUserList(in io.Reader) ([]unibus.NewUser, error) {
	var out []unibus.NewUser
	var wrong []error
	seen := map[string]int{} // in which line
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimPrefix(lines.Text(), "\ufeff") // as editors of some systems begin a file
		line, _, _ := strings.Cut(text, "#")               // no key, card or name has one
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		u, err := unibus.ParseUser(fields[0])
		if err == nil && len(fields) > 2 {
			err = fmt.Errorf("%w: more than KEY and NAME", unibus.ErrInvalid)
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("line %d: %w", n, err))
			continue
		}
		if len(fields) == 2 {
			u.Name = fields[1]
		}
		if err := u.Check(); err != nil {
			wrong = append(wrong, fmt.Errorf("line %d: %w", n, err))
			continue
		}
		for _, once := range []string{u.Key.String(), u.Name} {
			if before := seen[once]; before > 0 && once != "" {
				wrong = append(wrong, usage("line %d: %s stands in line %d already", n, once, before))
				break
			}
			seen[once] = n
		}
		out = append(out, u)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if more := len(wrong) - maxWrong; more > 0 {
		wrong = append(wrong[:maxWrong], usage("and %s more", english.Plural(more, "line", "")))
	}
	if len(wrong) > 0 {
		return nil, errlist.Join(wrong...)
	}
	if len(out) == 0 {
		return nil, usage("nobody is in it")
	}
	return out, nil
}

// openInput opens the file that a flag names; - is standard input, which is not closed.
func (a *app) openInput(flag, file string) (io.ReadCloser, error) {
	if file == "-" {
		return io.NopCloser(a.in), nil
	}
	return openNamed(flag, file)
}

// openNamed opens the file that a flag names.
func openNamed(flag, file string) (*os.File, error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("--%s: %w: there is no file %s", flag, unibus.ErrNotFound, file)
	}
	return f, err
}
