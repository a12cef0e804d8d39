package host

import (
	"bytes"
	"os"
)

// Boot names what this machine has run through since it was started; empty where it has no name.
func Boot() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // without it there is no name
	return string(bytes.TrimSpace(id))
}
