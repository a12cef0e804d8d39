package unibus

import (
	"time"

	"github.com/unibus/unibus/internal/patience"
)

// What real writers and servers may take, those of tests do not.
func init() {
	patience.Gap, patience.Log, patience.RolledBack = time.Second, time.Second, 100*time.Millisecond
}
