package unibus

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/store"
)

// Verification is what Verify found, in numbers.
type Verification struct {
	ID       ID     `json:"room_id"`
	Subject  string `json:"subject"`
	Entries  uint64 `json:"entries"`  // of the room's log, all verified
	Head     string `json:"head"`     // the hash of the last, in hexadecimal
	First    uint64 `json:"first"`    // the first and the last place of what is stored, as the server says; 0: nothing
	Last     uint64 `json:"last"`     //
	Pinned   uint64 `json:"pinned"`   // the place to which the room was known to reach
	Accepted uint64 `json:"accepted"` // the place up to which a person took it for what it is
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"` // of their bodies
	Streams  uint64 `json:"streams"`
	Senders  uint64 `json:"senders"`
	Findings uint64 `json:"findings"`
}

// Verify checks everything there is of a room: its log, up to what the store has, what is pinned, and every stored
// frame, in its stream and against what later ones say. Notices tell what is wrong as they do a subscription; the
// error is ErrIntegrity when there were findings, and as of Subscribe.
func (r *Room) Verify(ctx context.Context, notice func(Notice)) (v Verification, err error) {
	if err := r.sync(ctx); err != nil {
		return v, err
	}
	head, info := r.head(), r.Info()
	v = Verification{ID: r.id, Subject: info.Subject, Entries: head.Seq, Head: fmt.Sprintf("%x", head.Hash[:])}
	at, err := r.remember(ctx)
	if err != nil {
		return v, err
	}
	v.Pinned, v.Accepted = at.pinned, at.accepted
	if !info.Policy.Stored() {
		return v, r.readable()
	}
	past, err := r.c.pastFrames(ctx, r.id, store.FramesQuery{None: true})
	if err != nil {
		return v, err
	}
	if v.Last = past.Last; past.Last >= past.First {
		v.First = past.First
	}
	s, err := r.Subscribe(ctx, SubscribeOptions{All: true, End: true, Notice: func(n Notice) {
		if n.Finding {
			v.Findings++
		}
		if notice != nil {
			notice(n)
		}
	}})
	if err != nil {
		return v, err
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.stop(ctx.Err()) })()
	streams, senders := map[StreamID]bool{}, map[PublicKey]bool{}
	for m, err := range s.Messages() {
		if err != nil {
			return v, err
		}
		v.Messages++
		v.Bytes += uint64(len(m.Body))
		streams[m.Stream], senders[m.Sender] = true, true
		v.Streams, v.Senders = uint64(len(streams)), uint64(len(senders))
	}
	return v, nil
}

// AcceptPlace takes, for this client, a stored room for what it is up to a place of its stream: what is missing or
// damaged up to there is no finding any more, nor is that the room reached further before. ErrInvalid when the room
// does not reach so far.
func (r *Room) AcceptPlace(ctx context.Context, place uint64) error {
	m, err := r.remember(ctx)
	if err != nil {
		return err
	}
	past, err := r.c.pastFrames(ctx, r.id, store.FramesQuery{None: true})
	if err != nil {
		return err
	}
	if place > past.Last {
		return fmt.Errorf("place %d: %w: the room ends at place %d", place, ErrInvalid, past.Last)
	}
	at := pins.Place{Anew: r.anew(), Seq: m.pinned, Hash: m.hash, Accepted: max(place, m.accepted)}
	if place == m.pinned || m.pinned > past.Last { // the frame there is taken for what was there
		at.Seq, at.Hash, at.Accepted = 0, [32]byte{}, place
		if place > 0 {
			page, err := r.c.pastFrames(ctx, r.id, store.FramesQuery{After: place - 1})
			if err != nil {
				return err
			}
			if len(page.Frames) > 0 && page.Frames[0].Seq == place {
				at.Seq, at.Hash = place, sha256.Sum256(page.Frames[0].Data)
			}
		}
	}
	return r.c.pins.Accept(ctx, r.id, at)
}
