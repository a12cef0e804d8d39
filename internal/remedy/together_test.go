package remedy

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

// TestTogether: what was put together comes apart again, through any number of steps, and is of all their kinds; errors that are
// joined or wrapped otherwise are one.
func TestTogether(t *testing.T) {
	one, two, three := errors.New("one"), With(errors.New("two"), Remedy{Kind: ListRooms}), errors.New("three")
	joined, wrapped := errors.Join(one, two), fmt.Errorf("all: %w", Together(one, two))
	for _, c := range []struct {
		err  error
		want []error
	}{
		{nil, nil}, {Together(), nil}, {Together(nil, nil), nil}, {Together(nil, one), []error{one}},
		{Together(Together(one, nil, two), three), []error{one, two, three}},
		{joined, []error{joined}}, {wrapped, []error{wrapped}},
	} {
		if got := Apart(c.err); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v", c.err, got)
		}
	}
	all := Together(one, two)
	if !errors.Is(all, one) || Of(all).Kind != ListRooms || all.Error() != "one\ntwo" {
		t.Errorf("%v", all)
	}
}
