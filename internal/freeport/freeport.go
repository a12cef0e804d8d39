// Package freeport finds TCP ports for servers that others are told of before they listen, or that have
// to listen where they did before. Tests and benchmarks use it.
package freeport

import (
	"net"
	"os"
	"strconv"
	"sync/atomic"
)

var last atomic.Uint32

// Port returns a port of loopback that nobody listens at. It is outside the ranges that systems take
// those of outgoing connections from, so that none takes it meanwhile, and another one each time and, as
// far as that goes, in each process.
func Port() int {
	const first, perProcess, processes = 10000, 100, 200
	for {
		port := first + os.Getpid()%processes*perProcess + int(last.Add(1)%perProcess)
		l, err := net.Listen("tcp", local(port))
		if err == nil {
			l.Close()
			return port
		}
	}
}

// Local is Port as an address to listen at.
func Local() string { return local(Port()) }

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
