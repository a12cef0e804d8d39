package bus

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/unibus/unibus/internal/store"
)

// TestRefuseWrites: publishers are answered at once, with a kind they can act on.
func TestRefuseWrites(t *testing.T) {
	s, js := begin(t)
	publish := func() error {
		_, err := js.Publish(t.Context(), "s", []byte("text"))
		return failure(err)
	}
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.RefuseWrites(true); err != nil {
			t.Fatal(err)
		}
		if err := publish(); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("refused with %v", err)
		}
		if err := s.RefuseWrites(false); err != nil {
			t.Fatal(err)
		}
		if err := publish(); err != nil {
			t.Errorf("taken again: %v", err)
		}
	}
}

// TestRestartJetStream: what was stored is there, writes go on, and the connections stay.
func TestRestartJetStream(t *testing.T) {
	s, js := begin(t)
	if _, err := js.Publish(t.Context(), "s", []byte("before")); err != nil {
		t.Fatal(err)
	}
	s.signs.read("Critical write error: write 1.blk: no space left on device")
	select {
	case <-s.Trouble():
	default:
		t.Error("nobody is told")
	}
	if !s.NeedsRestart() || s.OutOfFiles() {
		t.Error("the sign is not read")
	}
	if err := s.RefuseWrites(true); err != nil {
		t.Fatal(err)
	}
	if err := s.RestartJetStream(); err != nil {
		t.Fatal(err)
	}
	if s.NeedsRestart() {
		t.Error("it needs another restart")
	}
	ack, err := js.Publish(t.Context(), "s", []byte("after"))
	if err != nil || ack.Sequence != 2 {
		t.Errorf("%+v, %v", ack, err)
	}
}

func TestSigns(t *testing.T) {
	for line, want := range map[string][2]bool{
		"JetStream out of File resources, will be DISABLED":                              {true, false},
		"Filestore [S] Critical write error: no space left on device":                    {true, false},
		"Filestore [S] Critical write error: open 1.blk: too many open files":            {true, true},
		"Temporary Client Accept Error(accept: too many open files), sleepin":            {false, true},
		"JetStream failed to store a msg on stream 'S': open 1.blk: too many open files": {false, false},
		"JetStream resource limits exceeded for account":                                 {false, false},
	} {
		s := &Server{signs: newSigns()}
		s.signs.read(line)
		if got := [2]bool{s.NeedsRestart(), s.OutOfFiles()}; got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}

func TestExposed(t *testing.T) {
	for _, c := range []struct {
		o    server.Options
		want string
	}{
		{server.Options{Host: "127.0.0.1", Port: 1}, ""},
		{server.Options{Host: "10.0.0.1", Port: 1}, "10.0.0.1:1"},
		{server.Options{Host: "0.0.0.0", Port: 1, TLSConfig: new(tls.Config)}, ""},
	} {
		if got := (&Server{opts: &c.o}).Exposed(); got != c.want {
			t.Errorf("%s: %q", c.o.Host, got)
		}
	}
}

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1": true, "::1": true, "localhost": true, "": false, "0.0.0.0": false, "::": false, "10.0.0.1": false, "example.org": false,
	} {
		if Loopback(host) != want {
			t.Errorf("%q", host)
		}
	}
}

// TestStopWhileClientsCome: the library ends the process if a login has to be asked about once the server
// has begun to stop, so none may come in by then.
func TestStopWhileClientsCome(t *testing.T) {
	const clients, stops = 32, 2
	for range stops {
		s, _ := begin(t)
		address := strings.TrimPrefix(s.URL(), "nats://")
		var came sync.WaitGroup
		first := make(chan struct{}, clients)
		for range clients {
			came.Go(func() {
				for knock(address) {
					select {
					case first <- struct{}{}:
					default:
					}
				}
			})
		}
		for range clients {
			<-first
		}
		s.Stop()
		came.Wait()
	}
}

// knock begins to log in as a stranger, and returns false when nobody listens any more.
func knock(address string) bool {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	defer c.Close()
	_, _ = fmt.Fprint(c, "CONNECT {}\r\nPING\r\n") // the server may be closing it
	_, _ = c.Read(make([]byte, 1))                 // its greeting
	return true
}
