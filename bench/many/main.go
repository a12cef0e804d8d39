// Command many measures what is done to many at once against what it cannot do without, in the same run: listing 500
// rooms against one question to the service, adding 1,000 users with their cards, and inviting and rekeying 1,000
// members against sealing the key for them on all processors.
package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/service"
	"github.com/unibus/unibus/internal/store/remote"
	"github.com/unibus/unibus/internal/tasks"
)

const (
	rooms   = 500
	members = 1000
	again   = 9 // measurements of each, of which the median counts
)

func main() {
	dir, err := os.MkdirTemp("", "unibus-bench-")
	if err != nil {
		log.Fatal(err)
	}
	err = run(context.Background(), dir)
	os.RemoveAll(dir)
	if err != nil {
		log.Fatal("bench: ", err)
	}
}

// bench is what everything is measured on.
type bench struct {
	ctx  context.Context
	id   *crypto.Identity
	node *service.Node
	c    *unibus.Client
	asks *remote.Store // one question at a time
	t    table.Writer
}

func run(ctx context.Context, dir string) error {
	b := &bench{ctx: ctx, t: table.NewWriter()}
	b.t.SetOutputMirror(os.Stdout)
	b.t.AppendHeader(table.Row{"what", "ms", "of", "ms", "of it"})
	defer b.t.Render()
	var err error
	if b.id, err = unibus.NewIdentity(); err != nil {
		return err
	}
	b.node, err = service.StartNode(ctx, service.NodeOptions{
		Listen: "127.0.0.1:0", Dir: filepath.Join(dir, "data"), Identity: b.id, Founder: "bench", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer b.node.Stop()
	if b.c, err = unibus.Connect(ctx, unibus.Options{Identity: b.id, StateDir: filepath.Join(dir, "state"), Server: b.node.URL()}); err != nil {
		return err
	}
	defer b.c.Close()
	conn, err := bus.Dial(bus.DialOptions{Servers: b.node.URL(), Identity: b.id, Bus: b.c.Bus(), Timeout: unibus.DefaultTimeout})
	if err != nil {
		return err
	}
	defer conn.Close()
	b.asks = remote.New(remote.Options{
		Transport: conn, Identity: b.id, Bus: b.c.Bus(), Inbox: conn.Inbox(), Watcher: conn, OpTimeout: unibus.DefaultTimeout,
	})
	if err := b.lists(); err != nil {
		return err
	}
	return b.crowd()
}

// lists measures listing one's rooms.
func (b *bench) lists() error {
	for i := range rooms {
		if _, err := b.c.CreateRoom(b.ctx, fmt.Sprintf("many.%d", i), unibus.DefaultPolicy()); err != nil {
			return err
		}
	}
	one, err := median(func() error {
		_, err := b.asks.ListRoomsForEndpoint(b.ctx, b.id.Key())
		return err
	})
	if err != nil {
		return err
	}
	all, err := median(func() error {
		_, err := b.c.ListMyRooms(b.ctx)
		return err
	})
	b.row(fmt.Sprintf("listing %d rooms, each verified", rooms), all, "one question: which are there", one)
	return err
}

// crowd measures adding users, and having all of them in one room.
func (b *bench) crowd() error {
	ids := make([]*crypto.Identity, members)
	users := make([]unibus.NewUser, members)
	keys := make([]unibus.PublicKey, members)
	cards := make([]crypto.Card, members)
	for i := range ids {
		id, err := unibus.NewIdentity()
		if err != nil {
			return err
		}
		card, err := id.Card()
		if err != nil {
			return err
		}
		ids[i], keys[i] = id, id.Key()
		if users[i], err = unibus.ParseUser(base64.StdEncoding.EncodeToString(card)); err != nil {
			return err
		}
		users[i].Name = fmt.Sprintf("user.%d", i)
		if cards[i], err = crypto.OpenCard(card, id.Key()); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := b.c.AddUsers(b.ctx, users...); err != nil {
		return err
	}
	b.row(fmt.Sprintf("adding %d users with cards", members), time.Since(began), "", 0)
	room, err := b.c.CreateRoom(b.ctx, "crowd", unibus.DefaultPolicy())
	if err != nil {
		return err
	}
	seals, err := median(func() error { return seal(b.ctx, room.ID(), cards) })
	if err != nil {
		return err
	}
	began = time.Now()
	if err := room.Invite(b.ctx, unibus.RoleMember, keys...); err != nil {
		return err
	}
	b.row(fmt.Sprintf("inviting %d members", members), time.Since(began), "sealing the key for them", seals)
	rekey, err := median(func() error { return room.Rekey(b.ctx) })
	b.row(fmt.Sprintf("rekeying %d members", members), rekey, "sealing the key for them", seals)
	return err
}

// seal seals a room's key for the owners of cards, on all processors.
func seal(ctx context.Context, room crypto.ID, cards []crypto.Card) error {
	var key crypto.RoomKey
	return tasks.ForEach(ctx, runtime.GOMAXPROCS(0), len(cards), func(i int) error {
		_, err := crypto.SealKey(key, room, 1, cards[i].Key, cards[i].Sealing)
		return err
	})
}

// median is how long something takes, of several times.
func median(do func() error) (time.Duration, error) {
	took := make([]time.Duration, again)
	for i := range took {
		began := time.Now()
		if err := do(); err != nil {
			return 0, err
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[again/2], nil
}

// row adds a line to the table.
func (b *bench) row(what string, took time.Duration, of string, base time.Duration) {
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Microseconds())/1000) }
	if of == "" {
		b.t.AppendRow(table.Row{what, ms(took), "", "", ""})
		return
	}
	b.t.AppendRow(table.Row{what, ms(took), of, ms(base), fmt.Sprintf("%.2f×", float64(took)/float64(base))})
}
