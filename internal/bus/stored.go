package bus

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/direct"
	"github.com/unibus/unibus/internal/store"
)

// Stored is how much a room has stored and who sent it, without reading it: the leader of its stream counts the messages of
// each subject, and a replica gives the last of each. ErrNotFound without a stream.
func (p *Past) Stored(ctx context.Context, room crypto.ID) (*store.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, pastWait)
	defer cancel()
	info, err := direct.LeaderOf(ctx, p.nc, StreamName(room), storedFilter(room))
	if err != nil {
		return nil, fmt.Errorf("what room %s has stored: %w", room, failure(err))
	}
	s := &store.Stream{First: max(info.First, 1), Last: info.Last, Frames: info.Messages, Bytes: info.Bytes, Writers: []store.Writer{}}
	if info.Messages == 0 {
		return s, nil
	}
	s.Began, s.Time = &info.FirstTime, &info.LastTime
	last := p.lastOf(ctx, room)
	for subject, n := range info.Subjects {
		sender := senderOf(subject)
		if subject != StoredSubject(room, sender) { // it names nobody
			continue
		}
		w := store.Writer{Endpoint: sender, Frames: n}
		if at, ok := last[sender]; ok {
			w.Time = &at
		}
		s.Writers = append(s.Writers, w)
	}
	slices.SortFunc(s.Writers, func(a, b store.Writer) int { return cmp.Compare(b.Frames, a.Frames) })
	s.Writers = s.Writers[:min(len(s.Writers), store.MaxWriters)]
	slices.SortFunc(s.Writers, func(a, b store.Writer) int { return bytes.Compare(a.Endpoint[:], b.Endpoint[:]) })
	return s, nil
}

// lastOf is when each sender's last frame was stored, as far as one answer of a replica has room for the frames: it gives
// them whole. Of a room with more than a thousand senders it gives none.
func (p *Past) lastOf(ctx context.Context, room crypto.ID) map[crypto.PublicKey]time.Time {
	last := map[crypto.PublicKey]time.Time{}
	request := direct.Request{MultiLast: []string{storedFilter(room)}, Batch: pastBatch, MaxBytes: pastBytes}
	_, _ = p.direct.Get(ctx, StreamName(room), request, func(m *nats.Msg) error { // what does not come is not known
		at, err := time.Parse(time.RFC3339Nano, direct.Last(m, "Nats-Time-Stamp"))
		if err == nil {
			last[senderOf(direct.Last(m, "Nats-Subject"))] = at
		}
		return err
	})
	return last
}
