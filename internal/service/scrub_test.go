package service

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/bus"
)

// told is what an operator who asks is told of the files.
func told(s *scrub) (status bus.Status) {
	s.tellOf(&status)
	return status
}

// brokenFiles is a server whose files cannot be read for some reason, or whose JetStream is off.
type brokenFiles struct {
	embedded
	why error
	off bool
}

func (b *brokenFiles) Scrub(ctx context.Context, names ...string) (map[string]bus.Lack, error) {
	if b.why != nil {
		return nil, b.why
	}
	return b.embedded.Scrub(ctx, names...)
}

func (b *brokenFiles) NeedsRestart() bool { return b.off }

// TestScrubsWhenAsked: files that were not read yet, or could not be, are read when an operator asks for them, and are not said
// to have been read before that; once they were read, nobody who asks has them read again.
func TestScrubsWhenAsked(t *testing.T) {
	_, n := inServers(t)
	defer n.Stop()
	server := &brokenFiles{embedded: n.server}
	s := newScrub(slog.New(slog.DiscardHandler), server)
	if status := told(s); !status.Reading() {
		t.Errorf("nothing was read, and it says %+v", status)
	}
	for _, step := range []struct {
		why    error
		off    bool
		looked bool
		says   string
		again  bool // whoever asks has it read again
	}{
		{errors.New("broken"), false, false, "broken", true},
		{nil, true, false, "JetStream is off", true},
		{nil, false, true, "", false},
		{errors.New("broken"), false, true, "broken", true},
	} {
		if len(s.asked) > 0 {
			if err := s.pause(t.Context(), time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		server.why, server.off = step.why, step.off
		told(s) // who asks while it is being read has not asked for another time
		s.round(t.Context())
		status := told(s)
		if status.Looked != step.looked || !strings.Contains(status.Unread, step.says) || step.says == "" && status.Unread != "" {
			t.Errorf("after %+v it says %+v", step, status)
		}
		if again := len(s.asked) > 0; again != step.again {
			t.Errorf("after %+v it is read again: %v", step, again)
		}
	}
}
