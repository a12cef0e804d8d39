package pins

import (
	"slices"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
)

// TestForks: a proof stays as it is once it is known, and a person decides about all that are known of a room.
func TestForks(t *testing.T) {
	p := newPins(t)
	ctx, room := t.Context(), crypto.ID{1}
	bob, carol := crypto.PublicKey{1}, crypto.PublicKey{2}
	add := func(room crypto.ID, f Fork) {
		t.Helper()
		if err := p.Forks.Add(ctx, room, f); err != nil {
			t.Fatal(err)
		}
	}
	want := func(forks ...Fork) {
		t.Helper()
		if got, err := p.Forks.Of(ctx, room); err != nil || !slices.Equal(got, forks) {
			t.Errorf("known are %v, %v, want %v", got, err, forks)
		}
	}
	late, early := Fork{Sender: bob, At: 5, Head: [16]byte{5}}, Fork{Sender: carol, At: 4, Head: [16]byte{4}}
	want()
	add(room, late)
	add(room, early)
	add(room, late)
	add(crypto.ID{2}, late)
	want(early, late)
	if err := p.Forks.Settle(ctx, room); err != nil {
		t.Fatal(err)
	}
	settled := func(f Fork) Fork { f.Settled = true; return f }
	want(settled(early), settled(late))
	add(room, late)
	want(settled(early), settled(late)) // a known proof is no new one
	another := Fork{Sender: bob, At: 5, Head: [16]byte{6}}
	add(room, another)
	want(settled(early), settled(late), another)
	known := Fork{Sender: bob, At: 6, Settled: true}
	add(room, known)
	want(settled(early), settled(late), another, known) // one that is settled settles no other
	if other, err := p.Forks.Of(ctx, crypto.ID{2}); err != nil || !slices.Equal(other, []Fork{late}) {
		t.Errorf("of another room: %v, %v", other, err)
	}
}
