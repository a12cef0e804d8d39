package service

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// The way of a login through the authorizer: receive puts it in a turn to have its signatures looked at, check in a turn of
// its user, or of strangers; answer decides it, and says what its connection may do. Each step may end it without an answer,
// for what the service has no time for, and only the last lets it in. A reason is logged, and counted, but not told to
// strangers: the server tells them that they are not let in, and no more.

const (
	loginLife     = time.Hour // of one login; the server then drops the connection, which logs in anew
	helloLife     = time.Minute
	answerTimeout = bus.LoginTimeout
)

// loginLimits bound the logins of users, doorLimits those of strangers who say hello. Bytes are not what
// they run out of: a server lets no CONNECT be long.
var (
	loginLimits = turnLimits{atOnce: 64, each: 16, shared: max(2, runtime.GOMAXPROCS(0)), inHand: 256, bytes: 4 << 20, allBytes: 32 << 20}
	doorLimits  = turnLimits{atOnce: 8, each: 8, inHand: 128, bytes: 1 << 20, allBytes: 8 << 20}
)

// authorizer answers the NATS servers' question who may connect, and to do what. A login waits for its turn twice: to have
// its signatures looked at (verify.go), and to be answered, which takes the allowlist and the logs of the rooms it names.
type authorizer struct {
	bus     crypto.ID
	users   *allowlist
	logs    *logs
	issuer  nkeys.KeyPair
	log     *slog.Logger
	now     func() time.Time
	count   func(outcome string)
	dropped func(why string)

	inboxes  *recent[string, crypto.PublicKey]
	verifier *verifier
	barred   func(key crypto.PublicKey) bool // dropped a moment ago
	crowd    *crowd
	members  *pool[source]
	door     *pool[string]
}

// access is what a connection may do in a room.
type access struct{ read, write, stored bool }

// serve answers logins, in goroutines of a group, until its subscription ends.
func (a *authorizer) serve(ctx context.Context, nc *nats.Conn, wait *tasks.Group) (*nats.Subscription, error) {
	a.members = newPool[source](wait.Go, guarded(a.log), loginLimits)
	a.door = newPool[string](wait.Go, guarded(a.log), doorLimits)
	sub, err := nc.QueueSubscribe("$SYS.REQ.USER.AUTH", "unibus", func(m *nats.Msg) { a.receive(ctx, m) })
	if err == nil {
		err = sub.SetPendingLimits(pendingMsgs, pendingBytes)
	}
	if err != nil {
		return sub, err
	}
	return sub, nc.Flush()
}

// receive lets a login wait for its turn. It never waits itself.
func (a *authorizer) receive(ctx context.Context, m *nats.Msg) {
	l, err := peek(m, a.now())
	if err != nil {
		a.log.Warn("login request not understood", "error", err)
		return
	}
	from := source{address: l.address}
	if l.hello() {
		a.crowd.outside.put(l.conn, struct{}{})
	} else {
		from.key = l.token.Key
	}
	if a.crowd.isIn(l.conn) {
		// A connection that is let in already: what it may do would change while somebody counts on what it was.
		a.count("denied")
		_ = l.Respond(nil) // the server closes it
		return
	}
	if a.barred(from.key) {
		a.ignore(l, "login-barred")
		return
	}
	a.verifier.take(from, m.Size(), func() { a.check(ctx, l) }, a.ignoring(l))
}

// ignore leaves a login without an answer. The server gives it up after a while, which nobody has to wait for.
func (a *authorizer) ignore(l *login, why string) {
	a.crowd.outside.put(l.conn, struct{}{})
	a.dropped(why)
}

// ignoring is ignore for one login.
func (a *authorizer) ignoring(l *login) func(why string) {
	return func(why string) { a.ignore(l, why) }
}

// check lets a login that proves what it says wait for its next turn: that of the user who it is of, or one of
// the few of strangers. Any other is refused, with an answer that costs nothing to make, but no faster than
// strangers may come from that address: who has to wait for the servers to give up tries again less often.
func (a *authorizer) check(ctx context.Context, l *login) {
	if a.late(l) {
		return
	}
	now := a.now()
	if err := l.prove(a.bus, now); err != nil {
		a.log.Info("login refused", "reason", err)
		a.count("denied")
		a.crowd.outside.put(l.conn, struct{}{})
		a.verifier.atPace(source{address: l.address}, func() { _ = l.Respond(nil) }, a.dropped)
		return
	}
	switch key := l.token.Key; {
	case l.hello():
		a.receiveHello(ctx, l)
	case a.verifier.roster.has(key, now):
		a.receiveUser(ctx, l)
	case !a.verifier.asks.offer(l.address, l.Size(), func() { a.answer(ctx, l) }):
		a.ignore(l, "login-busy")
	}
}

// receiveUser lets a user's login wait until its pace allows it, and then for its turn.
func (a *authorizer) receiveUser(ctx context.Context, l *login) {
	from := source{l.address, l.token.Key}
	if !a.members.reserve(from, l.Size()) {
		a.ignore(l, "login-busy")
		return
	}
	goOn := func() { a.members.put(from, l.Size(), func() { a.answer(ctx, l) }) }
	a.verifier.atPace(from, goOn, func(why string) {
		a.ignore(l, why)
		a.members.giveBack(from, l.Size())
	})
}

// receiveHello lets the login of one who says hello wait for a seat, and then for its turn.
func (a *authorizer) receiveHello(ctx context.Context, l *login) {
	goOn := func() {
		if !a.door.offer(l.address, l.Size(), func() { a.answer(ctx, l) }) {
			a.crowd.door.left(l.conn, a.now())
			a.ignore(l, "login-busy")
		}
	}
	if !a.crowd.door.takeOrWait(l.address, l.conn, a.now(), showUp, doorWait-maxPace, goOn) {
		a.ignore(l, "door-full")
	}
}

// late reports whether nobody waits for the answer to a login any more.
func (a *authorizer) late(l *login) bool {
	if !a.now().After(l.arrived.Add(answerTimeout)) {
		return false
	}
	a.ignore(l, "login-busy")
	return true
}

// answer decides one login. When the store cannot tell, or when there is no room for the connection, there
// is no answer, and the server drops the connection by itself: closed, but not for good.
func (a *authorizer) answer(ctx context.Context, l *login) {
	granted := false
	defer func() {
		if !granted {
			a.crowd.door.left(l.conn, a.now())
		}
	}()
	if a.late(l) {
		return
	}
	ctx, cancel := context.WithDeadline(ctx, l.arrived.Add(answerTimeout))
	defer cancel()
	req, err := jwt.DecodeAuthorizationRequestClaims(string(l.Data))
	if err != nil {
		a.log.Warn("login request not understood", "error", err)
		return
	}
	response := jwt.NewAuthorizationResponseClaims(req.UserNkey)
	response.Audience = req.Server.ID
	user, err := a.decide(ctx, req, l)
	switch {
	case err == nil:
		if !a.seated(ctx, l, user) {
			return
		}
		if response.Jwt, err = user.Encode(a.issuer); err != nil {
			a.log.Error("login not answered", "error", err)
			return
		}
		granted = true
		a.count("allowed")
	case errors.Is(err, store.ErrDenied):
		response.Error = err.Error()
		a.log.Info("login refused", "reason", err)
		a.count("denied")
	default:
		a.log.Error("login not answered", "error", err)
		a.count("unavailable")
		return
	}
	token, err := response.Encode(a.issuer)
	if err != nil {
		a.log.Error("login not answered", "error", err)
		return
	}
	if err := l.Respond([]byte(token)); err != nil {
		a.log.Warn("login not answered", "error", err)
	}
}

// seated takes a seat for a user's connection. One who says hello has its seat already.
func (a *authorizer) seated(ctx context.Context, l *login, user *jwt.UserClaims) bool {
	if user.Audience != bus.AccountBus {
		a.crowd.hello.put(bus.HelloSubject(l.token.Inbox), l.conn)
		return true
	}
	key := l.token.Key
	if a.crowd.bus.take(key, l.conn, a.now(), showUp) {
		a.inboxes.put(l.token.Inbox.String(), key)
		a.crowd.rooms.put(key, l.conn, l.token.Rooms) // more than it has rights in, perhaps, never less
		return true
	}
	a.ignore(l, "bus-full")
	if a.crowd.mayTell(key, a.now()) {
		a.log.Warn("login not answered: as many connections as one user may have", "user", key, "connections", maxConnections)
	}
	return false
}

// decide returns what the connection of a login that is proven may do; ErrDenied refuses it.
func (a *authorizer) decide(ctx context.Context, req *jwt.AuthorizationRequestClaims, l *login) (*jwt.UserClaims, error) {
	t, now := l.token, a.now()
	uc := jwt.NewUserClaims(req.UserNkey)
	uc.Name = t.Key.String() // by which bus.Kick finds the connection
	uc.Permissions.Sub.Allow.Add(bus.InboxPrefix(t.Inbox) + ".>")
	if l.hello() {
		uc.Audience = bus.AccountDoor
		uc.Permissions.Pub.Allow.Add(bus.HelloSubject(t.Inbox))
		uc.Expires = now.Add(helloLife).Unix()
		return uc, nil
	}
	until, err := a.allowed(ctx, t.Key, now)
	if err != nil {
		return nil, err
	}
	uc.Audience, uc.Expires = bus.AccountBus, until.Unix()
	uc.Permissions.Pub.Allow.Add(bus.APISubject(t.Inbox))
	uc.Permissions.Sub.Allow.Add(bus.NoticeSubject(t.Key))
	for _, room := range t.Rooms {
		may, err := a.accessTo(ctx, room, t.Key)
		if err != nil {
			return nil, err
		}
		allow(uc, room, t.Key, may)
	}
	return uc, nil
}

// allowed asks the allowlist, and says until when a login may last.
func (a *authorizer) allowed(ctx context.Context, key crypto.PublicKey, now time.Time) (time.Time, error) {
	u, err := a.users.user(ctx, key, now)
	if err != nil {
		return time.Time{}, err
	}
	until := now.Add(loginLife)
	if !u.until.IsZero() && u.until.Before(until) {
		until = u.until
	}
	return until, nil
}

// accessTo says what someone may do in a room, as its log has it; nothing in one that is not theirs, is not there, or
// is damaged: its damage is told to who asks for it, and keeps nobody from other rooms.
func (a *authorizer) accessTo(ctx context.Context, room crypto.ID, key crypto.PublicKey) (may access, err error) {
	s, err := a.logs.state(ctx, room)
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrDamaged), err == nil && s.Room == nil:
		return access{}, nil
	case err != nil:
		return access{}, err
	}
	role := s.Room.Role(key)
	return access{read: role != "", write: role.Writes() && s.Room.Archived == 0, stored: s.Room.Policy.Stored()}, nil
}

// allow adds a room's subjects to a login.
func allow(uc *jwt.UserClaims, room crypto.ID, key crypto.PublicKey, may access) {
	switch {
	case may.write && may.stored:
		uc.Permissions.Pub.Allow.Add(bus.StoredSubject(room, key))
	case may.write:
		uc.Permissions.Pub.Allow.Add(bus.LiveSubject(room, key))
	}
	if may.read {
		uc.Permissions.Sub.Allow.Add(bus.LiveFilter(room))
	}
}
