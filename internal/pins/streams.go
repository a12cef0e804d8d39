package pins

import (
	"context"
	"fmt"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// Streams are what was acknowledged of one's own streams, so that the next frame says how much of them there has to be.
type Streams struct{ db *database }

// Untold returns what is remembered of one's own streams in a room and was not told yet, without one of them; the
// longest remembered first, and no more than a frame tells of.
func (s Streams) Untold(ctx context.Context, room crypto.ID, without [16]byte) ([]crypto.Follows, error) {
	untold := row{
		"streams", fmt.Sprintf("the streams in room %s", room),
		`SELECT stream, frames, at, place, sealed FROM intact_streams WHERE room = ? AND stream <> ? ORDER BY written, stream LIMIT ?`,
		[]any{room[:], without[:], crypto.MaxFollows},
	}
	return list(ctx, s.db, untold, func(f *crypto.Follows) []any {
		return []any{sqlite.Blob(f.Stream[:]), &f.Frames, &f.At, &f.Place, &f.Sealed}
	})
}

// underWay is how long what is remembered of a stream that has not ended says that its writer may be sending more.
const underWay = time.Minute

// Stored remembers how much of one's own stream was acknowledged by now, and whether it has ended with that: nothing
// of it is on its way.
func (s Streams) Stored(ctx context.Context, room crypto.ID, f crypto.Follows, ended bool, now time.Time) error {
	err := s.db.write(ctx, lax, `
		INSERT INTO streams (room, stream, frames, at, place, sealed, ended, written) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET frames = excluded.frames, at = excluded.at, place = excluded.place, sealed = excluded.sealed, ended = excluded.ended,
			written = excluded.written`,
		room[:], f.Stream[:], f.Frames, f.At, f.Place, f.Sealed, ended, now.Unix())
	if err != nil {
		return fmt.Errorf("remember a stream in room %s: %w", room, failure(err))
	}
	return nil
}

// Told forgets what an acknowledged frame has told. What was acknowledged since is remembered, and so is a stream that
// may be under way: what of it is never acknowledged has to be told after what its writer sent behind that.
func (s Streams) Told(ctx context.Context, room crypto.ID, told []crypto.Follows, now time.Time) error {
	for _, f := range told {
		err := s.db.write(ctx, lax, `
			DELETE FROM streams WHERE room = ? AND stream = ? AND frames = ? AND (ended OR written NOT BETWEEN ? AND ?)`,
			room[:], f.Stream[:], f.Frames, now.Add(-underWay).Unix(), now.Add(underWay).Unix())
		if err != nil {
			return fmt.Errorf("forget a stream in room %s: %w", room, failure(err))
		}
	}
	return nil
}
