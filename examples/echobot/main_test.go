package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestEchobot: the bot discovers a room that it was invited to without knowing its id, and answers
// in it; the owner's own list shows role owner.
func TestEchobot(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	owner, err := unibus.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	bot, err := unibus.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if err := unibus.SaveIdentity(filepath.Join(dir, "bot.nk"), bot, "bot"); err != nil {
		t.Fatal(err)
	}
	node, err := service.StartNode(ctx, service.NodeOptions{
		Listen: "127.0.0.1:0", Dir: filepath.Join(dir, "data"), Identity: owner, Founder: "owner", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Stop()
	c, err := unibus.Connect(ctx, unibus.Options{Identity: owner, StateDir: filepath.Join(dir, "owner"), Server: node.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.AddUsers(ctx, unibus.NewUser{Key: bot.Key(), Name: "bot"}); err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- run(running, node.URL(), filepath.Join(dir, "bot.nk"), filepath.Join(dir, "bot"), 20*time.Millisecond)
	}()
	room := roomWith(ctx, t, c, bot.Key())
	if !answers(ctx, t, room, bot.Key()) {
		t.Error("the bot did not answer")
	}
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// roomWith is a new room of the client's with the bot in it.
func roomWith(ctx context.Context, t *testing.T, c *unibus.Client, bot unibus.PublicKey) *unibus.Room {
	t.Helper()
	room, err := c.CreateRoom(ctx, "echo.test", unibus.DefaultPolicy())
	if err != nil {
		t.Fatal(err)
	}
	for err = room.Invite(ctx, unibus.RoleMember, bot); errors.Is(err, unibus.ErrNotFound); err = room.Invite(ctx, unibus.RoleMember, bot) {
		if ctx.Err() != nil { // the bot publishes its card when it first connects
			t.Fatal(err)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	refs, err := c.ListMyRooms(ctx)
	if err != nil || len(refs) != 1 || refs[0].Role != unibus.RoleOwner || refs[0].Subject != "echo.test" {
		t.Fatalf("the owner's rooms are %v, %v", refs, err)
	}
	return room
}

// answers reports whether the bot's first message is the answer to what it is asked.
func answers(ctx context.Context, t *testing.T, room *unibus.Room, bot unibus.PublicKey) (right bool) {
	t.Helper()
	sub, err := room.Subscribe(ctx, unibus.SubscribeOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	release := context.AfterFunc(ctx, func() { _ = sub.Close() })
	defer release()
	// The bot hears what comes after it has joined, so it is asked until it answers.
	asking := make(chan struct{})
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		for {
			if err := room.Publish(ctx, []byte("are you there?")); err != nil {
				return
			}
			select {
			case <-asking:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	for m, err := range sub.Messages() {
		if err != nil {
			t.Fatal(err)
		}
		if m.Sender == bot {
			right = string(m.Body) == "are you there?" && m.Name == "bot" && len(m.Headers) == 1 && m.Headers[0].Value == "owner"
			break
		}
	}
	close(asking)
	<-asked
	return right
}
