//go:build unix

package main

import "testing"

// TestClockIsFound holds that the program can still be built with a clock of its own: the line that is replaced is in
// client.go.
func TestClockIsFound(t *testing.T) {
	if _, err := withShiftedClock("../../client.go"); err != nil {
		t.Fatal(err)
	}
}
