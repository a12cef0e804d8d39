package host

import (
	"runtime"
	"testing"
)

// TestBoot: between two starts of the machine it has one name.
func TestBoot(t *testing.T) {
	before := Boot()
	if after := Boot(); after != before {
		t.Errorf("it is %q, and then %q", before, after)
	}
	if Boot() == "" && (runtime.GOOS == "linux" || runtime.GOOS == "darwin") {
		t.Error("it has no name")
	}
}
