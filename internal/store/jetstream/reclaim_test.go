package jetstream

import (
	"errors"
	"slices"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/store"
)

// TestReclaim: a room whose subject a disk has lost, alone or with everything that was listed, is behind, and has its
// subject back when it is healed: nobody else can take it.
func TestReclaim(t *testing.T) {
	t.Parallel()
	for _, lost := range []string{"its subject", "all that is listed of rooms"} {
		t.Run(lost, func(t *testing.T) {
			t.Parallel()
			_, s, bus := alone(t)
			state, create := newRoom(t, bus, "taken")
			must(t, s.Append(t.Context(), create))
			other, another := newRoom(t, bus, "other")
			must(t, s.Append(t.Context(), another))
			rooms, err := s.js.Stream(t.Context(), s.rooms.stream)
			must(t, err)
			var only []jetstream.StreamPurgeOpt
			if lost == "its subject" {
				only = append(only, jetstream.WithPurgeSubject(s.rooms.prefix+subjectKey("taken")))
			}
			must(t, rooms.Purge(t.Context(), only...))

			behind, err := s.Behind(t.Context())
			if err != nil || !slices.Contains(behind, state.ID) || slices.Contains(behind, other.ID) != (only == nil) {
				t.Fatalf("behind are %v, %v", behind, err)
			}
			for _, log := range behind {
				must(t, s.Heal(t.Context(), log))
				must(t, s.Heal(t.Context(), log)) // what is in order stays so
			}
			if r, err := s.RoomBySubject(t.Context(), "taken"); err != nil || r.ID != state.ID {
				t.Errorf("its subject means %+v, %v", r, err)
			}
			if behind, err := s.Behind(t.Context()); err != nil || len(behind) > 0 {
				t.Errorf("behind are still %v, %v", behind, err)
			}
			_, thief := newRoom(t, bus, "taken")
			if err := s.Append(t.Context(), thief); !errors.Is(err, store.ErrExists) {
				t.Errorf("another takes its subject: %v", err)
			}
		})
	}
}
