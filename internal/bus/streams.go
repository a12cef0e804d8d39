package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// dedupe is how long a stream knows a frame's id, so how late a repetition may come.
const dedupe = 2 * time.Minute

// kickWait is how long a server may take to drop a connection.
const kickWait = 2 * time.Second

// Streams makes room streams what the rooms' policies say.
type Streams struct{ js jetstream.JetStream }

// NewStreams works over the service's own connection.
func NewStreams(nc *nats.Conn) (*Streams, error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(10*time.Second))
	return &Streams{js}, err
}

// Ensure makes, changes or removes a room's stream, so that it is as the policy says.
func (s *Streams) Ensure(ctx context.Context, room crypto.ID, p ledger.Policy) error {
	if !p.Stored() {
		if err := s.js.DeleteStream(ctx, StreamName(room)); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("remove the stream of room %s: %w", room, failure(err))
		}
		return nil
	}
	age := time.Duration(min(uint64(p.Retain.Age), uint64(1<<63-1)/uint64(time.Second))) * time.Second
	cfg := jetstream.StreamConfig{
		Name: StreamName(room), Subjects: []string{roomFilter(room)},
		MaxAge: age, MaxBytes: -1, Discard: jetstream.DiscardOld, Storage: jetstream.FileStorage,
		Duplicates: dedupe, Replicas: 1, Metadata: map[string]string{"unibus": "room"},
	}
	if age > 0 {
		cfg.Duplicates = min(dedupe, age)
	}
	if p.Retain.Bytes > 0 {
		cfg.MaxBytes = int64(p.Retain.Bytes)
	}
	if _, err := s.js.CreateOrUpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("make the stream of room %s: %w", room, failure(err))
	}
	return nil
}

// Kick drops every connection of the BUS account that the authorizer let in under the name of user,
// on whichever server it is. Sys is a connection of the system account.
func Kick(ctx context.Context, sys *nats.Conn, user crypto.PublicKey) error {
	ask, err := json.Marshal(map[string]any{"auth": true, "acc": "BUS", "user": user.String(), "limit": 1024})
	if err != nil {
		return err
	}
	inbox := nats.NewInbox()
	sub, err := sys.SubscribeSync(inbox)
	if err != nil {
		return failure(err)
	}
	defer sub.Unsubscribe()
	if err := sys.PublishRequest("$SYS.REQ.SERVER.PING.CONNZ", inbox, ask); err != nil {
		return failure(err)
	}
	for { // servers answer for themselves, each when it can
		m, err := sub.NextMsg(200 * time.Millisecond)
		if errors.Is(err, nats.ErrTimeout) {
			return ctx.Err()
		}
		if err != nil {
			return failure(err)
		}
		if err := kick(ctx, sys, m.Data); err != nil {
			return err
		}
	}
}

// kick drops the connections in one server's answer.
func kick(ctx context.Context, sys *nats.Conn, answer []byte) error {
	var connz struct {
		Server struct{ ID string }
		Data   struct {
			Connections []struct{ CID uint64 }
		}
	}
	if err := json.Unmarshal(answer, &connz); err != nil {
		return fmt.Errorf("connections of a server: %w", err)
	}
	for _, c := range connz.Data.Connections {
		order := fmt.Appendf(nil, `{"cid":%d}`, c.CID)
		// A request: without somewhere to answer, the server ignores the order. That the connection
		// has gone by itself is an answer too.
		ctx, cancel := context.WithTimeout(ctx, kickWait)
		_, err := sys.RequestWithContext(ctx, "$SYS.REQ.SERVER."+connz.Server.ID+".KICK", order)
		cancel()
		if err != nil {
			return failure(err)
		}
	}
	return nil
}
