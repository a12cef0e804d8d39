package storetest

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// This file is for tests that kill a process, to see what it leaves.

// KillSelf kills the test's process as SIGKILL does, for a test that runs itself again by Killed.
func KillSelf() {
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Kill()
	}
	select {}
}

// Killed runs one test again, in a process of its own with more environment, and reports whether it was
// killed; it must not fail otherwise.
func Killed(t *testing.T, test string, env ...string) bool {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$")
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	if err != nil && !killed {
		t.Fatalf("%v\n%s", err, out)
	}
	return killed
}
