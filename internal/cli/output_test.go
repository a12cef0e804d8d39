package cli

import (
	"bufio"
	"bytes"
	"testing"
)

// TestStatus: a line that says how far something is stays below what is printed meanwhile, fits, and is gone at the end.
func TestStatus(t *testing.T) {
	var b bytes.Buffer
	o := &output{Writer: bufio.NewWriter(&b)}
	o.setStatus("half")
	o.print("a notice\n")
	o.setStatus("nearly")
	o.setStatus("")
	o.print("done\n")
	o.width = 8
	o.setStatus("much longer than that")
	const erase = "\r\x1b[K"
	if want := "half" + erase + "a notice\nhalf" + erase + "nearly" + erase + "done\nmuch lo"; b.String() != want {
		t.Errorf("%q instead of %q", b.String(), want)
	}
}
