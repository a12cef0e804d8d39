package chat

import (
	"io"
	"os"
	"runtime"
)

// keyboard is a terminal that says when nothing more can be read from it: one that is gone without a signal, since the
// process does not listen to that, or another has it, would leave a chat that nobody can end.
type keyboard struct {
	*os.File // what else it is to whoever asks
	gone     func()
}

// watched has gone called when the terminal is gone, if it is one. On Windows consoles are not files to be read.
func watched(in io.Reader, gone func()) io.Reader {
	if f, ok := in.(*os.File); ok && runtime.GOOS != "windows" {
		return keyboard{f, gone}
	}
	return in
}

// Read is the file's.
func (k keyboard) Read(p []byte) (int, error) {
	n, err := k.File.Read(p)
	if err != nil {
		k.gone()
	}
	return n, err
}
