package unibus

import "time"

// What real writers and servers may take, those of tests do not.
func init() {
	giveUpAfter, parkedFor, rolledBack = time.Second, time.Second, 100*time.Millisecond
}
