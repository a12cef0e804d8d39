package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// This file completes views that are behind their log, as a crash in the midst of an Append leaves them. Whoever touches
// a log finds them so by the seq in its last record (views.current); rebuild.go writes them anew whatever they say.

// writerTime is how long whoever finds views behind the log leaves them to the writer of the entry, which mostly is still
// at work.
const writerTime = 200 * time.Millisecond

// repairer completes and rewrites views.
type repairer struct {
	*conn
	*buckets
	heads   *heads
	entries *entryLog
	views   *views
	turns   turns // at the views of each log
}

// await gives the writer of earlier entries a while to write their views, and reports how far those then are: mostly it
// is still there, and only slower than whoever asks.
func (r *repairer) await(ctx context.Context, last row, seq uint64) (current uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, writerTime)
	defer cancel()
	for current < seq {
		if current, err = r.views.current(ctx, last); err != nil {
			break
		}
		if tasks.Pause(ctx, writerTime/20) != nil {
			return current, nil
		}
	}
	if ctx.Err() != nil {
		err = nil
	}
	return current, err
}

// catchUp completes the views of a log that are behind it, as a crash in an Append leaves them, and
// reports whether they were. They are current up to an entry, as last says. ErrNotFound for an
// unknown log.
func (r *repairer) catchUp(ctx context.Context, log crypto.ID, current uint64, last row) (behind bool, err error) {
	h, err := r.heads.one(ctx, log)
	if err != nil || current >= h.Seq {
		return false, err
	}
	done, err := r.turns.take(ctx, log)
	if err != nil {
		return false, err
	}
	defer done()
	if current, err = r.await(ctx, last, h.Seq); err == nil && current < h.Seq {
		err = r.complete(ctx, log, current)
	}
	return true, err
}

// complete writes the views of the entries after current, which nobody wrote them for. The log is folded from its
// beginning, since what an entry does to the views depends on those before it.
func (r *repairer) complete(ctx context.Context, log crypto.ID, current uint64) error {
	var fold ledger.Fold
	for e, err := range r.entries.Entries(ctx, log, 0) {
		if err != nil {
			return err
		}
		c, err := store.Advance(&fold, e.Statement)
		if err != nil {
			return fmt.Errorf("%w: log %s is damaged: %v", store.ErrDamaged, log, err)
		}
		if e.Seq <= current {
			continue
		}
		changes, last := r.views.rows(e.Seq, c.Views)
		if err := r.views.write(ctx, e.Seq, changes, last); err != nil {
			return err
		}
	}
	return nil
}

// Heal completes the views of a log that are behind it.
func (r *repairer) Heal(ctx context.Context, log crypto.ID) error {
	ctx, cancel := r.op(ctx)
	defer cancel()
	if err := r.heal(ctx, log); err != nil {
		return fmt.Errorf("heal log %s: %w", log, failure(err))
	}
	return nil
}

// heal is Heal without a bound.
func (r *repairer) heal(ctx context.Context, log crypto.ID) error {
	last := r.views.lastRow(log)
	bus, err := r.log.get(ctx, busKey)
	if err != nil {
		return err
	}
	if string(bus.value) == log.String() {
		last = r.views.lastBusRow()
	}
	current, err := r.views.current(ctx, last)
	if err == nil {
		_, err = r.catchUp(ctx, log, current, last)
	}
	if err == nil && last.bucket == r.rooms {
		err = r.reclaim(ctx, log)
	}
	return err
}

// reclaim gives a room its subject back if nothing is known of who has that: a disk has lost it, and the next to make a
// room would get it.
func (r *repairer) reclaim(ctx context.Context, room crypto.ID) error {
	known, err := r.rooms.at(ctx, 0, roomKey(room)) // as it may have been a moment ago: neither is ever removed
	found, ok := known[roomKey(room)]
	if err != nil || !ok {
		return err
	}
	var v roomRecord
	if err := decode(found, &v); err != nil {
		return err
	}
	key := subjectKey(v.Subject)
	has, err := r.rooms.at(ctx, 0, key)
	if _, ok := has[key]; err != nil || ok {
		return err
	}
	if _, err = r.rooms.put(ctx, key, []byte(room.String()), 0); errors.Is(err, errChanged) {
		return nil
	}
	return err
}

// head is where a log ends.
func (r *repairer) head(ctx context.Context, log crypto.ID) (ledger.Head, error) {
	ctx, cancel := r.op(ctx)
	defer cancel()
	return r.heads.one(ctx, log)
}

// ListedAt is the last entry of a room's log that any of its records is of.
func (r *repairer) ListedAt(ctx context.Context, room crypto.ID) (uint64, error) {
	ctx, cancel := r.op(ctx)
	defer cancel()
	seq, err := r.listedRoom(ctx, room)
	return seq, failure(err)
}

// listedRoom is ListedAt without a bound: its own record's, or that of a membership, which may be all that is left. It is as it
// may have been a moment ago, which is never ahead of a log: a service asks for each of its rooms when it starts, and each
// barrier is a write.
func (r *repairer) listedRoom(ctx context.Context, room crypto.ID) (uint64, error) {
	found, err := r.rooms.at(ctx, 0, roomKey(room))
	if err != nil {
		return 0, err
	}
	pattern := room.String() + ".*"
	members, err := r.members.at(ctx, 0, pattern)
	if errors.Is(err, errMany) {
		members, err = r.members.list(ctx, pattern)
	}
	return max(lastSeq(members), lastSeq(found)), err
}

// listedBus is the last entry of the bus log that a record of the allowlist is of.
func (r *repairer) listedBus(ctx context.Context) (uint64, error) {
	users, err := r.users.list(ctx, ">")
	return lastSeq(users), err
}

// lastSeq is the last entry that any of some records is of.
func lastSeq(records map[string]record) (last uint64) {
	for _, one := range records {
		last = max(last, seqOf(one.value))
	}
	return last
}

// Behind lists the logs whose views are not as current as they are, or are missing, as is the subject of a room that
// nothing is known to have. It compares two listings, one made after the other, and asks again where logs end that seem
// to be ahead.
func (r *repairer) Behind(ctx context.Context) ([]crypto.ID, error) {
	heads := map[string]uint64{}
	err := r.log.scan(ctx, "*.*", func(found record) error {
		log, n, _ := strings.Cut(found.key, ".")
		seq, err := strconv.ParseUint(n, 10, 64)
		heads[log] = max(heads[log], seq)
		return err
	})
	if err != nil {
		return nil, failure(err)
	}
	current, err := r.listed(ctx)
	if err != nil {
		return nil, failure(err)
	}
	var out []crypto.ID
	for key, seq := range heads {
		if current[key] >= seq {
			continue
		}
		log, err := crypto.ParseID(key)
		if err != nil {
			return nil, fmt.Errorf("%w: the key %s is no log's", store.ErrDamaged, key)
		}
		h, err := r.head(ctx, log)
		switch {
		case errors.Is(err, store.ErrNotFound), err == nil && current[key] >= h.Seq: // it never began
		case err != nil:
			return nil, failure(err)
		default:
			out = append(out, log)
		}
	}
	return out, nil
}

// listed is the entry of each log that what is listed of it is of; 0 for a room whose subject could be given to another.
func (r *repairer) listed(ctx context.Context) (current map[string]uint64, err error) {
	bus, err := r.log.get(ctx, busKey)
	if err != nil {
		return nil, err
	}
	head, err := r.users.get(ctx, headKey)
	if err != nil {
		return nil, err
	}
	current = map[string]uint64{string(bus.value): seqOf(head.value)}
	subjects := map[string]string{} // by room
	taken := map[string]bool{}
	err = r.rooms.scan(ctx, ">", func(found record) error {
		if strings.HasPrefix(found.key, subjectPrefix) {
			taken[found.key] = true
			return nil
		}
		var v roomRecord
		if decode(found, &v) == nil { // else it is written anew
			current[found.key], subjects[found.key] = v.Seq, subjectKey(v.Subject)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for room, subject := range subjects {
		if !taken[subject] { // it could be given to another
			current[room] = 0
		}
	}
	return current, nil
}
