// Package remote is a store behind the membership API of a service: an ordinary HTTP client whose
// transport may be NATS. It believes nothing and checks nothing: that is its caller's part.
package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/patience"
	"github.com/unibus/unibus/internal/store"
)

// maxReply bounds what a service can make its client hold.
const maxReply = 4 << 20

// maxAtOnce is how many requests of a store are under way at once; further ones wait. A service works on no
// more than twice as many of one caller, and leaves it to several processes of that caller to share them.
const maxAtOnce = 16

// keysPerRequest keeps a request of sealed keys well under 1 MiB.
const keysPerRequest = 400

// Watcher tells which logs changed.
type Watcher interface {
	Watch(ctx context.Context) (<-chan store.Notice, error)
}

// Options of New.
type Options struct {
	Transport http.RoundTripper // nil: HTTP over TCP
	URL       string            // of the API; any http:// base when the transport is NATS
	Identity  *crypto.Identity
	Bus       crypto.ID
	Inbox     crypto.Inbox  // of the connection that the transport uses; none over TCP
	Watcher   Watcher       // nil: Watch is ErrUnavailable
	OpTimeout time.Duration // 0: store.DefaultOpTimeout
}

// Store is a store.Store as the calling identity may see it.
type Store struct {
	o     Options
	http  http.Client
	slots chan struct{} // held by requests under way

	mu    sync.Mutex
	token string
	until time.Time

	skew atomic.Int64 // time.Duration, by the last answer
}

var _ store.Store = (*Store)(nil)

// New returns the store. It asks nothing yet.
func New(o Options) *Store {
	if o.OpTimeout == 0 {
		o.OpTimeout = store.DefaultOpTimeout
	}
	if o.URL == "" {
		o.URL = "http://unibus"
	}
	return &Store{o: o, http: http.Client{Transport: o.Transport}, slots: make(chan struct{}, maxAtOnce)}
}

// Close drops idle connections; the transport is its owner's.
func (s *Store) Close() error {
	s.http.CloseIdleConnections()
	return nil
}

// Skew is how far the service's clock is ahead of this machine's, give or take a second and what the last
// answer took; 0 before the first answer.
func (s *Store) Skew() time.Duration { return time.Duration(s.skew.Load()) }

const tokenLife = time.Hour

// bearer signs an API token now and then.
func (s *Store) bearer() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.token != "" && now.Before(s.until.Add(-tokenLife/2)) {
		return s.token, nil
	}
	t, err := s.o.Identity.Token(crypto.Token{Use: crypto.UseAPI, Bus: &s.o.Bus, From: now, Until: now.Add(tokenLife), Inbox: s.o.Inbox})
	if err != nil {
		return "", err
	}
	s.token, s.until = t, now.Add(tokenLife)
	return t, nil
}

// call makes one request; in and out may be nil.
func (s *Store) call(ctx context.Context, method, path string, in, out any) error {
	_, raw, err := s.ask(ctx, method, path, in)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("%w: the service's answer is not understood: %v", store.ErrUnavailable, err)
	}
	return nil
}

// ask makes one request when it is its turn, again after a while when the service is busy with others of this
// caller, within OpTimeout from then on. It returns the answer's headers and body; in may be nil.
func (s *Store) ask(ctx context.Context, method, path string, in any) (http.Header, []byte, error) {
	if err := s.enter(ctx); err != nil {
		return nil, nil, err
	}
	defer func() { <-s.slots }()
	ctx, cancel := context.WithTimeout(ctx, s.o.OpTimeout)
	defer cancel()
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return nil, nil, err
		}
	}
	for {
		header, raw, err := s.once(ctx, method, path, body)
		var busy *busyError
		if !errors.As(err, &busy) {
			return header, raw, err
		}
		select {
		case <-ctx.Done():
			return nil, nil, err
		case <-time.After(busy.again):
		}
	}
}

// enter waits for a request's turn. Nothing is given up before those ahead have had a chance to be given up.
func (s *Store) enter(ctx context.Context) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	default:
	}
	wait := time.NewTimer(patience.Turns * s.o.OpTimeout)
	defer wait.Stop()
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return unreachable(ctx.Err())
	case <-wait.C:
		return fmt.Errorf("%w: too many requests are under way", store.ErrUnavailable)
	}
}

// busyError is an ErrUnavailable of a service that has many requests of this caller waiting.
type busyError struct {
	again time.Duration
	why   error
}

func (e *busyError) Error() string { return e.why.Error() }
func (e *busyError) Unwrap() error { return e.why }

// Bounds of what a service can make its client wait.
const (
	minAgain = 50 * time.Millisecond
	maxAgain = 2 * time.Second
)

func (s *Store) once(ctx context.Context, method, path string, body []byte) (http.Header, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, s.o.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	token, err := s.bearer()
	if err != nil {
		return nil, nil, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	reply, err := s.http.Do(r)
	if err != nil {
		return nil, nil, unreachable(err)
	}
	defer reply.Body.Close()
	if date, err := http.ParseTime(reply.Header.Get("Date")); err == nil {
		s.skew.Store(int64(time.Until(date)))
	}
	raw, err := io.ReadAll(io.LimitReader(reply.Body, maxReply+1))
	switch {
	case err != nil || len(raw) > maxReply:
		return nil, nil, fmt.Errorf("%w: the service's answer breaks off or is too long", store.ErrUnavailable)
	case reply.StatusCode == http.StatusTooManyRequests:
		seconds, _ := strconv.ParseFloat(reply.Header.Get("Retry-After"), 64)
		again := min(max(time.Duration(seconds*float64(time.Second)), minAgain), maxAgain)
		return nil, nil, &busyError{again + rand.N(again), problem(reply.StatusCode, raw)}
	case reply.StatusCode >= 300:
		return nil, nil, problem(reply.StatusCode, raw)
	}
	return reply.Header, raw, nil
}

func unreachable(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, store.ErrDenied) || errors.Is(err, store.ErrUnavailable) {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: no answer in time", store.ErrUnavailable)
	}
	return fmt.Errorf("%w: %v", store.ErrUnavailable, err)
}

var kinds = map[string]error{
	"unibus:invalid":         store.ErrInvalid,
	"unibus:unauthenticated": store.ErrDenied,
	"unibus:denied":          store.ErrDenied,
	"unibus:not-found":       store.ErrNotFound,
	"unibus:conflict":        store.ErrConflict,
	"unibus:exists":          store.ErrExists,
	"unibus:too-large":       store.ErrInvalid,
	"unibus:unavailable":     store.ErrUnavailable,
	"unibus:damaged":         store.ErrDamagedThere,
	"unibus:busy":            store.ErrUnavailable,
}

func problem(status int, raw []byte) error {
	var p store.Problem
	if json.Unmarshal(raw, &p) == nil {
		if kind := kinds[p.Type]; kind != nil {
			if p.Detail == "" || p.Detail == kind.Error() {
				return kind
			}
			return &detailed{kind, p.Detail}
		}
	}
	return fmt.Errorf("%w: the service answered with status %d", store.ErrUnavailable, status)
}

// detailed is an error in the service's words, which name its kind already.
type detailed struct {
	kind   error
	detail string
}

func (e *detailed) Error() string { return e.detail }
func (e *detailed) Unwrap() error { return e.kind }

// Bus returns the first statement of the bus log.
func (s *Store) Bus(ctx context.Context) ([]byte, error) {
	var b store.BusBody
	err := s.call(ctx, "GET", "/bus", nil, &b)
	return b.Founded, err
}

// Append offers an entry; the service computes the views itself.
func (s *Store) Append(ctx context.Context, c store.Change) error {
	path := "/logs"
	if c.Entry.Seq > 1 {
		path += "/" + c.Entry.Log.String()
	}
	return s.call(ctx, "POST", path, store.EntryBody{Entry: c.Entry.Statement}, nil)
}

// Entries yields a log's entries, a page per request.
func (s *Store) Entries(ctx context.Context, log crypto.ID, after uint64) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for {
			var page store.LogBody
			if err := s.call(ctx, "GET", "/logs/"+log.String()+"?after="+strconv.FormatUint(after, 10), nil, &page); err != nil {
				if !errors.Is(err, store.ErrNotFound) {
					yield(store.Entry{}, err)
				}
				return
			}
			for _, e := range page.Entries {
				after++
				if !yield(store.Entry{Log: log, Seq: after, Statement: e}, nil) {
					return
				}
			}
			if len(page.Entries) == 0 || after >= page.Head.Seq {
				return
			}
		}
	}
}

// Heads returns the last places of logs, in as many requests as it takes; the zero one of those that the
// caller may not read, as of those that are not there.
func (s *Store) Heads(ctx context.Context, logs ...crypto.ID) ([]ledger.Head, error) {
	heads := make([]ledger.Head, 0, len(logs))
	for chunk := range slices.Chunk(logs, store.MaxHeads) {
		var places []store.PlaceBody
		if err := s.call(ctx, "POST", "/heads", store.LogsBody{Logs: chunk}, &places); err != nil {
			return nil, err
		}
		found := map[crypto.ID]ledger.Head{}
		for _, p := range places {
			found[p.Log] = ledger.Head{Seq: p.Seq, Hash: p.Hash}
		}
		for _, log := range chunk {
			heads = append(heads, found[log])
		}
	}
	return heads, nil
}

// Room returns a room's record.
func (s *Store) Room(ctx context.Context, room crypto.ID) (r store.Room, err error) {
	return r, s.call(ctx, "GET", "/rooms/"+room.String(), nil, &r)
}

// RoomBySubject finds a room by its subject.
func (s *Store) RoomBySubject(ctx context.Context, subject string) (r store.Room, err error) {
	return r, s.call(ctx, "GET", "/rooms?subject="+url.QueryEscape(subject), nil, &r)
}

// Rooms yields every room after an id, by id, for bus admins.
func (s *Store) Rooms(ctx context.Context, after crypto.ID) iter.Seq2[store.Room, error] {
	return pages(func() ([]store.Room, error) {
		var page []store.Room
		err := s.call(ctx, "GET", "/rooms?after="+after.String(), nil, &page)
		if len(page) > 0 {
			after = page[len(page)-1].ID
		}
		return page, err
	})
}

// pages yields what read returns until it returns nothing.
func pages[T any](read func() ([]T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			list, err := read()
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			if len(list) == 0 {
				return
			}
			for _, v := range list {
				if !yield(v, nil) {
					return
				}
			}
		}
	}
}

// Members lists a room's members by key.
func (s *Store) Members(ctx context.Context, room crypto.ID) (list []store.Member, err error) {
	return list, s.call(ctx, "GET", "/rooms/"+room.String()+"/members", nil, &list)
}

// Member returns one member of a room.
func (s *Store) Member(ctx context.Context, room crypto.ID, endpoint crypto.PublicKey) (store.Member, error) {
	list, err := s.Members(ctx, room)
	if err != nil {
		return store.Member{}, err
	}
	for _, m := range list {
		if m.Endpoint == endpoint {
			return m, nil
		}
	}
	return store.Member{}, fmt.Errorf("member %s of room %s: %w", endpoint, room, store.ErrNotFound)
}

// ListRoomsForEndpoint lists a member's rooms by id.
func (s *Store) ListRoomsForEndpoint(ctx context.Context, endpoint crypto.PublicKey) (list []store.RoomRef, err error) {
	return list, s.call(ctx, "GET", "/members/"+endpoint.String()+"/rooms", nil, &list)
}

// PutKeys keeps copies that the caller made, in as many requests as it takes; those of any other sealer are ErrDenied.
func (s *Store) PutKeys(ctx context.Context, room crypto.ID, epoch uint32, commit crypto.Hash, sealer crypto.PublicKey, keys []store.SealedKey) error {
	if sealer != s.o.Identity.Key() {
		return fmt.Errorf("put keys: %w: only whoever sealed a key hands it out", store.ErrDenied)
	}
	var exists error
	for chunk := range slices.Chunk(keys, keysPerRequest) {
		in := store.KeysBody{Epoch: epoch, Commit: commit, Keys: make([]store.MembersCopy, len(chunk))}
		for i, k := range chunk {
			in.Keys[i] = store.MembersCopy{Endpoint: k.Endpoint, Sealed: k.Sealed}
		}
		err := s.call(ctx, "PUT", "/rooms/"+room.String()+"/keys", in, nil)
		if errors.Is(err, store.ErrExists) {
			exists = err // the others are staged still
		} else if err != nil {
			return err
		}
	}
	return exists
}

// Key returns the caller's own copies of an epoch's key; any other endpoint is ErrDenied.
func (s *Store) Key(ctx context.Context, room crypto.ID, epoch uint32, endpoint crypto.PublicKey) ([]store.SealedKey, error) {
	if endpoint != s.o.Identity.Key() {
		return nil, fmt.Errorf("key of room %s: %w: a sealed key is given to its owner only", room, store.ErrDenied)
	}
	which := "latest"
	if epoch > 0 {
		which = strconv.FormatUint(uint64(epoch), 10)
	}
	var b store.KeyBody
	if err := s.call(ctx, "GET", "/rooms/"+room.String()+"/keys/"+which, nil, &b); err != nil {
		return nil, err
	}
	copies := make([]store.SealedKey, min(len(b.Sealed), store.MaxSealers))
	for i := range copies {
		copies[i] = store.SealedKey{Endpoint: endpoint, Sealer: b.Sealed[i].Sealer, Sealed: b.Sealed[i].Sealed}
	}
	return copies, nil
}

// PutCards publishes cards, in as many requests as it takes.
func (s *Store) PutCards(ctx context.Context, cards ...store.Card) error {
	for chunk := range slices.Chunk(cards, store.MaxCards) {
		if err := s.call(ctx, "POST", "/cards", store.CardsBody{Cards: chunk}, nil); err != nil {
			return err
		}
	}
	return nil
}

// Cards returns the cards of endpoints, in as many requests as it takes.
func (s *Store) Cards(ctx context.Context, endpoints ...crypto.PublicKey) (cards []store.Card, err error) {
	for chunk := range slices.Chunk(endpoints, store.MaxCards) {
		var b store.CardsBody
		if err := s.call(ctx, "POST", "/cards/query", store.EndpointsBody{Endpoints: chunk}, &b); err != nil {
			return nil, err
		}
		cards = append(cards, b.Cards...)
	}
	return cards, nil
}

// User returns what the allowlist says of a key.
func (s *Store) User(ctx context.Context, endpoint crypto.PublicKey) (ledger.User, error) {
	var b store.UserBody
	err := s.call(ctx, "GET", "/users/"+endpoint.String(), nil, &b)
	return b.User(), err
}

// Users yields the users after a key, by key.
func (s *Store) Users(ctx context.Context, after crypto.PublicKey) iter.Seq2[ledger.User, error] {
	last := ""
	if after != (crypto.PublicKey{}) {
		last = after.String()
	}
	return pages(func() ([]ledger.User, error) {
		var page []store.UserBody
		err := s.call(ctx, "GET", "/users?after="+last, nil, &page)
		users := make([]ledger.User, len(page))
		for i, b := range page {
			users[i], last = b.User(), b.Key.String()
		}
		return users, err
	})
}

// IsAuthorized reports whether an endpoint is active on the allowlist.
func (s *Store) IsAuthorized(ctx context.Context, endpoint crypto.PublicKey) (bool, error) {
	u, err := s.User(ctx, endpoint)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil && u.ActiveAt(time.Now()), err
}

// HasAdmin reports whether the bus has an active admin.
func (s *Store) HasAdmin(ctx context.Context) (bool, error) {
	for u, err := range s.Users(ctx, crypto.PublicKey{}) {
		if err != nil {
			return false, err
		}
		if u.Role == ledger.RoleAdmin && u.ActiveAt(time.Now()) {
			return true, nil
		}
	}
	return false, nil
}

// Watch reports the logs that the service says have changed.
func (s *Store) Watch(ctx context.Context) (<-chan store.Notice, error) {
	if s.o.Watcher == nil {
		return nil, fmt.Errorf("watch: %w over plain HTTP", store.ErrUnavailable)
	}
	return s.o.Watcher.Watch(ctx)
}
