package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
)

func (a *app) verifyCmd() *cobra.Command {
	var all bool
	var accept string
	c := &cobra.Command{
		Use: "verify [ROOM...]", Short: "Check everything that there is of rooms", Args: cobra.ArbitraryArgs, ValidArgsFunction: a.completeRooms,
		Long: `Check rooms from the first entry of their log to the last message stored: signatures, the log's rules, what this
identity knew before, every frame in its place, and what their writers say that they had stored. It ends with 6 if
anything is wrong, and says what.

What was looked into can be settled, for this identity alone. --accept PLACE takes a room for what it is up to a
place: what is missing or damaged up to there is no finding any more, nor is that the room reached further before.
--accept HASH goes on with the history that was verified here, where another is proven to exist: HASH is that of the
entry at which they part, or its first 8 digits or more.`,
		RunE: a.client(func(ctx context.Context, c *unibus.Client, args []string) error {
			if all == (len(args) > 0) {
				return usage("name the rooms to verify, or say --all")
			}
			if accept != "" && len(args) != 1 {
				return usage("--accept is about one room")
			}
			var rooms []*unibus.Room
			var err error
			if all {
				rooms, err = c.MyRooms(ctx)
			}
			for _, name := range args {
				r, rerr := c.Room(ctx, name)
				err = errors.Join(err, rerr)
				rooms = append(rooms, r)
			}
			if err != nil {
				return err
			}
			if accept != "" {
				return a.acceptIn(ctx, rooms[0], accept)
			}
			return a.verify(ctx, rooms)
		}),
	}
	f := c.Flags()
	f.BoolVar(&all, "all", false, "every room you are in")
	f.StringVar(&accept, "accept", "", "take the room for what it is up to a `PLACE` of its stream, or go on with the history that has an entry of this HASH")
	return c
}

// maxPlace is how many digits a place may have: what is longer is a hash.
const maxPlace = 7

// acceptIn settles what a person has looked into.
func (a *app) acceptIn(ctx context.Context, r *unibus.Room, what string) error {
	if place, err := strconv.ParseUint(what, 10, 64); err == nil && len(what) <= maxPlace {
		if err := r.AcceptPlace(ctx, place); err != nil {
			return err
		}
		a.notice("%s is taken for what it is up to place %d", r.Subject(), place)
		return nil
	}
	if err := r.AcceptHistory(ctx, what); err != nil {
		return err
	}
	a.notice("%s goes on with the history that was verified here", r.Subject())
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

func number(n uint64) string { return strconv.FormatUint(n, 10) }
