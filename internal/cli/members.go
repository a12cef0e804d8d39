package cli

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
)

// Who is in a room: invite, kick, leave, role and members. The library decides who may; here names become keys.

// roomRoles are what a member of a room can be.
var roomRoles = []string{string(unibus.RoleMember), string(unibus.RoleReader), string(unibus.RoleAdmin), string(unibus.RoleOwner)}

// parseRole reads a role in a room.
func parseRole(s string) (unibus.Role, error) {
	if slices.Contains(roomRoles, s) {
		return unibus.Role(s), nil
	}
	return "", errors.New("not a role: one of " + strings.Join(roomRoles, ", "))
}

// inviteCommand is invite and its flags.
type inviteCommand struct {
	a *app
	// role is what all of them are in the room.
	role unibus.Role
	// wait is how long to wait for the cards of those who have never connected: a key can be sealed for nobody else.
	wait time.Duration
}

// newInvite makes invite.
func newInvite(a *app) *cobra.Command {
	i := &inviteCommand{a: a}
	c := &cobra.Command{
		Use: "invite ROOM USER…", Short: "Let users into a room", Args: cobra.MinimumNArgs(2), ValidArgsFunction: completer{a}.roomThenUsers,
		RunE: a.room(i.run),
	}
	c.Flags().Var(newDefault(&i.role, "member", parseRole), "role", "member, reader, admin or owner")
	c.Flags().Var(newDefault(&i.wait, "0s", parseWait), "wait", "wait so long for users who have never connected")
	completeValues(c, "role", roomRoles...)
	return c
}

// run invites all of them in one entry, or none. ErrNotFound when the card of one is not known, and does not come while
// --wait lasts.
func (i *inviteCommand) run(ctx context.Context, c *unibus.Client, r *unibus.Room, names []string) error {
	keys, err := userKeys(ctx, c, names)
	if err != nil {
		return err
	}
	if err := retryUntilKnown(ctx, i.wait, func() error { return r.Invite(ctx, i.role, keys...) }); err != nil {
		return err
	}
	i.a.notice("invited %s to %s as %s", strings.Join(names, ", "), r.Subject(), i.role)
	return nil
}

// cardInterval is how often someone who waits for a card looks for it.
const cardInterval = 500 * time.Millisecond

// retryUntilKnown tries again while a user's card is missing, for a while.
func retryUntilKnown(ctx context.Context, wait time.Duration, invite func() error) error {
	// The card comes when they first connect. Nothing tells of that: it is looked for again.
	until := time.Now().Add(wait)
	for {
		err := invite()
		if !errors.Is(err, unibus.ErrNotFound) || time.Now().After(until) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(cardInterval):
		}
	}
}

// kickCommand is kick, which has no flags.
type kickCommand struct{ a *app }

// newKick makes kick.
func newKick(a *app) *cobra.Command {
	k := &kickCommand{a: a}
	return &cobra.Command{
		Use: "kick ROOM USER…", Short: "Remove members and renew the key", Args: cobra.MinimumNArgs(2), ValidArgsFunction: completer{a}.roomThenUsers,
		RunE: a.room(k.run),
	}
}

// run removes them, and renews the key, in one entry.
func (k *kickCommand) run(ctx context.Context, c *unibus.Client, r *unibus.Room, names []string) error {
	keys, err := userKeys(ctx, c, names)
	if err != nil {
		return err
	}
	if err := r.Kick(ctx, keys...); err != nil {
		return err
	}
	k.a.notice("removed %s from %s, now at epoch %d", strings.Join(names, ", "), r.Subject(), r.Info().Epoch)
	return nil
}

// leaveCommand is leave, which has no flags.
type leaveCommand struct{ a *app }

// newLeave makes leave.
func newLeave(a *app) *cobra.Command {
	l := &leaveCommand{a: a}
	return &cobra.Command{
		Use: "leave ROOM", Short: "Leave a room", Args: cobra.ExactArgs(1), ValidArgsFunction: completer{a}.rooms,
		Annotations: map[string]string{annotationAsks: "whether to leave"},
		RunE:        a.room(l.run),
	}
}

// run asks on a terminal only: whoever leaves can be invited again.
func (l *leaveCommand) run(ctx context.Context, _ *unibus.Client, r *unibus.Room, _ []string) error {
	if err := l.a.confirmOnTerminal("leave " + r.Subject()); err != nil {
		return err
	}
	if err := r.Leave(ctx); err != nil {
		return err
	}
	l.a.notice("left %s", r.Subject())
	return nil
}

// roleCommand is role, which has no flags.
type roleCommand struct {
	a    *app
	role unibus.Role // the last argument, checked before anything is done
}

// newRole makes role, which reads the role before it connects.
func newRole(a *app) *cobra.Command {
	o := &roleCommand{a: a}
	return &cobra.Command{
		Use: "role ROOM USER ROLE", Short: "Change a member's role: owner, admin, member, reader", Args: cobra.ExactArgs(3), ValidArgsFunction: completer{a}.roomUserRole,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.role, err = parseRole(args[2]); err != nil {
				return hinted(usage("role %s: %w", args[2], err), hintUseLine(cmd))
			}
			return a.room(o.run)(cmd, args)
		},
	}
}

// run changes the role of one member.
func (o *roleCommand) run(ctx context.Context, c *unibus.Client, r *unibus.Room, args []string) error {
	keys, err := userKeys(ctx, c, args[:1])
	if err != nil {
		return err
	}
	if err := r.SetRole(ctx, keys[0], o.role); err != nil {
		return err
	}
	o.a.notice("%s is now %s of %s", args[0], o.role, r.Subject())
	return nil
}

// membersCommand is members, which has no flags.
type membersCommand struct{ a *app }

// newMembers makes members.
func newMembers(a *app) *cobra.Command {
	m := &membersCommand{a: a}
	return &cobra.Command{
		Use: "members ROOM", Short: "List a room's members", Args: cobra.ExactArgs(1), ValidArgsFunction: completer{a}.rooms,
		RunE: a.room(m.run),
	}
}

// run lists who is in a room, also those who may not connect any more and have not been removed.
func (m *membersCommand) run(_ context.Context, c *unibus.Client, r *unibus.Room, _ []string) error {
	list := r.Members()
	return m.a.out.value(list, func() {
		var rows [][]string
		// Why someone may not connect is the allowlist's to say, not the room's.
		former := map[unibus.PublicKey]string{}
		for _, u := range c.Users() {
			j := newUserJSON(&u)
			former[u.Key] = j.state()
		}
		for _, member := range list {
			state := "active"
			if !member.Active {
				state = former[member.Key] // expired or revoked, as user ls says
			}
			rows = append(rows, []string{member.Name, string(member.Role), state, member.Key.String()})
		}
		m.a.out.table([]string{"NAME", "ROLE", "STATE", "KEY"}, rows)
	})
}
