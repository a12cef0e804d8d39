package room

import (
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// Facts answers from the room's log what the inbox has to know of frames that are missing, to tell what may have expired
// or was never for this client from what somebody withholds: it is an inbox.Log.
type Facts struct{ *Room }

// Owes reports whether the log owes this client an epoch's key.
func (f Facts) Owes(epoch uint32) bool { return f.Ledger().Owes(f.Key(), epoch) }

// OwesAt reports whether the log owes this client the key of the epoch at an entry.
func (f Facts) OwesAt(at uint64) bool {
	l := f.Ledger()
	return l.Owes(f.Key(), l.EpochAt(at).Number)
}

// StoredSince reports whether all messages made at an entry or since were to be stored.
func (f Facts) StoredSince(at uint64) bool {
	s := f.State()
	return s.Room.StoredSince(at, s.Head.Seq)
}

// Kept says what was kept of messages that were made at an entry.
func (f Facts) Kept(since uint64) ledger.Kept { return f.Ledger().Kept(since) }

// Archived reports whether the room was archived.
func (f Facts) Archived() bool { return f.Ledger().Archived != 0 }

// Created is when the room was made, as its first entry claims.
func (f Facts) Created() time.Time { return f.Ledger().EpochAt(1).Time }

// Began is the entry with which what the room stores begins, and its time.
func (f Facts) Began() (at uint64, when time.Time) {
	l := f.Ledger()
	if at, when = l.Anew, l.AnewTime; when.IsZero() {
		when = l.EpochAt(at).Time
	}
	return at, when
}

// Joined is the entry by which somebody first became a member, and when that was at the earliest.
func (f Facts) Joined(sender crypto.PublicKey) (at uint64, when time.Time) {
	return f.Ledger().Joined(sender)
}

// Known reports whether somebody is or was a member.
func (f Facts) Known(key crypto.PublicKey) bool { return f.Ledger().Known(key) }

// Bygone reports whether what was sealed, or stored, at a time is of before an owner said that what the room had stored
// is gone: of what is left of it nothing need fit the log.
func (f Facts) Bygone(t time.Time) bool { return !t.IsZero() && t.Before(f.Ledger().AnewTime) }

// SinceAnew reports whether an entry is that with which the room began anew, or is behind it.
func (f Facts) SinceAnew(at uint64) bool {
	anew := f.Ledger().Anew
	return anew > 1 && at >= anew
}

// BeforeAnew reports whether an entry is before that with which the room began anew.
func (f Facts) BeforeAnew(at uint64) bool { return at < f.Ledger().Anew }
