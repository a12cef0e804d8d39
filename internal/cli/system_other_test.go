//go:build !unix

package cli

import (
	"os"
	"syscall"
)

// ownSession leaves a process as it is, where there are no sessions.
var ownSession *syscall.SysProcAttr

// signals are those that there are everywhere.
var signals = map[string]os.Signal{"INT": os.Interrupt, "KILL": os.Kill}
