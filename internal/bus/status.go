package bus

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/host"
)

// This file is how many are asked at once: one request goes out, and whoever is concerned answers for itself (scatter):
// services of their machines (AskServices), servers of what they hold (AskServers).

// StatusSubject is where each service answers its operator, in the system account.
const StatusSubject = "unibus.status"

// Status is what a service says of its machine and of the streams.
type Status struct {
	Host   string            `json:"host"`
	Folder string            `json:"folder"` // with its data; empty: none
	Disk   host.Disk         `json:"disk"`
	Full   bool              `json:"full"` // nothing can be kept
	Files  host.Descriptors  `json:"files"`
	Lost   map[string]string `json:"lost,omitempty"` // room subjects, and what is wrong with their streams
	// Unseen says that since the service started it has not held the streams against what it remembers of them, so that Lost has
	// nothing yet; Tried, that this is so though it has tried to.
	Unseen bool `json:"unseen,omitempty"`
	Tried  bool `json:"tried,omitempty"`
	// Lacking are streams whose files on this machine hold less than its server takes them to hold.
	Lacking map[string]string `json:"lacking,omitempty"`
	Reads   bool              `json:"reads,omitempty"`  // it is the service that reads these files; those of external servers are theirs
	Looked  bool              `json:"looked"`           // all that were there have been read since the service started
	ReadFor time.Duration     `json:"read_for"`         // about how much longer that takes, if it is known
	Unread  string            `json:"unread,omitempty"` // why they could not be read when that was tried last
}

// Looking reports whether the service is still to look at its streams for the first time, and nothing hinders it.
func (s *Status) Looking() bool { return s.Unseen && !s.Tried && !s.Full }

// Reading reports whether the service is still to read the files of its streams for the first time, and nothing hinders it.
func (s *Status) Reading() bool { return s.Reads && !s.Looked && s.Unread == "" }

// AskServices asks every service of a bus for its status, over a connection of the system account. It
// returns when none has answered for a while.
func AskServices(ctx context.Context, sys *nats.Conn, wait time.Duration) (out []Status, err error) {
	err = scatter(ctx, sys, StatusSubject, nil, wait, func(answer []byte) error {
		var s Status
		if err := json.Unmarshal(answer, &s); err != nil {
			return err
		}
		out = append(out, s)
		return nil
	})
	return out, err
}

// scatter sends a request and calls f with each answer, until none has come for a while.
func scatter(ctx context.Context, nc *nats.Conn, subject string, ask []byte, wait time.Duration, f func(answer []byte) error) error {
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return failure(err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection may be gone
	if err := nc.PublishRequest(subject, inbox, ask); err != nil {
		return failure(err)
	}
	for { // each answers for itself, when it can
		next, cancel := context.WithTimeout(ctx, wait)
		m, err := sub.NextMsgWithContext(next)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout): // nobody more
			return nil
		case errors.Is(err, nats.ErrNoResponders), err == nil && len(m.Data) == 0: // nobody at all
			return nil
		case err != nil:
			return failure(err)
		}
		if err := f(m.Data); err != nil {
			return err
		}
	}
}
