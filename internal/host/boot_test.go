package host

import (
	"runtime"
	"testing"
)

// TestBoot: between two starts of the machine it has one name.
func TestBoot(t *testing.T) {
	if Boot() != Boot() {
		t.Error("it changes")
	}
	if Boot() == "" && (runtime.GOOS == "linux" || runtime.GOOS == "darwin") {
		t.Error("it has no name")
	}
}
