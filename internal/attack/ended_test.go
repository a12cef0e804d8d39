package attack

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/service"
)

// ending is how somebody's access ends: with a room, or with the bus.
type ending string

const (
	kicked  ending = "kicked"
	revoked ending = "revoked"
)

// insider is someone with rooms, and with everything that could outlast their access: a connection that
// subscribes, logins signed before, and a token for the API.
type insider struct {
	id     *unibus.Identity
	rooms  []*unibus.Room
	conn   *Peer
	closed chan struct{}
	got    chan *nats.Msg // in the rooms, by whatever connection
	logins []*Login
	past   *nats.Msg // a request for what a room stores
}

// kinds of rooms, by what a server can read and what it keeps.
func kindsOfRooms() map[string]unibus.Policy {
	kinds := map[string]unibus.Policy{"stored": unibus.DefaultPolicy(), "live": live()}
	for name, p := range kinds {
		p.Encryption = "none"
		kinds["plain."+name] = p
	}
	return kinds
}

// insider makes rooms of every kind, with someone new in them who may do everything there.
func (w *founding) insider(name string, role unibus.Role) *insider {
	w.Helper()
	in := &insider{id: w.add(name), closed: make(chan struct{})}
	var ids []crypto.ID
	for kind, p := range kindsOfRooms() {
		r := w.room(name+"."+kind, p)
		w.must(r.Invite(w.ctx, role, in.id.Key()))
		in.rooms, ids = append(in.rooms, r), append(ids, r.ID())
	}
	for range 3 {
		login, err := SignLogin(Options{Identity: in.id, Bus: w.alice.Bus(), Rooms: ids})
		w.must(err)
		in.logins = append(in.logins, login)
	}
	in.conn = w.dial(Options{Identity: in.id, Login: in.logins[0], Nats: []nats.Option{
		nats.ClosedHandler(func(*nats.Conn) { close(in.closed) }),
	}})
	in.got = w.tap(in.conn, in.subjects()...)
	var err error
	for _, r := range in.rooms {
		if r.Info().Policy.Stored() {
			in.past, err = in.conn.Request(http.MethodGet, "/rooms/"+r.ID().String()+"/frames", nil)
			w.must(err)
		}
	}
	return in
}

func (in *insider) ids() (out []crypto.ID) {
	for _, r := range in.rooms {
		out = append(out, r.ID())
	}
	return out
}

func (in *insider) subjects() (out []string) {
	for _, r := range in.rooms {
		out = append(out, bus.LiveFilter(r.ID()))
	}
	return out
}

// write publishes in all rooms.
func (w *founding) write(rooms []*unibus.Room, text string) {
	w.Helper()
	for _, r := range rooms {
		w.must(r.PublishOnce(w.ctx, []byte(text)))
	}
}

// shut checks that someone gets nothing that is sent from now on, by what they have from before or get anew.
func (in *insider) shut(w *world, how ending) {
	w.Helper()
	select { // everything that was sent to the old connection has come by then
	case <-in.closed:
	case <-time.After(soon):
		w.Errorf("the old connection goes on")
	}
	// Every service of a bus drops connections, one after the other: a new one may be dropped once more.
	for again := true; again; {
		p := in.again(w, how)
		w.write(in.rooms, "secret")
		again = p != nil && (p.Flush() != nil || !in.noPast(w, p)) && w.ctx.Err() == nil
	}
	for _, m := range drain(in.got) {
		if strings.Contains(m.Subject, w.alice.Key().String()) {
			w.Errorf("someone whose access ended is sent, on %s: %q", m.Subject, m.Data)
		}
	}
}

// noPast checks that nobody is given what is stored, by a request from before or a new one; false when the
// connection broke meanwhile.
func (in *insider) noPast(w *world, p *Peer) bool {
	w.Helper()
	old := make(chan *nats.Msg, 8)
	_, _ = p.ChanSubscribe(bus.InboxPrefix(p.Inbox)+".old", old)
	for _, reply := range []string{bus.InboxPrefix(p.Inbox) + ".old", bus.InboxPrefix(in.conn.Inbox) + ".old"} {
		in.past.Reply = reply
		_ = p.PublishMsg(in.past)
	}
	body, status, err := p.Call(w.ctx, http.MethodGet, in.past.Header.Get("Path"), nil)
	if p.IsClosed() {
		return false
	}
	if err != nil || status != http.StatusForbidden {
		w.Errorf("the past: %d %q, %v", status, body, err)
	}
	for _, m := range drain(old) { // its token names the inbox of the old connection
		w.Errorf("the old request is answered: %q", m.Data)
	}
	return true
}

// again logs in with what was signed before, and anew. Who was revoked gets in by neither. Who was kicked does,
// and subscribes and publishes as before.
func (in *insider) again(w *world, how ending) *Peer {
	w.Helper()
	var last *Peer
	for _, login := range []*Login{in.logins[0], in.logins[1], nil} {
		p, err := Dial(Options{URL: w.node.URL(), Bus: w.alice.Bus(), Identity: in.id, Login: login, Nats: []nats.Option{
			nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
		}})
		if (how == revoked) != (err != nil) {
			w.Fatalf("a login ends with %v", err)
		}
		if err != nil {
			continue
		}
		w.Cleanup(p.Close)
		for _, s := range in.subjects() {
			_, _ = p.ChanSubscribe(s, in.got)
		}
		for _, r := range in.rooms {
			_ = p.Publish(bus.StoredSubject(r.ID(), in.id.Key()), []byte("rubbish"))
			_ = p.Publish(bus.LiveSubject(r.ID(), in.id.Key()), []byte("rubbish"))
		}
		_ = p.Flush() // it may be dropped again
		last = p
	}
	return last
}

// TestKicked: whoever is kicked from rooms gets nothing that is sent once that is acknowledged, and nothing of
// theirs is stored or read.
func TestKicked(t *testing.T) { w := startWorld(t, "sqlite"); w.losesAccess(kicked) }

// TestRevoked: the same for who is revoked.
func TestRevoked(t *testing.T) { w := startWorld(t, "jetstream"); w.losesAccess(revoked) }

// losesAccess has somebody of each role lose their access while the others write, and checks that alice reads what she
// was sent and nothing else.
func (w *world) losesAccess(how ending) {
	for _, role := range []unibus.Role{unibus.RoleReader, unibus.RoleMember, unibus.RoleAdmin} {
		w.part(w.T, string(role), func(w *world) {
			in := w.insider(string(role), role)
			w.write(in.rooms, "before")
			for range in.rooms {
				<-in.got // so that it is known to be sent all
			}
			var subjects []string
			for _, r := range in.rooms {
				subjects = append(subjects, r.Subject())
			}
			reader := w.read(w.alice, subjects...)
			if how == revoked {
				w.must(w.alice.RevokeUsers(w.ctx, "", in.id.Key()))
			} else {
				for _, r := range in.rooms {
					w.must(r.Kick(w.ctx, in.id.Key()))
				}
			}
			in.shut(w, how)
			for _, text := range w.await(reader, len(in.rooms)) {
				if text != "secret" {
					w.Errorf("alice reads %q", text)
				}
			}
			if n := reader.findings(); len(n) > 0 {
				w.Errorf("alice is told of %v", n)
			}
		})
	}
}

// TestManyConnections: however many connections someone has, none of them is there, or gets anything, once a
// revocation is acknowledged.
func TestManyConnections(t *testing.T) {
	const (
		many = 250 // a few less than one user may have
		busy = 8   // dialled at once
	)
	w := startWorld(t, "sqlite")
	in := w.insider("many", unibus.RoleMember)
	closed := make(chan struct{}, many)
	ids := in.ids()
	var wait sync.WaitGroup
	conns := make([]*Peer, many)
	errs := make([]error, busy)
	for i := range busy {
		wait.Go(func() {
			for n := i; n < many && errs[i] == nil; n += busy {
				conns[n], errs[i] = in.enter(w, w.node, ids)
				if errs[i] == nil {
					conns[n].SetClosedHandler(func(*nats.Conn) { closed <- struct{}{} })
				}
			}
		})
	}
	wait.Wait()
	for _, c := range conns {
		if c != nil {
			defer c.Close()
		}
	}
	for _, err := range errs {
		w.must(err)
	}
	w.must(w.alice.RevokeUsers(w.ctx, "", in.id.Key()))
	in.shut(w, revoked)
	for i := range many {
		select {
		case <-closed:
		case <-time.After(soon):
			w.Fatalf("%d of %d connections are closed", i, many)
		}
	}
	if n := len(drain(in.got)); n > 0 {
		w.Errorf("%d messages came by the others", n)
	}
}

// TestLoginWhileRevoked: someone who logs in without a pause, many times at once, with logins signed before, is
// in no more once the revocation is acknowledged, and stays out.
func TestLoginWhileRevoked(t *testing.T) {
	w := startWorld(t, "sqlite")
	for round := range 5 {
		in := w.insider(fmt.Sprint("round", round), unibus.RoleMember)
		stop := make(chan struct{})
		var wait sync.WaitGroup
		for range 8 {
			wait.Go(func() { in.hammer(w, stop) })
		}
		w.must(w.alice.RevokeUsers(w.ctx, "", in.id.Key()))
		w.write(in.rooms, "secret")
		close(stop)
		wait.Wait()
		for _, m := range drain(in.got) {
			w.Errorf("round %d: something comes on %s", round, m.Subject)
		}
	}
}

// hammer logs in and subscribes again and again, and keeps each connection for as long as it lasts.
func (in *insider) hammer(w *world, stop chan struct{}) {
	var conns []*Peer
	defer func() {
		for _, p := range conns {
			_ = p.Flush()
			p.Close()
		}
	}()
	for {
		select {
		case <-stop:
			return
		default:
		}
		p, err := Dial(Options{URL: w.node.URL(), Bus: w.alice.Bus(), Identity: in.id, Login: in.logins[0]})
		if err != nil {
			continue
		}
		conns = append(conns, p)
		for _, s := range in.subjects() {
			_, _ = p.ChanSubscribe(s, in.got) // the connection may be gone already
		}
	}
}

// enter logs an insider in and subscribes, again while the bus is too busy to answer.
func (in *insider) enter(w *world, n *service.Node, rooms []crypto.ID) (*Peer, error) {
	for {
		p, err := Dial(Options{URL: n.URL(), Bus: w.alice.Bus(), Identity: in.id, Rooms: rooms})
		if err == nil {
			for _, s := range in.subjects() {
				_, err = p.ChanSubscribe(s, in.got)
			}
			err = errors.Join(err, p.Flush())
		}
		if err == nil || w.ctx.Err() != nil {
			return p, err
		}
		if p != nil && p.Conn != nil {
			p.Close()
		}
	}
}
