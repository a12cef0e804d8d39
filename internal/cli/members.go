package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fvbommel/sortorder"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/remedy"
)

// Who is in a room: invite, kick, leave, role and members. The library decides who may; here names become keys.

// roomRoles are what a member of a room can be.
var roomRoles = []string{string(unibus.RoleMember), string(unibus.RoleReader), string(unibus.RoleAdmin), string(unibus.RoleOwner)}

// parseRole reads a role in a room.
func parseRole(s string) (unibus.Role, error) {
	if slices.Contains(roomRoles, s) {
		return unibus.Role(s), nil
	}
	return "", instead(nearest(s, roomRoles), "not a role: one of "+strings.Join(roomRoles, ", "))
}

// membersJSON is what an entry changed in who is in a room, and as what.
type membersJSON struct {
	RoomID  unibus.ID `json:"room_id"`
	Subject string    `json:"subject"`
	Epoch   uint32    `json:"epoch"`
	Seq     uint64    `json:"seq"`
	// Invited, Removed and Changed are of the entry; Skipped were there already.
	Invited []memberJSON `json:"invited,omitempty"`
	Skipped []memberJSON `json:"skipped,omitempty"`
	Removed []memberJSON `json:"removed,omitempty"`
	Changed []memberJSON `json:"changed,omitempty"`
}

// memberJSON is one of them; the role is the one that counts now, or, of who was removed, the one before.
type memberJSON struct {
	Key  unibus.PublicKey `json:"key"`
	Name string           `json:"name"`
	Role unibus.Role      `json:"role"`
}

// newMembersJSON is of a room as it is now.
func newMembersJSON(r *unibus.Room) membersJSON {
	i := r.Info()
	return membersJSON{RoomID: i.ID, Subject: i.Subject, Epoch: i.Epoch, Seq: i.Seq}
}

// membersOf are those of a room's members who have one of the keys.
func membersOf(r *unibus.Room, keys []unibus.PublicKey) (list []memberJSON) {
	for _, m := range r.Members() {
		if slices.Contains(keys, m.Key) {
			list = append(list, memberJSON{m.Key, m.Name, m.Role})
		}
	}
	return list
}

// endedSince are those of a room's members before who are none any more, and may not connect: a new key has left them out,
// though nobody named them.
func endedSince(ctx context.Context, c *unibus.Client, r *unibus.Room, before []unibus.Member) (list []memberJSON) {
	in := map[unibus.PublicKey]bool{}
	for _, m := range r.Members() {
		in[m.Key] = true
	}
	for _, m := range before {
		if in[m.Key] {
			continue
		}
		if u, err := c.User(ctx, m.Key.String()); err == nil && u.ActiveAt(time.Now()) {
			continue // it has left, or somebody has kicked it meanwhile
		}
		list = append(list, memberJSON{m.Key, m.Name, m.Role})
	}
	return list
}

// namesOf are the names of members, one after the other.
func namesOf(list []memberJSON) string {
	names := make([]string, len(list))
	for i, m := range list {
		names[i] = m.Name
	}
	return strings.Join(names, ", ")
}

// inviteCommand is invite and its flags.
type inviteCommand struct {
	a *app
	// role is what all of them are in the room.
	role unibus.Role
	// wait is how long to wait for the cards of those who have never connected: a key can be sealed for nobody else.
	wait time.Duration
	// skipExisting leaves those as they are who are in the room.
	skipExisting bool
}

// newInvite makes invite.
func newInvite(a *app) *cobra.Command {
	i := &inviteCommand{a: a}
	c := &cobra.Command{
		Use: "invite ROOM USER…", Short: "Let users into a room", Args: cobra.MinimumNArgs(2), ValidArgsFunction: completer{a}.roomThen(outsiders),
		Example: `  unibus invite ops.alerts bob carol
  unibus invite ops.alerts dave --role reader --skip-existing
  unibus invite ops.alerts erin --wait 10m`,
		RunE: a.room(i.run),
	}
	c.Flags().Var(newDefault(&i.role, "member", parseRole), "role", "member, reader, admin or owner")
	c.Flags().Var(newDefault(&i.wait, "0s", parseWait), "wait", "wait so long for users who have never connected")
	c.Flags().BoolVar(&i.skipExisting, "skip-existing", false, "leave those as they are who are in the room already, and name them")
	completeValues(c, "role", roomRoles...)
	return c
}

// run invites all of them in one entry, or none. ErrNotFound when the card of one is not known, and does not come while
// --wait lasts; ErrExists, with a line for each, when some are in the room.
func (i *inviteCommand) run(ctx context.Context, c *unibus.Client, r *unibus.Room, names []string) error {
	keys, err := userKeys(ctx, c, names)
	if err != nil {
		return noneOf(names, err, "invited")
	}
	there := membersOf(r, keys)
	if len(there) > 0 && !i.skipExisting {
		return i.alreadyIn(r, there, len(keys))
	}
	for _, m := range there {
		i.a.notice("%s is in %s already, as %s", m.Name, r.Subject(), m.Role)
	}
	keys = slices.DeleteFunc(keys, func(key unibus.PublicKey) bool {
		return slices.ContainsFunc(there, func(m memberJSON) bool { return m.Key == key })
	})
	if len(keys) > 0 {
		if err := retryUntilKnown(ctx, i.wait, func() error { return r.Invite(ctx, i.role, keys...) }); err != nil {
			return noneOf(names, err, "invited")
		}
	}
	done := newMembersJSON(r)
	done.Invited, done.Skipped = membersOf(r, keys), there
	if len(keys) > 0 {
		i.a.notice("invited %s to %s as %s", namesOf(done.Invited), r.Subject(), i.role)
	}
	return i.a.out.value(done, func() {})
}

// noneOf says of an error that is about one of several that none of them was treated so: all are, or none. Of an error that
// leaves open what became of it nothing is said.
func noneOf(names []string, err error, treated string) error {
	refused := errors.Is(err, unibus.ErrNotFound) || errors.Is(err, unibus.ErrDenied) || errors.Is(err, unibus.ErrInvalid) || errors.As(err, new(usageError))
	if len(names) > 1 && refused {
		return fmt.Errorf("%w; nobody was %s", err, treated)
	}
	return err
}

// formerMember adds to the error of a user who was revoked how they are removed from a room that they are still in, and takes
// from it how they are let in again, which is not what whoever removes them wants.
func formerMember(r *unibus.Room, err error) error {
	help := remedy.Of(err)
	if help.Kind != remedy.AllowFormer {
		return err
	}
	if membersOf(r, []unibus.PublicKey{help.Key}) == nil {
		return hinted(fmt.Errorf("%w, and is not in %s", err, r.Subject()), hintMembers(r.Subject()))
	}
	return hinted(err, hintKick(r.Subject(), help.Key))
}

// alreadyIn is the ErrExists of an invitation of some who are in the room.
func (i *inviteCommand) alreadyIn(r *unibus.Room, there []memberJSON, of int) error {
	if of == 1 {
		return hinted(fmt.Errorf("%s: %w: in the room already, as %s", there[0].Name, unibus.ErrExists, there[0].Role), hintInRoom(r.Subject(), there[0].Name))
	}
	for _, m := range there {
		i.a.err.print("unibus: %s: in %s already, as %s\n", m.Name, r.Subject(), m.Role)
	}
	return hinted(fmt.Errorf("invite: %w: %d of %d; nobody was invited", unibus.ErrExists, len(there), of), hintInviteOthers)
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
		Use: "kick ROOM USER…", Short: "Remove members and renew the key", Args: cobra.MinimumNArgs(2), ValidArgsFunction: completer{a}.roomThen(members),
		Example: `  unibus kick ops.alerts bob
  unibus rooms ls --member bob -o json | jq -r '.[].subject' |
    xargs -I{} unibus kick {} bob`,
		RunE: a.room(k.run),
	}
}

// run removes them, and renews the key, in one entry.
func (k *kickCommand) run(ctx context.Context, c *unibus.Client, r *unibus.Room, names []string) error {
	keys, err := userKeys(ctx, c, names)
	if err != nil {
		return noneOf(names, formerMember(r, err), "removed")
	}
	before, gone := r.Members(), membersOf(r, keys)
	if err := r.Kick(ctx, keys...); err != nil {
		return noneOf(names, err, "removed")
	}
	done := newMembersJSON(r)
	done.Removed = slices.Clone(gone)
	for _, m := range endedSince(ctx, c, r, before) {
		if !slices.Contains(keys, m.Key) {
			done.Removed = append(done.Removed, m)
		}
	}
	k.a.notice("removed %s from %s, now at epoch %d", namesOf(gone), r.Subject(), done.Epoch)
	return k.a.out.value(done, func() {})
}

// leaveCommand is leave, which has no flags.
type leaveCommand struct{ a *app }

// newLeave makes leave.
func newLeave(a *app) *cobra.Command {
	l := &leaveCommand{a: a}
	return &cobra.Command{
		Use: "leave ROOM", Short: "Leave a room", Args: cobra.ExactArgs(1), ValidArgsFunction: completer{a}.rooms,
		Annotations: map[string]string{annotationAsks: "whether to leave"},
		Example: `  unibus leave ops.alerts
  unibus role ops.alerts bob owner && unibus leave ops.alerts`,
		RunE: a.room(l.run),
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
	return l.a.out.value(r.Info(), func() {})
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
		Example: `  unibus role ops.alerts bob admin
  unibus role ops.alerts bob reader`,
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
	done := newMembersJSON(r)
	done.Changed = membersOf(r, keys)
	o.a.notice("%s is now %s of %s", args[0], o.role, r.Subject())
	return o.a.out.value(done, func() {})
}

// membersCommand is members and its flags.
type membersCommand struct {
	a *app
	// full shows keys whole on a terminal, too.
	full bool
}

// newMembers makes members.
func newMembers(a *app) *cobra.Command {
	m := &membersCommand{a: a}
	c := &cobra.Command{
		Use: "members ROOM | FILE [ROOM]", Short: "List a room's members, or who was one when", Args: cobra.RangeArgs(1, 2), ValidArgsFunction: completer{a}.roomsOrFile,
		Long: "List the members of a room.\n\nOf a FILE that unibus verify --export or unibus backup wrote it lists who was in which of its rooms, or in that\nROOM, when and as what, who let them in and who took them out; with --bus behind it the same of the allowlist.\nThat takes no server and no identity: all logs are verified. Times are what the authors of entries say, names those\nthat people had then. UNTIL is empty for who was still in where the log ends: also for a member whom\nthe allowlist, which counts beside it, let in to the bus no more.",
		Example: `  unibus members ops.alerts
  unibus members ops.alerts -o json |
    jq -r '.[] | select(.active | not) | .name'
  unibus members audit.ub ops.alerts
  unibus members audit.ub --bus`,
		PreRunE: func(cmd *cobra.Command, args []string) error {
			switch file := namesFile(args); {
			case !file && len(args) == 2 && namesFile(args[1:]):
				return hinted(usage("members %s: the FILE comes first", args[0]), hintFileFirst(cmd, args))
			case !file && len(args) == 2:
				return hinted(usage("members %s: it is no export and no backup", args[0]), hintUseLine(cmd))
			case busAlone(cmd) && (!file || len(args) == 2):
				return usage("members: --bus alone is for the allowlist of a FILE")
			}
			return nil
		},
		RunE: roomOrFile(m.runFile, a.room(m.run)),
	}
	a.set.defineBusAlone(c, "of a FILE the allowlist", completer{a}.anyBus)
	defineFull(c, &m.full, "keys")
	return c
}

// membersInOrder lists members: those who manage the room first, then by name, numbers in it by what they count.
func membersInOrder(r *unibus.Room) []unibus.Member {
	rank := []unibus.Role{unibus.RoleOwner, unibus.RoleAdmin, unibus.RoleMember, unibus.RoleReader}
	list := r.Members()
	slices.SortStableFunc(list, func(x, y unibus.Member) int {
		return cmp.Or(cmp.Compare(slices.Index(rank, x.Role), slices.Index(rank, y.Role)), sortorder.NaturalCompare(x.Name, y.Name))
	})
	return list
}

// run lists who is in a room, also those who may not connect any more and have not been removed.
func (m *membersCommand) run(_ context.Context, c *unibus.Client, r *unibus.Room, _ []string) error {
	list := membersInOrder(r)
	return m.a.out.value(list, func() {
		short := shortUsers(m.a.out, m.full, c)
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
			rows = append(rows, []string{member.Name, string(member.Role), state, short(member.Key.String())})
		}
		m.a.out.table([]string{"NAME", "ROLE", "STATE", "KEY"}, rows)
	})
}
