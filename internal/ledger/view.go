package ledger

import "github.com/unibus/unibus/internal/crypto"

// View is one change that an accepted entry makes to the views a store keeps: the record as it is
// from then on. It is a RoomView, EpochView, MemberView or UserView.
type View interface{ isView() }

// RoomView is a room's record as of an entry.
type RoomView struct {
	ID       crypto.ID
	Subject  string
	Creator  crypto.PublicKey
	Policy   Policy
	Epoch    uint32
	Seq      uint64 // the entry it is current up to
	Archived bool
}

// EpochView is an epoch's key commitment, and who made it.
type EpochView struct {
	Room   crypto.ID
	Epoch  uint32
	Commit crypto.Hash
	By     crypto.PublicKey
}

// MemberView is a member's role; empty when the membership ended.
type MemberView struct {
	Room     crypto.ID
	Endpoint crypto.PublicKey
	Role     Role
}

// UserView is a user's record.
type UserView struct{ User }

func (RoomView) isView()   {}
func (EpochView) isView()  {}
func (MemberView) isView() {}
func (UserView) isView()   {}

// Views returns the view changes of e, the entry that s was just brought to. Every store applies
// the same, so that views can be rebuilt from the log anywhere.
func (s *State) Views(e *Entry) []View {
	if s.Bus != nil {
		return s.Bus.views(e)
	}
	r := s.Room
	epoch := r.Epoch()
	views := []View{s.roomView()}
	if epoch.Seq == e.Seq && r.Policy.Encrypted() {
		views = append(views, EpochView{s.ID, epoch.Number, epoch.Commit, epoch.By})
	}
	for _, key := range e.Touches() {
		views = append(views, MemberView{s.ID, key, r.Role(key)})
	}
	return views
}

// roomView is the room's record as of the last entry.
func (s *State) roomView() RoomView {
	r := s.Room
	return RoomView{
		ID: s.ID, Subject: r.Subject, Creator: r.Creator(), Policy: r.Policy, Epoch: r.Epoch().Number,
		Seq: s.Head.Seq, Archived: r.Archived != 0,
	}
}

// AllViews returns the views of the whole log, as all its entries together made them.
func (s *State) AllViews() []View {
	var views []View
	if s.Bus != nil {
		for u := range s.Bus.Users {
			views = append(views, UserView{*u})
		}
		return views
	}
	r := s.Room
	views = append(views, s.roomView())
	for _, e := range r.Epochs {
		if r.Policy.Encrypted() {
			views = append(views, EpochView{s.ID, e.Number, e.Commit, e.By})
		}
	}
	for key, role := range r.members {
		views = append(views, MemberView{s.ID, key, role})
	}
	return views
}

// views are the records of the users whom an entry touches.
func (b *Bus) views(e *Entry) []View {
	var views []View
	for _, key := range e.Touches() {
		views = append(views, UserView{*b.users[key]})
	}
	return views
}
