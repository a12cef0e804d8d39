//go:build linux

package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// This file makes the hosts: a network namespace for each server, with a leg in the network of the servers and one in
// that of the clients. To part a server from the others its first leg is taken down.

// sh runs a command.
func sh(format string, args ...any) error {
	line := strings.Fields(fmt.Sprintf(format, args...))
	out, err := exec.Command(line[0], line[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(line, " "), err, out)
	}
	return nil
}

// host makes a namespace with a leg in each network.
func host(i int) error {
	ns := fmt.Sprintf("ub%d", i)
	if err := errors.Join(sh("ip netns add %s", ns), sh("ip -n %s link set lo up", ns)); err != nil {
		return err
	}
	for _, net := range []struct{ leg, bridge, addr string }{{"r", "ubr", "10.98.0"}, {"c", "ubc", "10.99.0"}} {
		leg := ns + net.leg
		err := errors.Join(
			sh("ip link add %s type veth peer name %si netns %s", leg, leg, ns),
			sh("ip link set %s master %s up", leg, net.bridge),
			sh("ip -n %s addr add %s.%d/24 dev %si", ns, net.addr, i, leg),
			sh("ip -n %s link set %si up", ns, leg))
		if err != nil {
			return err
		}
	}
	return nil
}

// clearHosts removes what is there of the hosts, also of an earlier run.
func clearHosts() {
	for i := 1; i <= nodes; i++ {
		_ = sh("ip netns del ub%d", i) // what is not there need not go
	}
	_ = sh("ip link del ubr")
	_ = sh("ip link del ubc")
}

// server is where clients reach the ith server, in their own network: it is not cut off from there.
func server(i int) string { return fmt.Sprintf("nats://10.99.0.%d:4222", i) }
