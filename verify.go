package unibus

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/unibus/unibus/internal/ledger"
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
	LogOnly  bool   `json:"log_only,omitempty"` // messages were not looked at: without a server there are none
}

// Verify checks everything there is of a room: its log, up to what the store has, what is pinned, and every stored
// frame, in its stream and against what later ones say. Notices tell what is wrong as they do a subscription; the
// error is ErrIntegrity when there were findings, and as of Subscribe.
func (r *Room) Verify(ctx context.Context, notice func(Notice)) (v Verification, err error) {
	count := func(n Notice) {
		if n.Finding {
			v.Findings++
		}
		if notice != nil {
			notice(n)
		}
	}
	v.ID, v.Subject = r.r.ID, r.Subject()
	if _, err := r.r.Log.Audit(ctx); err != nil {
		return v, err
	}
	head, info := r.r.State().Head, r.Info()
	v = Verification{ID: r.r.ID, Subject: info.Subject, Entries: head.Seq, Head: fmt.Sprintf("%x", head.Hash[:])}
	if err := compareViews(ctx, r, head, count); err != nil {
		return v, err
	}
	at, err := r.r.Remember(ctx)
	if err != nil {
		return v, err
	}
	v.Pinned, v.Accepted = at.Pinned, at.Accepted
	v.LogOnly = r.c.reader == nil
	if v.LogOnly || !info.Policy.Stored() {
		return v, cmp.Or(r.r.Readable(), v.found())
	}
	past, err := r.c.reader.Frames(ctx, r.r.ID, store.FramesQuery{None: true})
	if err != nil && !errors.Is(err, ErrNotFound) { // which is told below
		return v, err
	}
	if v.Last = past.Last; past.Last >= past.First {
		v.First = past.First
	}
	s, err := r.Subscribe(ctx, SubscribeOptions{All: true, End: true, Parts: true, Notice: count})
	if err != nil {
		return v, err
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.s.Fail(ctx.Err()) })()
	streams, senders := map[StreamID]bool{}, map[PublicKey]bool{}
	for m, err := range s.Messages() {
		if err != nil {
			return v, err
		}
		v.Messages++
		v.Bytes += uint64(m.Size())
		streams[m.Stream], senders[m.Sender] = true, true
		v.Streams, v.Senders = uint64(len(streams)), uint64(len(senders))
	}
	return v, v.found()
}

// found is the error of a room of which not everything is well.
func (v *Verification) found() error {
	if v.Findings > 0 {
		return fmt.Errorf("room %s: %w: %d findings", v.Subject, ErrIntegrity, v.Findings)
	}
	return nil
}

// compareViews compares what the store says of a room, for finding things, with the room's log.
func compareViews(ctx context.Context, r *Room, head ledger.Head, notice func(Notice)) error {
	c := r.c
	room, err := c.link.store.Room(ctx, r.r.ID)
	if err != nil {
		return err
	}
	members, err := c.link.store.Members(ctx, r.r.ID)
	if err != nil {
		return err
	}
	if r.r.State().Head != head || room.Seq > head.Seq {
		return nil // the log has grown meanwhile
	}
	info := r.Info()
	wrong := func(format string, args ...any) {
		notice(Notice{Kind: NoticeView, Finding: true, Room: r.r.ID, Subject: info.Subject, Why: fmt.Sprintf(format, args...)})
	}
	if !room.Is(r.r.Ledger()) {
		wrong("the store's record of the room is not what its log says")
	}
	listed := map[PublicKey]Role{}
	for _, m := range members {
		listed[m.Endpoint] = m.Role
	}
	for _, m := range r.Members() {
		if listed[m.Key] != m.Role {
			wrong("the store does not list %s as %s", c.self.NameOf(m.Key), m.Role)
		}
		delete(listed, m.Key)
	}
	for key, role := range listed {
		wrong("the store lists %s as %s, the log does not", c.self.NameOf(key), role)
	}
	return nil
}

// BusVerification is what VerifyBus found, in numbers.
type BusVerification struct {
	ID       ID     `json:"bus"`
	Name     string `json:"name"`
	Entries  uint64 `json:"entries"` // of the bus log, all verified
	Head     string `json:"head"`    // the hash of the last, in hexadecimal
	Users    uint64 `json:"users"`   // on the allowlist now
	Admins   uint64 `json:"admins"`  // of them
	Findings uint64 `json:"findings"`
}

// VerifyBus checks the bus log from its first entry, and what the store says of users. ErrIntegrity when there were
// findings, of which notice is told.
func (c *Client) VerifyBus(ctx context.Context, notice func(Notice)) (v BusVerification, err error) {
	entries, err := c.BusLog(ctx)
	if err != nil {
		return v, err
	}
	last := entries[len(entries)-1]
	v = BusVerification{ID: c.Bus(), Entries: last.Seq, Head: last.Hash}
	known := map[PublicKey]User{}
	v.Name = c.self.Allowlist().Name
	now := c.self.Now()
	for _, u := range c.Users() {
		known[u.Key] = u
		if u.ActiveAt(now) {
			v.Users++
			if u.Role == RoleAdmin {
				v.Admins++
			}
		}
	}
	wrong := func(format string, args ...any) {
		v.Findings++
		if notice != nil {
			notice(Notice{Kind: NoticeView, Finding: true, Subject: "the bus", Why: fmt.Sprintf(format, args...)})
		}
	}
	for u, err := range c.link.store.Users(ctx, PublicKey{}) {
		if err != nil {
			return v, err
		}
		own, ok := known[u.Key]
		switch {
		case !ok && c.self.Bus.State().Head.Seq == last.Seq:
			wrong("the store lists %s, the log does not", u.Key)
		case ok && !own.Same(&u):
			wrong("the store's record of %s is not what the log says", own.Name)
		}
		delete(known, u.Key)
	}
	for _, u := range known {
		wrong("the store does not list %s", u.Name)
	}
	if v.Findings > 0 {
		return v, fmt.Errorf("the bus: %w: %d findings", ErrIntegrity, v.Findings)
	}
	return v, nil
}
