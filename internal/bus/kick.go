package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/crypto"
)

const (
	kickWait = 2 * time.Second        // for a server to drop a connection
	askWait  = 200 * time.Millisecond // for the next server to answer
)

// Kick drops connections that the authorizer let in before it first looked: later ones were decided
// on newer grounds, so that looking again finds only those whose login was under way.
type Kick struct {
	sys    *nats.Conn
	looked map[string]time.Time // when, by the clock of each server
}

// NewKick returns a Kick that works through a connection of the system account.
func NewKick(sys *nats.Conn) *Kick { return &Kick{sys, map[string]time.Time{}} }

// connections is one server's answer to CONNZ.
type connections struct {
	Server struct{ ID string }
	Data   struct {
		Now         time.Time
		Connections []struct {
			CID   uint64
			Start time.Time
		}
	}
}

// User drops a user's connections of the BUS account on every server. The authorizer gave them the
// user's key as their name.
func (k *Kick) User(ctx context.Context, user crypto.PublicKey) error {
	ask, err := json.Marshal(map[string]any{"auth": true, "acc": "BUS", "user": user.String(), "limit": 1024})
	if err != nil {
		return err
	}
	return AskServers(ctx, k.sys, "CONNZ", ask, askWait, func(answer []byte) error {
		var c connections
		if err := json.Unmarshal(answer, &c); err != nil {
			return fmt.Errorf("connections of a server: %w", err)
		}
		return k.drop(ctx, user, &c)
	})
}

// AskServers asks every server for what it tells its operator (CONNZ, VARZ, …), over a connection of
// the system account, and calls f with each answer. It returns when none has come for a while.
func AskServers(ctx context.Context, sys *nats.Conn, what string, ask []byte, wait time.Duration, f func(answer []byte) error) error {
	inbox := sys.NewInbox()
	sub, err := sys.SubscribeSync(inbox)
	if err != nil {
		return failure(err)
	}
	defer sub.Unsubscribe()
	if err := sys.PublishRequest("$SYS.REQ.SERVER.PING."+what, inbox, ask); err != nil {
		return failure(err)
	}
	for { // servers answer for themselves, each when it can
		m, err := sub.NextMsg(wait)
		if errors.Is(err, nats.ErrTimeout) {
			return ctx.Err()
		}
		if err != nil {
			return failure(err)
		}
		if err := f(m.Data); err != nil {
			return err
		}
	}
}

// drop drops the connections in one server's answer.
func (k *Kick) drop(ctx context.Context, user crypto.PublicKey, c *connections) error {
	place := c.Server.ID + " " + user.String()
	first, again := k.looked[place]
	if !again {
		k.looked[place] = c.Data.Now
	}
	for _, conn := range c.Data.Connections {
		if again && conn.Start.After(first) {
			continue
		}
		order := fmt.Appendf(nil, `{"cid":%d}`, conn.CID)
		// A request: without somewhere to answer, the server ignores the order. That the connection
		// has gone by itself is an answer too.
		ctx, cancel := context.WithTimeout(ctx, kickWait)
		_, err := k.sys.RequestWithContext(ctx, "$SYS.REQ.SERVER."+c.Server.ID+".KICK", order)
		cancel()
		if err != nil {
			return failure(err)
		}
	}
	return nil
}
