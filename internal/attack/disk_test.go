package attack

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/service"
	"github.com/unibus/unibus/internal/store"
)

// teller hands on what a server says.
type teller chan string

func (t teller) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (t teller) WithAttrs([]slog.Attr) slog.Handler               { return t }
func (t teller) WithGroup(string) slog.Handler                    { return t }
func (t teller) Handle(_ context.Context, r slog.Record) error {
	select {
	case t <- r.Message:
	default:
	}
	return nil
}

// says waits until a server says something.
func (s *site) says(t teller, what string) {
	s.Helper()
	deadline := time.After(soon)
	for {
		select {
		case text := <-t:
			if strings.Contains(text, what) {
				return
			}
		case <-deadline:
			s.Fatalf("the server does not say %q", what)
		}
	}
}

// damaged stops the servers, changes their file past everything that guards it, and starts them anew. What they say
// then can be waited for, unless they do not start.
func (s *site) damaged(damage string, args ...any) (teller, error) {
	s.Helper()
	s.stop()
	s.exec(damage, args...)
	tell := make(teller, 64)
	return tell, s.launch(tell)
}

// revokedMallory is a scene with a room that has something in it, where someone was allowed and revoked again.
func revokedMallory(t *testing.T) (s *scene, room *unibus.Room, mallory *person) {
	t.Helper()
	s = served(t)
	room, _ = s.share("damaged")
	s.say(room, "kept")
	mallory = s.join("mallory")
	s.must(s.alice.RevokeUsers(s.ctx, "", mallory.Key()))
	return s, room, mallory
}

// TestDamagedLists: bits of what the store lists flip, where no checksum is. What was signed counts: nobody who was
// revoked is back, nobody loses a room, and the operator is told.
func TestDamagedLists(t *testing.T) {
	s, _, mallory := revokedMallory(t)
	key := mallory.Key()
	tell, err := s.damaged(`UPDATE users SET active = 1 WHERE endpoint = ?`, key[:])
	s.must(err)
	s.says(tell, "the store lists of users was not what the log says")
	if _, err := unibus.Connect(s.ctx, unibus.Options{Identity: mallory.id, StateDir: t.TempDir(), Server: s.url, Timeout: time.Second}); err == nil {
		t.Error("who was revoked is back")
	}

	for _, damage := range []string{`UPDATE rooms SET epoch = epoch + 1`, `UPDATE rooms SET policy = '{}'`, `UPDATE rooms SET policy = json_set(policy, '$.retain.bytes', 1)`, `DELETE FROM members`, `UPDATE epochs SET commitment = zeroblob(32)`} {
		tell, err = s.damaged(damage)
		s.must(err)
		s.says(tell, "the store lists of a room was not what the log says")
		s.reads(s.bob.id, "damaged", "kept")
	}
	for _, damage := range []string{`UPDATE rooms SET id = zeroblob(20)`, `UPDATE users SET active = 0`, `DELETE FROM users`, `UPDATE members SET room = zeroblob(20)`} {
		tell, err = s.damaged(damage)
		s.must(err)
		s.says(tell, "the store lists of users was not what the log says")
		mine, err := s.open(&person{id: s.bob.id, state: "bob"}).ListMyRooms(s.ctx)
		s.must(err)
		if len(mine) != 1 || mine[0].Role != unibus.RoleMember {
			t.Errorf("%s: bob's rooms are %v", damage, mine)
		}
	}
}

// TestDamagedStore: bits of a log flip, and files of the store are lost. No second bus is founded, and whoever is
// concerned is told.
func TestDamagedStore(t *testing.T) {
	s, alices, _ := revokedMallory(t)
	room, busID := alices.ID(), s.alice.Bus()
	flip := `UPDATE entries SET statement = CAST(substr(statement, 1, 80) || x'00' || substr(statement, 82) AS BLOB) WHERE log = ? AND seq = 1`
	s.stop()
	heads := filepath.Join(s.dir, "heads."+service.SQLiteFile)
	s.must(os.Remove(heads))
	tell := make(teller, 64)
	s.must(s.launch(tell))
	s.says(tell, "nothing says what was acknowledged of some logs")
	if anew, err := os.Stat(heads); err != nil || anew.Size() == 0 {
		t.Errorf("it is not recorded: %v", err)
	}

	tell, err := s.damaged(flip, room[:])
	s.must(err)
	s.says(tell, "a room's log is damaged")
	p := s.open(&person{id: s.bob.id, state: "anew"})
	if _, err := p.Room(s.ctx, room.String()); !errors.Is(err, unibus.ErrIntegrity) || errors.Is(err, unibus.ErrUnavailable) {
		t.Errorf("whoever wants the room is told %v", err)
	}

	if _, err = s.damaged(flip, busID[:]); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("with a damaged allowlist: %v", err)
	}
	left, err := filepath.Glob(s.file() + "*")
	s.must(err)
	for _, name := range append(left, service.MarksFile(s.dir)) {
		s.must(os.Remove(name))
	}
	if err := s.launch(slog.DiscardHandler); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("beside the streams of another bus: %v", err)
	}
}
