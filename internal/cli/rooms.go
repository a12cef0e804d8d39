package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/fvbommel/sortorder"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/errlist"
)

// Many rooms at once: rooms ls finds them, rekey renews the keys of those that are named or stale.

// newRooms makes the group rooms, which by itself is rooms ls.
func newRooms(a *app) *cobra.Command {
	c := newGroup("rooms", "List my rooms", roomsLsExample, newRoomsLs(a))
	(&roomsLsCommand{a: a}).define(c)
	return c
}

// roomsLsLong says what a room is called, since here is where people see it.
const roomsLsLong = "List the rooms that you are in. A room is named by its subject, by its id, or by how that begins: at least six\ncharacters of one that you have made, and twelve of any other, if that is not the subject of another room."

// roomsLsCommand is rooms ls and its flags.
type roomsLsCommand struct {
	a *app
	// all is every room of the bus, which admins may see.
	all bool
	// member is whose rooms are listed; empty: mine.
	member string
	// full shows ids whole on a terminal, too.
	full bool
	// filters are what a room has to be, all of them, to be listed.
	filters []roomFilter
}

// roomFilter reports whether a room is to be listed.
type roomFilter func(unibus.RoomInfo) bool

// roomFilters are those that have a name.
var roomFilters = map[string]roomFilter{
	"stale":     func(i unibus.RoomInfo) bool { return i.Stale },
	"archived":  func(i unibus.RoomInfo) bool { return i.Archived },
	"encrypted": func(i unibus.RoomInfo) bool { return i.Policy.Encrypted() },
	"stored":    func(i unibus.RoomInfo) bool { return i.Policy.Stored() },
}

// parseRoomFilters reads filters with commas between them: a name, role=ROLE, or a subject, which may be a pattern; each with
// ! before it for the rooms that are not so.
func parseRoomFilters(text string) (list []roomFilter, err error) {
	for one := range strings.SplitSeq(text, ",") {
		word, not := strings.CutPrefix(one, "!")
		role, isRole := strings.CutPrefix(word, "role=")
		filter, named := roomFilters[word]
		switch {
		case isRole:
			if _, err := parseRole(role); err != nil {
				return nil, instead("role="+nearest(role, roomRoles), err.Error())
			}
			filter = func(i unibus.RoomInfo) bool { return string(i.Role) == role }
		case !named:
			if _, err := unibus.Matches(word, "x"); err != nil {
				return nil, instead("stale", "neither stale, archived, encrypted or stored, nor role=ROLE, nor a subject or a pattern (ops.>)")
			}
			filter = func(i unibus.RoomInfo) bool { ok, _ := unibus.Matches(word, i.Subject); return ok } // it is a pattern
		}
		list = append(list, func(i unibus.RoomInfo) bool { return filter(i) != not })
	}
	return list, nil
}

// roomsLsExample is of rooms and of rooms ls, which are the same.
const roomsLsExample = `  unibus rooms ls
  unibus rooms ls --filter 'ops.>,!archived'
  unibus rooms ls --filter role=owner -o json | jq -r '.[].subject'
  unibus rooms ls --member bob`

// newRoomsLs makes rooms ls.
func newRoomsLs(a *app) *cobra.Command {
	c := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List my rooms", Args: cobra.NoArgs, Long: roomsLsLong, Example: roomsLsExample}
	(&roomsLsCommand{a: a}).define(c)
	return c
}

// define has a command list rooms, and adds the flags for that.
func (l *roomsLsCommand) define(c *cobra.Command) {
	c.PreRunE = func(*cobra.Command, []string) error {
		if l.all && l.member != "" {
			return superfluous("all", "--all or --member, not both")
		}
		return nil
	}
	c.RunE = l.a.client(l.run)
	c.Flags().BoolVar(&l.all, "all", false, "every room of the bus (for admins)")
	c.Flags().StringVar(&l.member, "member", "", "the rooms of `USER` (for admins)")
	c.Flags().Var(newValue(&l.filters, parseRoomFilters), "filter", "only rooms that are stale, archived, encrypted or stored, have role=ROLE, or whose subject matches a `PATTERN`; ! before one: those that are not; several with commas")
	defineFull(c, &l.full, "ids")
	_ = c.RegisterFlagCompletionFunc("member", completer{l.a}.users) // the flag exists
	completeValues(c, "filter", "stale", "archived", "encrypted", "stored", "role=owner", "role=admin")
}

// run lists rooms by subject, numbers in them by what they count. With --member the role that is shown is theirs.
func (l *roomsLsCommand) run(ctx context.Context, c *unibus.Client, _ []string) error {
	rooms, lost := l.chosen(ctx, c)
	if len(rooms) == 0 && lost != nil {
		return lost
	}
	var err error
	var whose unibus.User // rooms these are, so that is whose role is shown
	if l.member != "" {
		if whose, err = c.User(ctx, l.member); err != nil {
			return err
		}
	}
	list := []unibus.RoomInfo{}
	ids := make([]string, len(rooms)) // of all of them, since one is named among all
	for i, r := range rooms {
		info := r.Info()
		ids[i] = info.ID.String()
		if l.member != "" {
			info.Role = roleOf(r, whose.Key)
		}
		if !slices.ContainsFunc(l.filters, func(f roomFilter) bool { return !f(info) }) {
			list = append(list, info)
		}
	}
	slices.SortFunc(list, func(x, y unibus.RoomInfo) int { return sortorder.NaturalCompare(x.Subject, y.Subject) })
	err = l.a.out.value(list, func() { l.print(list, shortRoom(l.a.out.shortened(l.full, ids), c.Key())) })
	return cmp.Or(lost, err) // what is there is listed all the same
}

// chosen are the rooms that the flags name.
func (l *roomsLsCommand) chosen(ctx context.Context, c *unibus.Client) ([]*unibus.Room, error) {
	switch {
	case l.all:
		return c.AllRooms(ctx)
	case l.member != "":
		u, err := c.User(ctx, l.member)
		if err != nil {
			return nil, err
		}
		return c.RoomsOf(ctx, u.Key)
	}
	return c.MyRooms(ctx)
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

// print prints rooms, or says that there are none, and what would help.
func (l *roomsLsCommand) print(list []unibus.RoomInfo, short func(*unibus.RoomInfo) string) {
	switch {
	case len(list) > 0:
		l.table(list, short)
	case len(l.filters) > 0:
		l.a.notice("no rooms match the filter")
	case l.member != "":
		l.a.notice("%s is in no rooms; unibus invite ROOM %s changes that", l.member, l.member)
	default:
		l.a.notice("no rooms; unibus room create SUBJECT makes one")
	}
}

// table prints rooms; on a terminal with as much of an id as names the room.
func (l *roomsLsCommand) table(list []unibus.RoomInfo, short func(*unibus.RoomInfo) string) {
	var rows [][]string
	for _, room := range list {
		rows = append(rows, []string{room.Subject, string(room.Role), strconv.Itoa(room.Members), number(uint64(room.Epoch)), roomState(&room), short(&room)})
	}
	l.a.out.table([]string{"ROOM", "ROLE", "MEMBERS", "EPOCH", "STATE", "ID"}, rows)
}

// shortRoom cuts a room's id as short does, but of rooms that others than me have made to what names them.
func shortRoom(short func(id string) string, me unibus.PublicKey) func(*unibus.RoomInfo) string {
	return func(room *unibus.RoomInfo) string {
		id := room.ID.String()
		if room.Creator == me {
			return short(id)
		}
		return id[:max(len(short(id)), unibus.PrefixOfOthers)]
	}
}

// roomState is what is special about a room, in words with commas between them; empty for nothing.
func roomState(room *unibus.RoomInfo) string {
	var words []string
	for _, one := range []struct {
		is   bool
		word string
	}{{room.Stale, "stale"}, {room.Archived, "archived"}, {!room.Policy.Encrypted(), "plain"}} {
		if one.is {
			words = append(words, one.word)
		}
	}
	return strings.Join(words, ",")
}

// rekeyCommand is rekey and its flags.
type rekeyCommand struct {
	a *app
	// stale is every room of mine whose key someone holds who no longer should, all every one that I may rekey. Neither
	// goes with rooms that are named.
	stale, all bool
}

// newRekey makes rekey, which takes either rooms or one of its flags: with neither, all keys would be renewed by who
// forgot a name.
func newRekey(a *app) *cobra.Command {
	r := &rekeyCommand{a: a}
	c := &cobra.Command{
		Use: "rekey ROOM… | --stale | --all", Short: "Renew rooms' keys for the present members", ValidArgsFunction: completer{a}.rooms,
		Long: "Begin a new epoch of rooms that you own or administrate: only present members get its key. Members whose access to\nthe bus has ended, and whom you may remove, are removed with that, and named: whoever gets it back has to be invited again.",
		Example: `  unibus rekey ops.alerts
  unibus rekey --stale
  unibus rekey --all -o json | jq -r '.[] | "\(.subject) \(.epoch)"'`,
		PreRunE: func(_ *cobra.Command, args []string) error {
			const one = "rekey: rooms, or --stale, or --all"
			switch {
			case r.stale && (len(args) > 0 || r.all):
				return hinted(usage(one), hintRekeyStale)
			case len(args) > 0 && r.all:
				return superfluous("all", one)
			case len(args) == 0 && !r.stale && !r.all:
				return usage(one)
			}
			return nil
		},
		RunE: a.client(r.run),
	}
	c.Flags().BoolVar(&r.stale, "stale", false, "every room of mine whose key someone still holds who no longer should")
	c.Flags().BoolVar(&r.all, "all", false, "every encrypted room that I own or administrate")
	return c
}

// rekeyedJSON is a room with its new key, and who was removed with it.
type rekeyedJSON struct {
	unibus.RoomInfo
	Removed []memberJSON `json:"removed,omitempty"`
}

// run renews as many as it can, prints those, and fails with what kept the others from it. Whom a new key leaves out, the
// library tells.
func (r *rekeyCommand) run(ctx context.Context, c *unibus.Client, names []string) error {
	rooms, errs := r.chosen(ctx, c, names)
	if len(rooms) == 0 && errs != nil {
		return errs
	}
	done := []rekeyedJSON{}
	for _, room := range rooms {
		before := room.Members()
		if err := room.Rekey(ctx); err != nil {
			errs = errlist.Join(errs, err)
			continue
		}
		done = append(done, rekeyedJSON{room.Info(), endedSince(ctx, c, room, before)})
	}
	return errlist.Join(errs, r.a.out.value(done, func() {
		if len(rooms) == 0 {
			r.a.notice("no rooms to rekey")
		}
		for _, room := range done {
			fmt.Fprintf(r.a.out, "%s epoch %d\n", room.Subject, room.Epoch)
		}
	}))
}

// chosen are the rooms that are named, or else the encrypted ones whose key the caller may renew; beside ErrIntegrity those that
// are there.
func (r *rekeyCommand) chosen(ctx context.Context, c *unibus.Client, names []string) ([]*unibus.Room, error) {
	if len(names) > 0 {
		return namedRooms(ctx, c, names)
	}
	var rooms []*unibus.Room
	mine, err := c.MyRooms(ctx)
	for _, room := range mine {
		// Those whose key cannot be renewed, or need not be, are passed over: nobody named them.
		i := room.Info()
		if i.Role.Manages() && i.Policy.Encrypted() && !i.Archived && (i.Stale || !r.stale) {
			rooms = append(rooms, room)
		}
	}
	return rooms, err
}

// namedRooms are the rooms of these names. Beside ErrIntegrity, of some that are lost, come the others; a name that is wrong makes
// all of them so, since who misspelled it may have meant something else.
func namedRooms(ctx context.Context, c *unibus.Client, names []string) (rooms []*unibus.Room, err error) {
	wrong := false
	for _, name := range names {
		r, rerr := c.Room(ctx, name)
		if rerr == nil {
			rooms = append(rooms, r)
		}
		wrong = wrong || rerr != nil && !errors.Is(rerr, unibus.ErrIntegrity)
		err = errlist.Join(err, rerr)
	}
	if wrong {
		return nil, err
	}
	return rooms, err
}
