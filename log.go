package unibus

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"time"

	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
)

// LogEntry is one verified entry of a log, for people and audits.
type LogEntry struct {
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"` // as its author claims
	By   PublicKey `json:"by"`
	Name string    `json:"name"` // of By: in the bus log when the entry was made, in a room's now
	Op   string    `json:"op"`
	Body any       `json:"body"`
	Hash string    `json:"hash"`

	Statement []byte `json:"-"` // as it was signed
	Summary   string `json:"-"` // what it did in a few words, for people; empty where Op says it all
	Brief     string `json:"-"` // Summary with long lists cut short
}

// Log fetches a room's whole log from the store and verifies it from its first entry.
func (r *Room) Log(ctx context.Context) ([]LogEntry, error) {
	return audit(ctx, r.r.Log, func(e *ledger.Entry) LogEntry { return logEntry(e, r.c.self.NameOf) })
}

// BusLog fetches the whole bus log from the store and verifies it from its first entry.
func (c *Client) BusLog(ctx context.Context) ([]LogEntry, error) {
	return audit(ctx, c.self.Bus, busTeller(c.self.NameOf))
}

// busTeller returns what tells the entries of the bus log, one after the other, with the names that users had then; now
// gives those that they have now.
func busTeller(now func(PublicKey) string) func(*ledger.Entry) LogEntry {
	names := map[PublicKey]string{}
	return func(e *ledger.Entry) LogEntry {
		if e.Seq == 1 {
			maps.Copy(names, e.Names()) // its author is nobody before it
		}
		out := logEntry(e, func(key PublicKey) string { return cmp.Or(names[key], now(key)) })
		maps.Copy(names, e.Names())
		return out
	}
}

// FollowLog is Room.Log, and goes on with what is added: it yields the entries that the room's log has, and after that those that
// come, some at a time, as soon as they are verified and pinned. A lost connection is waited for. It ends when ctx does,
// without an error, and with the first error: ErrDenied when the bus lets the client in no more, ErrIntegrity when the log
// does not go on from what was verified, ErrUnavailable only when the log cannot be read to begin with.
func FollowLog(ctx context.Context, r *Room) iter.Seq2[[]LogEntry, error] {
	return followLog(ctx, r.c, r.r.Log, func(e *ledger.Entry) LogEntry { return logEntry(e, r.c.self.NameOf) })
}

// FollowBusLog is Client.BusLog, and goes on with what is added, as FollowLog does.
func FollowBusLog(ctx context.Context, c *Client) iter.Seq2[[]LogEntry, error] {
	return followLog(ctx, c, c.self.Bus, busTeller(c.self.NameOf))
}

// audit verifies the store's log afresh, and returns what tell makes of each entry in turn.
func audit(ctx context.Context, l *mirror.Log, tell func(*ledger.Entry) LogEntry) ([]LogEntry, error) {
	entries, err := l.Audit(ctx)
	out := make([]LogEntry, len(entries))
	for i, e := range entries {
		out[i] = tell(e)
	}
	return out, err
}

// logEntry is an entry as callers know it, with what people call its author.
func logEntry(e *ledger.Entry, nameOf func(PublicKey) string) LogEntry {
	return LogEntry{Seq: e.Seq, Time: e.Time, By: e.By, Name: nameOf(e.By), Op: e.Op, Body: e.Body, Hash: e.Hash.String(), Statement: e.Statement, Summary: e.Words(nameOf), Brief: e.Brief(nameOf)}
}
