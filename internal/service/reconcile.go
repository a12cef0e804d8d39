package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// reconciler brings NATS in line with the logs as they grow, whoever appended: streams of stored
// rooms, connections of those whose access ended, and notices to members.
type reconciler struct {
	store   store.Backend
	logs    *logs
	bus     crypto.ID
	notify  *nats.Conn // by which members are told, and nothing else
	kicks   *kicks
	named   func(room crypto.ID) bus.Concerned // connections that have, or may have, rights in a room
	streams *bus.Streams
	seen    *seen
	log     *slog.Logger
}

// retryEvery is how soon a step is repeated: what failed is tried again, and a connection whose login
// was being decided while the log grew may have appeared since.
const retryEvery = time.Second

// catchUp completes views that a crash left behind, and makes every stored room's stream.
func (r *reconciler) catchUp(ctx context.Context) error {
	behind, err := r.store.Behind(ctx)
	if err != nil {
		return err
	}
	for _, log := range behind {
		r.log.Warn("views were behind their log", "log", log)
		err := r.store.Heal(ctx, log)
		if errors.Is(err, store.ErrDamaged) && log != r.bus { // of which audit tells, room by room
			continue
		}
		if errors.Is(err, store.ErrNotFound) { // of a log that has entries
			return fmt.Errorf("%w: %v", store.ErrDamaged, err)
		}
		if err != nil {
			return err
		}
	}
	for room, err := range r.store.Rooms(ctx, crypto.ID{}) {
		if err != nil {
			return err
		}
		err := r.ensure(ctx, room)
		if errors.Is(err, store.ErrDamaged) { // of which audit tells, room by room
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ensure makes a room's stream what it has to be.
func (r *reconciler) ensure(ctx context.Context, room store.Room) error {
	return r.streams.EnsureListed(ctx, room.ID, room.Policy, r.logs.policy(room.ID))
}

// Limits of what the reconciler has before it.
const (
	maxNotices  = 4096 // new entries; beyond that they wait where they come from
	maxAgain    = 4096 // entries that are looked at again; beyond that new ones wait too
	againAtOnce = 32   // of these, before new ones are looked at
	againSoon   = 10 * time.Millisecond
)

// follow works on notices until they end: tells of them at once, and tends streams and drops connections beside
// that, which takes as long as the servers take.
func (r *reconciler) follow(ctx context.Context, notices <-chan store.Notice) {
	streams := make(chan store.Notice, maxNotices)
	ends := make(chan store.Notice, maxNotices)
	var beside sync.WaitGroup
	beside.Go(func() { inTurns(streams, func(n store.Notice, _ attempt) bool { return r.ensureStream(ctx, n) }) })
	beside.Go(func() { inTurns(ends, func(n store.Notice, a attempt) bool { return r.drop(ctx, n, a) }) })
	inTurns(notices, func(n store.Notice, a attempt) bool { return r.handle(ctx, n, a, streams, ends) })
	close(streams)
	close(ends)
	beside.Wait()
}

// attempt says whether something is done for an entry for the first time, or again, since it was left undone.
type attempt int

const (
	first attempt = iota
	again
)

// inTurns does what new entries ask for, until there are no more. Logs take turns: one that grows without a pause
// holds up no other. What has to be done again is, after a while.
func inTurns(notices <-chan store.Notice, do func(n store.Notice, a attempt) (undone bool)) {
	fresh := turns[crypto.ID, store.Notice]{limits: turnLimits{atOnce: 1, each: 1, inHand: maxNotices, bytes: maxNotices, allBytes: maxNotices}}
	take := func(n store.Notice) { // it is asked only while there is room
		fresh.reserve(n.Log, 1)
		fresh.put(n.Log, 1, n)
	}
	var undone []store.Notice
	timer := time.NewTimer(retryEvery)
	defer timer.Stop()
	for {
		room := func() bool { return fresh.bytes < maxNotices && len(undone) < maxAgain }
		for len(notices) > 0 && room() { // before anything is done about one log, so that all have their turn
			take(<-notices)
		}
		more := notices
		if !room() {
			more = nil
		}
		var ready chan struct{}
		if fresh.bytes > 0 {
			ready = always
		}
		select {
		case n, ok := <-more:
			if !ok {
				return
			}
			take(n)
		case <-timer.C:
			n := min(againAtOnce, len(undone))
			left := undone[n:]
			for _, notice := range undone[:n] {
				if do(notice, again) {
					left = append(left, notice)
				}
			}
			undone = left
			wait := retryEvery
			if len(undone) > againAtOnce {
				wait = againSoon
			}
			timer.Reset(wait)
		case <-ready:
			log, next, _ := fresh.next()
			if do(next.do, first) {
				undone = append(undone, next.do)
			}
			fresh.done(log, 1)
		}
	}
}

// always is ready.
var always = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// handle completes the views of a log and announces an entry, and passes on what else it asks for. It reports whether
// something is left to do.
func (r *reconciler) handle(ctx context.Context, n store.Notice, a attempt, streams, ends chan<- store.Notice) (undone bool) {
	undone = !r.report(ctx, n, r.store.Heal(ctx, n.Log))
	if a == again {
		return undone
	}
	s, e, err := r.entry(ctx, n)
	r.report(ctx, n, err)
	r.report(ctx, n, r.announce(ctx, n, e)) // who does not hear of it asks now and then
	if n.Log != r.bus {
		pass(ctx, streams, n)
	} else if err == nil {
		r.report(ctx, n, r.seen.record(s.Head))
	}
	if err != nil || len(affected(s, e, everyone)) > 0 {
		pass(ctx, ends, n)
	}
	return undone
}

// pass passes a notice on, unless everything ends.
func pass(ctx context.Context, to chan<- store.Notice, n store.Notice) {
	select {
	case to <- n:
	case <-ctx.Done():
	}
}

// drop ends the connections that an entry asks to end; in a while again, since one whose login was being decided
// on other grounds may have come in. A server that was silent is asked again when it is heard of.
func (r *reconciler) drop(ctx context.Context, n store.Notice, a attempt) (undone bool) {
	kick := r.kicks.of(n)
	if a == first {
		r.report(ctx, n, r.kick(ctx, n, others, kick))
		return true
	}
	return !kick.Due() || !r.report(ctx, n, r.kick(ctx, n, everyone, kick))
}

// report logs what could not be done about an entry, and reports whether it could.
func (r *reconciler) report(ctx context.Context, n store.Notice, err error) bool {
	if err != nil && ctx.Err() == nil {
		r.log.Warn("reconcile", "log", n.Log, "seq", n.Seq, "error", err)
	}
	return err == nil
}

// ensureStream brings a room's stream in line with its policy. It reports whether that is left to do.
func (r *reconciler) ensureStream(ctx context.Context, n store.Notice) (undone bool) {
	room, err := r.store.Room(ctx, n.Log)
	if err == nil {
		err = r.ensure(ctx, room)
	}
	return !r.report(ctx, n, err)
}

// whom says whose connections a kick drops.
type whom int

const (
	others   whom = iota // not those of the entry's author, who waits for the answer
	everyone             // its author's too
)

// kick drops the connections of those whose access an entry ended, narrowed or changed.
func (r *reconciler) kick(ctx context.Context, n store.Notice, w whom, kick *bus.Kick) error {
	s, e, err := r.entry(ctx, n)
	if err != nil {
		return err
	}
	list := affected(s, e, w)
	concerned := bus.Concerned(bus.All)
	if n.Log != r.bus {
		concerned = r.named(n.Log)
	}
	errs := make([]error, len(list))
	var kicking tasks.Group
	run := kicking.Limit(kicksAtOnce) // one may have to wait for logins that are under way
	for i, key := range list {
		if !run(ctx, func() { errs[i] = kick.User(ctx, key, concerned) }) {
			errs[i] = ctx.Err()
		}
	}
	kicking.Wait()
	return errors.Join(errs...)
}

// kicksAtOnce is how many users' connections are dropped side by side.
const kicksAtOnce = 16

// affected lists those whose connections may do what an entry of a log says they may not, or not what they now may. No entry
// affects nobody.
func affected(s *ledger.State, e *ledger.Entry, w whom) []crypto.PublicKey {
	if e == nil {
		return nil
	}
	list := e.Narrows(s)
	if w == others {
		list = slices.DeleteFunc(list, func(key crypto.PublicKey) bool { return key == e.By })
	}
	return list
}

// entry reads an entry, and what its log says now; nil when it is not there.
func (r *reconciler) entry(ctx context.Context, n store.Notice) (*ledger.State, *ledger.Entry, error) {
	s, err := r.logs.state(ctx, n.Log)
	if err != nil {
		return nil, nil, err
	}
	for entry, err := range r.store.Entries(ctx, n.Log, n.Seq-1) {
		if err != nil {
			return nil, nil, err
		}
		e, err := s.Read(entry.Statement)
		return s, e, err
	}
	return s, nil, nil
}

// announce tells everyone concerned that a log has grown: in a room its members, and those who are
// none any more since its new entry e; nil for one that is not there, or cannot be read.
func (r *reconciler) announce(ctx context.Context, n store.Notice, e *ledger.Entry) error {
	body, err := json.Marshal(n)
	if err != nil {
		return err
	}
	told := map[crypto.PublicKey]bool{}
	tell := func(key crypto.PublicKey) error {
		if told[key] {
			return nil
		}
		told[key] = true
		return r.notify.PublishMsg(&nats.Msg{Subject: bus.NoticeSubject(key), Data: body})
	}
	if n.Log == r.bus {
		for u, err := range r.store.Users(ctx, crypto.PublicKey{}) {
			if err != nil {
				return err
			}
			if u.Active {
				if err := tell(u.Key); err != nil {
					return err
				}
			}
		}
		return nil
	}
	members, err := r.store.Members(ctx, n.Log)
	if err != nil {
		return err
	}
	for _, m := range members {
		if err := tell(m.Endpoint); err != nil {
			return err
		}
	}
	if e == nil {
		return nil
	}
	var failed error
	for _, key := range e.Touches() {
		failed = errors.Join(failed, tell(key))
	}
	return failed
}
