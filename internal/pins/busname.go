package pins

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// This file is the names of buses: what may be one, and which one a bus is given when nobody asks for another.

// maxBusName is how many bytes a name has at most.
const maxBusName = 64

// busName is what a name is made of. It stands in command lines, where what begins with a dash is a flag, and no two of
// them look alike that are not.
var busName = regexp.MustCompile(`^[A-Za-z0-9._][A-Za-z0-9._-]*$`)

// CheckBusName returns why a text cannot be the name of a bus; nil when it can.
func CheckBusName(name string) error {
	switch _, err := crypto.ParseID(name); {
	case err == nil:
		return fmt.Errorf("name %q: %w: a bus may have it as its id", name, store.ErrInvalid)
	case len(name) > maxBusName || !busName.MatchString(name):
		return fmt.Errorf("name %q: %w: a bus's name is 1 to %d letters, digits, dots, underscores and dashes, with no dash first", name, store.ErrInvalid, maxBusName)
	}
	return nil
}

// Local is the name of a bus on this machine.
const Local = "local"

// nameOf is the name of a bus at servers, the first of which it is made of: their host, without what names do not have.
func nameOf(servers string) string {
	first, _, _ := strings.Cut(servers, ",")
	if !strings.Contains(first, "://") {
		first = "nats://" + first
	}
	host := ""
	if u, err := url.Parse(first); err == nil {
		host = u.Hostname()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() || strings.EqualFold(host, "localhost") {
		return Local
	}
	name := strings.Map(func(r rune) rune {
		if busName.MatchString("_" + string(r)) {
			return r
		}
		return '-'
	}, host)
	name = strings.TrimLeft(name, "-")
	name = name[:min(len(name), maxBusName-len("-9999"))] // which may follow
	if CheckBusName(name) != nil {
		return "bus"
	}
	return name
}

// free is a name, or how it goes on, that is not taken.
func free(name string, taken func(string) bool) string {
	for n, candidate := 2, name; ; n++ {
		if !taken(candidate) {
			return candidate
		}
		candidate = name + "-" + strconv.Itoa(n)
	}
}
