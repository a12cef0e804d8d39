package ledger

import (
	"maps"
	"reflect"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
)

// viewed is what views say, as a store has it that was given them.
type viewed struct {
	rooms   map[crypto.ID]RoomView
	members map[crypto.PublicKey]Role
	epochs  map[uint32]crypto.Hash
	users   map[crypto.PublicKey]UserView
}

func newViewed() *viewed {
	return &viewed{map[crypto.ID]RoomView{}, map[crypto.PublicKey]Role{}, map[uint32]crypto.Hash{}, map[crypto.PublicKey]UserView{}}
}

func (w *viewed) add(views []View) {
	for _, v := range views {
		v.isView()
		switch v := v.(type) {
		case RoomView:
			w.rooms[v.ID] = v
		case MemberView:
			if delete(w.members, v.Endpoint); v.Role != "" {
				w.members[v.Endpoint] = v.Role
			}
		case EpochView:
			w.epochs[v.Epoch] = v.Commit
		case UserView:
			w.users[v.Key] = v
		}
	}
}

// viewsOf plays a log, and returns the views of its entries, one after the other. Those of the whole log have to be the
// same, and every entry has to be read again as what it was.
func viewsOf(t *testing.T, log string) (*State, *viewed) {
	t.Helper()
	each, all := newViewed(), newViewed()
	s := watch(t, log, func(s *State, e *Entry) {
		each.add(s.Views(e))
		again, err := s.Read(e.Statement)
		if err != nil || again.Op != e.Op || again.By != e.By || again.Log != s.ID || !reflect.DeepEqual(again.Body, e.Body) {
			t.Errorf("entry %d read again: %+v, %v", e.Seq, again, err)
		}
		if _, err := s.Read(e.Statement[1:]); err == nil {
			t.Errorf("entry %d cut short is read", e.Seq)
		}
	})
	if all.add(s.AllViews()); !reflect.DeepEqual(all, each) {
		t.Errorf("all views of the log: %+v, those of its entries: %+v", all, each)
	}
	return s, each
}

// TestViews: the views of every entry, one after the other, are those of the whole log.
func TestViews(t *testing.T) {
	t.Run("of a room", func(t *testing.T) {
		r, got := viewsOf(t, `
			alice create r
			alice invite bob:admin carol:member
			bob   rekey
			alice role carol:reader
			carol leave
			alice remove bob rekey
			alice policy pad
			alice archive
		`)
		v := got.rooms[r.ID]
		if v.Subject != "r" || v.Creator != key("alice") || v.Epoch != 3 || v.Seq != r.Head.Seq || !v.Archived || !v.Policy.Pad || !v.Policy.Stored() {
			t.Errorf("%+v", v)
		}
		if !maps.Equal(got.members, r.Room.Members()) {
			t.Errorf("members %v", got.members)
		}
		if len(got.epochs) != 3 || got.epochs[3] != r.Room.Epoch().Commit {
			t.Errorf("epochs %v", got.epochs)
		}
	})
	t.Run("of a room without keys", func(t *testing.T) {
		if _, got := viewsOf(t, "alice create r none\nalice invite bob:member"); len(got.epochs) != 0 || len(got.members) != 2 {
			t.Errorf("epochs %v, members %v", got.epochs, got.members)
		}
	})
	t.Run("of a bus", func(t *testing.T) {
		b, got := viewsOf(t, "alice found alice\nalice add bob:user carol:admin\nalice user bob:admin\ncarol revoke alice")
		if len(got.users) != 3 || got.users[key("alice")].Active || got.users[key("bob")].Role != RoleAdmin || b.Bus.Name != "alice" {
			t.Errorf("users %v", got.users)
		}
	})
}
