// Package service is what `unibus serve` runs beside a NATS server: the membership API, the
// authorizer of connections, the reconcilers that bring NATS in line with the logs, and the guard that
// drops everyone where the servers are cut off from the others. Each speaks over a NATS user of its own
// (SPEC.md §7): whoever answers others may do nothing else.
//
// It checks what it stores by the ledger's rules, but nobody relies on that: clients verify
// everything themselves (SPEC.md §1). It sees no message and no room key.
package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// maxDrops is how many users are dropped at a time.
const maxDrops = 8

// Options of Start.
type Options struct {
	Store    store.Backend
	Replicas func(ctx context.Context) (int, error) // how often a new room's stream is kept
	Links    *bus.Links                             // the service's connections; it does not close them
	Identity *crypto.Identity                       // founds the bus if the store is empty
	Name     string                                 // the founder's name
	Bus      crypto.ID                              // found none: this one is there, or is about to be restored; zero: any
	HTTP     string                                 // also serve the API on this TCP address; empty: no
	MaxRooms int                                    // that a user may create; 0: DefaultMaxRooms
	Patient  bool                                   // wait for a store that cannot answer yet: a cluster takes a while to find together
	Log      *slog.Logger
	Dir      string   // data folder, whose disk is watched and where streams are remembered; empty: none
	KeptHere bool     // the store is on the disk of Dir, and nowhere else
	Server   embedded // that is started again after a full disk; nil beside external servers
}

// flushLimit is how long a server may take to know of the service's subscriptions.
const flushLimit = 10 * time.Second

// Service is a running service.
type Service struct {
	Bus     crypto.ID
	Founded bool             // the bus was founded just now
	Admin   crypto.PublicKey // who founded the bus, now or earlier
	HTTP    string           // the TCP address served, if any

	cancel context.CancelFunc
	wait   tasks.Group
	subs   []*nats.Subscription // by which logins and requests come
	past   *bus.Past
	crowd  *crowd
	http   *http.Server
	watch  *watch
	seen   *seen
	log    *slog.Logger
}

// Start founds the bus if there is none, and returns when logins and requests are answered.
func Start(ctx context.Context, o Options) (*Service, error) {
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &Service{cancel: cancel, log: o.Log}
	if err := s.start(ctx, run, o); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

func (s *Service) start(ctx, run context.Context, o Options) error {
	streams, err := bus.NewStreams(o.Links.Store, o.Replicas)
	if err != nil {
		return err
	}
	folded := newLogs(o.Store)
	look, err := s.meet(ctx, o, streams, folded)
	if err != nil {
		return err
	}
	metrics := newMetrics()
	if s.past, err = bus.NewPast(o.Links.Store); err != nil {
		return err
	}
	servers := bus.NewServers(o.Links.Sys)
	if err := servers.Follow(); err != nil {
		return err
	}
	a := &api{
		store: o.Store, logs: folded, bus: s.Bus, cards: &waitingCards{}, stream: folded.ensure(streams), past: s.past, frames: frameLimit(o.Links.API.MaxPayload()),
		now: time.Now, lists: newRecent[crypto.PublicKey, chan struct{}](maxCallers), log: o.Log,
		endings: newRates[crypto.PublicKey](maxCallers, endingRate, endingBurst),
		quota:   newQuota(o.Store, cmp.Or(o.MaxRooms, DefaultMaxRooms), time.Now), staging: newStaging(o.Store, time.Now),
	}
	s.watch = newWatch(o, s.seen, metrics.registry)
	requests := newCarrier(run, a, metrics.count(s.watch.refuse(a.handler())), &s.wait, metrics)
	requests.unread.held = servers.Unread
	requests.drop = s.dropFlooder(run, servers, o.Log)
	auth := &authorizer{
		store: o.Store, logs: folded, bus: s.Bus, issuer: o.Links.Issuer, log: o.Log, now: time.Now,
		count: metrics.login, verifier: requests.verifier, inboxes: requests.inboxes, dropped: metrics.drop, crowd: newCrowd(time.Now),
		barred: func(key crypto.PublicKey) bool { return requests.refused.isBarred(key, time.Now()) },
	}
	servers.MayComeIn = auth.crowd.mayComeIn
	var notices <-chan store.Notice
	err = o.wait(ctx, func() (err error) {
		notices, err = o.Store.Watch(run)
		return err
	})
	if err != nil {
		return err
	}
	r := &reconciler{store: o.Store, logs: folded, bus: s.Bus, links: o.Links, servers: servers, kicks: newKicks(servers), named: auth.crowd.mayHaveNamed, streams: streams, seen: s.seen, log: o.Log}
	if err := o.wait(ctx, func() error { return r.all(ctx) }); err != nil {
		return err
	}
	a.drop = r.dropOthers
	g := &guard{store: o.Store, servers: servers, here: o.Links.Sys.ConnectedServerId, own: o.Links.Users(), changes: newChanges(o.Log)}
	s.wait.Go(
		func() { r.follow(run, notices) },
		func() { g.follow(run) },
		func() { g.awake(run) },
		func() { expireStaged(run, o.Store, o.Log, time.Tick(expireEvery)) },
		func() { s.watch.run(run) },
		func() { look.rooms(run) },
		func() { s.watch.scrub.run(run) },
	)
	if err := s.serveNATS(ctx, run, o.Links, requests, a, auth); err != nil {
		return err
	}
	if err := s.listen(o, a, requests, metrics.registry); err != nil {
		return err
	}
	s.crowd = auth.crowd
	events, err := auth.crowd.follow(o.Links.Sys)
	s.subs = append(s.subs, events...)
	if err != nil {
		return err
	}
	s.wait.Go(func() { auth.crowd.keep(run, o.Links.Sys, o.Log) })
	return auth.serve(run, o.Links.Auth, &s.wait)
}

// meet learns which bus this is, and makes sure of its allowlist before anybody is let in by it.
func (s *Service) meet(ctx context.Context, o Options, streams *bus.Streams, folded *logs) (*audit, error) {
	if err := o.wait(ctx, func() error { return s.found(ctx, o, streams) }); err != nil {
		return nil, fmt.Errorf("found the bus: %w", err)
	}
	s.seen = newSeen(o, s.Bus)
	look := &audit{store: o.Store, logs: folded, bus: s.Bus, seen: s.seen, log: o.Log}
	return look, o.wait(ctx, func() error {
		if err := s.seen.check(ctx, folded); err != nil {
			return err
		}
		return look.allowlist(ctx)
	})
}

// serveNATS answers members and strangers, each over a connection that can do nothing else.
func (s *Service) serveNATS(ctx, run context.Context, l *bus.Links, requests *carrier, a *api, auth *authorizer) error {
	founded, err := a.busBody(ctx)
	if err != nil {
		return err
	}
	cards, err := l.Store.Subscribe(cardSubject, func(m *nats.Msg) { a.cards.offer(m.Data) })
	if err != nil {
		return err
	}
	s.subs = append(s.subs, cards)
	api, err := requests.carry(l.API)
	if err != nil {
		return err
	}
	s.subs = append(s.subs, api)
	strangers, err := newGreeter(founded)
	if err != nil {
		return err
	}
	strangers.dropped, strangers.drop = requests.dropped, auth.crowd.dropHello(run, l.Sys, &s.wait)
	strangers.offered = func(card []byte) {
		a.cards.offer(card)
		_ = l.Store.Publish(cardSubject, card) // to the other services of this bus; the card can be carried by hand
	}
	door, err := strangers.greet(l.Hello)
	s.subs = append(s.subs, door)
	ctx, cancel := context.WithTimeout(ctx, flushLimit)
	defer cancel()
	for _, nc := range []*nats.Conn{l.Store, l.API, l.Hello} { // whoever is told that the service is ready is answered
		if err == nil {
			err = nc.FlushWithContext(ctx)
		}
	}
	return err
}

// dropFlooder returns what ends the connections of one who asks far more than it is answered. A few are
// dropped at a time; one that has to wait for its turn will be met again.
func (s *Service) dropFlooder(run context.Context, servers *bus.Servers, log *slog.Logger) func(crypto.PublicKey) {
	turn := make(chan struct{}, maxDrops)
	return func(key crypto.PublicKey) {
		select {
		case turn <- struct{}{}:
		default:
			return
		}
		log.Warn("dropped: far more requests than are answered", "user", key)
		if !s.wait.Go(func() {
			defer func() { <-turn }()
			if err := bus.NewKick(servers).User(run, key, bus.All); err != nil {
				log.Warn("a flooder is still connected", "user", key, "error", err)
			}
		}) {
			<-turn
		}
	}
}

// found learns which bus this is, or makes it one.
func (s *Service) found(ctx context.Context, o Options, streams *bus.Streams) error {
	if err := store.Whole(ctx, o.Store); err != nil {
		return err
	}
	statement, err := o.Store.Bus(ctx)
	if errors.Is(err, store.ErrNotFound) && !o.Bus.IsZero() {
		return fmt.Errorf("%w: the store does not hold the bus %s yet", store.ErrUnavailable, o.Bus)
	}
	if errors.Is(err, store.ErrNotFound) {
		if err := beside(ctx, o.Dir, streams); err != nil {
			return err
		}
		s.Founded = true
		_, err = store.Found(ctx, o.Store, o.Identity, o.Name, time.Now())
		if err != nil && !errors.Is(err, store.ErrExists) { // by another service just now
			return err
		}
		statement, err = o.Store.Bus(ctx)
	}
	if err != nil {
		return err
	}
	e, err := new(ledger.State).Check(statement)
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	first := new(ledger.State).With(e)
	if first.Bus == nil {
		return fmt.Errorf("%w: the store's bus log is none", store.ErrDamaged)
	}
	if !o.Bus.IsZero() && first.ID != o.Bus {
		return fmt.Errorf("%w: the store holds the bus %s, not %s", store.ErrExists, first.ID, o.Bus)
	}
	s.Bus, s.Admin = first.ID, e.By
	s.Founded = s.Founded && e.By == o.Identity.Key()
	return nil
}

// beside makes sure that a bus is not founded where another was: its store is lost, and its streams, or what is
// remembered of them, are not.
func beside(ctx context.Context, dir string, streams *bus.Streams) error {
	const lost = "the store is empty, and there are room streams of an earlier bus (%s): nothing is founded beside them"
	if dir != "" {
		left, err := LoadMarks(MarksFile(dir))
		if err != nil {
			return err
		}
		if len(left) > 0 {
			return fmt.Errorf("%w: "+lost, store.ErrDamaged, MarksFile(dir))
		}
		kept, err := keptRecord(dir)
		if err != nil {
			return err
		}
		if kept != "" {
			return fmt.Errorf("%w: the store is empty, and the bus of %s is kept in %s: nothing is founded in its place", store.ErrDamaged, dir, kept)
		}
	}
	name, err := streams.Any(ctx)
	if err == nil && name != "" {
		err = fmt.Errorf("%w: "+lost, store.ErrDamaged, name)
	}
	return err
}

// wait does f, again while the store cannot answer and waiting is wanted.
func (o *Options) wait(ctx context.Context, f func() error) error {
	waiting := newChanges(o.Log)
	for {
		err := f()
		if err == nil || !o.Patient || !errors.Is(err, store.ErrUnavailable) {
			return err
		}
		waiting.say(slog.LevelWarn, "store", err.Error(), "not ready yet", "error", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryEvery):
		}
	}
}

// listen serves the API on TCP as well.
func (s *Service) listen(o Options, a *api, handler http.Handler, registry *prometheus.Registry) error {
	if o.HTTP == "" {
		return nil
	}
	l, err := net.Listen("tcp", o.HTTP)
	if err != nil {
		return fmt.Errorf("--http: %w: %v", store.ErrUnavailable, err)
	}
	mux := http.NewServeMux()
	for pattern := range a.routes() {
		mux.Handle(pattern, handler)
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if err := s.watch.healthy(); err != nil {
			writeProblem(w, err)
			return
		}
		if ok, err := o.Store.HasAdmin(r.Context()); err != nil || !ok {
			writeProblem(w, errors.Join(errors.New("the store cannot be relied on"), err))
			return
		}
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	s.HTTP = l.Addr().String()
	s.http = newHTTP(routed(mux), o.Log)
	bounded := newBounded(l, s.watch.files)
	s.wait.Go(func() {
		if err := s.http.Serve(bounded); !errors.Is(err, http.ErrServerClosed) {
			o.Log.Error("http", "error", err)
		}
	})
	return nil
}
