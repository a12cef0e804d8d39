package room_test

import (
	"testing"
	"time"

	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/store"
)

// TestRenew: a key that has outlived its policy is renewed by who manages the room; a member is told so once an epoch,
// and writes no more under it when it is a quarter beyond (SPEC.md §6).
func TestRenew(t *testing.T) {
	policy := live()
	policy.RekeyAfter.Age = 1000
	o := newTrio(t, policy)
	told := 0
	o.bob.Self.Tell = func(string, ...any) { told++ }
	at := func(age time.Duration) {
		now := func() time.Time { return o.owner.Ledger().Epoch().Time.Add(age * time.Second) }
		o.Self.Now, o.bob.Self.Now = now, now
	}
	at(1000)
	o.Must(changes(o.member).Renew(o.Ctx))
	o.Must(changes(o.owner).Renew(o.Ctx))
	if n := o.owner.Ledger().Epoch().Number; told != 0 || n != 1 {
		t.Errorf("a key within its policy: told %d times, epoch %d", told, n)
	}
	at(1001)
	for range 3 {
		o.Must(changes(o.member).Renew(o.Ctx))
	}
	if told != 1 {
		t.Errorf("a member is told %d times", told)
	}
	at(1251)
	refused(t, changes(o.member).Renew(o.Ctx), store.ErrDenied, remedy.RenewKey, "older, or was used more")
	o.Must(changes(o.owner).Renew(o.Ctx))
	if n := o.owner.Ledger().Epoch().Number; n != 2 {
		t.Errorf("its owner leaves it in epoch %d", n)
	}
}

// TestRenewByMessages: messages of the newest epoch count, and only those.
func TestRenewByMessages(t *testing.T) {
	policy := live()
	policy.RekeyAfter.Messages = 8
	o := newTrio(t, policy)
	o.owner.Used.Add(1, 8)
	o.Must(changes(o.owner).Renew(o.Ctx))
	if n := o.owner.Ledger().Epoch().Number; n != 1 {
		t.Errorf("within its policy the room is in epoch %d", n)
	}
	o.owner.Used.Add(1, 1)
	o.Must(changes(o.owner).Renew(o.Ctx))
	if n := o.owner.Ledger().Epoch().Number; n != 2 {
		t.Errorf("beyond it the room is in epoch %d", n)
	}
	o.member.Used.Add(1, 11)
	refused(t, changes(o.member).Renew(o.Ctx), store.ErrDenied, remedy.RenewKey)
}

// TestUsage: what is counted of an epoch is forgotten with the next, and an earlier one counts no more.
func TestUsage(t *testing.T) {
	var u room.Usage
	u.Add(2, 3)
	u.Add(1, 5)
	u.Add(2, 1)
	if u.Of(2) != 4 || u.Of(1) != 0 {
		t.Errorf("%d of epoch 2, %d of epoch 1", u.Of(2), u.Of(1))
	}
	u.Add(3, 1)
	if u.Of(3) != 1 || u.Of(2) != 0 {
		t.Errorf("%d of epoch 3, %d of epoch 2", u.Of(3), u.Of(2))
	}
}
