// Package patience says how long a client waits for what may still come, before it says that it is missing.
//
// They are variables only so that tests, whose servers do not lag and whose writers are gone, wait less.
package patience

import "time"

// GiveUp is how long a writer sends a frame again that nobody acknowledges.
const GiveUp = 30 * time.Second

// Turns is for how many timeouts something waits for its turn, behind others of the same identity.
const Turns = 12

var (
	// Gap is how long a frame ahead of a gap waits in a stored room, while its writer may send again what got no answer.
	Gap = GiveUp + 5*time.Second
	// Log is how long a frame waits that names an entry of the room's log which cannot be had.
	Log = 30 * time.Second
	// RolledBack is how long an end before what was read is asked for again.
	RolledBack = 5 * time.Second
)
