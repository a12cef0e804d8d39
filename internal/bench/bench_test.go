package bench

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus"
)

const timeout = 20 * time.Second // for machines that are busy

// TestRun: every measurement has its rows, each of a kind that there is; all figures are more than nothing.
func TestRun(t *testing.T) {
	var begun, rows []string
	err := Run(t.Context(), Options{
		Dir: t.TempDir(), For: time.Minute, Count: 5, Size: 16, Timeout: timeout,
		Begin: func(p Progress) {
			if begun = append(begun, p.What); p.Number != len(begun) || p.Of != len(series()) {
				t.Errorf("%+v is the %dth", p, len(begun))
			}
		},
		Row: func(r Row) error {
			rows = append(rows, r.What+" "+r.Measure+" "+r.Unit)
			if r.Unibus <= 0 || r.Raw <= 0 || r.Ratio != r.Unibus/r.Raw {
				t.Errorf("%+v", r)
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if kinds := slices.Compact(begun); !slices.Equal(kinds, Kinds()) {
		t.Errorf("%v were measured", kinds)
	}
	want := `pub stored, one at a time /s; pub stored /s; pub live /s; sub what is stored /s; ` +
		`rtt stored, p50 ms; rtt stored, p99 ms; rtt live, p50 ms; rtt live, p99 ms; ` +
		`rekey 1 member, p50 ms; rekey 100 members, p50 ms; auth one login, p50 ms; auth 8 logins at once /s`
	if got := strings.Join(rows, "; "); got != want {
		t.Errorf("the rows are\n%s\nnot\n%s", got, want)
	}
}

// TestEnded: a run that is ended ends with that, and so does one whose rows nobody takes.
func TestEnded(t *testing.T) {
	nobody := errors.New("nobody reads it")
	ctx, cancel := context.WithCancel(t.Context())
	for want, o := range map[error]Options{
		context.Canceled: {Begin: func(p Progress) {
			if p.Number == 2 {
				cancel()
			}
		}, Row: func(Row) error { return nil }},
		nobody: {Begin: func(Progress) {}, Row: func(Row) error { return nobody }},
	} {
		run := t.Context()
		if want == context.Canceled {
			run = ctx
		}
		o.Dir, o.For, o.Count, o.Size, o.Timeout = t.TempDir(), time.Minute, 2, 1, timeout
		if err := Run(run, o); !errors.Is(err, want) {
			t.Errorf("%v instead of %v", err, want)
		}
		if err := os.RemoveAll(o.Dir); err != nil {
			t.Error(err)
		}
	}
	if err := Run(ctx, Options{Dir: t.TempDir(), Size: 1, Timeout: timeout}); !errors.Is(err, context.Canceled) {
		t.Errorf("a run that is ended before it began: %v", err)
	}
}

// TestTold: a measurement does not pass for one when what was sent is not there.
func TestTold(t *testing.T) {
	b, err := Start(t.Context(), t.TempDir(), 16, timeout)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	room, err := b.Room(t.Context(), "told", unibus.DefaultPolicy())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Stream(room)(t.Context(), UpTo(3)); err != nil {
		t.Fatal(err)
	}
	if err := b.ReadAll(room, 3)(t.Context(), UpTo(3)); err != nil {
		t.Error(err)
	}
	if err := b.ReadAll(room, 4)(t.Context(), UpTo(4)); err == nil || err.Error() != "read 3 messages of 4" {
		t.Errorf("a message that is not there: %v", err)
	}
	refused := errors.New("refused")
	if err := several(func() error { return refused })(t.Context(), UpTo(100)); err != refused {
		t.Errorf("logins that are refused: %v", err)
	}
	if err := b.Raw.streams.DeleteStream(t.Context(), storedStream); err != nil {
		t.Fatal(err)
	}
	if err := b.Raw.Stored(t.Context(), UpTo(1)); !errors.Is(err, jetstream.ErrNoStreamResponse) {
		t.Errorf("a message that is not stored: %v", err)
	}
}

// TestTurn: a turn ends when all is done or the time is over, but never before one thing is done.
func TestTurn(t *testing.T) {
	count := func(turn *turn) int {
		defer turn.end()
		for turn.more() {
		}
		return turn.done
	}
	if n := count(newTurn(t.Context(), 3, time.Hour)); n != 3 {
		t.Errorf("%d instead of 3", n)
	}
	late := newTurn(t.Context(), 1<<40, time.Nanosecond)
	if n := count(late); n < 1 || n == 1<<40 {
		t.Errorf("%d when the time is over", n)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if n := count(newTurn(ended, 1<<40, time.Hour)); n < 1 || n == 1<<40 {
		t.Errorf("%d in a run that is ended", n)
	}
	for _, c := range []struct{ count, size, want, rounds int }{
		{0, 1, mostMessages, 4}, {0, 1 << 20, 64, 4}, {0, 1 << 27, 1, 1}, {3, 1, 3, 3}, {1 << 20, 1, 1 << 20, 4},
	} {
		if o := (Options{Count: c.count, Size: c.size}); o.count() != c.want || o.rounds() != c.rounds {
			t.Errorf("%+v: %d in %d turns", c, o.count(), o.rounds())
		}
	}
}
