package bench

import (
	"context"
	"fmt"

	"github.com/unibus/unibus"
)

// The measurements, in the order in which they are taken. Each makes what it needs: none depends on another.

// measurement is one comparison, of which there are one or more rows.
type measurement struct {
	what, name string
	take       func(ctx context.Context, b *Bed, o Options) ([]Row, error)
}

// Kinds are what may be measured: publishing; subscribing, to what is stored; how long a message takes from one end to the
// other; giving the members of a room a new key; and logging in.
func Kinds() []string { return []string{"pub", "sub", "rtt", "rekey", "auth"} }

// series are all measurements.
func series() []measurement {
	return []measurement{
		{"pub", "stored, one at a time", publishing("bench.each", unibus.DefaultPolicy(), (*Raw).Each, (*Bed).Each)},
		{"pub", "stored", publishing("bench.stored", unibus.DefaultPolicy(), (*Raw).Stored, (*Bed).Stream)},
		{"pub", "live", publishing("bench.live", LivePolicy(), (*Raw).Live, (*Bed).Stream)},
		{"sub", "what is stored", reading},
		{"rtt", "stored", following("bench.follow", unibus.DefaultPolicy(), (*Raw).Way)},
		{"rtt", "live", following("bench.followlive", LivePolicy(), (*Raw).liveWay)},
		{"rekey", "1 member", rekeying(0)},
		{"rekey", fmt.Sprintf("%d members", 1+manyPeople), rekeying(manyPeople)},
		{"auth", "one login", loggingIn},
		{"auth", fmt.Sprintf("%d logins at once", loginsAtOnce), crowding},
	}
}

// publishing compares ways to publish, in a room of its own.
func publishing(subject string, p unibus.Policy, raw func(*Raw, context.Context, func() bool) error, ours func(*Bed, *unibus.Room) Side) func(context.Context, *Bed, Options) ([]Row, error) {
	return func(ctx context.Context, b *Bed, o Options) ([]Row, error) {
		room, err := b.Room(ctx, subject, p)
		if err != nil {
			return nil, err
		}
		return alternate(ctx, &o, ours(b, room), func(ctx context.Context, more func() bool) error { return raw(b.Raw, ctx, more) })
	}
}

// reading fills a room and a stream with as many messages as one turn is to read, and compares reading them whole.
func reading(ctx context.Context, b *Bed, o Options) ([]Row, error) {
	t := o.begin(ctx)
	defer t.end()
	if err := b.Raw.fill(ctx, t.more); err != nil {
		return nil, fmt.Errorf("raw NATS: %w", err)
	}
	room, err := b.Room(ctx, "bench.read", unibus.DefaultPolicy())
	if err != nil {
		return nil, err
	}
	if err := b.Stream(room)(ctx, UpTo(t.done)); err != nil {
		return nil, err
	}
	return alternate(ctx, &o, b.ReadAll(room, t.done), b.Raw.readAll(t.done))
}

// following compares how long a lone message takes to a reader that follows.
func following(subject string, p unibus.Policy, raw func(*Raw, context.Context) (*Way, error)) func(context.Context, *Bed, Options) ([]Row, error) {
	return func(ctx context.Context, b *Bed, o Options) ([]Row, error) {
		theirs, err := raw(b.Raw, ctx)
		if err != nil {
			return nil, fmt.Errorf("raw NATS: %w", err)
		}
		defer theirs.End()
		room, err := b.Room(ctx, subject, p)
		if err != nil {
			return nil, err
		}
		ours, err := b.Way(ctx, room)
		if err != nil {
			return nil, err
		}
		defer ours.End()
		return compare(ctx, &o, ours.Once, theirs.Once, 50, 99)
	}
}

// rekeying compares giving a founder and so many others a new key with storing as many messages.
func rekeying(others int) func(context.Context, *Bed, Options) ([]Row, error) {
	return func(ctx context.Context, b *Bed, o Options) ([]Row, error) {
		ours, raw, err := b.rekey(ctx, others)
		if err != nil {
			return nil, err
		}
		return compare(ctx, &o, ours, raw, 50)
	}
}

// loggingIn compares how long a login takes when there is no other.
func loggingIn(ctx context.Context, b *Bed, o Options) ([]Row, error) {
	ours, raw, err := b.logins(ctx)
	if err != nil {
		return nil, err
	}
	return compare(ctx, &o, ours, raw, 50)
}

// crowding compares how many logins there are a second when there are several at once.
func crowding(ctx context.Context, b *Bed, o Options) ([]Row, error) {
	ours, raw, err := b.logins(ctx)
	if err != nil {
		return nil, err
	}
	return alternate(ctx, &o, several(ours), several(raw))
}
