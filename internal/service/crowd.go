package service

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/tasks"
)

// Who is connected is what the servers tell in the system account: each service of a bus counts all connections, whichever
// let them in, and so refuses what is one too many without asking another. Users and those who say hello have seats of their
// own kind (seats.go); of its own connections a service also knows in which rooms they have rights (grants.go), by which one
// that has none in a room is spared when somebody leaves it.

const (
	maxConnections = 256 // of one user
	maxHello       = 8   // connections that say hello, of one address
	maxDoorQueue   = 128 // logins of one address that wait to say hello
	maxDoorWaits   = 1024
	doorWait       = 1500 * time.Millisecond // for one to go, maxPace included; a server waits little longer
	showUp         = time.Second             // in which a connection that was granted shows up; one that is later counts from then
	sweepEvery     = 250 * time.Millisecond
	crowdPage      = 1024             // connections in one answer; servers give no more
	crowdPages     = 256              // asked for at a start
	crowdWait      = time.Second      // for the next server's answer
	tellEvery      = time.Minute      // of a user with too many connections
	crowdSlack     = 30 * time.Second // after which a connection that had to end has
	floodPenalty   = 2 * time.Second
	maxGone        = 4096
	maxOutside     = 16 << 10
	crowdPending   = 256 << 10 // events that have come and are not looked at yet
)

// crowd knows who is connected, as the servers tell all services of a bus: users by their key, and who
// says hello by address.
type crowd struct {
	bus   *seats[crypto.PublicKey]
	door  *seats[string]
	told  *recent[crypto.PublicKey, time.Time]
	gone  *recent[connID, struct{}] // so that one who goes while those who are there are counted is not
	hello *recent[string, connID]   // by the subject on which it says hello, of those that this service let in
	// flooded are connections that were dropped for saying hello without end. Their seats stay taken a while.
	flooded *recent[connID, struct{}]
	now     func() time.Time
	rooms   *grants
	outside *recent[connID, struct{}] // connections whose login will not make them a user's
}

// newCrowd knows nobody yet: run counts those who are there already.
func newCrowd(now func() time.Time) *crowd {
	return &crowd{
		bus: newSeats[crypto.PublicKey](maxConnections, 0, 0), door: newSeats[string](maxHello, maxDoorQueue, maxDoorWaits),
		told: newRecent[crypto.PublicKey, time.Time](maxRefused), gone: newRecent[connID, struct{}](maxGone), now: now,
		hello: newRecent[string, connID](maxDoorWaits), flooded: newRecent[connID, struct{}](maxDoorWaits),
		rooms: newGrants(), outside: newRecent[connID, struct{}](maxOutside),
	}
}

// addressOf is what counts as one address: of IPv6 the network that one site has.
func addressOf(host string) string {
	ip, err := netip.ParseAddr(host)
	if err != nil || ip.Unmap().Is4() {
		return host
	}
	site, err := ip.Prefix(64)
	if err != nil {
		return host
	}
	return site.String()
}

// follow keeps count of who comes and goes.
func (c *crowd) follow(sys *nats.Conn) ([]*nats.Subscription, error) {
	// One subscription for both events of a connection, so that they come in their order.
	events, err := sys.Subscribe("$SYS.ACCOUNT.*.*", c.event)
	if err == nil {
		err = events.SetPendingLimits(crowdPending, pendingBytes)
	}
	if err != nil {
		return nil, err
	}
	stops, err := sys.Subscribe("$SYS.SERVER.*.SHUTDOWN", func(m *nats.Msg) {
		id := strings.Split(m.Subject, ".")[2]
		c.bus.serverLeft(id, c.now())
		c.door.serverLeft(id, c.now())
	})
	return []*nats.Subscription{events, stops}, err
}

// event notes that a connection has come or gone.
func (c *crowd) event(m *nats.Msg) {
	account, what, _ := strings.Cut(strings.TrimPrefix(m.Subject, "$SYS.ACCOUNT."), ".")
	if account != bus.AccountBus && account != bus.AccountDoor || what != "CONNECT" && what != "DISCONNECT" {
		return
	}
	var e struct {
		Server struct{ ID string }
		Client struct {
			ID         uint64
			User, Host string
		}
	}
	if json.Unmarshal(m.Data, &e) != nil || e.Server.ID == "" {
		return
	}
	conn := connID{e.Server.ID, e.Client.ID}
	switch {
	case what == "DISCONNECT" && account == bus.AccountBus:
		c.gone.put(conn, struct{}{})
		c.bus.left(conn, c.now())
		c.rooms.gone(conn)
	case what == "DISCONNECT":
		if _, flooded := c.flooded.get(conn); flooded {
			c.door.appeared(addressOf(e.Client.Host), conn, c.now().Add(floodPenalty))
			return
		}
		c.door.left(conn, c.now())
	case account == bus.AccountBus:
		c.cameIn(conn, e.Client.User)
	default:
		c.door.appeared(addressOf(e.Client.Host), conn, c.now().Add(helloLife+crowdSlack))
	}
}

// cameIn notes a user's connection. Who is called otherwise than by a key is the service, or an operator.
func (c *crowd) cameIn(conn connID, user string) {
	if key, err := crypto.ParsePublicKey(user); err == nil {
		c.bus.appeared(key, conn, c.now().Add(loginLife+crowdSlack))
	}
}

// seed counts the users that are connected to any server already.
func (c *crowd) seed(ctx context.Context, sys *nats.Conn) error {
	for page := range crowdPages {
		ask := fmt.Appendf(nil, `{"auth":true,"acc":%q,"limit":%d,"offset":%d}`, bus.AccountBus, crowdPage, page*crowdPage)
		full := false
		err := bus.AskServers(ctx, sys, "CONNZ", ask, crowdWait, func(answer []byte) error {
			var a struct {
				Server struct{ ID string }
				Data   struct {
					Connections []struct {
						CID  uint64
						User string `json:"authorized_user"`
					}
				}
			}
			if err := json.Unmarshal(answer, &a); err != nil {
				return fmt.Errorf("connections of a server: %w", err)
			}
			for _, conn := range a.Data.Connections {
				id := connID{a.Server.ID, conn.CID}
				if _, gone := c.gone.get(id); !gone {
					c.cameIn(id, conn.User)
				}
			}
			full = full || len(a.Data.Connections) >= crowdPage
			return nil
		})
		if err != nil || !full {
			return err
		}
	}
	return nil
}

// run counts those who are there already, and then ends what nobody told the end of, until ctx ends.
func (c *crowd) run(ctx context.Context, sys *nats.Conn, log *slog.Logger) {
	if err := c.seed(ctx, sys); err != nil && ctx.Err() == nil {
		log.Warn("users that were connected before are not counted", "error", err)
	}
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			c.bus.sweep(c.now())
			c.door.sweep(c.now())
		}
	}
}

// mayTell reports whether to say that a user has too many connections: now and then.
func (c *crowd) mayTell(key crypto.PublicKey, now time.Time) bool {
	if last, ok := c.told.get(key); ok && now.Sub(last) < tellEvery {
		return false
	}
	c.told.put(key, now)
	return true
}

// mayHaveNamed returns what tells connections that may have rights in a room: those that this service gave some
// there, and all that it knows nothing of, let in by another service or long ago.
func (c *crowd) mayHaveNamed(room crypto.ID) bus.Concerned {
	return func(server string, cid uint64) bool {
		rooms, known := c.rooms.of(connID{server, cid})
		return !known || slices.Contains(rooms, room)
	}
}

// mayComeIn reports whether a login that is under way may still become a user's: not those that this service has
// refused, or will not answer, nor those that say hello.
func (c *crowd) mayComeIn(server string, cid uint64) bool {
	_, outside := c.outside.get(connID{server, cid})
	return !outside
}

// isIn reports whether a connection was let in before.
func (c *crowd) isIn(conn connID) bool { return c.bus.has(conn) || c.door.has(conn) }

// dropHello returns what drops the connection that says hello on a subject. One that another service let
// in is left to that one, which has its share of the requests.
func (c *crowd) dropHello(ctx context.Context, sys *nats.Conn, wait *tasks.Group) func(subject string) {
	drops := make(chan connID, maxHello)
	wait.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case conn := <-drops: // servers do as told only by who wants an answer; one that stays is dropped again
				_ = sys.PublishRequest("$SYS.REQ.SERVER."+conn.server+".KICK", "_INBOX.nobody", fmt.Appendf(nil, `{"cid":%d}`, conn.id))
			}
		}
	})
	return func(subject string) {
		if conn, ok := c.hello.get(subject); ok {
			select {
			case drops <- conn:
				c.flooded.put(conn, struct{}{})
			default: // it will be met again
			}
		}
	}
}
