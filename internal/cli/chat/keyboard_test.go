//go:build !windows

package chat

import (
	"io"
	"os"
	"strings"
	"testing"
)

// TestGone: a terminal of which nothing more can be read says so, once there is nothing more; what is no file is left as it is.
func TestGone(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	gone := make(chan bool, 1)
	k := watched(in, func() { gone <- true })
	if _, err := out.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	if n, err := k.Read(make([]byte, 8)); n != 1 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	select {
	case <-gone:
		t.Error("it is gone while it is there")
	default:
	}
	out.Close()
	if _, err := k.Read(make([]byte, 8)); err != io.EOF {
		t.Error(err)
	}
	<-gone
	text := strings.NewReader("")
	if watched(text, nil) != io.Reader(text) {
		t.Error("what is no file is watched")
	}
}
