//go:build !linux && !darwin

package host

// Boot is empty: what this machine has run through since it was started has no name here.
func Boot() string { return "" }
