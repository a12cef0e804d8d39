package bus

import (
	"errors"
	"testing"

	"github.com/unibus/unibus/internal/store"
)

// TestParseServers: what can be servers, by what name each is known, and what cannot.
func TestParseServers(t *testing.T) {
	for list, want := range map[string]string{
		"nats://127.0.0.1:4222": "", "tls://bus.example.org": "", "ws://host:80/path": "", "nats://user:pass@host:4222": "",
		"nats://to#ken@host:4222": "", "nats://[::1]:4222": "", "nats://h:4222/": "",
		"host": "nats://host", "host:4222": "nats://host:4222", "[::1]": "nats://[::1]", "WSS://host": "wss://host",
		"nats://a:1, b:2": "nats://a:1,nats://b:2", "nats://a:1, nats://b:2": "nats://a:1,nats://b:2", " a ": "nats://a",
	} {
		if want == "" {
			want = list
		}
		if got, err := ParseServers(list); got != want || err != nil {
			t.Errorf("%s: %s, %v", list, got, err)
		}
	}
	for _, list := range []string{
		"", "nats://", "http://host:8222", "https://host", "sqlite:bus.db", "nats://host:port", "nats://host:0", "nats://host:65536",
		"nats://a:1,", "nats://a:1,,nats://b:1", "nats://::1:4222", "nats://host:4222#BUSID", "two words", "nats://u:p@",
	} {
		if got, err := ParseServers(list); got != "" || !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v", list, err)
		}
	}
}
