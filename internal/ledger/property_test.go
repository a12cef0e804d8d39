package ledger

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/unibus/unibus/internal/crypto"
)

// model is what a room folds to, kept the naive way.
type model struct {
	roles map[string]Role
	epoch uint32
}

func (m *model) owners() (n int) {
	for _, r := range m.roles {
		if r == RoleOwner {
			n++
		}
	}
	return n
}

// step draws one valid entry, and does to the model what it should do.
func (m *model) step(t *rapid.T, s *State) (by, op string, body any) {
	who := func(label string, ok func(name string) bool) string {
		var names []string
		for name := range people {
			if ok(name) {
				names = append(names, name)
			}
		}
		if len(names) == 0 {
			return ""
		}
		slices.Sort(names)
		return rapid.SampledFrom(names).Draw(t, label)
	}
	owner := who("owner", func(n string) bool { return m.roles[n] == RoleOwner })
	manager := who("manager", func(n string) bool { return m.roles[n].Manages() })
	switch rapid.SampledFrom([]string{"invite", "remove", "leave", "role", "rekey", "policy"}).Draw(t, "op") {
	case "invite":
		guest := who("guest", func(n string) bool { return m.roles[n] == "" })
		if guest == "" {
			break
		}
		role := rapid.SampledFrom([]Role{RoleMember, RoleReader}).Draw(t, "role")
		m.roles[guest] = role
		return manager, "invite", Invite{Members: []NewMember{{key(guest), role}}}
	case "remove":
		gone := who("gone", func(n string) bool { return m.roles[n] != "" && !m.roles[n].Manages() })
		if gone == "" {
			break
		}
		delete(m.roles, gone)
		m.epoch++
		return manager, "remove", Remove{Keys: []crypto.PublicKey{key(gone)}, Rekey: drawnRekey(s, "")}
	case "leave":
		gone := who("leaver", func(n string) bool { return m.roles[n] != "" && (m.roles[n] != RoleOwner || m.owners() > 1) })
		if gone == "" {
			break
		}
		delete(m.roles, gone)
		return gone, "leave", Leave{}
	case "role":
		subject := who("subject", func(n string) bool { return m.roles[n] != "" && (m.roles[n] != RoleOwner || m.owners() > 1) })
		if subject == "" {
			break
		}
		role := rapid.SampledFrom([]Role{RoleOwner, RoleAdmin, RoleMember, RoleReader}).Draw(t, "role")
		m.roles[subject] = role
		return owner, "role", MemberRole{Key: key(subject), Role: role}
	case "policy":
		p := s.Room.Policy
		p.Pad = !p.Pad
		return owner, "policy", SetPolicy{Policy: p}
	}
	m.epoch++
	return manager, "rekey", drawnRekey(s, "")
}

// TestHistories: random valid histories fold to what the model says, and no entry of one can be
// altered, left out, repeated or moved.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := new(State)
		m := &model{roles: map[string]Role{"alice": RoleOwner}, epoch: 1}
		log := [][]byte{sign(t, s, people["alice"], "create", drawnCreate([]string{"r"}), nil)}
		if _, err := apply(s, log[0]); err != nil {
			rt.Fatal(err)
		}
		for range rapid.IntRange(1, 12).Draw(rt, "length") {
			by, op, body := m.step(rt, s)
			log = append(log, sign(t, s, people[by], op, body, nil))
			if _, err := apply(s, log[len(log)-1]); err != nil {
				rt.Fatalf("%s %s: %v", by, op, err)
			}
		}
		want := map[crypto.PublicKey]Role{}
		for name, role := range m.roles {
			want[key(name)] = role
		}
		if !maps.Equal(want, s.Room.Members()) || s.Room.Epoch().Number != m.epoch {
			rt.Fatalf("%v epoch %d, the model says %v epoch %d", s.Room.Members(), s.Room.Epoch().Number, want, m.epoch)
		}
		i := rapid.IntRange(0, len(log)-1).Draw(rt, "victim")
		bad := slices.Clone(log)
		bad[i] = slices.Clone(log[i])
		at := rapid.IntRange(0, len(log[i])-1).Draw(rt, "byte")
		bad[i][at] ^= byte(1 << rapid.IntRange(0, 7).Draw(rt, "bit"))
		refuse(rt, bad, i, "altered")
		if i < len(log)-1 {
			refuse(rt, slices.Delete(slices.Clone(log), i, i+1), i, "left out")
			swapped := slices.Clone(log)
			swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
			refuse(rt, swapped, i, "swapped")
		}
		refuse(rt, slices.Insert(slices.Clone(log), i, log[i]), i+1, "repeated")
		refuse(rt, append(slices.Clone(log), log[i]), len(log), "replayed")
	})
}

// refuse checks that a log is refused at one entry, with the state before it intact.
func refuse(t *rapid.T, log [][]byte, at int, how string) {
	s, err := Verify(log)
	if err == nil || s.Head.Seq != uint64(at) {
		t.Fatalf("entry %d %s: refused at %d (%v)", at+1, how, s.Head.Seq+1, err)
	}
}

// TestFields: an entry of which one field says something else, signed by its author all the same,
// is refused or is another entry; it never passes for the first.
func TestFields(t *testing.T) {
	s := play(t, "alice create r\nalice invite bob:member carol:admin")
	k := drawnRekey(s, "")
	for name, body := range map[string]any{
		"epoch":    Remove{Keys: []crypto.PublicKey{key("bob")}, Rekey: &Rekey{Epoch: k.Epoch + 1, Commit: k.Commit, Previous: k.Previous}},
		"no epoch": Remove{Keys: []crypto.PublicKey{key("bob")}, Rekey: &Rekey{Commit: k.Commit, Previous: k.Previous}},
		"previous": Remove{Keys: []crypto.PublicKey{key("bob")}, Rekey: &Rekey{Epoch: k.Epoch, Commit: k.Commit, Previous: k.Previous[1:]}},
		"keys":     Remove{Keys: []crypto.PublicKey{key("bob"), key("bob")}, Rekey: k},
		"stranger": Remove{Keys: []crypto.PublicKey{key("dave")}, Rekey: k},
		"owner":    Remove{Keys: []crypto.PublicKey{key("alice")}, Rekey: k},
	} {
		if _, err := s.Check(sign(t, s, people["alice"], "remove", body, nil)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	good, err := s.Check(sign(t, s, people["alice"], "remove", Remove{Keys: []crypto.PublicKey{key("bob")}, Rekey: k}, nil))
	if err != nil {
		t.Fatal(err)
	}
	other, err := s.Check(sign(t, s, people["alice"], "remove", Remove{Keys: []crypto.PublicKey{key("bob")}, Rekey: &Rekey{Epoch: k.Epoch, Commit: crypto.Hash{1}, Previous: k.Previous}}, nil))
	if err != nil || other.Hash == good.Hash {
		t.Errorf("another commitment is the same entry: %v", err)
	}
}

func FuzzApply(f *testing.F) {
	s := new(State)
	for i, line := range []struct {
		by, op string
		body   any
	}{{"alice", "create", drawnCreate([]string{"r"})}, {"alice", "invite", Invite{Members: []NewMember{{key("bob"), RoleMember}}}}} {
		statement := sign(f, s, people[line.by], line.op, line.body, nil)
		f.Add(statement)
		if i == 0 {
			if _, err := apply(s, statement); err != nil {
				f.Fatal(err)
			}
		}
	}
	f.Add(sign(f, new(State), people["alice"], "found", Found{Name: "a", Key: key("alice")}, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, start := range []*State{new(State), s} {
			before := start.Head
			if e, err := start.Check(b); err == nil && e.Seq != before.Seq+1 {
				t.Fatalf("accepted as entry %d after %d", e.Seq, before.Seq)
			}
			// Past the signature: the same payload, signed by whom it names.
			if len(b) > 64 {
				_, _ = start.Check(people["alice"].Sign(crypto.KindEntry, b[64:]))
			}
			if start.Head != before {
				t.Fatal("Check changed the state")
			}
		}
		_, _, _, _ = Place(b)
	})
}

func FuzzSnapshot(f *testing.F) {
	s, err := Verify([][]byte{sign(f, new(State), people["alice"], "create", drawnCreate([]string{"r"}), nil)})
	if err != nil {
		f.Fatal(err)
	}
	good, err := s.Snapshot()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[:len(good)-len(withSum(nil))])
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := LoadSnapshot(withSum(bytes.Clone(b))); err == nil {
			if _, err := s.Snapshot(); err != nil {
				t.Fatal(err)
			}
			_ = fmt.Sprint(s.Head)
		}
	})
}
