package errlist

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/unibus/unibus/internal/remedy"
)

// TestJoin: what was joined comes apart again, through any number of steps, and is of all their kinds; errors that are
// joined or wrapped otherwise are one.
func TestJoin(t *testing.T) {
	one, two, three := errors.New("one"), remedy.With(errors.New("two"), remedy.Remedy{Kind: remedy.ListRooms}), errors.New("three")
	joined, wrapped := errors.Join(one, two), fmt.Errorf("all: %w", Join(one, two))
	for _, c := range []struct {
		err  error
		want []error
	}{
		{nil, nil}, {Join(), nil}, {Join(nil, nil), nil}, {Join(nil, one), []error{one}},
		{Join(Join(one, nil, two), three), []error{one, two, three}},
		{joined, []error{joined}}, {wrapped, []error{wrapped}},
	} {
		if got := Split(c.err); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v", c.err, got)
		}
	}
	all := Join(one, two)
	if !errors.Is(all, one) || remedy.Of(all).Kind != remedy.ListRooms || all.Error() != "one; two" {
		t.Errorf("%v", all)
	}
}
