package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/tasks"
)

// This file is what the service knows of the NATS servers of its bus, and asks of them over the system account: who is
// there (Servers), and who is connected, or logging in, to one of them. A Kick acts on it.

const (
	orderWait = time.Second            // for a server to answer, or to drop a connection
	lookWait  = 500 * time.Millisecond // for the next server to say that it is there
	kickPage  = 1024                   // connections in one answer; servers give no more
	kickPause = 10 * time.Millisecond  // before a server is looked at again
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

// forget forgets a server that said it would stop.
func (s *Servers) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.seen, id)
}

// Follow keeps the list current as servers say that they stop.
func (s *Servers) Follow() error {
	_, err := s.sys.Subscribe("$SYS.SERVER.*.SHUTDOWN", func(m *nats.Msg) {
		s.forget(strings.Split(m.Subject, ".")[2])
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

// order asks one server for something that only its operator may, and waits for the answer within orderWait.
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

// awaitLogins waits until every login that was under way on a server when it was asked is answered, or given up by
// the server: one that was decided before a change may else appear after the last look.
func (s *Servers) awaitLogins(ctx context.Context, server string) error {
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

// AskServers asks every server for what it tells its operator (CONNZ, VARZ, …), over a connection of
// the system account, and calls f with each answer. It returns when none has come for a while.
func AskServers(ctx context.Context, sys *nats.Conn, what string, ask []byte, wait time.Duration, f func(answer []byte) error) error {
	return scatter(ctx, sys, "$SYS.REQ.SERVER.PING."+what, ask, wait, f)
}
