package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/unibus/unibus"
)

func (a *app) roomCmd() *cobra.Command {
	return group("room", "Make, look at and end rooms", a.roomCreateCmd(), a.roomSetCmd(), a.roomShowCmd(), a.roomArchiveCmd())
}

// policyFlags are what a room's owner decides about it.
type policyFlags struct {
	retain     retention
	bytes      uint64
	history    string
	plain, pad bool
	rekey      unibus.RekeyAfter
}

func (a *app) roomCreateCmd() *cobra.Command {
	var p policyFlags
	c := &cobra.Command{
		Use: "create SUBJECT", Short: "Make a room and print its id", Args: cobra.ExactArgs(1),
		Annotations: map[string]string{founds: "a bus, in an empty store"},
		Long:        "Make a room, with yourself as its owner. Unless told otherwise it is encrypted end to end, shows\nits history to newcomers, and stores 30 days and at most 1 GiB.",
		PreRunE:     func(cmd *cobra.Command, _ []string) error { return p.check(cmd.Flags().Changed("max-bytes")) },
		RunE: a.client(func(ctx context.Context, c *unibus.Client, args []string) error {
			r, err := c.CreateRoom(ctx, args[0], p.policy())
			if err != nil {
				return err
			}
			p.tell(a)
			return a.out.value(r.Info(), func() { fmt.Fprintln(a.out, r.ID()) })
		}),
	}
	p.define(a, c)
	c.Flags().BoolVar(&p.plain, "plain", false, "sign only, without encryption")
	return c
}

// define adds the flags of a policy that may change.
func (f *policyFlags) define(a *app, c *cobra.Command) {
	flags := c.Flags()
	flags.Var(newDefault(&f.retain, "720h", parseRetention), "retain", "how long messages are stored: a `DURATION`, 0 for ever, or none to store nothing")
	flags.Var(newDefault(&f.bytes, "1GiB", byteSize), "max-bytes", "the most that is stored: a `SIZE` of at least 4KiB, 0 for no limit")
	flags.Var(newDefault(&f.history, "shared", oneOf("shared", "joined")), "history", "what newcomers may read: shared (all that was stored while it is so) or joined (from then on)")
	flags.BoolVar(&f.pad, "pad", false, "hide the sizes of messages")
	flags.Var(newValue(&f.rekey, parseRekeyAfter), "rekey-after", "renew the key after so many messages (10000m, counted by each process), or so long (720h); 0: only when asked to")
	a.complete(c, "history", "shared", "joined")
}

func (a *app) roomSetCmd() *cobra.Command {
	var f policyFlags
	var anew bool
	c := &cobra.Command{
		Use: "set ROOM", Short: "Change what a room stores, shows and hides", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeRooms,
		Annotations: map[string]string{asks: "whether to remove what is stored"},
		Long: `Change a room that you own. What is not named stays as it is; encryption stays in any case. A room that is to
store nothing loses what it has stored.

--anew says for everyone that what the room had stored is gone, and that this was meant: a bus that was restored or
migrated has no messages, and whoever had read or written some would be told so with every command.`,
		Example: "  unibus room set ops.alerts --retain 30d --max-bytes 4GiB\n  unibus room set ops.alerts --anew",
	}
	f.define(a, c)
	c.Flags().BoolVar(&anew, "anew", false, "what was stored is gone, and that was meant")
	c.RunE = a.room(func(ctx context.Context, _ *unibus.Client, r *unibus.Room, _ []string) error {
		changed := func(flag string) bool { return c.Flags().Changed(flag) }
		edit := func(p *unibus.Policy) { f.change(p, changed) }
		set := r.SetPolicy
		if anew {
			set = r.BeginAnew
		}
		named := false
		c.LocalNonPersistentFlags().VisitAll(func(flag *pflag.Flag) { named = named || flag.Changed })
		if !named {
			return usage("room set: name what is to change: --retain, --max-bytes, --history, --pad, --rekey-after or --anew")
		}
		f.plain = !r.Info().Policy.Encrypted()
		if err := f.check(changed("max-bytes")); err != nil {
			return err
		}
		if f.retain.none && r.Info().Policy.Stored() {
			if err := a.confirm("remove what " + r.Subject() + " has stored"); err != nil {
				return err
			}
		}
		if err := set(ctx, edit); err != nil {
			return err
		}
		a.notice("%s: %s", r.Subject(), r.Info().Policy)
		if anew {
			a.notice("%s begins anew: nobody is told any more that something is missing of what it had stored", r.Subject())
		}
		f.tell(a)
		return nil
	})
	return c
}

// tell says what an m is: elsewhere it is a minute.
func (f *policyFlags) tell(a *app) {
	if n := f.rekey.Messages; n > 0 {
		a.notice("its key is renewed after %s, counted by each process that writes or reads", english.Plural(int(n), "message", ""))
	}
}

// change makes of a room's policy what the flags that were given say.
func (f *policyFlags) change(p *unibus.Policy, given func(flag string) bool) {
	if given("history") {
		p.History = f.history
	}
	if given("pad") {
		p.Pad = f.pad
	}
	if given("rekey-after") {
		p.RekeyAfter = f.rekey
	}
	switch {
	case given("retain") && f.retain.none:
		p.Retain = nil
		return
	case p.Retain == nil && (given("retain") || given("max-bytes")):
		p.Retain = &unibus.Retain{Age: unibus.Number(f.retain.age / time.Second), Bytes: unibus.Number(f.bytes)}
		return
	case p.Retain == nil:
		return
	}
	kept := *p.Retain
	if given("retain") {
		kept.Age = unibus.Number(f.retain.age / time.Second)
	}
	if given("max-bytes") {
		kept.Bytes = unibus.Number(f.bytes)
	}
	p.Retain = &kept
}

// check refuses what would have no effect: who gives it would believe that it has.
func (f *policyFlags) check(sized bool) error {
	const useless = "has no effect in a room without encryption (--plain): there is no key that some have and others have not"
	switch {
	case f.plain && f.rekey != unibus.RekeyAfter{}:
		return usage("--rekey-after %s", useless)
	case f.plain && f.history == "joined":
		return usage("--history joined %s", useless)
	case f.plain && f.pad:
		return usage("--pad has no effect in a room without encryption (--plain): the sizes stand there to be read")
	case f.retain.none && sized:
		return usage("--max-bytes has no effect with --retain none: nothing is stored")
	}
	return nil
}

// policy is a new room's.
func (f *policyFlags) policy() unibus.Policy {
	p := unibus.DefaultPolicy()
	if f.plain {
		p.Encryption = "none"
	}
	p.History, p.Pad, p.RekeyAfter = f.history, f.pad, f.rekey
	if f.retain.none {
		p.Retain = nil
		return p
	}
	p.Retain.Age = unibus.Number(f.retain.age / time.Second)
	p.Retain.Bytes = unibus.Number(f.bytes)
	return p
}

// retention is how long messages are stored.
type retention struct {
	age  time.Duration // 0: for ever
	none bool          // they are not stored at all
}

func parseRetention(text string) (retention, error) {
	if text == "none" {
		return retention{none: true}, nil
	}
	age, err := parseDuration(text)
	if err != nil || age > 0 && age < time.Second {
		return retention{}, errors.New("not a duration of at least a second (720h, 30d), 0 for ever, or none")
	}
	return retention{age: age}, nil
}

// parseRekeyAfter reads a number of messages (10000m) or a duration; 0 for never.
func parseRekeyAfter(s string) (unibus.RekeyAfter, error) {
	var after unibus.RekeyAfter
	if s == "0" {
		return after, nil
	}
	if count, ok := strings.CutSuffix(strings.TrimSuffix(s, "sgs"), "m"); ok { // also as 10000msgs
		if n, err := strconv.ParseUint(count, 10, 53); err == nil && n > 0 {
			after.Messages = unibus.Number(n)
			return after, nil
		}
	}
	d, err := parseDuration(s)
	if err != nil || d < time.Minute {
		return after, errors.New("neither messages (10000m) nor a duration of at least a minute (1800s, 720h, 30d), nor 0 for never")
	}
	after.Age = unibus.Number(d / time.Second)
	return after, nil
}

func (a *app) roomShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show ROOM", Short: "Show a room as its log says", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeRooms,
		RunE: a.room(func(_ context.Context, c *unibus.Client, r *unibus.Room, _ []string) error {
			info := r.Info()
			return a.out.value(info, func() {
				creator := info.Creator.String()
				for _, u := range c.Users() {
					if u.Key == info.Creator {
						creator = u.Name
					}
				}
				a.out.pairs("subject", info.Subject, "id", info.ID.String(), "my role", string(info.Role),
					"members", strconv.Itoa(info.Members), "encryption", info.Policy.Encryption, "history", info.Policy.History,
					"stores", info.Policy.Retain.String(), "padding", yes(info.Policy.Pad), "rekey after", info.Policy.RekeyAfter.String(),
					"epoch", strconv.FormatUint(uint64(info.Epoch), 10), "log entries", strconv.FormatUint(info.Seq, 10),
					"stale", yes(info.Stale), "archived", yes(info.Archived), "created", stamp(info.Created)+" by "+creator)
			})
		}),
	}
}

func (a *app) roomArchiveCmd() *cobra.Command {
	return &cobra.Command{
		Use: "archive ROOM", Short: "End a room for good", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeRooms,
		Annotations: map[string]string{asks: "whether to archive it"},
		Long:        "End a room: nothing can be published or changed in it any more. What it stores can be read until\nit expires. There is no way back, and its subject stays taken.",
		RunE: a.room(func(ctx context.Context, _ *unibus.Client, r *unibus.Room, _ []string) error {
			if err := a.confirm("archive " + r.Subject() + " for good"); err != nil {
				return err
			}
			if err := r.Archive(ctx); err != nil {
				return err
			}
			a.notice("archived %s", r.Subject())
			return nil
		}),
	}
}

func (a *app) roomsCmd() *cobra.Command {
	var all bool
	var member string
	ls := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List my rooms", Args: cobra.NoArgs,
		PreRunE: func(*cobra.Command, []string) error {
			if all && member != "" {
				return usage("--all or --member, not both")
			}
			return nil
		},
		RunE: a.client(func(ctx context.Context, c *unibus.Client, _ []string) error {
			rooms, err := chosenRooms(ctx, c, all, member)
			if err != nil {
				return err
			}
			var whose unibus.User // rooms these are, so that is whose role is shown
			if member != "" {
				if whose, err = c.User(ctx, member); err != nil {
					return err
				}
			}
			list := []unibus.RoomInfo{}
			for _, r := range rooms {
				info := r.Info()
				if member != "" {
					info.Role = roleOf(r, whose.Key)
				}
				list = append(list, info)
			}
			slices.SortFunc(list, func(x, y unibus.RoomInfo) int { return natural(x.Subject, y.Subject) })
			return a.out.value(list, func() { a.roomTable(list) })
		}),
	}
	ls.Flags().BoolVar(&all, "all", false, "every room of the bus (for admins)")
	ls.Flags().StringVar(&member, "member", "", "the rooms of `USER` (for admins)")
	_ = ls.RegisterFlagCompletionFunc("member", a.completeUsers) // the flag exists
	return group("rooms", "Find rooms", ls)
}

// roleOf is the role of a member; empty for who is none.
func roleOf(r *unibus.Room, key unibus.PublicKey) unibus.Role {
	for _, m := range r.Members() {
		if m.Key == key {
			return m.Role
		}
	}
	return ""
}

// roomTable prints rooms, with as much of their ids as tells them apart.
func (a *app) roomTable(list []unibus.RoomInfo) {
	ids := make([]string, len(list))
	for i, room := range list {
		ids[i] = room.ID.String()
	}
	short := abbreviated(ids)
	var rows [][]string
	for i, room := range list {
		note := yes(room.Stale)
		if room.Archived {
			note = "archived"
		}
		rows = append(rows, []string{room.Subject, string(room.Role), strconv.Itoa(room.Members), strconv.FormatUint(uint64(room.Epoch), 10), note, ids[i][:short]})
	}
	a.out.table([]string{"ROOM", "ROLE", "MEMBERS", "EPOCH", "STALE", "ID"}, rows)
}

func chosenRooms(ctx context.Context, c *unibus.Client, all bool, member string) ([]*unibus.Room, error) {
	switch {
	case all:
		return c.AllRooms(ctx)
	case member != "":
		u, err := c.User(ctx, member)
		if err != nil {
			return nil, err
		}
		return c.RoomsOf(ctx, u.Key)
	}
	return c.MyRooms(ctx)
}

func (a *app) inviteCmd() *cobra.Command {
	var role unibus.Role
	var wait time.Duration
	c := &cobra.Command{
		Use: "invite ROOM USER…", Short: "Let users into a room", Args: cobra.MinimumNArgs(2), ValidArgsFunction: a.completeRoomThenUsers,
		RunE: a.room(func(ctx context.Context, c *unibus.Client, r *unibus.Room, names []string) error {
			keys, err := users(ctx, c, names)
			if err != nil {
				return err
			}
			if err := waiting(ctx, wait, func() error { return r.Invite(ctx, role, keys...) }); err != nil {
				return err
			}
			a.notice("invited %s to %s as %s", strings.Join(names, ", "), r.Subject(), role)
			return nil
		}),
	}
	c.Flags().Var(newDefault(&role, "member", parseRole), "role", "member, reader, admin or owner")
	c.Flags().Var(newDefault(&wait, "0s", atLeast0), "wait", "wait so long for users who have never connected")
	a.complete(c, "role", roomRoles...)
	return c
}

// waiting tries again while a user's card is missing, for a while.
func waiting(ctx context.Context, wait time.Duration, invite func() error) error {
	until := time.Now().Add(wait)
	for {
		err := invite()
		if !errors.Is(err, unibus.ErrNotFound) || time.Now().After(until) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// roomRoles are what a member of a room can be.
var roomRoles = []string{string(unibus.RoleMember), string(unibus.RoleReader), string(unibus.RoleAdmin), string(unibus.RoleOwner)}

func parseRole(s string) (unibus.Role, error) {
	if slices.Contains(roomRoles, s) {
		return unibus.Role(s), nil
	}
	return "", errors.New("not a role: one of " + strings.Join(roomRoles, ", "))
}

func (a *app) kickCmd() *cobra.Command {
	return &cobra.Command{
		Use: "kick ROOM USER…", Short: "Remove members and renew the key", Args: cobra.MinimumNArgs(2), ValidArgsFunction: a.completeRoomThenUsers,
		RunE: a.room(func(ctx context.Context, c *unibus.Client, r *unibus.Room, names []string) error {
			keys, err := users(ctx, c, names)
			if err != nil {
				return err
			}
			if err := r.Kick(ctx, keys...); err != nil {
				return err
			}
			a.notice("removed %s from %s, now at epoch %d", strings.Join(names, ", "), r.Subject(), r.Info().Epoch)
			return nil
		}),
	}
}

func (a *app) leaveCmd() *cobra.Command {
	return &cobra.Command{
		Use: "leave ROOM", Short: "Leave a room", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeRooms,
		Annotations: map[string]string{asks: "whether to leave"},
		RunE: a.room(func(ctx context.Context, _ *unibus.Client, r *unibus.Room, _ []string) error {
			if err := a.confirmOnTerminal("leave " + r.Subject()); err != nil {
				return err
			}
			if err := r.Leave(ctx); err != nil {
				return err
			}
			a.notice("left %s", r.Subject())
			return nil
		}),
	}
}

// confirmOnTerminal asks where someone can answer, and goes on where nobody can.
func (a *app) confirmOnTerminal(question string) error {
	if !isTerminal(a.in) || !a.err.terminal {
		return nil
	}
	return a.confirm(question)
}

func (a *app) roleCmd() *cobra.Command {
	return &cobra.Command{
		Use: "role ROOM USER ROLE", Short: "Change a member's role: owner, admin, member, reader", Args: cobra.ExactArgs(3), ValidArgsFunction: a.completeRole,
		RunE: func(cmd *cobra.Command, args []string) error {
			role, err := parseRole(args[2])
			if err != nil {
				return hinted(usage("role %s: %w", args[2], err), "usage: "+cmd.UseLine())
			}
			return a.room(func(ctx context.Context, c *unibus.Client, r *unibus.Room, args []string) error {
				keys, err := users(ctx, c, args[:1])
				if err != nil {
					return err
				}
				if err := r.SetRole(ctx, keys[0], role); err != nil {
					return err
				}
				a.notice("%s is now %s of %s", args[0], role, r.Subject())
				return nil
			})(cmd, args)
		},
	}
}

func (a *app) membersCmd() *cobra.Command {
	return &cobra.Command{
		Use: "members ROOM", Short: "List a room's members", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeRooms,
		RunE: a.room(func(_ context.Context, c *unibus.Client, r *unibus.Room, _ []string) error {
			list := r.Members()
			return a.out.value(list, func() {
				var rows [][]string
				former := map[unibus.PublicKey]string{}
				for _, u := range c.Users() {
					j := newUserJSON(&u)
					former[u.Key] = j.state()
				}
				for _, m := range list {
					state := "active"
					if !m.Active {
						state = former[m.Key] // expired or revoked, as user ls says
					}
					rows = append(rows, []string{m.Name, string(m.Role), state, m.Key.String()})
				}
				a.out.table([]string{"NAME", "ROLE", "STATE", "KEY"}, rows)
			})
		}),
	}
}

func (a *app) rekeyCmd() *cobra.Command {
	var stale, all bool
	c := &cobra.Command{
		Use: "rekey ROOM… | --stale | --all", Short: "Renew rooms' keys for the present members", ValidArgsFunction: a.completeRooms,
		PreRunE: func(_ *cobra.Command, args []string) error {
			if (len(args) > 0) == (stale || all) || stale && all {
				return usage("rekey: rooms, or --stale, or --all")
			}
			return nil
		},
		RunE: a.client(func(ctx context.Context, c *unibus.Client, args []string) error {
			var rooms []*unibus.Room
			var err error
			if len(args) == 0 {
				if rooms, err = managed(ctx, c, stale); err != nil {
					return err
				}
			}
			for _, name := range args {
				r, err := c.Room(ctx, name)
				if err != nil {
					return err
				}
				rooms = append(rooms, r)
			}
			var errs error
			done := []unibus.RoomInfo{}
			for _, r := range rooms {
				if err := r.Rekey(ctx); err != nil {
					errs = errors.Join(errs, err)
					continue
				}
				done = append(done, r.Info())
			}
			return errors.Join(errs, a.out.value(done, func() {
				for _, r := range done {
					fmt.Fprintf(a.out, "%s epoch %d\n", r.Subject, r.Epoch)
				}
			}))
		}),
	}
	c.Flags().BoolVar(&stale, "stale", false, "every room of mine whose key someone still holds who no longer should")
	c.Flags().BoolVar(&all, "all", false, "every encrypted room that I own or administrate")
	return c
}

// managed lists the encrypted rooms whose key the caller may renew.
func managed(ctx context.Context, c *unibus.Client, stale bool) ([]*unibus.Room, error) {
	mine, err := c.MyRooms(ctx)
	if err != nil {
		return nil, err
	}
	var out []*unibus.Room
	for _, r := range mine {
		i := r.Info()
		if i.Role.Manages() && i.Policy.Encrypted() && !i.Archived && (i.Stale || !stale) {
			out = append(out, r)
		}
	}
	return out, nil
}
