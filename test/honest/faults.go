//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/test/run"
)

// mkdir makes a folder that nobody else may look into.
func mkdir(dir string) error { return os.MkdirAll(dir, 0o700) }

// fault is something that happens to the servers.
type fault struct {
	name string
	do   func(*operators, context.Context, *rand.Rand) error
}

// Faults take turns. A step-down is no trouble: nobody is to notice it.
var (
	faultsOfThree = []fault{
		{"step-down", (*operators).stepDown}, {"step-down", (*operators).stepDown}, {"step-down", (*operators).stepDown}, {"restart", (*operators).restartNode},
		{"step-down", (*operators).stepDown}, {"step-down", (*operators).stepDown}, {"step-down", (*operators).stepDown}, {"scale", (*operators).scale},
	}
	faultsOfOne = []fault{{"restart", (*operators).restartOne}, {"restore", (*operators).restore}, {"restart", (*operators).restartOne}, {"migrate", (*operators).migrate}}
)

// operators are those of a bus, who make its faults happen. A bus moves by their hands alone.
type operators struct {
	*bus
	moves int // of the bus to other files
}

// disturb lets faults happen as long as going lasts.
func (b *operators) disturb(ctx, going context.Context, dice *rand.Rand) {
	faults, apart := faultsOfThree, 8*time.Second
	if b.three == nil {
		faults, apart = faultsOfOne, 30*time.Second
	}
	for i := 0; ; i++ {
		run.Pause(going, apart/2+time.Duration(dice.Int64N(int64(apart))))
		if going.Err() != nil {
			return
		}
		f := faults[i%len(faults)]
		actor := b.name + ": " + f.name
		b.j.count(actor, func(n *numbers) { n.times++ })
		tell("%s", actor)
		if err := f.do(b, ctx, dice); err != nil {
			b.j.fail(actor, "", err)
		}
	}
}

// stepDown has the leader of some stream step down: of a room, or of the store.
func (b *operators) stepDown(ctx context.Context, dice *rand.Rand) error {
	nc, err := b.three.Operator(b.three.Nodes[dice.IntN(run.Size)])
	if err != nil {
		return err
	}
	defer nc.Close()
	names, err := streams(ctx, nc)
	if err != nil {
		return err
	}
	stream := names[dice.IntN(len(names))]
	now, err := run.StepDown(ctx, nc, stream, "")
	tell("three: %s leads %s", now, stream)
	return err
}

// streams are the names of all of them.
func streams(ctx context.Context, nc *nats.Conn) (names []string, err error) {
	err = run.Eventually(ctx, func() error {
		m, err := nc.Request("$JS.API.STREAM.NAMES", nil, 5*time.Second)
		if err != nil {
			return err
		}
		var answer struct {
			Streams []string `json:"streams"`
		}
		if err := json.Unmarshal(m.Data, &answer); err != nil {
			return err
		}
		if names = answer.Streams; len(names) == 0 {
			return errors.New("no streams")
		}
		return nil
	})
	return names, err
}

// restartNode restarts a server of three.
func (b *operators) restartNode(ctx context.Context, dice *rand.Rand) error {
	n := b.three.Nodes[dice.IntN(run.Size)]
	return b.trouble(func() error {
		if _, err := n.Stop(); err != nil {
			return err
		}
		run.Pause(ctx, time.Duration(dice.Int64N(int64(4*time.Second))))
		return errors.Join(n.Start(), n.IsReady(ctx))
	})
}

// scale keeps everything on one server for a while.
func (b *operators) scale(ctx context.Context, dice *rand.Rand) error {
	for _, replicas := range []string{"1", "3"} {
		err := b.trouble(func() error {
			r := b.run(ctx, order{who: b.founder, args: []string{"store", "scale", "--replicas", replicas, "--keys", b.keys}})
			if !b.j.process(b.bus, "three: scale", replicas, r) && r.code == unavailable {
				tell("scale to %s: %v", replicas, r)
			}
			return nil
		})
		if err != nil {
			return err
		}
		run.Pause(ctx, time.Duration(dice.Int64N(int64(8*time.Second))))
	}
	return nil
}

// restartOne restarts the only server.
func (b *operators) restartOne(ctx context.Context, dice *rand.Rand) error {
	return b.trouble(func() error {
		if _, err := b.one.Stop(); err != nil {
			return err
		}
		run.Pause(ctx, time.Duration(dice.Int64N(int64(2*time.Second))))
		return errors.Join(b.one.Start(), b.one.IsReady(ctx))
	})
}

// moved stops the server, and starts it in another data folder that fill has filled. Nobody is there meanwhile.
func (b *operators) moved(ctx context.Context, fill func(from, to string) error, after func() error) error {
	b.still.Lock()
	defer b.still.Unlock()
	return b.trouble(func() error {
		if _, err := b.one.Stop(); err != nil {
			return err
		}
		b.moves++
		from, to := b.one.Data, filepath.Join(b.dir, fmt.Sprintf("data%d", b.moves))
		if err := errors.Join(mkdir(to), fill(from, to)); err != nil {
			return err
		}
		b.one.Data = to
		if err := errors.Join(b.one.Start(), b.one.IsReady(ctx)); err != nil {
			return err
		}
		return errors.Join(after(), os.RemoveAll(from))
	})
}

// store is the address of the store in a data folder.
func store(dir string) string { return "sqlite:" + filepath.Join(dir, "unibus.db") }

// migrate moves the store to another file, and the messages with the folder.
func (b *operators) migrate(ctx context.Context, _ *rand.Rand) error {
	return b.moved(ctx, func(from, to string) error {
		err := b.must(ctx, b.founder, "migrate", "--from", store(from), "--to", store(to))
		return errors.Join(err, os.Rename(filepath.Join(from, "jetstream"), filepath.Join(to, "jetstream")))
	}, func() error { return nil })
}

// restore restores a backup, which has no messages, and says that this was meant.
func (b *operators) restore(ctx context.Context, _ *rand.Rand) error {
	file := filepath.Join(b.dir, "backup.tar.gz")
	defer os.Remove(file)
	return b.moved(ctx, func(from, to string) error {
		if err := b.must(ctx, b.founder, "backup", file, "--store", store(from)); err != nil {
			return err
		}
		return b.must(ctx, b.founder, "restore", file, "--store", store(to))
	}, func() error { return b.anew(ctx) })
}

// anew says of every room that what it had stored is gone. Nobody can say so of one that is archived: it is left out
// from now on.
func (b *operators) anew(ctx context.Context) error {
	var failed []error
	var past []*room
	for _, r := range b.rooms() {
		if r.archived {
			continue
		}
		failed = append(failed, b.must(ctx, b.founder, "room", "set", r.subject, "--anew"))
		r.emptied()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.past {
		if !r.archived {
			past = append(past, r)
		}
	}
	b.past = past
	return errors.Join(failed...)
}

// settle reads and verifies everything in the end, when nothing happens any more.
func (b *bus) settle(ctx context.Context) {
	p := &people{bus: b, ctx: ctx, actor: b.name + ": at the end"}
	p.j.count(p.actor, func(n *numbers) { n.times++ })
	if len(b.troubles) > 0 {
		run.Pause(ctx, recovery) // from now on nothing may end with 5
	}
	for _, who := range b.people {
		for _, r := range b.rooms() {
			p.reads(who, r, "--all", "--end")
			p.verifies(who, r)
		}
		p.does(who, &room{subject: "(bus)"}, "verify", "--bus")
	}
}
