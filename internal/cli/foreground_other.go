//go:build !unix

package cli

import "os"

// foreground reports whether this process may draw on a terminal: where there is no job control, always.
func foreground(*os.File) bool { return true }
