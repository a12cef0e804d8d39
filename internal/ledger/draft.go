package ledger

import (
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

// Draft is a next entry that nobody has signed yet: what it would do is known before its author commits itself, who
// may sign only one for each place.
type Draft struct {
	Entry *Entry // without a Statement
	After *State // the state once it stands; the one it continues is unchanged

	payload []byte
}

// Draft makes the entry that does body next, at a time that is informative only. The error is an *Invalid when the
// rules forbid it.
func (s *State) Draft(by crypto.PublicKey, body Body, at time.Time) (*Draft, error) {
	d, err := s.draft(by, body, at)
	if err != nil {
		return nil, &Invalid{Log: s.ID, Seq: s.Head.Seq + 1, Why: err}
	}
	return d, nil
}

// draft encodes the entry, reads it back as everybody else will, and judges it: nothing is signed that others refuse.
func (s *State) draft(by crypto.PublicKey, body Body, at time.Time) (*Draft, error) {
	raw, err := crypto.Marshal(body)
	if err != nil {
		return nil, err
	}
	p := &entryPayload{
		V: 1, Seq: crypto.Number(s.Head.Seq + 1), Time: crypto.Number(at.UnixMilli()),
		By: by, Op: body.op(), Body: raw,
	}
	if s.Head.Seq > 0 {
		p.Log, p.Prev = s.ID[:], s.Head.Hash[:]
	}
	payload, err := crypto.Marshal(p)
	if err != nil {
		return nil, err
	}
	if len(payload) > MaxEntry {
		return nil, errTooLarge
	}
	e, err := p.entry(s.ops, crypto.HashPayload(payload))
	if err != nil {
		return nil, err
	}
	if err := s.checkNext(e, p); err != nil {
		return nil, err
	}
	return &Draft{Entry: e, After: s.With(e), payload: payload}, nil
}

// Sign signs the entry as its author.
func (d *Draft) Sign(by *crypto.Identity) []byte {
	d.Entry.Statement = by.Sign(crypto.KindEntry, d.payload)
	return d.Entry.Statement
}

// Next signs the entry that does body next. The error is an *Invalid when the rules forbid it.
func (s *State) Next(by *crypto.Identity, body Body, at time.Time) ([]byte, error) {
	d, err := s.Draft(by.Key(), body, at)
	if err != nil {
		return nil, err
	}
	return d.Sign(by), nil
}
