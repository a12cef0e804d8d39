package unibus

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
)

// chain is one of a client's logs. A Room is one: what it has is not for others, so it is not embedded as it is.
type chain struct {
	c   *Client
	id  ID // zero while no bus is founded
	log *mirror.Log
}

// openChain starts from what is pinned.
func (c *Client) openChain(ctx context.Context, id ID) (*chain, error) {
	bus := ID{}
	if c.bus != nil {
		bus = c.bus.id
	}
	log, err := c.peer().Open(ctx, id, bus)
	if err != nil {
		return nil, err
	}
	return &chain{c, id, log}, nil
}

// peer is what this client's logs have in common.
func (c *Client) peer() *mirror.Peer {
	p := &mirror.Peer{
		Identity: c.id, Store: c.store, Pins: c.pins, Timeout: c.o.Timeout, Confirm: c.o.Confirm,
		Stage: c.stage, Tell: c.tellKept,
	}
	if c.streams != nil { // no service makes them
		p.Accepted = func(ctx context.Context, after *ledger.State) error {
			if after.Room == nil {
				return nil
			}
			return c.streams.Ensure(ctx, after.ID, func(ctx context.Context) (ledger.Policy, error) {
				room, err := c.store.Room(ctx, after.ID) // somebody else may have changed it again
				return room.Policy, err
			})
		}
	}
	return p
}

// tellKept tells of an entry that an earlier process signed and never had answered.
func (c *Client) tellKept(e *ledger.Entry, age time.Duration, lost bool) {
	entry := c.logEntry(e)
	what, when := e.Op, age.Round(time.Second)
	if entry.Summary != "" {
		what += " " + entry.Summary
	}
	if lost {
		c.say("entry %d of log %s, which you signed %v ago and which was never answered (%s), lost its place to another and is given up", e.Seq, e.Log, when, what)
		return
	}
	c.say("entry %d of log %s, which you signed %v ago, was never answered, or was taken back, and is offered again: %s", e.Seq, e.Log, when, what)
}

func (l *chain) state() *ledger.State              { return l.log.State() }
func (l *chain) head() ledger.Head                 { return l.log.State().Head }
func (l *chain) sync(ctx context.Context) error    { return l.settled(ctx, l.log.Sync(ctx)) }
func (l *chain) confirm(ctx context.Context) error { return l.named(l.log.Confirm(ctx)) }

// named says of an error that a log was rolled back which one it is, in words that people know it by, and with what
// hash it would be taken for what it is.
func (l *chain) named(err error) error {
	var back *mirror.RolledBack
	if !errors.As(err, &back) {
		return err
	}
	what, which := "the allowlist", "--bus"
	if room := l.state().Room; room != nil {
		what, which = "room "+room.Subject, room.Subject
		if !plainWord(which) {
			which = l.id.String()
		}
	}
	const ask = "ask whoever runs the bus whether it was restored from a backup"
	err = fmt.Errorf("%s: %w: %w: %s", what, ErrIntegrity, ErrLogRolledBack, back.Why)
	if back.End.Seq == 0 {
		return withHint(err, ask)
	}
	return withHint(err, ask+"; to accept it as it is now: unibus verify %s --accept %x", which, back.End.Hash[:8])
}

// plainWord reports whether a text means only itself in any shell.
func plainWord(text string) bool {
	return text[0] != '-' && strings.Trim(strings.ToLower(text), "abcdefghijklmnopqrstuvwxyz0123456789._-/") == ""
}

// settled is what came of bringing the log up to date, once a person has decided for it as it is.
func (l *chain) settled(ctx context.Context, synced error) error {
	if l.c.o.Accept == "" || !errors.Is(synced, ErrIntegrity) {
		return l.named(synced)
	}
	taken, err := l.log.Return(ctx, func(h crypto.Hash) bool { return begins(h, l.c.o.Accept) })
	if err != nil || !taken {
		return l.named(synced)
	}
	head := l.head()
	l.c.say("log %s is taken for what it is: it ends at entry %d (%x)", l.id, head.Seq, head.Hash[:8])
	return nil
}

// minHash is how many hexadecimal digits of an entry's hash a person has to give.
const minHash = 8

// begins reports whether a person means a hash by how it begins.
func begins(h crypto.Hash, digits string) bool {
	return len(digits) >= minHash && strings.HasPrefix(hex.EncodeToString(h[:]), strings.ToLower(digits))
}

func (l *chain) append(ctx context.Context, next mirror.Next) error {
	err := l.named(l.c.inTurn(ctx, func() error { return l.log.Append(ctx, next) }))
	if errors.Is(err, mirror.ErrKept) {
		err = withHint(err, "if it is still meant, say so: --yes")
	}
	return err
}
