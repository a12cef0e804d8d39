package unibus_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/remedy"
)

// TestLogs: a log tells who did what, in order, as it was signed, with the names that people know.
func TestLogs(t *testing.T) {
	s := newStraight(t)
	bob := s.add("bob")
	r := s.room("ops")
	s.must(r.Invite(s.ctx, unibus.RoleReader, bob.Key()))
	entries, err := r.Log(s.ctx)
	s.must(err)
	var told []string
	for i, e := range entries {
		told = append(told, e.Name+" "+e.Op)
		if e.Seq != uint64(i+1) || e.By != s.aliceID.Key() || len(e.Statement) == 0 || len(e.Hash) != 64 || e.Body == nil {
			t.Errorf("%+v", e)
		}
	}
	if want := []string{"alice create", "alice invite"}; !slices.Equal(told, want) {
		t.Errorf("%q, want %q", told, want)
	}
	if !strings.Contains(entries[1].Summary, "bob") {
		t.Errorf("the second is told as %q", entries[1].Summary)
	}
	bus, err := s.alice.BusLog(s.ctx)
	s.must(err)
	if len(bus) != 2 || bus[0].Op != "found" || bus[1].Op != "add" {
		t.Errorf("%+v", bus)
	}
}

// told collects what a verification tells.
func told(findings *[]string) func(unibus.Notice) {
	return func(n unibus.Notice) {
		if n.Finding {
			*findings = append(*findings, string(n.Kind)+": "+n.Why)
		}
	}
}

// TestVerifyBus: what the store lists of users is held against the log, each of them.
func TestVerifyBus(t *testing.T) {
	for what, c := range map[string]struct {
		statement string // in the store's file; bob's key is its argument
		says      string
	}{
		"as it is":       {"", ""},
		"left out":       {`DELETE FROM users WHERE endpoint = ?`, "does not list bob"},
		"made an admin":  {`UPDATE users SET role = 'admin' WHERE endpoint = ?`, "record of bob is not what the log says"},
		"another's name": {`UPDATE users SET name = 'robert' WHERE endpoint = ?`, "record of bob is not what the log says"},
		"revoked":        {`UPDATE users SET active = 0, revoked = 1 WHERE endpoint = ?`, "record of bob is not what the log says"},
		"somebody more":  {`INSERT INTO users SELECT cast(CASE hex(substr(endpoint, 1, 1)) WHEN '07' THEN x'08' ELSE x'07' END || substr(endpoint, 2) AS BLOB), 'eve', role, active, expires, revoked, added, added_by FROM users WHERE endpoint = ?`, "the log does not"},
	} {
		t.Run(what, func(t *testing.T) {
			s := newStraight(t)
			bob := s.add("bob").Key()
			if c.statement != "" {
				s.exec(c.statement, bob[:])
			}
			var findings []string
			v, err := s.alice.VerifyBus(s.ctx, told(&findings))
			if v.ID != s.alice.Bus() || v.Entries != 2 || v.Users != 2 || v.Admins != 1 || len(v.Head) != 64 {
				t.Errorf("%+v", v)
			}
			if c.says == "" {
				if err != nil || v.Findings != 0 {
					t.Errorf("%v, %q", err, findings)
				}
				return
			}
			if !errors.Is(err, unibus.ErrIntegrity) || v.Findings != 1 || len(findings) != 1 || !strings.Contains(findings[0], c.says) {
				t.Errorf("%v, %d: %q, want %q", err, v.Findings, findings, c.says)
			}
		})
	}
}

// TestVerifyViews: what the store lists of a room is held against its log.
func TestVerifyViews(t *testing.T) {
	for what, c := range map[string]struct {
		statement string // in the store's file; the room's id is its argument
		says      []string
	}{
		"as it is":         {"", nil},
		"another epoch":    {`UPDATE rooms SET epoch = 7 WHERE id = ?`, []string{"record of the room is not what its log says"}},
		"archived":         {`UPDATE rooms SET archived = 1 WHERE id = ?`, []string{"record of the room is not what its log says"}},
		"a member's role":  {`UPDATE members SET role = 'admin' WHERE role = 'reader' AND room = ?`, []string{"does not list bob as reader"}},
		"a member missing": {`DELETE FROM members WHERE role = 'reader' AND room = ?`, []string{"does not list bob as reader"}},
		"a member more": {
			`INSERT INTO members SELECT room, cast(x'07' || substr(endpoint, 2) AS BLOB), role FROM members WHERE role = 'reader' AND room = ?`, []string{"the log does not"},
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := newStraight(t)
			r := s.room("ops")
			live := unibus.DefaultPolicy()
			live.Retain = nil
			s.must(r.SetPolicy(s.ctx, func(p *unibus.PolicyChange) { p.Policy = live }))
			s.must(r.Invite(s.ctx, unibus.RoleReader, s.add("bob").Key()))
			id := r.ID()
			if c.statement != "" {
				s.exec(c.statement, id[:])
			}
			var findings []string
			v, err := r.Verify(s.ctx, told(&findings))
			if v.ID != id || v.Subject != "ops" || v.Entries != 3 || int(v.Findings) != len(c.says) || len(findings) != len(c.says) || errors.Is(err, unibus.ErrIntegrity) != (len(c.says) > 0) {
				t.Errorf("%+v, %q, %v", v, findings, err)
			}
			for i, says := range c.says {
				if !strings.Contains(findings[i], says) {
					t.Errorf("%q, want %q", findings[i], says)
				}
			}
		})
	}
}

// TestAcceptNothing: a history is accepted only where two are known, and by enough of its hash.
func TestAcceptNothing(t *testing.T) {
	s := newStraight(t)
	r := s.room("ops")
	log, err := r.Log(s.ctx)
	s.must(err)
	s.must(r.Accept(s.ctx, unibus.AcceptHistory(log[0].Hash[:8]))) // the log ends so: there is nothing to settle
	s.fails(r.Accept(s.ctx, unibus.AcceptHistory("0123456789")), unibus.ErrNotFound, "no two histories", remedy.None)
	s.fails(r.Accept(s.ctx, unibus.AcceptHistory(log[0].Hash[:7])), unibus.ErrInvalid, "at least 8", remedy.None)
	s.fails(r.Accept(s.ctx, unibus.Acceptance{}), unibus.ErrInvalid, "neither", remedy.None)
}
