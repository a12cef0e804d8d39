package jetstream

import (
	"context"
)

// This file looks whether the servers can read all that they keep.

// checkTries is how often a bucket is read again that seems to lack something: copies of keys that nobody used are
// removed at times.
const checkTries = 3

// CheckRecords reads all that there is, and returns ErrDamaged when a server cannot: in a listing what it cannot read is
// left out without a word.
func (i *inventory) CheckRecords(ctx context.Context) error {
	for _, b := range i.all() {
		for try := 1; ; try++ {
			whole, err := i.readable(ctx, b)
			if err != nil {
				return failure(err)
			}
			if whole {
				break
			}
			if try == checkTries {
				return b.damaged()
			}
		}
	}
	return nil
}

// readable reports whether as many keys can be read as the bucket has. It holds those in memory that are written
// meanwhile.
func (i *inventory) readable(ctx context.Context, b *bucket) (bool, error) {
	op, cancel := i.op(ctx)
	defer cancel()
	if _, err := b.index(op); err != nil { // so that there is a barrier's key
		return false, err
	}
	stream, err := i.js.Stream(op, b.stream)
	if err != nil {
		return false, err
	}
	before := stream.CachedInfo().State
	found, again := uint64(1), map[string]bool{}
	all := false
	for after := uint64(0); !all; {
		var a answer
		if a, all, err = b.page(ctx, after, 0); err != nil {
			return false, err
		}
		for _, r := range a.records {
			if r.rev <= before.LastSeq {
				found++
			} else {
				again[r.key] = true
			}
		}
		after = a.last
	}
	return found+uint64(len(again)) >= before.NumSubjects, nil
}
