package service

import (
	"testing"
	"time"
)

// TestCopying: who gets no further for so long lacks what it will not get; while it copies, or nobody leads, it is waited for.
func TestCopying(t *testing.T) {
	began := time.Unix(1e9, 0)
	c := copying{since: began}
	for _, step := range []struct {
		after time.Duration
		held  uint64
		unled bool
		ended bool
	}{
		{time.Second, 300, false, false},              // it has begun
		{copyWait, 350, false, false},                 // others store something
		{copyWait + 2*time.Second, 350, false, true},  // and that is all
		{copyWait + 3*time.Second, 500, false, false}, // it goes on after all
		{3 * copyWait, 500, true, false},              // nobody leads
		{9 * copyWait, 500, true, false},              // for as long as that is
		{9*copyWait + time.Second, 500, false, false}, // what it lacks is on its way
		{10*copyWait + time.Second, 500, false, true}, // it was not
	} {
		if ended := c.ended(step.held, step.unled, began.Add(step.after)); ended != step.ended {
			t.Errorf("after %v: %v", step.after, ended)
		}
	}
}
