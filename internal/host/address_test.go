package host

import (
	"net"
	"testing"
)

// TestAddress: a machine is reached by its first address that leads to it from elsewhere.
func TestAddress(t *testing.T) {
	for want, list := range map[string][]string{
		"127.0.0.1":   {"127.0.0.1/8", "::1/128", "fe80::1/64", "169.254.1.2/16"},
		"192.168.1.7": {"127.0.0.1/8", "2001:db8::7/64", "192.168.1.7/24", "10.0.0.7/8"},
		"2001:db8::7": {"::1/128", "2001:db8::7/64", "2001:db8::8/64"},
	} {
		addresses := []net.Addr{&net.UnixAddr{Name: "x"}}
		for _, text := range list {
			ip, n, err := net.ParseCIDR(text)
			if err != nil {
				t.Fatal(err)
			}
			addresses = append(addresses, &net.IPNet{IP: ip, Mask: n.Mask})
		}
		if got := addressOf(addresses); got != want {
			t.Errorf("with %q it is reached by %s", list, got)
		}
	}
	if ip := net.ParseIP(Address()); ip == nil || ip.IsUnspecified() {
		t.Errorf("this machine is reached by %s", Address())
	}
}
