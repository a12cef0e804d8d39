package room_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/roomtest"
	"github.com/unibus/unibus/internal/store"
)

// TestWhoMayChange: what only those who manage a room may do is refused to a member, and to who is out of it, before any
// key is made; nobody without access to the bus changes anything.
func TestWhoMayChange(t *testing.T) {
	o := newTrio(t, live())
	dave := o.User("dave")
	for name, change := range map[string]func(room.Changes) error{
		"invite": func(c room.Changes) error { return c.Invite(o.Ctx, ledger.RoleMember, dave.Key()) },
		"kick":   func(c room.Changes) error { return c.Kick(o.Ctx, o.carol.Key()) },
		"rekey":  func(c room.Changes) error { return c.Rekey(o.Ctx) },
	} {
		refused(t, change(changes(o.member)), store.ErrDenied, remedy.AskOwner, "you are a member")
		refused(t, change(changes(o.reader)), store.ErrDenied, remedy.AskOwner, "you are a reader")
		if head := o.member.State().Head.Seq; head != 3 {
			t.Errorf("%s left the log at entry %d", name, head)
		}
	}
	refused(t, changes(o.member).SetPolicy(o.Ctx, func(*room.PolicyChange) {}), store.ErrDenied, remedy.AskOwner, "only an owner changes the policy")
	for name, err := range map[string]error{
		"the role":   changes(o.member).SetRole(o.Ctx, o.carol.Key(), ledger.RoleMember),
		"the policy": changes(o.member).SetPolicy(o.Ctx, func(p *room.PolicyChange) { p.Pad = true }),
		"the end":    changes(o.member).Archive(o.Ctx),
	} {
		if !errors.Is(err, store.ErrDenied) || remedy.Of(err).Kind != remedy.AskOwner {
			t.Errorf("a member changes %s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"cannot leave":      changes(o.owner).Leave(o.Ctx),
		"cannot be removed": changes(o.owner).Kick(o.Ctx, o.bob.Key(), o.owner.Key()),
		"must stay one":     changes(o.owner).SetRole(o.Ctx, o.owner.Key(), ledger.RoleAdmin),
	} {
		refused(t, err, store.ErrDenied, remedy.NameOwner, "the last owner "+name)
	}
	o.Must(changes(o.member).Leave(o.Ctx))
	refused(t, changes(o.member).Rekey(o.Ctx), store.ErrDenied, remedy.LetIn, "you are not a member")
	if err := changes(o.member).Leave(o.Ctx); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("who has left leaves: %v", err)
	}
	o.Revoke(o.carol.Key())
	o.carol.Self.Bus = o.Self.Bus // a revoked client is told nothing any more
	if err := changes(o.reader).Leave(o.Ctx); !errors.Is(err, roomtest.ErrExcluded) {
		t.Errorf("who lost access leaves: %v", err)
	}
}

// forgetful is a store that says that all logs but one end with their first entries.
type forgetful struct {
	store.Store
	but crypto.ID
}

func (s forgetful) Heads(ctx context.Context, logs ...crypto.ID) ([]ledger.Head, error) {
	heads, err := s.Store.Heads(ctx, logs...)
	for i, log := range logs {
		if err == nil && log != s.but {
			for e, err := range s.Entries(ctx, log, 0) {
				if err != nil {
					return nil, err
				}
				heads[i].Seq = 1
				if heads[i].Hash, err = crypto.HashStatement(e.Statement); err != nil {
					return nil, err
				}
				break
			}
		}
	}
	return heads, err
}

// TestChangeOfLostLog: a room whose log went back is not changed, and is named once.
func TestChangeOfLostLog(t *testing.T) {
	o := newTrio(t, live())
	o.Peer.Store = forgetful{o.Peer.Store, o.Node.Bus}
	err := changes(o.owner).Archive(o.Ctx)
	if !errors.Is(err, mirror.ErrRolledBack) || strings.Count(err.Error(), "room room") != 1 {
		t.Errorf("%v", err)
	}
}

// TestInviteAnew: where newcomers read nothing from before, the key that an invitation brings is everyone's.
func TestInviteAnew(t *testing.T) {
	o := newTrio(t, joined())
	for who, r := range map[string]*room.Room{"bob": o.member, "carol": o.reader} {
		if held, err := r.Keys.Get(o.Ctx, r.Ledger().Epochs, r.Ledger().Epoch().Number); err != nil || held == (crypto.RoomKey{}) {
			t.Errorf("%s: %v", who, err)
		}
	}
}

// TestInvite: members, strangers to the bus and those who never connected are not invited, and then nobody is.
func TestInvite(t *testing.T) {
	o := newTrio(t, live())
	invite := func(keys ...crypto.PublicKey) error {
		return changes(o.owner).Invite(o.Ctx, ledger.RoleMember, keys...)
	}
	dave, absent, stranger := o.User("dave"), o.Stranger('e').Key(), o.Stranger('f').Key()
	o.Allow(absent, "erin")
	refused(t, invite(o.bob.Key()), store.ErrExists, remedy.None, "bob: ", "in the room already")
	refused(t, invite(o.bob.Key(), dave.Key()), store.ErrExists, remedy.LeaveOut, "bob: ", "nobody was invited")
	refused(t, invite(stranger), store.ErrDenied, remedy.AllowUser, "not on the allowlist")
	refused(t, invite(dave.Key(), absent), store.ErrNotFound, remedy.PublishCard, "erin has not connected yet")
	alsoAbsent := o.Stranger('g').Key()
	o.Allow(alsoAbsent, "gina")
	refused(t, invite(alsoAbsent, dave.Key(), absent), store.ErrNotFound, remedy.PublishCard, "erin, gina have not connected yet")
	if head := o.owner.State().Head.Seq; head != 3 {
		t.Errorf("refused invitations left the log at entry %d", head)
	}
	frank := o.User("frank")
	o.Revoke(frank.Key())
	refused(t, invite(frank.Key()), store.ErrDenied, remedy.AllowFormer, "revoked at")
	o.Must(invite(dave.Key()))
	if r := dave.Open(o.owner.ID); r.Ledger().Role(dave.Key()) != ledger.RoleMember || r.Ledger().Epoch().Number != 1 {
		t.Errorf("dave is %q in epoch %d", r.Ledger().Role(dave.Key()), r.Ledger().Epoch().Number)
	}
}

// TestInviteIntoStale: a room that a member has left, or whose member lost access to the bus, has a new key, without them,
// before anybody is invited.
func TestInviteIntoStale(t *testing.T) {
	for name, end := range map[string]func(o *trio){
		"left":    func(o *trio) { o.Must(changes(o.member).Leave(o.Ctx)) },
		"revoked": func(o *trio) { o.Revoke(o.bob.Key()) },
	} {
		t.Run(name, func(t *testing.T) {
			o := newTrio(t, live())
			dave := o.User("dave")
			end(o)
			o.sync(o.owner)
			o.Must(changes(o.owner).Invite(o.Ctx, ledger.RoleMember, dave.Key()))
			r := dave.Open(o.owner.ID)
			at, _ := room.Facts{Room: r}.Joined(dave.Key())
			if epoch := r.Ledger().Epoch(); epoch.Number != 2 || epoch.Seq != at-1 || r.Ledger().Role(o.bob.Key()) != "" {
				t.Errorf("invited is at entry %d, into epoch %d of entry %d, with bob as %q", at, epoch.Number, epoch.Seq, r.Ledger().Role(o.bob.Key()))
			}
		})
	}
}

// TestJoined: where history is joined an invitation renews the key, and its newcomer reads nothing from before.
func TestJoined(t *testing.T) {
	o := newTrio(t, joined())
	if epochs := o.reader.Ledger().Epochs; len(epochs) != 3 {
		t.Fatalf("two invitations made %d epochs", len(epochs))
	}
	if _, err := o.reader.Keys.Get(o.Ctx, o.reader.Ledger().Epochs, 2); !errors.Is(err, room.ErrNoKey) {
		t.Errorf("a newcomer has the key of before: %v", err)
	}
	if holds, err := o.reader.HoldsKey(o.Ctx); err != nil || !holds {
		t.Errorf("a newcomer lacks the present key: %v", err)
	}
	if facts := (room.Facts{Room: o.reader}); facts.Owes(2) || facts.OwesAt(2) || !facts.Owes(3) {
		t.Error("the log owes a newcomer the keys of before, or not the present one")
	}
}

// TestKick: who is removed has no key of the epoch that its removal begins; who is no member is not removed.
func TestKick(t *testing.T) {
	o := newTrio(t, live())
	refused(t, changes(o.owner).Kick(o.Ctx, o.Stranger('x').Key()), store.ErrNotFound, remedy.ListMembers, "not a member")
	o.Must(changes(o.owner).Kick(o.Ctx, o.bob.Key()))
	epoch := o.owner.Ledger().Epoch()
	if epoch.Number != 2 {
		t.Errorf("the room is in epoch %d", epoch.Number)
	}
	if copies, err := o.bob.Store.Key(o.Ctx, o.owner.ID, 2, o.bob.Key()); err == nil {
		t.Errorf("there are %d copies of the new key for who was removed", len(copies))
	}
	o.sync(o.reader)
	if holds, err := o.reader.HoldsKey(o.Ctx); err != nil || !holds {
		t.Errorf("who stays lacks the new key: %v", err)
	}
}

// TestRevokedMember: who lost access to the bus is removed, with a new key, by the next who manages the room: when it
// freshens it, kicks another or renews the key. Who does not manage it changes nothing.
func TestRevokedMember(t *testing.T) {
	for name, change := range map[string]func(o *trio) error{
		"freshen": func(o *trio) error {
			did, err := changes(o.owner).Freshen(o.Ctx)
			if !did && err == nil {
				err = errors.New("there was nothing to do")
			}
			return err
		},
		"kick":  func(o *trio) error { return changes(o.owner).Kick(o.Ctx, o.carol.Key()) },
		"rekey": func(o *trio) error { return changes(o.owner).Rekey(o.Ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			o := newTrio(t, live())
			o.Revoke(o.bob.Key())
			o.sync(o.reader)
			if did, err := changes(o.reader).Freshen(o.Ctx); did || err != nil {
				t.Errorf("a reader freshens: %v, %v", did, err)
			}
			o.Must(change(o))
			if r := o.owner.Ledger(); r.Role(o.bob.Key()) != "" || r.Epoch().Number != 2 {
				t.Errorf("the revoked member is %q, in epoch %d", r.Role(o.bob.Key()), r.Epoch().Number)
			}
			if did, err := changes(o.owner).Freshen(o.Ctx); did || err != nil {
				t.Errorf("there is still something to freshen: %v, %v", did, err)
			}
		})
	}
}

// TestLeft: a room that somebody has left is rekeyed by the next who manages it.
func TestLeft(t *testing.T) {
	o := newTrio(t, live())
	o.Must(changes(o.member).Leave(o.Ctx))
	o.sync(o.owner)
	if did, err := changes(o.owner).Freshen(o.Ctx); !did || err != nil {
		t.Errorf("%v, %v", did, err)
	}
	if n := o.owner.Ledger().Epoch().Number; n != 2 {
		t.Errorf("the room is in epoch %d", n)
	}
}

// TestSetRole: a role that a member has already is no change; who is no member has none.
func TestSetRole(t *testing.T) {
	o := newTrio(t, live())
	refused(t, changes(o.owner).SetRole(o.Ctx, o.Stranger('x').Key(), ledger.RoleMember), store.ErrNotFound, remedy.ListMembers, "not a member")
	o.Must(changes(o.owner).SetRole(o.Ctx, o.carol.Key(), ledger.RoleReader))
	if head := o.owner.State().Head.Seq; head != 3 {
		t.Errorf("no change left the log at entry %d", head)
	}
	o.Must(changes(o.owner).SetRole(o.Ctx, o.carol.Key(), ledger.RoleMember))
	o.sync(o.reader)
	if _, _, err := o.reader.Writing(o.Ctx); err != nil {
		t.Errorf("a reader that became a member does not write: %v", err)
	}
}

// TestSetPolicy: another history renews the key, by a chain that leads back only where it was and is shared; anything
// else does not.
func TestSetPolicy(t *testing.T) {
	o := newTrio(t, live())
	set := func(edit func(p *room.PolicyChange)) { o.Must(changes(o.owner).SetPolicy(o.Ctx, edit)) }
	set(func(p *room.PolicyChange) { p.Pad = true })
	if p := o.owner.Ledger().Policy; !p.Pad || o.owner.Ledger().Epoch().Number != 1 {
		t.Errorf("%+v, epoch %d", p, o.owner.Ledger().Epoch().Number)
	}
	before := o.owner.State().Head
	set(func(p *room.PolicyChange) { p.Pad = true })
	if now := o.owner.State().Head; now != before {
		t.Errorf("what is so already is written: from %v to %v", before, now)
	}
	set(func(p *room.PolicyChange) { p.History = ledger.HistoryJoined })
	set(func(p *room.PolicyChange) { p.History = ledger.HistoryShared })
	o.Must(changes(o.owner).Rekey(o.Ctx))
	epochs := o.owner.Ledger().Epochs
	if len(epochs) != 4 || epochs[1].Previous != nil || epochs[2].Previous != nil || epochs[3].Previous == nil {
		t.Errorf("%d epochs, or the wrong ones lead back", len(epochs))
	}
}

// TestFacts: what a room's log says of missing frames follows its policy, and an owner's word that what was stored is
// gone.
func TestFacts(t *testing.T) {
	w := roomtest.New(t)
	r := w.Room("facts", ledger.DefaultPolicy())
	f := room.Facts{Room: r}
	if at, when := f.Began(); at != 1 || !when.Equal(f.Created()) || f.SinceAnew(1) || f.BeforeAnew(1) || f.Bygone(when.Add(-1)) {
		t.Errorf("a new room began at entry %d, %v", at, when)
	}
	if at, _ := f.Joined(w.Key()); at != 1 || !f.Known(w.Key()) || f.Known(w.Stranger('x').Key()) || f.Archived() {
		t.Errorf("its owner joined at entry %d", at)
	}
	if !f.StoredSince(1) || f.Kept(1).Age != 30*24*3600 {
		t.Errorf("it keeps %+v", f.Kept(1))
	}
	w.Must(changes(r).SetPolicy(w.Ctx, func(p *room.PolicyChange) { p.Retain = nil }))
	w.Must(changes(r).SetPolicy(w.Ctx, func(p *room.PolicyChange) { p.Retain, p.Anew = &ledger.Retain{Age: 60}, true }))
	if f.StoredSince(1) || !f.StoredSince(3) || f.Kept(1).Age != 60 {
		t.Errorf("it keeps %+v", f.Kept(1))
	}
	at, when := f.Began()
	if at != 3 || !f.BeforeAnew(2) || f.BeforeAnew(3) || !f.SinceAnew(3) || f.SinceAnew(2) || !f.Bygone(when.Add(-1)) || f.Bygone(when) || f.Bygone(time.Time{}) {
		t.Errorf("it began anew at entry %d", at)
	}
}

// TestAnewAtOnce: a room may begin anew with its second entry.
func TestAnewAtOnce(t *testing.T) {
	w := roomtest.New(t)
	r := w.Room("anew", ledger.DefaultPolicy())
	w.Must(changes(r).SetPolicy(w.Ctx, func(p *room.PolicyChange) { p.Anew = true }))
	if f := (room.Facts{Room: r}); !f.SinceAnew(2) || f.SinceAnew(1) || !f.BeforeAnew(1) || f.BeforeAnew(2) {
		t.Error("what it stores does not begin with that")
	}
}

// TestArchivedIsNotFreshened: of an archived room nobody is removed, and its key stays.
func TestArchivedIsNotFreshened(t *testing.T) {
	o := newTrio(t, live())
	o.Must(changes(o.owner).Archive(o.Ctx))
	o.Revoke(o.bob.Key())
	if did, err := changes(o.owner).Freshen(o.Ctx); did || err != nil {
		t.Errorf("%v, %v", did, err)
	}
}

// TestExpiredIsNotInvited: who has no access to the bus any more would wait for a key in vain.
func TestExpiredIsNotInvited(t *testing.T) {
	o := newTrio(t, live())
	dave := o.User("dave")
	past := crypto.Number(1)
	o.Must(o.Append(o.Self.Bus, &ledger.SetUsers{Users: []ledger.UserChange{{Key: dave.Key(), Expires: &past}}}))
	refused(t, changes(o.owner).Invite(o.Ctx, ledger.RoleMember, dave.Key()), store.ErrDenied, remedy.Extend, "their access expired at 1970-01-01")
}

// TestRemedies: in an archived room another one helps, whatever is refused there, but for what has a remedy of its own; what
// is no refusal has none.
func TestRemedies(t *testing.T) {
	o := newTrio(t, live())
	o.Must(changes(o.owner).Archive(o.Ctx))
	o.sync(o.member)
	refused(t, changes(o.owner).SetRole(o.Ctx, o.carol.Key(), ledger.RoleMember), store.ErrDenied, remedy.MakeOther, "archived")
	refused(t, changes(o.member).Kick(o.Ctx, o.carol.Key()), store.ErrDenied, remedy.AskOwner, "you are a member")
	refused(t, changes(o.owner).Kick(o.Ctx, o.Stranger('x').Key()), store.ErrNotFound, remedy.ListMembers)
}

// TestFreshMeanwhile: a room that another has freshened, or that this client manages no more, is not freshened once that is
// known; where there is nothing to do nobody is asked; and what fails is no success.
func TestFreshMeanwhile(t *testing.T) {
	o := newTrio(t, live())
	o.Must(changes(o.owner).SetRole(o.Ctx, o.bob.Key(), ledger.RoleAdmin))
	over, cancel := context.WithCancel(o.Ctx)
	cancel()
	if did, err := changes(o.owner).Freshen(over); did || err != nil {
		t.Errorf("a fresh room: %v, %v", did, err)
	}
	o.sync(o.reader)
	o.Must(changes(o.reader).Leave(o.Ctx))
	o.sync(o.owner, o.member)
	honest := o.Peer.Stage
	reason := errors.New("a reason")
	o.Peer.Stage = func(context.Context, *ledger.State, *ledger.Entry, *mirror.Key) error { return reason }
	if did, err := changes(o.owner).Freshen(o.Ctx); did || !errors.Is(err, reason) {
		t.Errorf("without a new key: %v, %v", did, err)
	}
	o.Peer.Stage = honest
	if did, err := changes(o.member).Freshen(o.Ctx); !did || err != nil {
		t.Errorf("a stale room: %v, %v", did, err)
	}
	if did, err := changes(o.owner).Freshen(o.Ctx); did || err != nil || o.owner.Ledger().Epoch().Number != 2 {
		t.Errorf("freshened meanwhile: %v, %v, epoch %d", did, err, o.owner.Ledger().Epoch().Number)
	}
	dave := o.User("dave")
	o.Must(changes(o.owner).Invite(o.Ctx, ledger.RoleMember, dave.Key()))
	o.Must(changes(dave.Open(o.owner.ID)).Leave(o.Ctx))
	o.sync(o.owner, o.member)
	o.Must(changes(o.owner).SetRole(o.Ctx, o.bob.Key(), ledger.RoleMember))
	if did, err := changes(o.member).Freshen(o.Ctx); did || err != nil {
		t.Errorf("by who manages it no more: %v, %v", did, err)
	}
	if did, err := changes(o.member).Freshen(over); did || err != nil {
		t.Errorf("by who manages it not: %v, %v", did, err)
	}
}

// TestPlainIsNotFreshened: a room without encryption has no key to renew, and nobody is removed there for it.
func TestPlainIsNotFreshened(t *testing.T) {
	o := newTrio(t, plain())
	o.Revoke(o.bob.Key())
	if did, err := changes(o.owner).Freshen(o.Ctx); did || err != nil || o.owner.Ledger().Role(o.bob.Key()) == "" {
		t.Errorf("%v, %v", did, err)
	}
}

// TestNobodyIsTold: of a new key that leaves nobody out people are not told.
func TestNobodyIsTold(t *testing.T) {
	o := newTrio(t, live())
	o.Self.Tell = func(format string, args ...any) { t.Errorf(format, args...) }
	o.Must(changes(o.owner).Rekey(o.Ctx))
}

// TestHandedOutBefore: a key that was handed out for an entry that did not come about then is no hindrance.
func TestHandedOutBefore(t *testing.T) {
	o := newTrio(t, live())
	honest := o.Peer.Stage
	o.Peer.Stage = func(ctx context.Context, after *ledger.State, e *ledger.Entry, k *mirror.Key) error {
		return errors.Join(honest(ctx, after, e, k), honest(ctx, after, e, k))
	}
	o.Must(changes(o.owner).Rekey(o.Ctx))
}
