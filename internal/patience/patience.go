// Package patience has the times that a client waits for something that may still come, before it gives up or says that
// it is missing. They stand in one place because they depend on each other: a reader waits for a gap longer than a writer
// goes on sending again what would fill it.
//
// Those that only a reader uses are variables, so that tests, whose servers do not lag and whose writers are gone, wait
// less. Nothing else may set them. What happens when the time is over is left to who waits.
package patience

import "time"

// GiveUp is how long a writer goes on sending a frame that nobody acknowledges.
const GiveUp = 30 * time.Second

// Turns is how long something waits for its turn behind others of the same identity, as a multiple of the timeout that
// each of these has.
const Turns = 12

var (
	// Gap is how long, in a stored room, a frame waits for one that is missing before it: for as long as its writer may
	// still be sending that again, and a little more.
	Gap = GiveUp + 5*time.Second
	// Log is how long a frame waits for the entry of the room's log that its header names (SPEC.md §6), while that cannot be
	// read yet.
	Log = 30 * time.Second
	// RolledBack is how long a reader goes on asking where a stream ends that seems to end before what was read of it: the
	// answer may come from a server that is behind.
	RolledBack = 5 * time.Second
)
