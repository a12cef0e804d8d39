package host

import "golang.org/x/sys/unix"

// Boot names what this machine has run through since it was started; empty where it has no name.
func Boot() string {
	id, _ := unix.Sysctl("kern.bootsessionuuid") // without it there is no name
	return id
}
