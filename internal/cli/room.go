package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/fvbommel/sortorder"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/remedy"
)

// One room: making it, changing it, looking at it and ending it. What its owner decides is in policy.go, who is in it in
// members.go.

// newRoom makes the group room.
func newRoom(a *app) *cobra.Command {
	// One who types room ls means rooms ls, and gets it. Help, completions and man pages have the one name only.
	ls := newRoomsLs(a)
	ls.Hidden = true
	return newGroup("room", "Make, look at and end rooms", `  unibus room create ops.alerts
  unibus room show ops.alerts
  unibus room set ops.alerts --retain 90d`,
		newRoomCreate(a), newRoomSet(a), newRoomShow(a), newRoomArchive(a), ls)
}

// roomCreateCommand is room create and its flags.
type roomCreateCommand struct {
	a *app
	policyFlags
}

// newRoomCreate makes room create. Encryption is decided here and never again, which is why room set has no --plain.
func newRoomCreate(a *app) *cobra.Command {
	r := &roomCreateCommand{a: a}
	c := &cobra.Command{
		Use: "create SUBJECT", Short: "Make a room and print its id", Args: cobra.ExactArgs(1),
		Annotations: map[string]string{annotationFounds: "a bus, in an empty store"},
		Long:        "Make a room, with yourself as its owner. Unless told otherwise it is encrypted end to end, shows\nits history to newcomers, and stores 30 days and at most 1 GiB.",
		Example: `  unibus room create ops.alerts
  unibus room create ops.audit --retain 365d --history joined
  unibus room create ops.live --retain none`,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return r.check(cmd.Flags().Changed("max-bytes")) },
		RunE:    a.client(r.run),
	}
	r.define(c)
	c.Flags().BoolVar(&r.plain, "plain", false, "sign only, without encryption")
	return c
}

// run makes the room and prints its id. ErrExists when the subject is taken.
func (r *roomCreateCommand) run(ctx context.Context, c *unibus.Client, args []string) error {
	room, err := c.CreateRoom(ctx, args[0], r.policy())
	if errors.Is(err, unibus.ErrExists) {
		return taken(ctx, c, args[0], err)
	}
	if errors.Is(err, unibus.ErrInvalid) && remedy.Of(err).Kind == remedy.None {
		return hinted(err, hintSubject(args[0]))
	}
	if err != nil {
		return err
	}
	r.tellRekey(&r.a.console)
	return r.a.out.value(room.Info(), func() { fmt.Fprintln(r.a.out, room.ID()) })
}

// taken adds what helps with a subject that is taken: another one, or the room that has it, if the caller is in that.
func taken(ctx context.Context, c *unibus.Client, subject string, err error) error {
	r, rerr := c.Room(ctx, subject)
	if rerr != nil || r.Subject() != subject || r.Info().Role == "" || r.Info().Archived {
		return hinted(err, hintOtherSubject)
	}
	return hinted(err, hintShowRoom(subject))
}

// roomSetCommand is room set and its flags.
type roomSetCommand struct {
	a *app
	policyFlags
	anew bool
}

// newRoomSet makes room set.
func newRoomSet(a *app) *cobra.Command {
	s := &roomSetCommand{a: a}
	c := &cobra.Command{
		Use: "set ROOM --FLAG…", DisableFlagsInUseLine: true, Short: "Change what a room stores, shows and hides", Args: cobra.ExactArgs(1), ValidArgsFunction: completer{a}.rooms,
		Annotations: map[string]string{annotationAsks: "whether to remove what is stored"},
		Long: `Change a room that you own. What is not named stays as it is; encryption stays in any case. A room that is to
store nothing loses what it has stored, and one with narrower limits what is beyond them.

--anew says for everyone that what the room had stored is gone, and that this was meant: a bus that was restored or
migrated has no messages, and whoever had read or written some would be told so with every command.`,
		Example: "  unibus room set ops.alerts --retain 30d --max-bytes 4GiB\n  unibus room set ops.alerts --anew",
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if !named(cmd) {
				return hinted(usage("room set: name what is to change: --retain, --max-bytes, --history, --pad, --rekey-after or --anew"), hintUseLine(cmd))
			}
			return nil
		},
		RunE: a.room(s.run),
	}
	s.define(c)
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.NoOptDefVal == "" {
			f.DefValue = "" // what is not named stays
		}
	})
	c.Flags().BoolVar(&s.anew, "anew", false, "what was stored is gone, and that was meant")
	return c
}

// run changes what was named, in one entry. What is checked against the room is checked here, since the flags alone do not
// tell whether it is encrypted, or stores anything that could be lost.
func (s *roomSetCommand) run(ctx context.Context, _ *unibus.Client, r *unibus.Room, _ []string) error {
	a := s.a
	changed := a.cmd.Flags().Changed
	// What has no effect in a room without encryption is refused as it is for a new one.
	s.plain = !r.Info().Policy.Encrypted()
	if err := s.check(changed("max-bytes")); err != nil {
		return err
	}
	if err := s.confirmLoss(ctx, r); err != nil {
		return err
	}
	err := r.SetPolicy(ctx, func(p *unibus.PolicyChange) {
		s.change(&p.Policy, changed)
		p.Anew = s.anew
	})
	if err != nil {
		return err
	}
	a.notice("%s: %s", r.Subject(), r.Info().Policy)
	if s.anew {
		a.notice("%s begins anew: nobody is told any more that something is missing of what it had stored", r.Subject())
	}
	s.tellRekey(&a.console)
	return a.out.value(r.Info(), func() {})
}

// confirmLoss asks before anything is removed that the room has stored: all of it, or what is beyond narrower limits.
func (s *roomSetCommand) confirmLoss(ctx context.Context, r *unibus.Room) error {
	if r.Info().Role != unibus.RoleOwner { // it would be refused however it was answered
		return notOwner(r, "changes the policy")
	}
	before := r.Info().Policy
	after := before
	s.change(&after, s.a.cmd.Flags().Changed)
	switch {
	case before.Retain == nil:
		return nil
	case after.Retain == nil:
		return s.a.confirm("remove what " + r.Subject() + " has stored")
	case !narrower(before.Retain.Age, after.Retain.Age) && !narrower(before.Retain.Bytes, after.Retain.Bytes):
		return nil
	}
	stored, err := unibus.StoredIn(ctx, r)
	if err == nil && stored != nil {
		// What is not too old yet will be sooner than whoever sent it was told.
		large := narrower(before.Retain.Bytes, after.Retain.Bytes) && stored.Bytes > uint64(after.Retain.Bytes)
		old := narrower(before.Retain.Age, after.Retain.Age) && stored.Frames > 0
		if !large && !old {
			return nil
		}
	}
	return s.a.confirm("remove what " + r.Subject() + " has stored beyond that")
}

// notOwner is the ErrDenied of what only an owner does.
func notOwner(r *unibus.Room, does string) error {
	return hinted(fmt.Errorf("room %s: %w: only an owner %s", r.Subject(), unibus.ErrDenied, does), hintOwners(r.Subject()))
}

// narrower reports whether a limit is below the one before; 0 is none.
func narrower(before, after unibus.Number) bool { return after > 0 && (before == 0 || after < before) }

// named reports whether the command line names anything that is to change.
func named(cmd *cobra.Command) (named bool) {
	cmd.LocalNonPersistentFlags().VisitAll(func(flag *pflag.Flag) { named = named || flag.Changed })
	return named
}

// roomShowCommand is room show and its flags.
type roomShowCommand struct {
	a *app
	// full shows the keys of others whole on a terminal, too.
	full bool
}

// newRoomShow makes room show.
func newRoomShow(a *app) *cobra.Command {
	s := &roomShowCommand{a: a}
	c := &cobra.Command{
		Use: "show ROOM", Short: "Show a room, and what it has stored", Args: cobra.ExactArgs(1), ValidArgsFunction: completer{a}.rooms,
		Long: "Show a room as its log says, which is verified; and, as the server says, how much it has stored, since when, and\nwho wrote it. That is not read for it, and not verified: unibus verify ROOM does. What is counted are frames,\neach of which holds some messages, a piece of a large one, or that its writer has ended.",
		Example: `  unibus room show ops.alerts
  unibus room show ops.alerts -o json | jq .policy
  unibus room show ops.alerts -o json | jq -r '.stored.writers[].name'`,
		RunE: a.room(s.run),
	}
	defineFull(c, &s.full, "keys of others")
	return c
}

// shownRoomJSON is a room with what it has stored, as scripts see it.
type shownRoomJSON struct {
	unibus.RoomInfo
	Stored *unibus.Stored `json:"stored,omitempty"`
}

// run prints a room as its log says, and what the server says it has stored. That this could not be learned is no failure:
// the room is known.
func (s *roomShowCommand) run(ctx context.Context, c *unibus.Client, r *unibus.Room, _ []string) error {
	stored, err := unibus.StoredIn(ctx, r)
	if err != nil {
		s.a.notice("what the room has stored was not learned: %v", err)
	}
	shown := shownRoomJSON{r.Info(), stored}
	return s.a.out.value(shown, func() { s.print(c, &shown) })
}

// print prints names and values, and below them who has written.
func (s *roomShowCommand) print(c *unibus.Client, room *shownRoomJSON) {
	info, short := room.RoomInfo, shortUsers(s.a.out, s.full, c)
	creator := short(info.Creator.String())
	for _, u := range c.Users() {
		if u.Key == info.Creator {
			creator = u.Name
		}
	}
	pairs := []string{
		"subject", info.Subject, "id", info.ID.String(), "my role", string(info.Role),
		"members", strconv.Itoa(info.Members), "encryption", info.Policy.Encryption, "history", info.Policy.History,
		"stores", info.Policy.Retain.String(), "padding", yesOrEmpty(info.Policy.Pad), "rekey after", info.Policy.RekeyAfter.String(),
		"epoch", number(uint64(info.Epoch)), "log entries", number(info.Seq),
		"stale", yesOrEmpty(info.Stale), "archived", yesOrEmpty(info.Archived), "created", formatTime(info.Created) + " by " + creator,
	}
	if room.Stored == nil {
		s.a.out.pairs(pairs...)
		return
	}
	s.a.out.pairs(append(pairs, storedPairs(room.Stored)...)...)
	if len(room.Stored.Writers) > 0 {
		fmt.Fprintln(s.a.out)
		writerTable(s.a.out, room.Stored.Writers, short)
	}
}

// storedPairs are what a room has stored, as names and values. It is the only part of a room that is not verified, and
// says so.
func storedPairs(stored *unibus.Stored) []string {
	if stored.Frames == 0 {
		return []string{"stored", "nothing yet, as the server says"}
	}
	at := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return formatTime(*t)
	}
	return []string{
		"stored", fmt.Sprintf("%s, %s, as the server says", english.Plural(int(stored.Frames), "frame", ""), humanize.IBytes(stored.Bytes)),
		"first", at(stored.First), "last", at(stored.Last),
	}
}

// writerTable prints who has written what is stored, by name.
func writerTable(out *output, writers []unibus.StoredWriter, short func(key string) string) {
	writers = slices.Clone(writers)
	slices.SortStableFunc(writers, func(x, y unibus.StoredWriter) int { return sortorder.NaturalCompare(x.Name, y.Name) })
	rows := make([][]string, len(writers))
	for i, w := range writers {
		last := ""
		if w.Last != nil {
			last = formatTime(*w.Last)
		}
		rows[i] = []string{cmp.Or(w.Name, short(w.Key.String())), cmp.Or(string(w.Role), "former"), number(w.Frames), last}
	}
	out.table([]string{"WRITER", "ROLE", "FRAMES", "LAST WROTE"}, rows)
}

// roomArchiveCommand is room archive, which has no flags.
type roomArchiveCommand struct{ a *app }

// newRoomArchive makes room archive.
func newRoomArchive(a *app) *cobra.Command {
	e := &roomArchiveCommand{a: a}
	return &cobra.Command{
		Use: "archive ROOM", SuggestFor: []string{"delete", "rm", "remove", "close", "end"}, Short: "End a room for good", Args: cobra.ExactArgs(1), ValidArgsFunction: completer{a}.rooms,
		Annotations: map[string]string{annotationAsks: "whether to archive it"},
		Long:        "End a room: nothing can be published or changed in it any more. What it stores can be read until\nit expires. There is no way back, and its subject stays taken.",
		Example: `  unibus room archive ops.old
  unibus room archive ops.old --yes`,
		RunE: a.room(e.run),
	}
}

// run ends a room, after asking: there is no way back.
func (e *roomArchiveCommand) run(ctx context.Context, _ *unibus.Client, r *unibus.Room, _ []string) error {
	if r.Info().Role != unibus.RoleOwner { // it would be refused however it was answered
		return notOwner(r, "archives the room")
	}
	if err := e.a.confirm("archive " + r.Subject() + " for good"); err != nil {
		return err
	}
	if err := r.Archive(ctx); err != nil {
		return err
	}
	e.a.notice("archived %s", r.Subject())
	return e.a.out.value(r.Info(), func() {})
}
