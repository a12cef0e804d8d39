package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/fvbommel/sortorder"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/admin"
	"github.com/unibus/unibus/internal/errlist"
)

// verifyCommand is verify and its flags. What it does depends on them: check rooms, the allowlist or a file (verifyfile.go),
// write what was checked to one, or settle what a person has looked into.
type verifyCommand struct {
	a *app
	verifyFlags
	// full shows hashes whole on a terminal, too.
	full bool
}

// verifyFlags say what is verified.
type verifyFlags struct {
	// all is every room of mine; bus is the allowlist, when no room is named beside --bus.
	all, bus bool
	// export is a file to write the logs to, when nothing is wrong with them; empty: none.
	export string
	// frames has the messages of the rooms written there as well, as they are stored.
	frames bool
	// accept is a place, or the beginning of a hash, up to which a person takes what is there for what it is; then nothing
	// is checked. Empty: nothing is accepted.
	accept string
}

// check says what is wrong with them, beside rooms; place says that what is to be accepted is one.
func (v *verifyFlags) check(rooms []string, place bool) error {
	switch {
	case v.all == (len(rooms) > 0) && !v.bus:
		return usage("name the rooms to verify, or say --all, or --bus")
	case v.export != "" && v.accept != "":
		return superfluous("accept", "--export writes what was checked, and --accept checks nothing: one of them")
	case v.frames && v.export == "":
		return usage("--frames is about what --export FILE writes")
	case v.frames && len(rooms) == 0 && !v.all:
		return usage("--frames: name the rooms whose messages are to be exported, or say --all")
	case v.accept != "" && len(rooms) != 1 && !v.bus:
		return usage("--accept is about one room, or the --bus")
	case v.accept != "" && !place && !isHash(v.accept):
		return usage("--accept %q: it is neither a place nor at least 8 digits of a hash", v.accept)
	case v.bus && place:
		return usage("--accept %s: places are those of a room's messages", v.accept)
	}
	return nil
}

// newVerify makes verify.
func newVerify(a *app) *cobra.Command {
	v := &verifyCommand{a: a}
	c := &cobra.Command{
		Use: "verify ROOM… | --all | --bus | FILE", Short: "Check everything that there is of rooms", Args: cobra.ArbitraryArgs, ValidArgsFunction: completer{a}.roomsOrFile,
		Long: `Check rooms from the first entry of their log to the last message stored: signatures, the log's rules, what this
identity knew before, every frame in its place, what their writers say that they had stored, and what the store says
of them beside. --bus does the same for the allowlist. It ends with 6 if anything is wrong, and says what.

--export writes the logs, with that of the allowlist, to a FILE, when nothing is wrong; with --frames every message
that the rooms have stored as well, as it is stored. Such a file, or a backup, is checked by anyone, with no server and
no identity: every signature and rule of the logs, and of each message whether its sender could write where it says
that it was made, and whether any are missing, by what it says itself. Of an encrypted room's messages signature and
text are for members alone: whether somebody has altered or exchanged them in the file nobody else can tell. Of one
that is --plain they are checked, too. That a file was cut short, with what it says of how far a room reaches, shows
nowhere. Who has verified a log before is told if it is another. What the file says is printed by unibus log FILE, who
was in when by unibus members FILE. Where a file and a room have one name, the file is meant; the room by its id.

What was looked into can be settled, for this identity alone. --accept PLACE takes a room for what it is up to a
place: what is missing or damaged up to there is no finding any more, nor is that the room reached further before.
--accept HASH goes on with the history that was verified here, where another is proven to exist: HASH is that of the
entry at which they part, or its first 8 digits or more (16, if they are all decimal). With the hash of the last entry of a log that went back, as
after restoring a backup, it takes that log for what it is: whoever was let in or taken out since then is not, or is
still in.`,
		Example: `  unibus verify ops.alerts
  unibus verify --all -o json |
    jq -r '.[] | select(.findings > 0) | .subject'
  unibus verify --all --export logs && unibus verify logs`,
		RunE: v.run,
	}
	f := c.Flags()
	f.BoolVar(&v.all, "all", false, "every room you are in")
	f.StringVar(&v.export, "export", "", "write the logs to a new `FILE`, to be checked elsewhere")
	f.BoolVar(&v.frames, "frames", false, "with --export: the rooms' messages, too, as they are stored")
	f.StringVar(&v.accept, "accept", "", "take the room for what it is up to a `PLACE` of its stream, or go on with the history that has an entry of this HASH")
	a.set.defineBusAlone(c, "the allowlist", completer{a}.anyBus)
	defineFull(c, &v.full, "hashes")
	return c
}

// run finds out what is meant: a file of logs, the allowlist or rooms. ErrIntegrity when anything is wrong with it.
func (v *verifyCommand) run(cmd *cobra.Command, args []string) error {
	a, ctx := v.a, cmd.Context()
	v.bus = cmd.Flags().Changed("bus") && len(args) == 0 && !v.all
	_, place := parsePlace(v.accept)
	// A file is only meant where nothing else is said: flags are about rooms.
	file := len(args) == 1 && v.verifyFlags == (verifyFlags{}) && isFile(args[0])
	if file && isArchive(args[0]) {
		return v.verifyFile(ctx, args[0])
	}
	if _, err := a.options(); file && err == nil { // whoever is nobody yet is told that
		return v.verifyNamesake(ctx, args[0])
	}
	if i := slices.IndexFunc(args, func(name string) bool { return strings.ContainsRune(name, os.PathSeparator) && !isFile(name) }); i >= 0 {
		return hinted(fmt.Errorf("verify %s: %w: there is no file of that name", args[i], unibus.ErrNotFound), hintVerifiable)
	}
	if err := v.check(args, place); err != nil {
		return hinted(err, hintUseLine(cmd))
	}
	if v.export != "" {
		if err := admin.CheckNew(v.export); err != nil {
			return hintNew(fmt.Errorf("export: %w", err))
		}
	}
	// A hash is for the library, which meets the two histories while it connects; a place is settled in the room.
	if !place {
		a.acceptHash = v.accept
	}
	return orFile(args, a.with(ctx, func(c *unibus.Client) error {
		if v.bus {
			return v.verifyBus(ctx, c)
		}
		return v.verifyRooms(ctx, c, args)
	}))
}

// maxPlace is how many digits a place may have: a longer number is a hash that happens to have no letters.
const maxPlace = 15

// minHash is how many digits of a hash there have to be.
const minHash = 8

// parsePlace reads a place of a room's stream.
func parsePlace(what string) (place uint64, ok bool) {
	place, err := strconv.ParseUint(what, 10, 64)
	return place, err == nil && len(what) <= maxPlace
}

// isHash reports whether a text may be the beginning of a hash.
func isHash(what string) bool {
	return len(what) >= minHash && len(what) <= 64 && strings.Trim(strings.ToLower(what), "0123456789abcdef") == ""
}

// verifyRooms checks the rooms that are named, or all, and exports them if that is wanted; or settles what was looked
// into in one.
func (v *verifyCommand) verifyRooms(ctx context.Context, c *unibus.Client, names []string) error {
	if v.accept == "0" {
		// Of a room that is there it is the place of one that is empty.
		if err := c.AcceptLoss(ctx, names[0]); !errors.Is(err, unibus.ErrInvalid) && !errors.Is(err, unibus.ErrNotFound) {
			if err == nil {
				v.a.notice("%s is taken for lost", names[0])
				err = v.a.out.value(acceptedJSON{Room: names[0], Lost: true}, func() {})
			}
			return err
		}
	}
	rooms, lost := v.chosen(ctx, c, names)
	if len(rooms) == 0 && lost != nil {
		return lost
	}
	if v.accept != "" {
		return v.acceptRoom(ctx, rooms[0])
	}
	err := v.checkRooms(ctx, rooms) // those that are there are checked all the same
	if err = errlist.Join(lost, err); err != nil || v.export == "" {
		return err
	}
	return v.writeExport(ctx, c, rooms)
}

// chosen are the rooms that are named, or all by their subjects; beside ErrIntegrity those that are there.
func (v *verifyCommand) chosen(ctx context.Context, c *unibus.Client, names []string) ([]*unibus.Room, error) {
	if !v.all {
		return namedRooms(ctx, c, names)
	}
	rooms, err := c.MyRooms(ctx)
	slices.SortFunc(rooms, func(x, y *unibus.Room) int { return sortorder.NaturalCompare(x.Subject(), y.Subject()) })
	if len(rooms) == 0 && err == nil {
		v.a.notice("no rooms to verify")
	}
	return rooms, err
}

// acceptRoom settles what a person has looked into in a room.
func (v *verifyCommand) acceptRoom(ctx context.Context, r *unibus.Room) error {
	if place, ok := parsePlace(v.accept); ok {
		if err := r.Accept(ctx, unibus.AcceptPlace(place)); err != nil {
			return err
		}
		v.a.notice("%s is taken for what it is up to place %d", r.Subject(), place)
		return v.a.out.value(acceptedJSON{Room: r.Subject(), Accepted: v.accept}, func() {})
	}
	if err := r.Accept(ctx, unibus.AcceptHistory(v.accept)); err != nil {
		return err
	}
	v.a.notice("%s goes on with the history that is verified here", r.Subject())
	return v.a.out.value(acceptedJSON{Room: r.Subject(), Accepted: v.accept}, func() {})
}

// acceptedJSON is what was settled: a place or the beginning of a hash, or that a room is lost.
type acceptedJSON struct {
	Room     string `json:"room,omitempty"` // empty: it is the allowlist
	Accepted string `json:"accepted,omitempty"`
	Lost     bool   `json:"lost,omitempty"`
}

// verifyBus checks the allowlist, and exports it if that is wanted; or settles that its log went back.
func (v *verifyCommand) verifyBus(ctx context.Context, c *unibus.Client) error {
	found, err := c.VerifyBus(ctx, v.a.tellNotice)
	if err != nil && found.Findings == 0 {
		return err
	}
	if v.accept != "" {
		if !strings.HasPrefix(found.Head, strings.ToLower(v.accept)) {
			return fmt.Errorf("hash %s: %w: the bus log ends at entry %d (%.16s)", v.accept, unibus.ErrNotFound, found.Entries, found.Head)
		}
		v.a.notice("the bus goes on with entry %d", found.Entries)
		return v.a.out.value(acceptedJSON{Room: "", Accepted: v.accept}, func() {})
	}
	out := v.a.out
	if oerr := out.value(found, func() {
		out.table([]string{"BUS", "NAME", "ENTRIES", "USERS", "ADMINS", "FINDINGS"},
			[][]string{{found.ID.String(), found.Name, number(found.Entries), number(found.Users), number(found.Admins), number(found.Findings)}})
	}); oerr != nil {
		return oerr
	}
	if err != nil {
		return errSeeAbove()
	}
	if v.export == "" {
		return nil
	}
	return v.writeExport(ctx, c, nil)
}

// errSeeAbove is for findings that were told one by one.
func errSeeAbove() error { return fmt.Errorf("verify: %w: see above", unibus.ErrIntegrity) }

// checkRooms checks rooms one after the other, prints what each holds, and fails if anything was wrong with any.
func (v *verifyCommand) checkRooms(ctx context.Context, rooms []*unibus.Room) error {
	found := []unibus.Verification{}
	wrong := false
	for _, r := range rooms {
		checked, err := r.Verify(ctx, v.a.tellNotice)
		if err != nil && !errors.Is(err, unibus.ErrIntegrity) {
			return fmt.Errorf("verify %s: %w", r.Subject(), err)
		}
		// Findings in messages were told as they were met; what is wrong with the room itself is told here.
		if checked.Findings == 0 && err != nil { // of the log, or a room that is frozen
			v.a.printError(err)
			checked.Findings = 1
		}
		wrong = wrong || err != nil
		found = append(found, checked)
	}
	if slices.ContainsFunc(found, func(v unibus.Verification) bool { return v.LogOnly }) {
		v.a.notice("logs and lists alone were verified: messages are there only where a server is")
	}
	if err := v.a.out.value(found, func() { verificationTable(v.a.out, found) }); err != nil {
		return err
	}
	if wrong {
		return errSeeAbove()
	}
	return nil
}

// verificationTable prints what was checked of rooms, one a line.
func verificationTable(out *output, found []unibus.Verification) {
	rows := make([][]string, len(found))
	for i, v := range found {
		places := "-"
		if v.First > 0 {
			places = fmt.Sprintf("%d-%d", v.First, v.Last)
		}
		rows[i] = []string{v.Subject, number(v.Entries), places, number(v.Messages), number(v.Streams), number(v.Senders), number(v.Findings)}
	}
	out.table([]string{"SUBJECT", "ENTRIES", "PLACES", "MESSAGES", "STREAMS", "SENDERS", "FINDINGS"}, rows)
}
