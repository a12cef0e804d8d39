package host

import "net"

// Address is one by which other machines may reach this one: the first of its interfaces that is neither its own nor of one
// link alone, IPv4 if there is one. Where there is none it is that of the machine itself.
func Address() string {
	addresses, _ := net.InterfaceAddrs() // without any it is alone
	return addressOf(addresses)
}

// addressOf is Address of a machine with these.
func addressOf(addresses []net.Addr) string {
	best := net.IPv4(127, 0, 0, 1)
	for _, a := range addresses {
		n, ok := a.(*net.IPNet)
		if !ok || !n.IP.IsGlobalUnicast() {
			continue
		}
		if best.IsLoopback() || best.To4() == nil && n.IP.To4() != nil {
			best = n.IP
		}
	}
	return best.String()
}
