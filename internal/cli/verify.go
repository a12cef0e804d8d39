package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/upkeep"
)

// verifyFlags say what is verified.
type verifyFlags struct {
	all, bus bool
	export   string // a file to write the logs to
	accept   string // what is taken for what it is instead; empty for nothing
}

// check says what is wrong with them, beside rooms; place says that what is to be accepted is one.
func (v *verifyFlags) check(rooms []string, place bool) error {
	switch {
	case v.all == (len(rooms) > 0) && !v.bus:
		return usage("name the rooms to verify, or say --all, or --bus")
	case v.export != "" && v.accept != "":
		return usage("--export writes what was checked, and --accept checks nothing: one of them")
	case v.accept != "" && len(rooms) != 1 && !v.bus:
		return usage("--accept is about one room, or the --bus")
	case v.accept != "" && !place && !isHash(v.accept):
		return usage("--accept %q: it is neither a place nor at least 8 digits of a hash", v.accept)
	case v.bus && place:
		return usage("--accept %s: places are those of a room's messages", v.accept)
	}
	return nil
}

func (a *app) verifyCmd() *cobra.Command {
	var v verifyFlags
	c := &cobra.Command{
		Use: "verify [ROOM...|--bus|FILE]", Short: "Check everything that there is of rooms", Args: cobra.ArbitraryArgs, ValidArgsFunction: a.completeRooms,
		Long: `Check rooms from the first entry of their log to the last message stored: signatures, the log's rules, what this
identity knew before, every frame in its place, what their writers say that they had stored, and what the store says
of them beside. --bus does the same for the allowlist. It ends with 6 if anything is wrong, and says what.

--export writes the logs, with that of the allowlist, to a FILE, when nothing is wrong. Such a file, or a backup, is
checked with no server: every signature and rule, and against what this identity has verified before.

What was looked into can be settled, for this identity alone. --accept PLACE takes a room for what it is up to a
place: what is missing or damaged up to there is no finding any more, nor is that the room reached further before.
--accept HASH goes on with the history that was verified here, where another is proven to exist: HASH is that of the
entry at which they part, or its first 8 digits or more (16, if they are all decimal). With the hash of the last entry of a log that went back, as
after restoring a backup, it takes that log for what it is: whoever was let in or taken out since then is not, or is
still in.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			v.bus = cmd.Flags().Changed("bus") && len(args) == 0 && !v.all
			_, place := placeOf(v.accept)
			file := len(args) == 1 && v == (verifyFlags{}) && isFile(args[0])
			if file && isArchive(args[0]) {
				return a.verifyFile(cmd.Context(), args[0])
			}
			if _, err := a.options(); file && err == nil { // whoever is nobody yet is told that
				return a.verifyNamesake(cmd.Context(), args[0])
			}
			if err := v.check(args, place); err != nil {
				return err
			}
			if !place {
				a.accepted = v.accept
			}
			return a.with(cmd.Context(), func(c *unibus.Client) error { return a.verifyWhat(cmd.Context(), c, v, args) })
		},
	}
	f := c.Flags()
	f.BoolVar(&v.all, "all", false, "every room you are in")
	f.StringVar(&v.export, "export", "", "write the logs to a new `FILE`, to be checked elsewhere")
	f.StringVar(&v.accept, "accept", "", "take the room for what it is up to a `PLACE` of its stream, or go on with the history that has an entry of this HASH")
	a.busAlone(c, "the allowlist")
	return c
}

// maxPlace is how many digits a place may have: a longer number is a hash that happens to have no letters.
const maxPlace = 15

// minHash is how many digits of a hash there have to be.
const minHash = 8

func placeOf(what string) (place uint64, ok bool) {
	place, err := strconv.ParseUint(what, 10, 64)
	return place, err == nil && len(what) <= maxPlace
}

func isHash(what string) bool {
	return len(what) >= minHash && len(what) <= 64 && strings.Trim(strings.ToLower(what), "0123456789abcdef") == ""
}

// verifyWhat does what the flags say.
func (a *app) verifyWhat(ctx context.Context, c *unibus.Client, v verifyFlags, names []string) error {
	if v.bus {
		if err := a.verifyBus(ctx, c, v.accept); err != nil || v.export == "" {
			return err
		}
		return a.export(ctx, c, v.export, nil)
	}
	var rooms []*unibus.Room
	var err error
	if v.all {
		rooms, err = c.MyRooms(ctx)
	}
	for _, name := range names {
		r, rerr := c.Room(ctx, name)
		err = errors.Join(err, rerr)
		rooms = append(rooms, r)
	}
	if err != nil {
		return err
	}
	if v.accept != "" {
		return a.acceptIn(ctx, rooms[0], v.accept)
	}
	if err := a.verify(ctx, rooms); err != nil || v.export == "" {
		return err
	}
	return a.export(ctx, c, v.export, rooms)
}

// acceptIn settles what a person has looked into.
func (a *app) acceptIn(ctx context.Context, r *unibus.Room, what string) error {
	if place, ok := placeOf(what); ok {
		if err := r.AcceptPlace(ctx, place); err != nil {
			return err
		}
		a.notice("%s is taken for what it is up to place %d", r.Subject(), place)
		return nil
	}
	if err := r.AcceptHistory(ctx, what); err != nil {
		return err
	}
	a.notice("%s goes on with the history that is verified here", r.Subject())
	return nil
}

// verifyBus checks the allowlist, or settles that its log went back.
func (a *app) verifyBus(ctx context.Context, c *unibus.Client, accept string) error {
	v, err := c.VerifyBus(ctx, a.subNotice)
	if err != nil && v.Findings == 0 {
		return err
	}
	if accept != "" {
		if !strings.HasPrefix(v.Head, strings.ToLower(accept)) {
			return fmt.Errorf("hash %s: %w: the bus log ends at entry %d (%.16s)", accept, unibus.ErrNotFound, v.Entries, v.Head)
		}
		a.notice("the bus goes on with entry %d", v.Entries)
		return nil
	}
	if oerr := a.out.value(v, func() {
		a.out.table([]string{"BUS", "NAME", "ENTRIES", "USERS", "ADMINS", "FINDINGS"},
			[][]string{{v.ID.String(), v.Name, number(v.Entries), number(v.Users), number(v.Admins), number(v.Findings)}})
	}); oerr != nil {
		return oerr
	}
	if err != nil {
		return fmt.Errorf("verify: %w: see above", unibus.ErrIntegrity)
	}
	return nil
}

// verify checks rooms one after the other, and fails with what was wrong with any.
func (a *app) verify(ctx context.Context, rooms []*unibus.Room) error {
	found := []unibus.Verification{}
	var failed error
	for _, r := range rooms {
		v, err := r.Verify(ctx, a.subNotice)
		if err != nil && !errors.Is(err, unibus.ErrIntegrity) {
			return fmt.Errorf("verify %s: %w", r.Subject(), err)
		}
		if v.Findings == 0 && err != nil { // of the log, or a room that is frozen
			a.printError(err)
			v.Findings = 1
		}
		failed = errors.Join(failed, err)
		found = append(found, v)
	}
	if err := a.out.value(found, func() {
		rows := make([][]string, len(found))
		for i, v := range found {
			places := "-"
			if v.First > 0 {
				places = fmt.Sprintf("%d-%d", v.First, v.Last)
			}
			rows[i] = []string{v.Subject, number(v.Entries), places, number(v.Messages), number(v.Streams), number(v.Senders), number(v.Findings)}
		}
		a.out.table([]string{"SUBJECT", "ENTRIES", "PLACES", "MESSAGES", "STREAMS", "SENDERS", "FINDINGS"}, rows)
	}); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("verify: %w: see above", unibus.ErrIntegrity)
	}
	return nil
}

// export writes the logs of the bus and of rooms to a file, for who would check them elsewhere.
func (a *app) export(ctx context.Context, c *unibus.Client, path string, rooms []*unibus.Room) error {
	entries, err := c.BusLog(ctx)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	logs := []upkeep.Log{signedLog(c.Bus(), entries)}
	for _, r := range rooms {
		if entries, err = r.Log(ctx); err != nil {
			return fmt.Errorf("export: %w", err)
		}
		logs = append(logs, signedLog(r.ID(), entries))
	}
	if err := upkeep.Export(path, logs, time.Now()); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	a.notice("%s holds %s", path, english.Plural(len(logs), "log", ""))
	return nil
}

func signedLog(id unibus.ID, entries []unibus.LogEntry) upkeep.Log {
	l := upkeep.Log{ID: id}
	for _, e := range entries {
		l.Statements = append(l.Statements, e.Statement)
	}
	return l
}

// isFile reports whether there is a file of that name.
func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// archiveHead is how archives begin as they are written: compressed by gzip, without a name and a time.
var archiveHead = [10]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}

// isArchive reports whether the file of that name begins as archives do, or as one does of which a byte or two are
// damaged: those are to be told as what they are.
func isArchive(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var head [len(archiveHead)]byte
	if _, err = io.ReadFull(f, head[:]); err != nil {
		return false
	}
	other := 0
	for i := range head {
		if head[i] != archiveHead[i] {
			other++
		}
	}
	return other <= 2 || head[0] == archiveHead[0] && head[1] == archiveHead[1]
}

// verifyNamesake checks a room when there is a file of that name, which can not be checked, as is said when there is
// no such room.
func (a *app) verifyNamesake(ctx context.Context, name string) error {
	const none = "the file is not an export or a backup"
	found := false
	err := a.with(ctx, func(c *unibus.Client) error {
		r, err := c.Room(ctx, name)
		if err != nil {
			return err
		}
		found = true
		return a.verify(ctx, []*unibus.Room{r})
	})
	switch {
	case found:
		return err
	case errors.Is(err, unibus.ErrInvalid), errors.Is(err, unibus.ErrUnavailable):
		return hinted(usage("verify %s: %s", name, none), "files that unibus verify --export or unibus backup wrote can be verified, and rooms where a bus answers")
	case errors.Is(err, unibus.ErrNotFound):
		return fmt.Errorf("verify %s: %w: %s, and there is no room of that name", name, unibus.ErrNotFound, none)
	}
	return err
}

// checkedLog is a log of a file.
type checkedLog struct {
	Log     unibus.ID `json:"log"`
	Name    string    `json:"name"` // the bus's, or the room's subject
	Entries uint64    `json:"entries"`
	Head    string    `json:"head"`
	Known   bool      `json:"known"` // this identity has verified the log before
}

// verifyFile checks a file of logs with no server.
func (a *app) verifyFile(ctx context.Context, path string) error {
	o, err := a.options()
	if err != nil {
		return err
	}
	found := []checkedLog{}
	met := map[unibus.ID]bool{}
	logs, err := upkeep.VerifyArchive(ctx, path, func(ctx context.Context, log unibus.ID) (func(uint64) ([32]byte, bool), error) {
		hash, err := unibus.RecallLog(ctx, o, log)
		_, met[log] = hash(1)
		return hash, err
	})
	if err != nil {
		return fmt.Errorf("verify %s: %w", path, err)
	}
	for _, s := range logs {
		l := checkedLog{Log: s.ID, Entries: s.Head.Seq, Head: s.Head.Hash.String(), Known: met[s.ID]}
		if s.Room != nil {
			l.Name = s.Room.Subject
		} else {
			l.Name = s.Bus.Name
		}
		found = append(found, l)
	}
	return a.out.value(found, func() {
		rows := make([][]string, len(found))
		for i, l := range found {
			rows[i] = []string{visible(l.Name), number(l.Entries), l.Head[:16], yes(l.Known)}
		}
		a.out.table([]string{"LOG", "ENTRIES", "HEAD", "KNOWN"}, rows)
	})
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }
