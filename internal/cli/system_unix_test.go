//go:build unix

package cli

import (
	"os"
	"syscall"
)

// ownSession has a process run apart from the terminal.
var ownSession = &syscall.SysProcAttr{Setsid: true}

// signals are those that scripts send.
var signals = map[string]os.Signal{"INT": os.Interrupt, "TERM": syscall.SIGTERM, "KILL": os.Kill, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT}
