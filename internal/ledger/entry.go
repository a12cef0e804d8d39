// Package ledger decides what signed logs mean: the entries of the bus log and of room logs, the
// rules each must keep, the fold to a State, the view changes an accepted entry causes, and which
// frames a reader may believe (SPEC.md §4 and §6).
//
// It is pure: no I/O, no clock, no randomness. Time never decides a rule. It does not know where
// logs are stored, and trusts nobody who stores them.
package ledger

import (
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/unibus/unibus/internal/crypto"
)

// ErrNewer says that a log has an entry whose meaning this version does not know: it is not
// skipped, since everything after it would be guesswork.
var ErrNewer = errors.New("newer unibus needed")

// Invalid says which entry of a log breaks which rule. The state before it stays good.
type Invalid struct {
	Log crypto.ID // zero for a first entry
	Seq uint64    // the place the entry was offered for
	Why error
}

// Error says which entry of which log it is, and what is wrong with it.
func (e *Invalid) Error() string {
	if e.Log.IsZero() {
		return fmt.Sprintf("entry %d is not valid: %v", e.Seq, e.Why)
	}
	return fmt.Sprintf("entry %d of log %s is not valid: %v", e.Seq, e.Log, e.Why)
}

// Unwrap returns what is wrong: the rule or the encoding that it breaks.
func (e *Invalid) Unwrap() error { return e.Why }

// Rules an entry can break; an error of one says which it is in its own words.
var (
	ErrPlace      = errors.New("it does not continue the log")
	ErrNotAllowed = errors.New("its author may not do that")
	ErrRule       = errors.New("it breaks a rule")
	ErrLastOwner  = breaks("the last owner stays") // the rule of ErrRule that people meet
)

// broken is a rule that an entry breaks, in words that need no other, and its kind, one of these rules.
type broken struct {
	why  string
	kind error
}

// Error says which rule it is.
func (b *broken) Error() string { return b.why }

// Unwrap is the kind.
func (b *broken) Unwrap() error { return b.kind }

// breaks is an entry that breaks a rule, whoever made it.
func breaks(format string, args ...any) error {
	return &broken{fmt.Sprintf(format, args...), ErrRule}
}

// lastOwner is what the last owner of a room cannot do; it is ErrLastOwner, and with that ErrRule.
func lastOwner(cannot string) error {
	return &broken{"the last owner " + cannot, ErrLastOwner}
}

// denied is an entry that its author may not make.
func denied(format string, args ...any) error {
	return &broken{fmt.Sprintf(format, args...), ErrNotAllowed}
}

// MaxEntry is the most bytes that the payload of an entry may have, so that it fits a request.
const MaxEntry = 512 << 10

var errTooLarge = fmt.Errorf("%w: an entry has at most %d bytes", crypto.ErrEncoding, MaxEntry)

// Head is a place in a log: the seq of an entry and the hash of its payload. The zero Head is that
// of an empty log.
type Head struct {
	Seq  uint64      `json:"seq"`
	Hash crypto.Hash `json:"hash"`
}

// Entry is one verified step of a log.
type Entry struct {
	Log       crypto.ID // set also at seq 1
	Seq       uint64
	Hash      crypto.Hash
	Prev      crypto.Hash // of the entry before; zero at seq 1
	Time      time.Time   // as its author claims; informative only
	By        crypto.PublicKey
	Op        string
	Body      Body
	Statement []byte // the bytes as received
}

// entryPayload is an entry as it is encoded and signed (SPEC.md §4); Log and Prev are empty in a first one.
type entryPayload struct {
	V    crypto.Number    `cbor:"v"`
	Log  []byte           `cbor:"log"`
	Seq  crypto.Number    `cbor:"seq"`
	Prev []byte           `cbor:"prev"`
	Time crypto.Number    `cbor:"time"`
	By   crypto.PublicKey `cbor:"by"`
	Op   string           `cbor:"op"`
	Body cbor.RawMessage  `cbor:"body"`
}

// decode reads a statement and its body, checks the signature and fills in Hash, but says nothing
// of its place or rules.
func decode(ops func(op string) (func() Body, error), statement []byte) (*Entry, *entryPayload, error) {
	payload, err := crypto.Payload(statement)
	if err != nil {
		return nil, nil, err
	}
	if len(payload) > MaxEntry {
		return nil, nil, errTooLarge
	}
	var p entryPayload
	if err := crypto.Unmarshal(payload, &p); err != nil {
		return nil, nil, err
	}
	if p.V != 1 {
		return nil, nil, fmt.Errorf("%w: entry version %d", ErrNewer, p.V)
	}
	if err := crypto.Verify(crypto.KindEntry, p.By, statement); err != nil {
		return nil, nil, err
	}
	e, err := p.entry(ops, crypto.HashPayload(payload))
	if err != nil {
		return nil, nil, err
	}
	e.Statement = statement
	return e, &p, nil
}

// entry reads what a payload with a hash says.
func (p *entryPayload) entry(ops func(op string) (func() Body, error), hash crypto.Hash) (*Entry, error) {
	newBody, err := ops(p.Op)
	if err != nil {
		return nil, err
	}
	body := newBody()
	if err := crypto.Unmarshal(p.Body, body); err != nil {
		return nil, err
	}
	return &Entry{
		Seq: uint64(p.Seq), Hash: hash, Time: crypto.Millis(uint64(p.Time)),
		By: p.By, Op: p.Op, Body: body,
	}, nil
}

// Place says which log and seq a statement claims for itself, without verifying anything. The log
// of a first entry is its own hash.
func Place(statement []byte) (log crypto.ID, seq uint64, hash crypto.Hash, err error) {
	payload, err := crypto.Payload(statement)
	if err != nil {
		return log, 0, hash, err
	}
	var p entryPayload
	if err := crypto.Unmarshal(payload, &p); err != nil {
		return log, 0, hash, err
	}
	hash = crypto.HashPayload(payload)
	switch {
	case p.Seq == 1 && len(p.Log) == 0:
		return crypto.ID(hash[:20]), 1, hash, nil
	case p.Seq > 1 && len(p.Log) == len(log):
		return crypto.ID(p.Log), uint64(p.Seq), hash, nil
	}
	return log, 0, hash, fmt.Errorf("%w: log %d bytes at seq %d", crypto.ErrEncoding, len(p.Log), p.Seq)
}
