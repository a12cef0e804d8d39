// Command echobot is a peer on the public package alone: it looks for rooms it was invited to,
// joins them, and answers what it reads there. Messages with the header "echo", its own above all,
// are left alone.
//
//	unibus init && echobot -server nats://127.0.0.1:4222
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/unibus/unibus"
)

func main() {
	server := flag.String("server", "", "NATS `URL`")
	identity := flag.String("identity", "identity.nk", "identity `FILE`")
	state := flag.String("state", "state", "state `DIR`")
	poll := flag.Duration("poll", time.Second, "how often to look for new rooms")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *server, *identity, *state, *poll); err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal("echobot: ", err)
	}
}

func run(ctx context.Context, server, identity, state string, poll time.Duration) error {
	id, err := unibus.LoadIdentity(identity)
	if err != nil {
		return err
	}
	c, err := unibus.Connect(ctx, unibus.Options{Identity: id, StateDir: state, Server: server})
	if err != nil {
		return err
	}
	defer c.Close()
	var wait sync.WaitGroup
	defer wait.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	joined := map[unibus.ID]bool{}
	for {
		refs, err := c.ListMyRooms(ctx)
		if err != nil {
			return err
		}
		for _, ref := range refs {
			if joined[ref.ID] {
				continue
			}
			joined[ref.ID] = true
			room, err := c.Room(ctx, ref.ID.String())
			if err != nil {
				return err
			}
			sub, err := room.Subscribe(ctx, unibus.SubscribeOptions{})
			if err != nil {
				return err
			}
			fmt.Println("joined", ref.Subject)
			wait.Go(func() { echo(ctx, room, sub) })
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(poll):
		}
	}
}

// echo answers until the subscription ends.
func echo(ctx context.Context, room *unibus.Room, sub *unibus.Subscription) {
	stop := context.AfterFunc(ctx, func() { _ = sub.Close() }) // what it has to say is said below
	defer stop()
	for m, err := range sub.Messages() {
		if err != nil {
			fmt.Println("left", room.Subject()+":", err)
			return
		}
		answered := false
		for _, h := range m.Headers {
			answered = answered || h.Key == "echo"
		}
		if answered {
			continue
		}
		if err := room.Publish(ctx, m.Body, unibus.Header{Key: "echo", Value: m.Name}); err != nil {
			fmt.Println("cannot answer in", room.Subject()+":", err)
			return
		}
	}
}
