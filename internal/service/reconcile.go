package service

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// reconciler brings NATS in line with the logs as they grow, whoever appended: streams of stored
// rooms, connections of those whose access ended, and notices to members.
type reconciler struct {
	store      store.Store
	bus        crypto.ID
	links      *bus.Links
	streams    *bus.Streams
	authorizer *authorizer
	log        *slog.Logger
}

// retryEvery is how soon a failed step is tried again, and how soon connections are looked at once
// more: one whose login was being decided while the log grew may have appeared since.
const retryEvery = time.Second

// all makes every stored room's stream.
func (r *reconciler) all(ctx context.Context) error {
	for room, err := range r.store.Rooms(ctx, crypto.ID{}) {
		if err != nil {
			return err
		}
		if err := r.streams.Ensure(ctx, room.ID, room.Policy); err != nil {
			return err
		}
	}
	return nil
}

// follow works on notices until they end.
func (r *reconciler) follow(ctx context.Context, notices <-chan store.Notice) {
	again := map[crypto.ID]bool{}
	timer := time.NewTimer(retryEvery)
	defer timer.Stop()
	for {
		select {
		case n, ok := <-notices:
			if !ok {
				return
			}
			r.step(ctx, n)
			again[n.Log] = true
			timer.Reset(retryEvery)
		case <-timer.C:
			for log := range again {
				if r.step(ctx, store.Notice{Log: log}) {
					delete(again, log)
				}
			}
			if len(again) > 0 {
				timer.Reset(retryEvery)
			}
		}
	}
}

// step does what a change of one log asks for. With Seq 0 it repeats all but the notices.
func (r *reconciler) step(ctx context.Context, n store.Notice) bool {
	err := errors.Join(r.stream(ctx, n.Log), r.kick(ctx, n.Log), r.announce(ctx, n))
	if err != nil && ctx.Err() == nil {
		r.log.Warn("reconcile", "log", n.Log, "error", err)
	}
	return err == nil
}

func (r *reconciler) stream(ctx context.Context, log crypto.ID) error {
	if log == r.bus {
		return nil
	}
	room, err := r.store.Room(ctx, log)
	if err != nil {
		return err
	}
	return r.streams.Ensure(ctx, log, room.Policy)
}

func (r *reconciler) kick(ctx context.Context, log crypto.ID) error {
	over, err := r.authorizer.outdated(ctx, log)
	if err != nil {
		return err
	}
	for _, user := range over {
		if err := bus.Kick(ctx, r.links.Sys, user); err != nil {
			return err
		}
		time.AfterFunc(retryEvery, func() {
			if ctx.Err() == nil {
				_ = bus.Kick(ctx, r.links.Sys, user) // a second look; the first one was answered
			}
		})
		r.authorizer.drop(user)
	}
	return nil
}

// announce tells everyone concerned that a log has grown.
func (r *reconciler) announce(ctx context.Context, n store.Notice) error {
	if n.Seq == 0 {
		return nil
	}
	body, err := json.Marshal(n)
	if err != nil {
		return err
	}
	told := map[crypto.PublicKey]bool{}
	tell := func(key crypto.PublicKey) error {
		if told[key] {
			return nil
		}
		told[key] = true
		return r.links.Bus.PublishMsg(&nats.Msg{Subject: bus.NoticeSubject(key), Data: body})
	}
	if n.Log == r.bus {
		for u, err := range r.store.Users(ctx, crypto.PublicKey{}) {
			if err != nil {
				return err
			}
			if u.Active {
				if err := tell(u.Key); err != nil {
					return err
				}
			}
		}
		return nil
	}
	members, err := r.store.Members(ctx, n.Log)
	if err != nil {
		return err
	}
	for _, m := range members {
		if err := tell(m.Endpoint); err != nil {
			return err
		}
	}
	for _, key := range r.authorizer.holders(n.Log) {
		if err := tell(key); err != nil {
			return err
		}
	}
	return nil
}
