package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adrg/xdg"
)

// A bus within the test: commands run in this process, one after the other, each with an identity of its own, as they
// do in a shell. What only whole processes can show is in testdata/*.txt.

// testBus is a folder with identities and, once serve was called, a bus.
type testBus struct {
	t   *testing.T
	dir string
}

// newTestBus makes the folder, and has every setting begin from nothing.
func newTestBus(t *testing.T) *testBus {
	b := &testBus{t, t.TempDir()}
	b.cleanEnvironment()
	t.Setenv("UNIBUS_TIMEOUT", "20s") // for machines that are busy
	t.Setenv("GOMEMLIMIT", "1GiB")    // or commands would limit the memory of all tests
	t.Chdir(b.dir)
	return b
}

// cleanEnvironment unsets what would be a setting, and sets where files are.
func (b *testBus) cleanEnvironment() {
	b.t.Cleanup(xdg.Reload)
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "UNIBUS_") || name == "NATS_URL" {
			b.t.Setenv(name, "")
		}
	}
	for _, name := range []string{"XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"} {
		b.t.Setenv(name, filepath.Join(b.dir, strings.ToLower(name)))
	}
	b.t.Setenv("HOME", b.dir)
	xdg.Reload()
}

// path is that of a file in the folder.
func (b *testBus) path(name string) string { return filepath.Join(b.dir, name) }

// write makes a file in the folder.
func (b *testBus) write(name, text string) string {
	b.t.Helper()
	if err := os.MkdirAll(filepath.Dir(b.path(name)), 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(b.path(name), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return b.path(name)
}

// temp is an empty file to read from or write to.
func (b *testBus) temp(content string) *os.File {
	b.t.Helper()
	f, err := os.CreateTemp(b.t.TempDir(), "")
	if err == nil {
		_, err = f.WriteString(content)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { f.Close() })
	return f
}

// ended is how a command ended.
type ended struct {
	code     int
	out, err string
}

// exec runs a command as a user, with what it reads from stdin.
func (b *testBus) exec(user, stdin string, args ...string) ended {
	b.t.Helper()
	b.t.Setenv("UNIBUS_IDENTITY", b.path(user+".nk"))
	in, out, errOut := b.temp(stdin), b.temp(""), b.temp("")
	code := run(context.Background(), args, in, out, errOut)
	read := func(f *os.File) string {
		text, err := os.ReadFile(f.Name())
		if err != nil {
			b.t.Fatal(err)
		}
		return string(text)
	}
	return ended{code, read(out), read(errOut)}
}

// must runs a command that has to end with a code, and returns its stdout.
func (b *testBus) must(code int, user string, args ...string) string {
	b.t.Helper()
	e := b.exec(user, "", args...)
	if e.code != code {
		b.t.Fatalf("unibus %s: exit code %d instead of %d\n%s%s", strings.Join(args, " "), e.code, code, e.out, e.err)
	}
	return e.out
}

// serve starts a bus that ends with the test, has every command use it, and returns the ready line and what ends it
// earlier.
func (b *testBus) serve(args ...string) (ready string, stop func()) {
	b.t.Helper()
	b.t.Setenv("UNIBUS_IDENTITY", b.path("admin.nk"))
	b.t.Setenv("UNIBUS_SERVER", "")
	r, w, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int, 1)
	errOut := b.temp("")
	in := b.temp("")
	go func() {
		code := run(ctx, append([]string{"serve", "-o", "json", "--listen", "127.0.0.1:0"}, args...), in, w, errOut)
		w.Close()
		done <- code
	}()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			<-done
			r.Close()
		}
	}
	b.t.Cleanup(stop)
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		text, _ := os.ReadFile(errOut.Name())
		b.t.Fatalf("serve %s did not get ready:\n%s", strings.Join(args, " "), text)
	}
	var at struct{ Server string }
	if err := json.Unmarshal([]byte(line), &at); err != nil {
		b.t.Fatal(err)
	}
	b.t.Setenv("UNIBUS_SERVER", at.Server)
	return line, stop
}
