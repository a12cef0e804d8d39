package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/tasks"
)

const (
	orderWait = time.Second            // for a server to answer, or to drop a connection
	lookWait  = 500 * time.Millisecond // for the next server to say that it is there
	kickPage  = 1024                   // connections in one answer; servers give no more
	kickPause = 10 * time.Millisecond  // before a server is looked at again
	kickTurns = 64                     // pages of one user's connections on one server, before it is a failure
)

// forgetAfter is how long a server that fell silent is still taken to be there, cut off: as long as a
// login lasts. After that it holds nobody who was let in before.
const forgetAfter = time.Hour

// Servers knows the NATS servers of a bus, those that are silent just now included.
type Servers struct {
	sys *nats.Conn
	// MayComeIn says whether a login that is under way is waited for where it concerns a kick: not if it is known
	// that it will not succeed.
	MayComeIn Concerned

	mu   sync.Mutex
	seen map[string]Seen
}

// Seen is a server and when it was last heard of.
type Seen struct {
	ID, Name string
	At       time.Time
}

// NewServers works through a connection of the system account.
func NewServers(sys *nats.Conn) *Servers {
	return &Servers{sys: sys, MayComeIn: All, seen: map[string]Seen{}}
}

// Look asks who is there, and waits for the answers.
func (s *Servers) Look(ctx context.Context) error {
	return AskServers(ctx, s.sys, "IDZ", nil, lookWait, func(answer []byte) error {
		var who struct{ ID, Name string }
		if err := json.Unmarshal(answer, &who); err != nil || who.ID == "" {
			return fmt.Errorf("a server's answer is not understood: %v", err)
		}
		s.Heard(who.ID, who.Name)
		return nil
	})
}

// Heard notes that a server is there. One that was started again has another id under its old name.
func (s *Servers) Heard(id, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for old, server := range s.seen {
		if old != id && server.Name == name || time.Since(server.At) > forgetAfter {
			delete(s.seen, old)
		}
	}
	s.seen[id] = Seen{id, name, time.Now()}
}

// gone forgets a server that said it would stop.
func (s *Servers) gone(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.seen, id)
}

// Follow keeps the list current as servers say that they stop.
func (s *Servers) Follow() error {
	_, err := s.sys.Subscribe("$SYS.SERVER.*.SHUTDOWN", func(m *nats.Msg) {
		s.gone(strings.Split(m.Subject, ".")[2])
	})
	return failure(err)
}

// List is every server known to be there, by name.
func (s *Servers) List() []Seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Seen
	for _, server := range s.seen {
		out = append(out, server)
	}
	slices.SortFunc(out, func(a, b Seen) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Silent is a failure to reach servers that are known to be there. Who is connected to them is not known.
type Silent struct{ Servers []Seen }

// Error names the servers, and when each was heard of last.
func (e *Silent) Error() string {
	names := make([]string, len(e.Servers))
	for i, s := range e.Servers {
		names[i] = fmt.Sprintf("%s (last heard of %v ago)", s.Name, time.Since(s.At).Round(time.Second))
	}
	return "no answer from " + strings.Join(names, ", ") + ": who is connected there cannot be dropped"
}

// connections is one server's answer to CONNZ.
type connections struct {
	Server struct{ ID, Name string }
	Data   struct {
		Now         time.Time
		Total       int
		Connections []struct {
			CID     uint64
			Start   time.Time
			User    string `json:"authorized_user"` // what it says of itself, until its login is answered
			Account string // none until its login is answered
			Pending int    `json:"pending_bytes"` // sent to it and not read
		}
	}
}

// connections asks a server for a page of its connections, oldest first.
func (s *Servers) connections(ctx context.Context, server string, filter map[string]any) (c connections, err error) {
	filter["auth"], filter["limit"], filter["sort"] = true, kickPage, "cid"
	ask, err := json.Marshal(filter)
	if err != nil {
		return c, err
	}
	m, err := s.order(ctx, server, "CONNZ", ask)
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(m.Data, &c); err != nil {
		return c, fmt.Errorf("connections of a server: %w", err)
	}
	return c, nil
}

func (s *Servers) order(ctx context.Context, server, what string, order []byte) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, orderWait)
	defer cancel()
	return s.sys.RequestWithContext(ctx, "$SYS.REQ.SERVER."+server+"."+what, order)
}

// Unread is how many bytes the servers hold that were sent to a user's connections and that these have not read.
// Servers that do not answer are left out.
func (s *Servers) Unread(ctx context.Context, user crypto.PublicKey) (bytes int, err error) {
	for _, server := range s.List() {
		c, err := s.connections(ctx, server.ID, map[string]any{"acc": AccountBus, "user": user.String()})
		if err != nil && ctx.Err() != nil {
			return bytes, err
		}
		for _, conn := range c.Data.Connections {
			bytes += conn.Pending
		}
	}
	return bytes, nil
}

// loginLasts is how long a server may take over a login at most: LoginTimeout, and then it closes it.
const loginLasts = LoginTimeout + time.Second

// landed waits until every login that was under way on a server when it was asked is answered, or given up by
// the server: one that was decided before a change may else appear after the last look.
func (s *Servers) landed(ctx context.Context, server string) error {
	logins, err := s.logins(ctx, server)
	for err == nil && len(logins) > 0 { // each takes a moment, loginLasts at most
		if err = tasks.Pause(ctx, kickPause); err != nil {
			return err
		}
		var still []uint64
		still, err = s.logins(ctx, server)
		logins = slices.DeleteFunc(logins, func(cid uint64) bool { return !slices.Contains(still, cid) })
	}
	return err
}

// logins lists the connections of a server that have said who they are and have no answer yet. Those are among
// the newest connections, which come last. A connection that has said nothing is not waited for: what it says
// later is decided on newer grounds.
func (s *Servers) logins(ctx context.Context, server string) (list []uint64, err error) {
	c, err := s.connections(ctx, server, map[string]any{})
	offset := 0
	if err == nil && c.Data.Total > kickPage {
		offset = c.Data.Total - kickPage
		c, err = s.connections(ctx, server, map[string]any{"offset": offset})
	}
	for ; err == nil; c, err = s.connections(ctx, server, map[string]any{"offset": offset}) {
		older := false
		for i, conn := range c.Data.Connections {
			// What has no account for longer is no login: servers may have users of their own.
			young := c.Data.Now.Sub(conn.Start) < loginLasts
			if young && conn.Account == "" && conn.User != "" && s.MayComeIn(server, conn.CID) {
				list = append(list, conn.CID)
			}
			older = older || young && i == 0
		}
		if !older || offset == 0 {
			break
		}
		offset = max(0, offset-kickPage)
	}
	return list, err
}

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
		err := k.servers.landed(ctx, server.ID)
		if err == nil {
			err = k.on(ctx, server.ID, user, concerned)
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

// first is when a server was first asked about a user, by its clock.
func (k *Kick) first(server string, user crypto.PublicKey, now time.Time) time.Time {
	place := server + " " + user.String()
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, again := k.looked[place]; !again {
		k.looked[place] = now
	}
	return k.looked[place]
}

// on drops a user's connections on one server, page by page: one user has no more of them than fit one, unless
// the servers let in more than they should.
func (k *Kick) on(ctx context.Context, server string, user crypto.PublicKey, concerned Concerned) error {
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

// close drops a connection. That it has gone by itself is an answer too.
func (k *Kick) close(ctx context.Context, server string, cid uint64) error {
	_, err := k.servers.order(ctx, server, "KICK", fmt.Appendf(nil, `{"cid":%d}`, cid))
	return err
}

// drop drops the connections in one server's answer that are old enough.
func (k *Kick) drop(ctx context.Context, server string, user crypto.PublicKey, concerned Concerned, c *connections) (dropped int, err error) {
	first := k.first(server, user, c.Data.Now)
	for _, conn := range c.Data.Connections {
		if conn.Start.After(first) || !concerned(server, conn.CID) {
			continue
		}
		if err := k.close(ctx, server, conn.CID); err != nil {
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
			failed = errors.Join(failed, k.allBut(ctx, server.ID, but))
		}
	}
	return failed
}

// DropOn drops every connection of the BUS account on one server, but those of the given users.
func DropOn(ctx context.Context, servers *Servers, server string, but []string) error {
	return NewKick(servers).allBut(ctx, server, but)
}

// allBut drops the connections of a server, page by page, until there are none but those of the given users.
func (k *Kick) allBut(ctx context.Context, server string, but []string) error {
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
			if err := k.close(ctx, server, conn.CID); err != nil {
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

// AskServers asks every server for what it tells its operator (CONNZ, VARZ, …), over a connection of
// the system account, and calls f with each answer. It returns when none has come for a while.
func AskServers(ctx context.Context, sys *nats.Conn, what string, ask []byte, wait time.Duration, f func(answer []byte) error) error {
	return scatter(ctx, sys, "$SYS.REQ.SERVER.PING."+what, ask, wait, f)
}
