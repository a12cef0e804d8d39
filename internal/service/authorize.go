package service

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"golang.org/x/time/rate"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

const (
	loginLife     = time.Hour // of one login; the server then drops the connection, which logs in anew
	helloLife     = time.Minute
	answerTimeout = bus.LoginTimeout
	loginRate     = 50                     // logins in a second, of one user from one address, or of those who say hello there
	loginBurst    = 128                    // of them at once: a script may well start a hundred commands
	maxPace       = 500 * time.Millisecond // that a login waits because of it
	maxPaces      = 16 << 10
)

// loginLimits bound the logins of users, doorLimits those of strangers who say hello. Bytes are not what
// they run out of: a server lets no CONNECT be long.
var (
	loginLimits = turnLimits{atOnce: 64, each: 16, inHand: 256, bytes: 4 << 20, allBytes: 32 << 20}
	doorLimits  = turnLimits{atOnce: 8, each: 8, inHand: 128, bytes: 1 << 20, allBytes: 8 << 20}
)

// authorizer answers the NATS servers' question who may connect, and to do what.
type authorizer struct {
	store  store.Store
	logs   *logs
	bus    crypto.ID
	issuer nkeys.KeyPair
	log    *slog.Logger
	now    func() time.Time
	count  func(outcome string)

	known   *recent[crypto.PublicKey, struct{}]
	inboxes *recent[string, crypto.PublicKey]
	barred  func(key crypto.PublicKey) bool // dropped a moment ago
	dropped func(why string)
	paces   *recent[string, *rate.Limiter] // of logins, by source
	crowd   *crowd
	members *pool[loginSource]
	door    *pool[string]
}

// loginSource is whose turn a user's login takes: an address and who is said to log in, which nobody has
// verified yet. One who logs in again and again keeps neither others waiting, nor itself elsewhere.
type loginSource struct {
	address string
	key     crypto.PublicKey
}

// access is what a connection may do in a room.
type access struct{ read, write, stored bool }

// serve answers until ctx ends.
func (a *authorizer) serve(ctx context.Context, nc *nats.Conn, wait *tasks.Group) error {
	a.members = newPool[loginSource](wait.Go, guarded(a.log), loginLimits)
	a.door = newPool[string](wait.Go, guarded(a.log), doorLimits)
	sub, err := nc.QueueSubscribe("$SYS.REQ.USER.AUTH", "unibus", func(m *nats.Msg) { a.receive(ctx, m) })
	if err == nil {
		err = sub.SetPendingLimits(pendingMsgs, pendingBytes)
	}
	if err != nil {
		return err
	}
	return nc.Flush()
}

// login is a request of a server as it is read before anything of it is verified.
type login struct {
	*nats.Msg
	conn    connID
	address string
	token   crypto.Token
}

// peek reads where a login comes from and what it says of itself.
func peek(m *nats.Msg) (*login, error) {
	parts := strings.Split(string(m.Data), ".")
	if len(parts) != 3 {
		return nil, errors.New("it is no JWT")
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, err
	}
	var claims struct {
		Nats struct {
			Server struct {
				ID string `json:"id"`
			} `json:"server_id"`
			Client struct {
				Host string `json:"host"`
				ID   uint64 `json:"id"`
			} `json:"client_info"`
			Options struct {
				Token string `json:"auth_token"`
			} `json:"connect_opts"`
		} `json:"nats"`
	}
	if err := json.Unmarshal(raw, &claims); err != nil {
		return nil, err
	}
	l := &login{Msg: m, conn: connID{claims.Nats.Server.ID, claims.Nats.Client.ID}, address: addressOf(claims.Nats.Client.Host)}
	l.token, _ = crypto.PeekToken(claims.Nats.Options.Token) // one that is none is refused in its turn
	return l, nil
}

// receive lets a login wait for its turn. It never waits itself.
func (a *authorizer) receive(ctx context.Context, m *nats.Msg) {
	l, err := peek(m)
	if err != nil {
		a.log.Warn("login request not understood", "error", err)
		return
	}
	if l.token.Use == crypto.UseConnect && l.token.Bus == nil {
		a.atPace("@"+l.address, func() { a.receiveHello(ctx, l) })
		return
	}
	if a.barred(l.token.Key) {
		a.dropped("login-barred")
		return
	}
	source := loginSource{l.address, l.token.Key}
	if !a.members.reserve(source, m.Size()) {
		a.dropped("login-busy")
		return
	}
	arrived := a.now()
	if !a.atPace(l.address+" "+l.token.Key.String(), func() { a.members.put(source, m.Size(), func() { a.answer(ctx, l, arrived) }) }) {
		a.members.giveBack(source, m.Size())
	}
}

// receiveHello lets the login of one who says hello wait for a seat, and then for its turn.
func (a *authorizer) receiveHello(ctx context.Context, l *login) {
	arrived := a.now()
	goOn := func() {
		if !a.door.offer(l.address, l.Size(), func() { a.answer(ctx, l, arrived) }) {
			a.crowd.door.left(l.conn, a.now())
			a.dropped("login-busy")
		}
	}
	if !a.crowd.door.takeOrWait(l.address, l.conn, arrived, showUp, doorWait-maxPace, goOn) {
		a.dropped("door-full")
	}
}

// atPace calls f now, or a little later when logins from one source come faster than they may; false when
// that would be too late.
func (a *authorizer) atPace(source string, f func()) bool {
	now := a.now()
	pace := a.paces.getOrMake(source, func() *rate.Limiter { return rate.NewLimiter(loginRate, loginBurst) })
	switch delay, ok := inTurn(pace, now, maxPace); {
	case !ok:
		a.dropped("login-fast")
		return false
	case delay == 0:
		f()
	default:
		time.AfterFunc(delay, f)
	}
	return true
}

// answer decides one login. When the store cannot tell, or when there is no room for the connection, there
// is no answer, and the server drops the connection by itself: closed, but not for good.
func (a *authorizer) answer(ctx context.Context, l *login, arrived time.Time) {
	deadline := arrived.Add(answerTimeout)
	if a.now().After(deadline) { // nobody waits for it any more
		a.dropped("login-busy")
		a.crowd.door.left(l.conn, a.now())
		return
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	granted := false
	defer func() {
		if !granted {
			a.crowd.door.left(l.conn, a.now())
		}
	}()
	req, err := jwt.DecodeAuthorizationRequestClaims(string(l.Data))
	if err != nil {
		a.log.Warn("login request not understood", "error", err)
		return
	}
	response := jwt.NewAuthorizationResponseClaims(req.UserNkey)
	response.Audience = req.Server.ID
	user, err := a.decide(ctx, req)
	switch {
	case err == nil:
		if !a.seated(l, user) {
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
func (a *authorizer) seated(l *login, user *jwt.UserClaims) bool {
	if user.Audience != bus.AccountBus {
		a.crowd.hello.put(bus.HelloSubject(l.token.Inbox), l.conn)
		return true
	}
	key := l.token.Key // decide has verified it
	a.known.put(key, struct{}{})
	a.inboxes.put(l.token.Inbox.String(), key)
	a.crowd.rooms.put(l.conn, l.token.Rooms) // more than it has rights in, perhaps, never less
	if a.crowd.bus.take(key, l.conn, a.now(), showUp) {
		return true
	}
	a.dropped("bus-full")
	if a.crowd.mayTell(key, a.now()) {
		a.log.Warn("login not answered: as many connections as one user may have", "user", key, "connections", maxConnections)
	}
	return false
}

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", store.ErrDenied, fmt.Sprintf(format, args...))
}

// decide returns what a connection may do; ErrDenied refuses it.
func (a *authorizer) decide(ctx context.Context, req *jwt.AuthorizationRequestClaims) (*jwt.UserClaims, error) {
	connection, err := verifyNonce(req)
	if err != nil {
		return nil, err
	}
	now := a.now()
	t, err := crypto.OpenToken(req.ConnectOptions.Token, crypto.UseConnect, &a.bus, now)
	hello := errors.Is(err, crypto.ErrTokenBus)
	if hello {
		t, err = crypto.OpenToken(req.ConnectOptions.Token, crypto.UseConnect, nil, now)
	}
	if err != nil {
		return nil, refuse("%v", err)
	}
	if t.Connection != connection {
		return nil, refuse("the token is for another connection key")
	}
	if t.Inbox.IsZero() {
		return nil, refuse("the token names no inbox")
	}
	uc := jwt.NewUserClaims(req.UserNkey)
	uc.Name = t.Key.String() // by which bus.Kick finds the connection
	uc.Permissions.Sub.Allow.Add(bus.InboxPrefix(t.Inbox) + ".>")
	if hello {
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

// verifyNonce checks the connection key's signature of the server's nonce, which the server itself
// leaves to whoever answers.
func verifyNonce(req *jwt.AuthorizationRequestClaims) (crypto.PublicKey, error) {
	connection, err := crypto.ParsePublicKey(req.ConnectOptions.Nkey)
	if err != nil {
		return connection, refuse("no connection key")
	}
	signature, err := decodeSignature(req.ConnectOptions.SignedNonce)
	if err != nil {
		return connection, refuse("no signature of the nonce")
	}
	if err := crypto.VerifyNonce(connection, []byte(req.ClientInformation.Nonce), signature); err != nil {
		return connection, refuse("the nonce is not signed by the connection key")
	}
	return connection, nil
}

// allowed asks the allowlist, and says until when a login may last.
func (a *authorizer) allowed(ctx context.Context, key crypto.PublicKey, now time.Time) (time.Time, error) {
	ok, err := a.store.IsAuthorized(ctx, key)
	if err != nil {
		return time.Time{}, err
	}
	if !ok {
		return time.Time{}, refuse("%s is not on the allowlist", key)
	}
	u, err := a.store.User(ctx, key)
	if err != nil {
		return time.Time{}, err
	}
	until := now.Add(loginLife)
	if !u.Expires.IsZero() && u.Expires.Before(until) {
		until = u.Expires
	}
	return until, nil
}

// accessTo says what someone may do in a room, as its log has it; nothing in one that is not theirs
// or is not there.
func (a *authorizer) accessTo(ctx context.Context, room crypto.ID, key crypto.PublicKey) (may access, err error) {
	err = a.logs.with(ctx, room, func(s *ledger.State) error {
		if s.Room == nil {
			return nil
		}
		role := s.Room.Role(key)
		may = access{read: role != "", write: role.Writes() && s.Room.Archived == 0, stored: s.Room.Policy.Stored()}
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return may, err
}

// decodeSignature reads a signature in URL base64 without padding or in standard base64: libraries differ,
// and servers take both.
func decodeSignature(text string) ([]byte, error) {
	if signature, err := base64.RawURLEncoding.DecodeString(text); err == nil {
		return signature, nil
	}
	return base64.StdEncoding.DecodeString(text)
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
