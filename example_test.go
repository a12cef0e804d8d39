package unibus_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/service"
)

// started is a bus to try things on: what unibus serve runs, its founder, and a folder.
func started(ctx context.Context) (url, dir string, founder *unibus.Identity, stop func()) {
	dir, err := os.MkdirTemp("", "unibus-example-")
	if err != nil {
		log.Fatal(err)
	}
	if founder, err = unibus.NewIdentity(); err != nil {
		log.Fatal(err)
	}
	node, err := service.StartNode(ctx, service.NodeOptions{
		Listen: "127.0.0.1:0", Dir: filepath.Join(dir, "data"), Identity: founder, Founder: "alice", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	return node.URL(), dir, founder, func() {
		node.Stop()
		os.RemoveAll(dir)
	}
}

// A room, a message in it, and everything that it has stored.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	url, dir, alice, stop := started(ctx)
	defer stop()

	c, err := unibus.Connect(ctx, unibus.Options{Identity: alice, StateDir: filepath.Join(dir, "state"), Server: url})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	room, err := c.CreateRoom(ctx, "ops.alerts", unibus.DefaultPolicy())
	if err != nil {
		log.Fatal(err)
	}
	if err := room.Publish(ctx, []byte("disk full"), unibus.Header{Key: "host", Value: "db1"}); err != nil {
		log.Fatal(err)
	}
	sub, err := room.Subscribe(ctx, unibus.SubscribeOptions{All: true, End: true})
	if err != nil {
		log.Fatal(err)
	}
	for m, err := range sub.Messages() {
		if err != nil {
			log.Fatal(err) // ErrIntegrity: something is missing or wrong, of which Notice is told
		}
		fmt.Printf("%s by %s (%s): %s\n", m.Subject, m.Name, m.Headers[0].Value, m.Body)
	}
	// Output: ops.alerts by alice (db1): disk full
}

// Many messages go fast by a Publisher, which puts what is waiting into one frame.
func ExampleRoom_Publisher() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	url, dir, alice, stop := started(ctx)
	defer stop()
	c, err := unibus.Connect(ctx, unibus.Options{Identity: alice, StateDir: filepath.Join(dir, "state"), Server: url})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	room, err := c.CreateRoom(ctx, "metrics", unibus.DefaultPolicy())
	if err != nil {
		log.Fatal(err)
	}
	p, err := room.Publisher(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for i := range 10_000 {
		if err := p.Publish(fmt.Appendf(nil, "sample %d", i)); err != nil {
			log.Fatal(err)
		}
	}
	if err := p.Close(ctx); err != nil { // all of it is acknowledged
		log.Fatal(err)
	}
	fmt.Println(p.Acked(), "messages acknowledged")
	// Output: 10000 messages acknowledged
}

// Somebody is allowed on the bus, let into a room, and reads what was there before.
func ExampleRoom_Invite() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	url, dir, alice, stop := started(ctx)
	defer stop()
	connect := func(id *unibus.Identity, state string) *unibus.Client {
		c, err := unibus.Connect(ctx, unibus.Options{Identity: id, StateDir: filepath.Join(dir, state), Server: url})
		if err != nil {
			log.Fatal(err)
		}
		return c
	}
	bob, err := unibus.NewIdentity()
	if err != nil {
		log.Fatal(err)
	}
	a := connect(alice, "alice")
	defer a.Close()
	if err := a.AddUsers(ctx, unibus.NewUser{Key: bob.Key(), Name: "bob"}); err != nil {
		log.Fatal(err)
	}
	room, err := a.CreateRoom(ctx, "team", unibus.DefaultPolicy())
	if err == nil {
		err = room.Publish(ctx, []byte("welcome"))
	}
	if err != nil {
		log.Fatal(err)
	}
	b := connect(bob, "bob") // which gives the bus his card, to seal keys for
	defer b.Close()
	if err := room.Invite(ctx, unibus.RoleMember, bob.Key()); err != nil {
		log.Fatal(err)
	}
	sub, err := b.Subscribe(ctx, []string{"team"}, unibus.SubscribeOptions{All: true, End: true})
	if err != nil {
		log.Fatal(err)
	}
	for m, err := range sub.Messages() {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("bob reads: %s\n", m.Body)
	}
	if err := room.Kick(ctx, bob.Key()); err != nil { // and the room has a new key
		log.Fatal(err)
	}
	fmt.Println("epoch", room.Info().Epoch)
	// Output:
	// bob reads: welcome
	// epoch 2
}

// Everything but messages works straight at a store, without a server.
func ExampleFound() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "unibus-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	id, err := unibus.NewIdentity()
	if err != nil {
		log.Fatal(err)
	}
	o := unibus.Options{Identity: id, Name: "alice", StateDir: filepath.Join(dir, "state"), Store: "sqlite:" + filepath.Join(dir, "bus.db")}
	if err := unibus.Found(ctx, o); err != nil {
		log.Fatal(err)
	}
	c, err := unibus.Connect(ctx, o)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	for _, u := range c.Users() {
		fmt.Println(u.Name, u.Role)
	}
	// Output: alice admin
}

// A log can be read by anyone in the room, and is verified from its first entry.
func ExampleRoom_Verify() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	url, dir, alice, stop := started(ctx)
	defer stop()
	c, err := unibus.Connect(ctx, unibus.Options{Identity: alice, StateDir: filepath.Join(dir, "state"), Server: url})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	room, err := c.CreateRoom(ctx, "audit", unibus.DefaultPolicy())
	if err == nil {
		err = room.PublishOnce(ctx, []byte("one"))
	}
	if err != nil {
		log.Fatal(err)
	}
	v, err := room.Verify(ctx, nil)
	fmt.Println(v.Entries, "entries,", v.Messages, "message,", v.Findings, "findings,", err)
	// Output: 1 entries, 1 message, 0 findings, <nil>
}

// A log is followed: who is let in and out is told as it happens.
func ExampleFollowLog() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	url, dir, alice, stop := started(ctx)
	defer stop()
	c, err := unibus.Connect(ctx, unibus.Options{Identity: alice, StateDir: filepath.Join(dir, "state"), Server: url})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	room, err := c.CreateRoom(ctx, "ops", unibus.DefaultPolicy())
	if err != nil {
		log.Fatal(err)
	}
	for entries, err := range unibus.FollowLog(ctx, room) {
		if err != nil {
			log.Fatal(err)
		}
		for _, e := range entries {
			fmt.Println(e.Seq, e.Name, e.Op, e.Brief)
		}
		if entries[len(entries)-1].Seq == 2 {
			break // or go on, until ctx ends
		}
		if err := room.Rekey(ctx); err != nil { // as others do meanwhile
			log.Fatal(err)
		}
	}
	// Output:
	// 1 alice create ops: encryption e2e; history shared; stores 30d, at most 1.0 GiB
	// 2 alice rekey epoch 2
}
