package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
)

// user set changes one who is there: name and end in one entry of the bus log, the role in another.

// userSetCommand is user set and its flags.
type userSetCommand struct {
	a *app
	// name and role are what the user is from now on; empty: as before.
	name string
	role unibus.Role
	// expires is when access ends by itself; a zero time is never. It counts if the flag is given.
	expires time.Time
}

// newUserSet makes user set.
func newUserSet(a *app) *cobra.Command {
	s := &userSetCommand{a: a}
	c := &cobra.Command{
		Use: "set USER", Short: "Change someone's name, role or end", Args: cobra.ExactArgs(1), ValidArgsFunction: completer{a}.users,
		Annotations: map[string]string{annotationAsks: "whether to take from yourself what only another admin can give back"},
		Long:        "Change what is there of a user, also of one whose time is over: who is given a later end, or none, can\nconnect again, and is in the rooms as before, but for those that got a new key meanwhile, which leaves out who has no\naccess. The last admin whose access has no end is given none, and stays an admin.",
		Example: `  unibus user set bob --name robert
  unibus user set bob --expires 30d
  unibus user set bob --expires never --role admin`,
		RunE: func(cmd *cobra.Command, args []string) error {
			given := cmd.Flags().Changed
			if !given("name") && !given("role") && !given("expires") {
				return hinted(usage("user set: --name, --role or --expires, or several of them"), hintUseLine(cmd))
			}
			return a.with(cmd.Context(), func(c *unibus.Client) error { return s.run(cmd.Context(), c, args[0], given) })
		},
	}
	f := c.Flags()
	f.StringVar(&s.name, "name", "", "another `NAME`")
	f.Var(newValue(&s.role, parseUserRole), "role", "admin or user")
	defineExpires(c, &s.expires, parseEnd, "when access ends by itself: in so long (12h, 30d), at a `DATE`, or never", "never", "30d", "90d")
	completeValues(c, "role", string(unibus.RoleAdmin), string(unibus.RoleUser))
	return c
}

// run changes the user, and prints what it is then.
func (s *userSetCommand) run(ctx context.Context, c *unibus.Client, name string, given func(flag string) bool) error {
	u, err := c.User(ctx, name)
	if err != nil {
		return err
	}
	if err := s.confirm(c, &u, given("expires")); err != nil {
		return err
	}
	change := unibus.UserChange{Key: u.Key, Role: s.role}
	if given("name") {
		change.Name = &s.name
	}
	if given("expires") {
		change.Expires = &s.expires
	}
	err = c.SetUsers(ctx, change)
	if errors.Is(err, unibus.ErrInvalid) && s.name != "" {
		return hinted(err, hintNamed(s.name))
	}
	if err != nil {
		return err
	}
	if u, err = c.User(ctx, u.Key.String()); err != nil {
		return err
	}
	j := newUserJSON(&u)
	return s.a.out.value(j, func() { fmt.Fprintf(s.a.out, "%s is %s: %s, %s\n", j.Key, j.Name, j.Role, j.state()) })
}

// confirm asks whoever takes from itself what it cannot give itself again.
func (s *userSetCommand) confirm(c *unibus.Client, u *unibus.User, ends bool) error {
	if u.Key != c.Key() {
		return nil
	}
	switch {
	case s.role != "" && s.role != unibus.RoleAdmin && u.Role == unibus.RoleAdmin:
		return s.a.confirm("make " + u.Name + ", which is yourself, a plain user")
	case ends && !s.expires.IsZero():
		return s.a.confirm("end the access of " + u.Name + ", which is yourself, at " + formatTime(s.expires))
	}
	return nil
}

// parseUserRole reads a role on the bus.
func parseUserRole(text string) (unibus.Role, error) {
	role, err := parseOneOf(string(unibus.RoleAdmin), string(unibus.RoleUser))(text)
	if err != nil && !mistaken(text, string(unibus.RoleAdmin)) { // nobody is made an admin by a line that was offered
		err = instead(string(unibus.RoleUser), err.Error())
	}
	return unibus.Role(role), err
}

// parseEnd reads when access ends, or never.
func parseEnd(text string) (time.Time, error) {
	if text == "never" {
		return time.Time{}, nil
	}
	return parseExpiry(text)
}
