package bus

import (
	"errors"
	"testing"

	"github.com/unibus/unibus/internal/store"
)

// TestCheckServers: what can be servers, and what cannot.
func TestCheckServers(t *testing.T) {
	for _, list := range []string{
		"nats://127.0.0.1:4222", "tls://bus.example.org", "host", "host:4222", "ws://host:80/path", "WSS://host",
		"nats://a:1, nats://b:2", "nats://user:pass@host:4222", "nats://to#ken@host:4222", "nats://[::1]:4222", "[::1]", "nats://h:4222/",
	} {
		if err := CheckServers(list); err != nil {
			t.Errorf("%s: %v", list, err)
		}
	}
	for _, list := range []string{
		"", "nats://", "http://host:8222", "https://host", "sqlite:bus.db", "nats://host:port", "nats://host:0", "nats://host:65536",
		"nats://a:1,", "nats://a:1,,nats://b:1", "nats://::1:4222", "nats://host:4222#BUSID", "two words", "nats://u:p@",
	} {
		if err := CheckServers(list); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v", list, err)
		}
	}
}
