package unibus

import (
	"context"
	"time"

	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
)

// LogEntry is one verified entry of a log, for people and audits.
type LogEntry struct {
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"` // as its author claims
	By   PublicKey `json:"by"`
	Name string    `json:"name"`
	Op   string    `json:"op"`
	Body any       `json:"body"`
	Hash string    `json:"hash"`

	Statement []byte `json:"-"` // as it was signed
	Summary   string `json:"-"` // what it did in a few words, for people; empty where Op says it all
}

// Log fetches a room's whole log from the store and verifies it from its first entry.
func (r *Room) Log(ctx context.Context) ([]LogEntry, error) { return r.c.audit(ctx, r.r.Log) }

// BusLog fetches the whole bus log from the store and verifies it from its first entry.
func (c *Client) BusLog(ctx context.Context) ([]LogEntry, error) {
	return c.audit(ctx, c.self.Bus)
}

// audit verifies the store's log afresh.
func (c *Client) audit(ctx context.Context, l *mirror.Log) ([]LogEntry, error) {
	entries, err := l.Audit(ctx)
	out := make([]LogEntry, len(entries))
	for i, e := range entries {
		out[i] = c.logEntry(e)
	}
	return out, err
}

func (c *Client) logEntry(e *ledger.Entry) LogEntry {
	return LogEntry{Seq: e.Seq, Time: e.Time, By: e.By, Name: c.self.NameOf(e.By), Op: e.Op, Body: e.Body, Hash: e.Hash.String(), Statement: e.Statement, Summary: e.Words(c.self.NameOf)}
}
