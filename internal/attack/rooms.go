package attack

import (
	"context"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
)

// Send publishes each text in a frame of its own, all of one stream.
func Send(ctx context.Context, r *unibus.Room, texts ...string) error {
	p, err := r.Publisher(ctx)
	if err != nil {
		return err
	}
	for _, text := range texts {
		if err := p.Publish([]byte(text)); err != nil {
			return err
		}
		if err := p.Flush(ctx); err != nil {
			return err
		}
	}
	return p.Close(ctx)
}

// Stored reads everything that is stored, with the notices; the error is how it ended.
func Stored(ctx context.Context, r *unibus.Room, o unibus.SubscribeOptions) (texts []string, notices []unibus.Notice, err error) {
	o.End = true
	o.Notice = func(n unibus.Notice) { notices = append(notices, n) }
	s, err := r.Subscribe(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	for m, err := range s.Messages() {
		if err != nil {
			return texts, notices, err
		}
		texts = append(texts, string(m.Body))
	}
	return texts, notices, nil
}

// Rewrite replaces what a room's stream holds with what change makes of it.
func Rewrite(ctx context.Context, js jetstream.JetStream, room unibus.ID, change func(frames []*nats.Msg) []*nats.Msg) error {
	stream, err := js.Stream(ctx, bus.StreamName(room))
	if err != nil {
		return err
	}
	info := stream.CachedInfo()
	var frames []*nats.Msg
	for seq := max(info.State.FirstSeq, 1); seq <= info.State.LastSeq; seq++ {
		m, err := stream.GetMsg(ctx, seq)
		if err != nil {
			return err
		}
		frames = append(frames, &nats.Msg{Subject: m.Subject, Data: m.Data})
	}
	if err := js.DeleteStream(ctx, info.Config.Name); err != nil {
		return err
	}
	if _, err := js.CreateStream(ctx, info.Config); err != nil {
		return err
	}
	for _, m := range change(frames) {
		if _, err := js.PublishMsg(ctx, m); err != nil {
			return err
		}
	}
	return nil
}
