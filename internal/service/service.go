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
	Address  string                                 // where clients connect, for those who see the page at /
	Version  string                                 // of the program, for the same
	MaxRooms int                                    // that a user may create; 0: DefaultMaxRooms
	Patient  bool                                   // wait for a store that cannot answer yet: a cluster takes a while to find together
	Alone    time.Duration                          // after which a store is waited for no longer; 0: that of several servers is for ever
	Log      *slog.Logger
	Dir      string                      // data folder, whose disk is watched and where streams are remembered; empty: none
	KeptHere bool                        // the store is on the disk of Dir, and nowhere else
	Noted    func(context.Context) error // notes beside the store that an entry is in it, before it is acknowledged; nil: nobody does
	Server   embedded                    // that is started again after a full disk; nil beside external servers
}

// flushLimit is how long a server may take to know of the service's subscriptions.
const flushLimit = 10 * time.Second

// Service is a running service.
type Service struct {
	Bus     crypto.ID
	Founded bool             // the bus was founded just now
	Admin   crypto.PublicKey // who founded the bus, now or earlier
	HTTP    string           // the TCP address served, if any

	// What has begun, in the order in which it begins. Stop ends it in the opposite order.
	past   *bus.Past
	cancel context.CancelFunc
	wait   tasks.Group
	subs   []*nats.Subscription // by which logins and requests come
	http   *http.Server

	founding *ledger.Entry // of the bus
	crowd    *crowd
	watch    *watch
	seen     *seen
	log      *slog.Logger
}

// Start founds the bus if there is none, and returns when logins and requests are answered. What it has begun Stop ends,
// here too, when it fails half-way.
func Start(ctx context.Context, o Options) (*Service, error) {
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &Service{cancel: cancel, log: o.Log}
	if err := s.start(ctx, run, o); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// start takes the steps of a start, in the order in which they may be taken: nobody is let in before it is sure who may
// come in, and NATS is as the logs say. The steps are below, in the same order; what each begins is kept in s, for Stop.
func (s *Service) start(ctx, run context.Context, o Options) error {
	streams, err := bus.NewStreams(o.Links.Store, o.Replicas)
	if err != nil {
		return err
	}
	logs := newLogs(o.Store)
	look, err := s.meet(ctx, o, streams, logs)
	if err != nil {
		return err
	}
	p, err := s.assemble(run, o, streams, logs)
	if err != nil {
		return err
	}
	notices, err := s.reconcile(ctx, run, o, p.reconciler)
	if err != nil {
		return err
	}
	s.wait.Go(
		func() { p.reconciler.follow(run, notices) },
		func() { p.guard.follow(run) },
		func() { p.guard.awake(run) },
		func() { expireStaged(run, o.Store, o.Log, time.Tick(expireEvery)) },
		func() { s.watch.run(run) },
		func() { look.rooms(run) },
		func() { s.watch.scrub.run(run) },
		p.carrier.answerBusy,
	)
	if err := s.answer(ctx, run, o.Links, p); err != nil {
		return err
	}
	if err := s.listen(o, p); err != nil {
		return err
	}
	return s.letIn(run, o, p.authorizer)
}

// parts are what a service is made of. Made, they do nothing yet, but for the list of servers, which is kept current.
type parts struct {
	api        *api
	carrier    *carrier
	authorizer *authorizer
	reconciler *reconciler
	guard      *guard
	metrics    *metrics
	lookout    *lookout
}

// assemble makes the parts, and gives each what it needs of the others.
func (s *Service) assemble(run context.Context, o Options, streams *bus.Streams, logs *logs) (*parts, error) {
	var err error
	if s.past, err = bus.NewPast(o.Links.Store); err != nil {
		return nil, err
	}
	servers, crowd := bus.NewServers(o.Links.Sys), newCrowd(time.Now)
	servers.MayComeIn = crowd.mayComeIn
	if err := servers.Follow(); err != nil {
		return nil, err
	}
	p := &parts{metrics: newMetrics()}
	s.crowd, s.watch = crowd, newWatch(o, s.seen, p.metrics.registry)
	p.reconciler = &reconciler{
		store: o.Store, logs: logs, bus: s.Bus, notify: o.Links.Notify, kicks: newKicks(servers), named: crowd.mayHaveNamed,
		streams: streams, seen: s.seen, log: o.Log,
	}
	p.guard = &guard{store: o.Store, servers: servers, here: o.Links.Sys.ConnectedServerId, own: o.Links.Users(), changes: newChanges(o.Log)}
	p.lookout = newLookout(run, o, s.watch, logs.roster, crowd)
	p.lookout.register(p.metrics.registry)
	users := &allowlist{store: o.Store, logs: logs, bus: s.Bus}
	p.api = newAPI(apiOptions{
		store: o.Store, logs: logs, users: users, bus: s.Bus, past: s.past, maxBytes: frameLimit(o.Links.API.MaxPayload()),
		maxRooms: cmp.Or(o.MaxRooms, DefaultMaxRooms), stream: logs.ensure(streams), drop: p.reconciler.dropOthers, noted: s.seen.note(o.Noted), now: time.Now,
	})
	verifier, inboxes := newVerifier(logs.roster, &s.wait, o.Log, time.Now), newInboxes()
	p.carrier = newCarrier(carrierOptions{
		ctx: run, handler: p.metrics.count(s.watch.refuse(p.api.handler(p.api.routes()))), authenticate: p.api.authenticate,
		verifier: verifier, inboxes: inboxes, held: servers.Unread, drop: s.dropFlooder(run, servers, o.Log), dropped: p.metrics.drop,
		log: o.Log, now: time.Now,
	}, &s.wait)
	p.authorizer = &authorizer{
		users: users, logs: logs, bus: s.Bus, issuer: o.Links.Issuer, log: o.Log, now: time.Now,
		count: p.metrics.login, dropped: p.metrics.drop, verifier: verifier, inboxes: inboxes, crowd: crowd,
		barred: func(key crypto.PublicKey) bool { return p.carrier.refused.isBarred(key, time.Now()) },
	}
	return p, nil
}

// reconcile brings NATS in line with the logs, and returns what tells of new entries from before that on.
func (s *Service) reconcile(ctx, run context.Context, o Options, r *reconciler) (notices <-chan store.Notice, err error) {
	err = o.wait(ctx, func() (err error) {
		notices, err = o.Store.Watch(run)
		return err
	})
	if err == nil {
		err = o.wait(ctx, func() error { return r.catchUp(ctx) })
	}
	return notices, err
}

// answer answers members and strangers over NATS, each over a connection that can do nothing else.
func (s *Service) answer(ctx, run context.Context, l *bus.Links, p *parts) error {
	founded, err := p.api.founded.body(ctx)
	if err != nil {
		return err
	}
	waiting := p.api.cards.waiting
	if err := s.subscribed(l.Store.Subscribe(cardSubject, func(m *nats.Msg) { waiting.offer(m.Data) })); err != nil {
		return err
	}
	if err := s.subscribed(p.carrier.carry(l.API)); err != nil {
		return err
	}
	strangers, err := newGreeter(founded)
	if err != nil {
		return err
	}
	strangers.dropped, strangers.drop = p.metrics.drop, s.crowd.dropHello(run, l.Sys, &s.wait)
	strangers.offered = func(card []byte) {
		waiting.offer(card)
		_ = l.Store.Publish(cardSubject, card) // to the other services of this bus; the card can be carried by hand
	}
	if err := s.subscribed(strangers.greet(l.Hello)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, flushLimit)
	defer cancel()
	for _, nc := range []*nats.Conn{l.Store, l.API, l.Hello} { // whoever is told that the service is ready is answered
		if err := nc.FlushWithContext(ctx); err != nil {
			return err
		}
	}
	return nil
}

// letIn counts who is connected, and answers logins from then on.
func (s *Service) letIn(run context.Context, o Options, a *authorizer) error {
	events, err := s.crowd.follow(o.Links.Sys)
	s.subs = append(s.subs, events...)
	if err != nil {
		return err
	}
	s.wait.Go(func() { s.crowd.run(run, o.Links.Sys, o.Log) })
	return s.subscribed(a.serve(run, o.Links.Auth, &s.wait))
}

// subscribed takes over a subscription, which Stop then ends, also one that did not come to be as it was meant.
func (s *Service) subscribed(sub *nats.Subscription, err error) error {
	if sub != nil {
		s.subs = append(s.subs, sub)
	}
	return err
}

// listen serves the API on TCP as well, if that is wanted.
func (s *Service) listen(o Options, p *parts) error {
	if o.HTTP == "" {
		return nil
	}
	l, err := net.Listen("tcp", o.HTTP)
	if err != nil {
		return fmt.Errorf("the API over TCP: %w: %v", store.ErrUnavailable, err)
	}
	mux := http.NewServeMux()
	for pattern := range p.api.routes() {
		mux.Handle(pattern, p.carrier)
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if err := s.watch.healthy(); err != nil {
			writeProblem(w, err)
			return
		}
		if err := reliable(r.Context(), o.Store); err != nil {
			writeProblem(w, err)
			return
		}
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	front, err := newPage(s.founding, o.Address, o.Version, p.lookout)
	if err != nil {
		return err
	}
	mux.Handle("GET /{$}", front)
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

// reliable is an error while a store cannot be relied on.
func reliable(ctx context.Context, s store.Allowlist) error {
	if ok, err := s.HasAdmin(ctx); err != nil || !ok {
		return errors.Join(errors.New("the store cannot be relied on"), err)
	}
	return nil
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
