package jetstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file compares the views of a log with what its state says, and writes them anew.

// rebuilder is Differs and Rebuild of store.Repairer.
type rebuilder struct {
	*conn
	*buckets
	views     *views
	repairer  *repairer
	allowlist *allowlist
}

// Differs counts the records that are not what a log's state says. ErrShort when the log ends before its views.
func (b *rebuilder) Differs(ctx context.Context, state *ledger.State) (wrong int, err error) {
	if err := b.reaches(ctx, state); err != nil {
		return 0, fmt.Errorf("log %s: %w", state.ID, failure(err))
	}
	return b.compare(ctx, state, countOnly)
}

// Rebuild makes the views of a log those of its state, whatever they say now, those of entries it does not have too.
func (b *rebuilder) Rebuild(ctx context.Context, state *ledger.State) (wrong int, err error) {
	if err := b.reaches(ctx, state); err != nil && !errors.Is(err, store.ErrShort) {
		return 0, fmt.Errorf("log %s: %w", state.ID, failure(err))
	}
	return b.compare(ctx, state, replaceWrong)
}

// onWrong is what is done about records that are wrong.
type onWrong int

const (
	countOnly onWrong = iota
	replaceWrong
)

// compare counts the records that are wrong, and with replaceWrong writes them anew.
func (b *rebuilder) compare(ctx context.Context, state *ledger.State, wrongs onWrong) (wrong int, err error) {
	rows, err := b.rows(ctx, state)
	if err == nil {
		err = b.views.replace(ctx, rows, asOfNow, func(old record, value []byte) bool {
			if old.rev > 0 && alike(old.value, value) {
				return false
			}
			wrong++
			return wrongs == replaceWrong
		})
	}
	return wrong, failure(err)
}

// rows are all records that a log's state makes, and an empty one, or one that ends a membership, in place of each that is
// there and that the state does not make.
func (b *rebuilder) rows(ctx context.Context, state *ledger.State) ([]row, error) {
	views := state.AllViews()
	if r := state.Room; r != nil && r.Role(r.Creator()) == "" { // is no member, and has a record all the same
		views = append(views, ledger.MemberView{Room: state.ID, Endpoint: r.Creator()})
	}
	rows, last := b.views.rows(state.Head.Seq, views)
	rows = append(rows, last)
	var strays []row
	var err error
	if state.Room != nil {
		rows = append(rows, row{b.rooms, subjectKey(state.Room.Subject), state.ID.String()})
		strays, err = b.strayMembers(ctx, state)
	} else {
		strays, err = b.strayUsers(ctx, state)
	}
	return append(rows, strays...), err
}

// reaches makes sure that a log goes as far as its views: they are written after its entries. ErrShort when it ends
// before, ErrConflict when it has grown since.
func (b *rebuilder) reaches(ctx context.Context, state *ledger.State) error {
	ctx, cancel := b.op(ctx)
	defer cancel()
	listed, err := b.listed(ctx, state)
	if err != nil || listed <= state.Head.Seq {
		return err
	}
	next := entryKey(state.ID, state.Head.Seq+1)
	found, err := b.log.latest(ctx, next)
	switch {
	case err != nil:
		return err
	case len(found[next].value) > 0:
		return store.ErrConflict
	}
	return fmt.Errorf("%w: it ends at entry %d, and what the store lists is of entry %d", store.ErrShort, state.Head.Seq, listed)
}

// listed is the last entry that any record of a log's views is of.
func (b *rebuilder) listed(ctx context.Context, state *ledger.State) (uint64, error) {
	if state.Bus != nil {
		return b.repairer.listedBus(ctx)
	}
	return b.repairer.listedRoom(ctx, state.ID)
}

// strayMembers are records that end memberships which the room's log does not know.
func (b *rebuilder) strayMembers(ctx context.Context, state *ledger.State) (rows []row, err error) {
	ctx, cancel := b.op(ctx)
	defer cancel()
	found, err := b.members.list(ctx, state.ID.String()+".*")
	for _, r := range found {
		m, room, err := member(r)
		if err != nil {
			return nil, err
		}
		if m.Role != "" && state.Room.Role(m.Endpoint) == "" && m.Endpoint != state.Room.Creator() {
			none := ledger.MemberView{Room: room, Endpoint: m.Endpoint}
			rows = append(rows, b.views.memberRows(none, memberRecord{Seq: state.Head.Seq})...)
		}
	}
	return rows, err
}

// strayUsers are empty records for users whom the bus log does not know.
func (b *rebuilder) strayUsers(ctx context.Context, state *ledger.State) (rows []row, err error) {
	ctx, cancel := b.op(ctx)
	defer cancel()
	keys, err := b.allowlist.everyone(ctx)
	for _, key := range keys {
		if state.Bus.User(key) == nil {
			rows = append(rows, row{b.users, key.String(), ""})
		}
	}
	return rows, err
}
