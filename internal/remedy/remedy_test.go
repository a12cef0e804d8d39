package remedy

import (
	"errors"
	"fmt"
	"testing"
)

// TestOf: the outermost remedy counts, an error keeps its text and its kinds, and most errors have none.
func TestOf(t *testing.T) {
	kind := errors.New("kind")
	inner := With(kind, Remedy{Kind: ListRooms})
	outer := With(fmt.Errorf("context: %w", inner), Remedy{Kind: LetIn, Room: "r"})
	for err, want := range map[error]Remedy{
		nil: {}, kind: {}, inner: {Kind: ListRooms}, fmt.Errorf("more: %w", inner): {Kind: ListRooms}, outer: {Kind: LetIn, Room: "r"},
	} {
		if got := Of(err); got != want {
			t.Errorf("%v: %+v, want %+v", err, got, want)
		}
	}
	if outer.Error() != "context: kind" || !errors.Is(outer, kind) {
		t.Errorf("%v", outer)
	}
}
