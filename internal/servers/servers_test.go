package servers

import (
	"slices"
	"strings"
	"testing"
)

// TestParse: what can be servers, the one way in which each is written, and what cannot be.
func TestParse(t *testing.T) {
	for list, want := range map[string]string{
		"nats://127.0.0.1:4222": "", "nats://user:pass@host:4222": "", "nats://[::1]:4222": "",
		"ws://host:80/path": "", "nats://a%40b@host:4222": "", "nats://u:p@ss@h:1": "",
		"host": "nats://host:4222", "host:4333": "nats://host:4333", "[::1]": "nats://[::1]:4222", "tls://h": "tls://h:4222",
		"WSS://host": "wss://host:443", "ws://host/": "ws://host:80", "ws://host/a/": "ws://host:80/a",
		"nats://h:4222/": "nats://h:4222", "nats://h:04222": "nats://h:4222", "nats://Host.Example.": "nats://host.example:4222",
		"nats://[0:0:0:0:0:0:0:1]:1": "nats://[::1]:1", "nats://[::FFFF:127.0.0.1]:1": "nats://127.0.0.1:1", "nats://User:P@H": "nats://User:P@h:4222",
		"nats://a:1, b:2": "nats://a:1,nats://b:2", " a ": "nats://a:4222", "a,nats://a:4222,A/": "nats://a:4222",
	} {
		if want == "" {
			want = list
		}
		if got, err := Parse(list); got != want || err != nil {
			t.Errorf("%s: %s, %v", list, got, err)
		}
		if got, err := Parse(want); got != want || err != nil {
			t.Errorf("%s, which is as it should be: %s, %v", want, got, err)
		}
	}
	for _, list := range []string{
		"", "nats://", "http://host:8222", "https://host", "sqlite:bus.db", "nats://host:port", "nats://host:0", "nats://host:65536", "nats://host:+1",
		"nats://a:1,", "nats://a:1,,nats://b:1", "nats://::1:4222", "nats://host:4222#BUSID", "two words", "nats://u:p@", "nats://host:",
		"nats://host:4222/x", "nats://host?x", "ws://host/a?b", "nats://h%41:1", "nats://to#ken@host:4222", "nats://evil:1/@host:4222", "nats://evil:1?@host:4222", "ws://evil:1/a?@host", "nats://u ser@h", "nats://a%b@h",
		"nats://h\x00:1", "nats://[fe80::1%eth0]:4222", "nats://[host:1", "nats://]:1", "nats://.",
	} {
		if got, err := Parse(list); got != "" || err == nil {
			t.Errorf("%s: %q", list, got)
		}
	}
	if _, err := Parse("nats://user:a-secret@host:port"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("the password is shown: %v", err)
	}
}

// TestKeys: a server has one key however it is written, and no two servers, or places of other kinds, have the same.
func TestKeys(t *testing.T) {
	for _, same := range [][]string{
		{"nats://127.0.0.1:4222", "127.0.0.1", "tls://127.0.0.1:04222/", "nats://u:p@127.0.0.1", "nats://u:p@ss@127.0.0.1", "nats://[::ffff:127.0.0.1]:4222"},
		{"ws://h", "ws://H:80/", "wss://h:80"},
		{"nats://a:1,nats://b:2", "b:2, a:1", "tls://b:2,a:1,b:2"},
	} {
		for _, address := range same {
			if got, want := Keys(address), Keys(same[0]); !slices.Equal(got, want) {
				t.Errorf("%s has the keys %q, not %q", address, got, want)
			}
		}
	}
	for _, address := range []string{"context:1", "context:h", "sqlite:1", "sqlite:/a"} {
		if got := Keys(address); !slices.Equal(got, []string{address}) {
			t.Errorf("%s has the keys %q", address, got)
		}
	}
	seen := map[string]string{}
	for _, address := range []string{
		"nats://h:1", "nats://h:2", "nats://g:1", "ws://h:1", "ws://h:1/a", "sqlite:/a", "sqlite:/A", "sqlite:/a,b", "context:1", "context:2", "context",
	} {
		keys := Keys(address)
		if before, ok := seen[keys[0]]; ok || len(keys) != 1 {
			t.Errorf("%s has the keys %q, as %s", address, keys, before)
		}
		seen[keys[0]] = address
	}
}
