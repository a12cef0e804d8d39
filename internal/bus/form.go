package bus

import (
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// This file compares a stream with the form that it has to have, for whoever makes streams so (Conform) and whoever only
// looks at them.

// Deviations names what of a stream is not as its form (StreamForm) says, as the server's settings are
// called. The number of copies is the operator's choice.
func Deviations(is, form jetstream.StreamConfig) (names []string) {
	for _, d := range []struct {
		name string
		same bool
	}{
		{"subjects", slices.Equal(is.Subjects, form.Subjects)},
		{"persist_mode", is.PersistMode == form.PersistMode},
		{"storage", is.Storage == form.Storage},
		{"discard", is.Discard == form.Discard},
		{"max_age", is.MaxAge == form.MaxAge},
		{"max_bytes", is.MaxBytes == form.MaxBytes},
		{"duplicate_window", is.Duplicates == form.Duplicates},
		{"allow_direct", is.AllowDirect == form.AllowDirect || is.AllowDirect && !form.AllowDirect}, // more than is needed
		{"republish", sameRePublish(is.RePublish, form.RePublish)},
		{"no_ack", is.NoAck == form.NoAck},
		{"sealed", is.Sealed == form.Sealed},
	} {
		if !d.same {
			names = append(names, d.name)
		}
	}
	return names
}

// sameRePublish reports whether both are none, or alike.
func sameRePublish(a, b *jetstream.RePublish) bool {
	return a == b || a != nil && b != nil && *a == *b
}
