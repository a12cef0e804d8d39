package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/store"
)

// This file makes the buckets, and refuses those that were written by another build.

// ensure makes a bucket unless it is there. Until the servers have elected their leaders it is tried again.
func (c *conn) ensure(ctx context.Context, name string, o Options) error {
	for again := clusterRetry(); ; {
		err := c.tryEnsure(ctx, name, o)
		if err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
			return err
		}
		if again.pause(ctx) != nil {
			return fmt.Errorf("bucket %s: %w", name, err)
		}
	}
}

// tryEnsure makes a bucket if it is not there, and looks whether it can be used if it is.
func (c *conn) tryEnsure(ctx context.Context, name string, o Options) error {
	// While there is no leader nobody answers, not even later: who waits long for that finds one late.
	ctx, cancel := context.WithTimeout(ctx, min(c.timeout, store.DefaultOpTimeout))
	defer cancel()
	stream, err := c.js.Stream(ctx, "KV_"+name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound) && o.Existing:
		return fmt.Errorf("%w: there is no bucket %s", store.ErrNotFound, name)
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return failure(c.create(ctx, name, o.Replicas))
	case err == nil:
		err = c.adopt(ctx, name, stream.CachedInfo().Config)
	}
	return failure(err)
}

// create makes a bucket: on disk, with one value for each key.
func (c *conn) create(ctx context.Context, name string, replicas int) error {
	_, err := c.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: name, Replicas: replicas, Storage: jetstream.FileStorage, RePublish: republished(name),
		Metadata: map[string]string{"unibus": "store", layoutKey: strconv.Itoa(layout)},
	})
	if errors.Is(err, jetstream.ErrBucketExists) { // another process was quicker
		return nil
	}
	return err
}

// adopt looks whether a bucket is one of this build, and has the log of an earlier one announce its entries.
func (c *conn) adopt(ctx context.Context, name string, config jetstream.StreamConfig) error {
	if err := readable(config.Metadata[layoutKey]); err != nil {
		return err
	}
	want, has := republished(name), config.RePublish
	if want == nil || has != nil && *has == *want {
		return nil
	}
	config.RePublish = want
	_, err := c.js.UpdateStream(ctx, config)
	return err
}

// republished is what the server publishes of what is written to a bucket; nil for nothing.
func republished(name string) *jetstream.RePublish {
	if name == Buckets[0] {
		return announced()
	}
	return nil
}

// A bucket says in its metadata how what is in it is written. Nothing converts what was written otherwise.
const (
	layoutKey = "unibus_layout"
	layout    = 2
)

// readable refuses a bucket that was written by another build than can be read.
func readable(has string) error {
	number, _ := strconv.Atoi(has) // 0: from before there was any
	switch {
	case number > layout:
		return fmt.Errorf("%w: it has layout %d, this unibus knows %d: newer unibus needed", store.ErrInvalid, number, layout)
	case number < layout:
		return fmt.Errorf("%w: it holds data of an earlier build of unibus, which this one cannot read", store.ErrInvalid)
	}
	return nil
}
