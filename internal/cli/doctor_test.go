package cli

import (
	"errors"
	"os"
	"testing"

	"github.com/unibus/unibus/internal/admin"
)

// TestDoctorLines: a check is one line, whatever told it, and the same failure is told once.
func TestDoctorLines(t *testing.T) {
	d := &doctor{a: newApp(os.Stdin, os.Stdout, os.Stderr)}
	d.add(admin.Check{Name: "database", Status: admin.Fail, Detail: "damaged: *** in database main ***\nTree 5\n"})
	d.failure("store", errors.New("damaged: *** in database main ***\nTree 5"))
	if len(d.checks) != 1 || d.checks[0].Detail != "damaged: *** in database main ***; Tree 5" {
		t.Errorf("%+v", d.checks)
	}
}
