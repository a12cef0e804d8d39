package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/tasks"
)

// This file ends connections. A Kick goes to each of the Servers, waits for the logins that are under way there, and drops a
// user's connections page by page; DropAll and DropOn drop everyone's, when the service itself is cut off.

// kickTurns is how many pages of one user's connections there may be on one server before it is a failure.
const kickTurns = 64

// Kick drops connections that the authorizer let in before it first looked: later ones were decided
// on newer grounds, so that looking again finds only those whose login was under way.
type Kick struct {
	servers *Servers

	mu     sync.Mutex
	looked map[string]time.Time // when, by the clock of each server
	silent []Seen               // servers that did not answer the last time
}

// NewKick returns a Kick on the servers of a bus.
func NewKick(servers *Servers) *Kick { return &Kick{servers: servers, looked: map[string]time.Time{}} }

// Concerned says whether a connection, by the id of its server and its own there, is to be dropped.
type Concerned func(server string, cid uint64) bool

// All concerns every connection.
func All(string, uint64) bool { return true }

// User drops a user's connections of the BUS account on every server, those that are concerned, until none is
// left. The authorizer gave them the user's key as their name. *Silent when a server that is known to be there
// does not answer.
func (k *Kick) User(ctx context.Context, user crypto.PublicKey, concerned Concerned) error {
	var silent Silent
	for _, server := range k.servers.List() {
		err := k.servers.awaitLogins(ctx, server.ID)
		if err == nil {
			err = k.dropUserOn(ctx, server.ID, user, concerned)
		}
		if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			silent.Servers = append(silent.Servers, server)
			continue
		}
		if err != nil {
			return err
		}
	}
	k.mu.Lock()
	k.silent = silent.Servers
	k.mu.Unlock()
	if len(silent.Servers) > 0 {
		return &silent
	}
	return nil
}

// Due reports whether trying again makes sense: not while the servers that did not answer are as silent as
// they were.
func (k *Kick) Due() bool {
	k.mu.Lock()
	silent := k.silent
	k.mu.Unlock()
	known := k.servers.List()
	for _, s := range silent {
		if !slices.Contains(known, s) {
			return true // heard of since, or gone for good
		}
	}
	return len(silent) == 0
}

// firstLook is when a server was first asked about a user, by its clock.
func (k *Kick) firstLook(server string, user crypto.PublicKey, now time.Time) time.Time {
	place := server + " " + user.String()
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, again := k.looked[place]; !again {
		k.looked[place] = now
	}
	return k.looked[place]
}

// dropUserOn drops a user's connections on one server, page by page: one user has no more of them than fit one, unless
// the servers let in more than they should.
func (k *Kick) dropUserOn(ctx context.Context, server string, user crypto.PublicKey, concerned Concerned) error {
	offset := 0
	for turn := range kickTurns {
		if turn > 0 { // a connection takes a moment to go
			if err := tasks.Pause(ctx, kickPause); err != nil {
				return err
			}
		}
		c, err := k.servers.connections(ctx, server, map[string]any{"acc": AccountBus, "user": user.String(), "offset": offset})
		if err != nil {
			return err
		}
		dropped, err := k.drop(ctx, server, user, concerned, &c)
		switch {
		case err != nil:
			return err
		case dropped == 0 && len(c.Data.Connections) < kickPage:
			return nil
		case dropped == 0:
			offset += kickPage
		}
	}
	return fmt.Errorf("connections of %s come faster than they can be dropped", user)
}

// dropOne drops a connection. That it has gone by itself is an answer too.
func (k *Kick) dropOne(ctx context.Context, server string, cid uint64) error {
	_, err := k.servers.order(ctx, server, "KICK", fmt.Appendf(nil, `{"cid":%d}`, cid))
	return err
}

// drop drops the connections in one server's answer that are old enough.
func (k *Kick) drop(ctx context.Context, server string, user crypto.PublicKey, concerned Concerned, c *connections) (dropped int, err error) {
	first := k.firstLook(server, user, c.Data.Now)
	for _, conn := range c.Data.Connections {
		if conn.Start.After(first) || !concerned(server, conn.CID) {
			continue
		}
		if err := k.dropOne(ctx, server, conn.CID); err != nil {
			return dropped, err
		}
		dropped++
	}
	return dropped, nil
}

// DropAll drops every connection of the BUS account on the servers heard of since a time, but those of the
// given users.
func DropAll(ctx context.Context, servers *Servers, since time.Time, but []string) error {
	k := NewKick(servers)
	var failed error
	for _, server := range servers.List() {
		if !server.At.Before(since) {
			failed = errors.Join(failed, k.dropAllBut(ctx, server.ID, but))
		}
	}
	return failed
}

// DropOn drops every connection of the BUS account on one server, but those of the given users.
func DropOn(ctx context.Context, servers *Servers, server string, but []string) error {
	return NewKick(servers).dropAllBut(ctx, server, but)
}

// dropAllBut drops the connections of a server, page by page, until there are none but those of the given users.
func (k *Kick) dropAllBut(ctx context.Context, server string, but []string) error {
	offset := 0
	for range kickTurns {
		c, err := k.servers.connections(ctx, server, map[string]any{"acc": AccountBus, "offset": offset})
		if err != nil {
			return err
		}
		dropped := 0
		for _, conn := range c.Data.Connections {
			if slices.Contains(but, conn.User) {
				continue
			}
			if err := k.dropOne(ctx, server, conn.CID); err != nil {
				return err
			}
			dropped++
		}
		switch {
		case dropped > 0: // they take a moment to go; what is left moves up
			if err := tasks.Pause(ctx, kickPause); err != nil {
				return err
			}
		case len(c.Data.Connections) < kickPage:
			return nil
		default:
			offset += kickPage
		}
	}
	return fmt.Errorf("connections to %s come faster than they can be dropped", server)
}
