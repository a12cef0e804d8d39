package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/errlist"
	"github.com/unibus/unibus/internal/remedy"
)

// user sync makes the allowlist what a file says: the library finds the difference, which is shown before anything is done.

// userSyncCommand is user sync and its flags.
type userSyncCommand struct {
	a *app
	// file holds who is to be on the allowlist, as for user add.
	file string
	// prune takes off it whom the file does not have.
	prune bool
	// dryRun only shows the difference.
	dryRun bool
}

// newUserSync makes user sync.
func newUserSync(a *app) *cobra.Command {
	s := &userSyncCommand{a: a}
	c := &cobra.Command{
		Use: "sync --file FILE", Short: "Make the allowlist what a file says", Args: cobra.NoArgs,
		Annotations: map[string]string{annotationAsks: "whether to make the changes that are shown"},
		Long:        "Show how the allowlist differs from a file of KEY or CARD [NAME] a line, and make it what the file says:\nwho is not there is added (+), who is called otherwise renamed (~), and with --prune who is not in the\nfile revoked (-). Roles and ends stay as they are. Given again, it changes nothing.",
		Example: `  unibus user sync --file team.txt --dry-run
  unibus user sync --file team.txt --prune --yes`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.file == "" {
				return hinted(usage("user sync: --file FILE"), hintUseLine(cmd))
			}
			list, err := listedIn(a, s.file)
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), func(c *unibus.Client) error { return s.run(cmd.Context(), c, list) })
		},
	}
	f := c.Flags()
	f.StringVar(&s.file, "file", "", "who is to be on the allowlist: `FILE`, a KEY or CARD [NAME] a line; - for standard input")
	f.BoolVar(&s.prune, "prune", false, "revoke those who are not in the file")
	f.BoolVar(&s.dryRun, "dry-run", false, "show what would be changed, and change nothing")
	return c
}

// syncJSON is what was changed, or would be.
type syncJSON struct {
	Added   []changedJSON `json:"added"`
	Renamed []changedJSON `json:"renamed"`
	Revoked []changedJSON `json:"revoked"`
	Stale   []string      `json:"stale"` // rooms whose key they still have
	DryRun  bool          `json:"dry_run"`
}

// changedJSON is one user of a difference. Was is the name before, if that was another; Revoked is when one who is added was
// revoked before, and is let in again.
type changedJSON struct {
	Key     unibus.PublicKey `json:"key"`
	Name    string           `json:"name"`
	Was     string           `json:"was,omitempty"`
	Revoked *time.Time       `json:"revoked,omitempty"`
}

// run shows the difference, and makes it none.
func (s *userSyncCommand) run(ctx context.Context, c *unibus.Client, list []unibus.NewUser) error {
	d, err := unibus.CompareUsers(c.Users(), list)
	if err != nil {
		return err
	}
	if !s.prune {
		s.tellLeft(d.Revoke)
		d.Revoke = nil
	}
	shown, rows := showDiff(d, revokedBefore(c))
	shown.DryRun = s.dryRun
	show := func() error {
		return s.a.out.value(shown, func() { s.a.out.table(nil, rows) })
	}
	if err := d.Check(c); err != nil {
		if s.dryRun { // what it is about is to be seen
			err = errlist.Join(show(), err)
		}
		return each(err, func(one error) error {
			switch remedy.Of(one).Kind {
			case remedy.NameAdmin:
				return hinted(one, hintKeepAdmin)
			case remedy.NameOtherwise:
				return hinted(one, hintNameKept)
			}
			return one
		})
	}
	if d.Empty() {
		s.a.notice("the allowlist is what %s says: nothing to do", s.file)
		if !s.dryRun {
			err = d.Apply(ctx, c)
		}
		return errlist.Join(err, show())
	}
	if s.dryRun {
		return show()
	}
	if !s.a.out.json { // of JSON one value is printed, when it is done
		if err := show(); err != nil {
			return err
		}
	}
	if err := s.confirm(c, d); err != nil {
		return err
	}
	if err := d.Apply(ctx, c); err != nil {
		return err
	}
	stale, all := staleRooms(ctx, s.a, c, keysOf(d.Revoke))
	s.a.tellStale(stale)
	shown.Stale = all
	if s.a.out.json {
		return show()
	}
	return nil
}

// showDiff is a difference for scripts, and for people; revoked are those who were on the allowlist, and are not.
func showDiff(d unibus.UserDiff, revoked map[unibus.PublicKey]unibus.User) (shown syncJSON, rows [][]string) {
	shown = syncJSON{Added: []changedJSON{}, Renamed: []changedJSON{}, Revoked: []changedJSON{}, Stale: []string{}}
	for _, u := range d.Revoke {
		shown.Revoked = append(shown.Revoked, changedJSON{Key: u.Key, Name: u.Name})
		rows = append(rows, []string{"-", u.Name, u.Key.String()})
	}
	for _, r := range d.Rename {
		shown.Renamed = append(shown.Renamed, changedJSON{Key: r.User.Key, Name: r.Name, Was: r.User.Name})
		rows = append(rows, []string{"~", r.User.Name + " → " + r.Name, r.User.Key.String()})
	}
	for _, u := range d.Add {
		one, name := changedJSON{Key: u.Key, Name: u.Name}, u.Name
		if was, ok := revoked[u.Key]; ok {
			one.Revoked = &was.Revoked
			name += " (revoked at " + formatTime(was.Revoked) + ")"
		}
		shown.Added = append(shown.Added, one)
		rows = append(rows, []string{"+", name, u.Key.String()})
	}
	return shown, rows
}

// keysOf are the keys of users.
func keysOf(users []unibus.User) []unibus.PublicKey {
	keys := make([]unibus.PublicKey, len(users))
	for i, u := range users {
		keys[i] = u.Key
	}
	return keys
}

// tellLeft says who is on the allowlist and not in the file, and stays there.
func (s *userSyncCommand) tellLeft(users []unibus.User) {
	for _, u := range users {
		s.a.notice("%s (%s) is not in %s, and stays: --prune revokes", u.Name, u.Key, s.file)
	}
}

// confirm asks before anyone is revoked, and on a terminal before anything is done.
func (s *userSyncCommand) confirm(c *unibus.Client, d unibus.UserDiff) error {
	n := len(d.Revoke) + len(d.Rename) + len(d.Add)
	question := fmt.Sprintf("make these %d changes", n)
	if n == 1 {
		question = "make this change"
	}
	switch {
	case slices.ContainsFunc(d.Revoke, func(u unibus.User) bool { return u.Key == c.Key() }):
		return s.a.confirm(question + ", which revoke yourself")
	case len(d.Revoke) > 0:
		return s.a.confirm(question)
	}
	return s.a.confirmOnTerminal(question)
}
