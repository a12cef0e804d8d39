package cli

import (
	"net"
	"net/url"
	"testing"
)

// TestPageURL: the page is where it is served, and of all addresses at one that a browser can go to.
func TestPageURL(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:8222": "http://127.0.0.1:8222/",
		"[::1]:80":       "http://[::1]:80/",
		"[fe80::1]:1":    "http://[fe80::1]:1/",
	} {
		if got := pageURL(address); got != want {
			t.Errorf("%s: %s, not %s", address, got, want)
		}
	}
	for _, all := range []string{"0.0.0.0:8222", "[::]:8222"} {
		u, err := url.Parse(pageURL(all))
		if err != nil || u.Port() != "8222" || u.Hostname() == "" || net.ParseIP(u.Hostname()).IsUnspecified() {
			t.Errorf("%s: %v, %v", all, u, err)
		}
	}
}
