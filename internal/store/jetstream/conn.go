package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/direct"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// This file is what all parts of a store share: the connection, the bound of each call, the end of all, and what errors of
// NATS mean.

// conn is a connection whose account has JetStream, and what bounds and ends the calls over it. All parts of a store
// share one.
type conn struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	direct  *direct.Client
	timeout time.Duration // of one call

	ctx    context.Context // ends with the store
	cancel context.CancelFunc
	tasks  tasks.Group
}

// errClosed is what calls of a closed store fail with.
var errClosed = fmt.Errorf("%w: the store is closed", store.ErrUnavailable)

// newConn asks nothing of the servers yet.
func newConn(nc *nats.Conn, timeout time.Duration) (*conn, error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(timeout), jetstream.WithPublishAsyncTimeout(attempt))
	if err != nil {
		return nil, err
	}
	c := &conn{nc: nc, js: js, timeout: timeout}
	if c.direct, err = direct.New(nc); err != nil {
		return nil, fmt.Errorf("open the store: %w", failure(err))
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Close ends watches and waits for what is under way. The NATS connection stays its owner's.
func (c *conn) Close() error {
	c.cancel()
	c.tasks.Wait()
	c.direct.Close()
	return nil
}

// op bounds one call: by OpTimeout, and by the end of the store.
func (c *conn) op(ctx context.Context) (context.Context, context.CancelFunc) {
	return c.writing(ctx, 0)
}

// writing is op for a call that writes so many views, sealed keys or cards.
func (c *conn) writing(ctx context.Context, writes int) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, store.Within(c.timeout, writes))
	stop := context.AfterFunc(c.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// failure turns what NATS says into the store's errors.
func failure(err error) error {
	if err == nil || store.IsKind(err) {
		return err
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return fmt.Errorf("%w: no answer in time from a quorum of the servers", store.ErrUnavailable)
	case errors.Is(err, nats.ErrReconnectBufExceeded): // nothing is kept for a connection that is gone
		return fmt.Errorf("%w: not connected to a server just now", store.ErrUnavailable)
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse):
		return fmt.Errorf("%w: no server leads the store", store.ErrUnavailable)
	}
	return fmt.Errorf("%w: %v", store.ErrUnavailable, err)
}
