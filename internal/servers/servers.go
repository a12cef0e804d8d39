// Package servers reads lists of URLs of NATS servers, and says which of them are the same server: what was met at a server
// has to be found again however the server is written.
package servers

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// ports are those that the schemes of NATS servers go to where a URL names none.
var ports = map[string]string{"nats": "4222", "tls": "4222", "ws": "80", "wss": "443"}

// errForm is the error of what looks like no server.
var errForm = errors.New("a NATS server is nats://host:4222 or tls://host:4222")

// Parse returns a list of servers, with commas between them, each written in the one way that there is for it: with its
// scheme and port, and its host in small letters. User names and passwords stay as they are. Its error says what is wrong
// with the list, as far as nobody has to be asked, and shows nothing of it but a scheme.
func Parse(list string) (string, error) {
	var all []string
	for one := range strings.SplitSeq(list, ",") {
		scheme, rest, found := strings.Cut(strings.TrimSpace(one), "://")
		if !found {
			scheme, rest = "nats", scheme
		}
		server, err := parse(strings.ToLower(scheme), rest)
		if err != nil {
			return "", err
		}
		if !slices.Contains(all, server) {
			all = append(all, server)
		}
	}
	return strings.Join(all, ","), nil
}

// parse returns the URL of a server that is given as a scheme and what follows it.
func parse(scheme, rest string) (string, error) {
	usual, known := ports[scheme]
	if !known {
		return "", fmt.Errorf("%s is no scheme of NATS servers: nats://host:4222 or tls://host:4222", scheme)
	}
	end := strings.IndexAny(rest+"/", "/?#") // where the host ends, whatever comes behind it
	where, path := rest[:end], strings.TrimRight(rest[end:], "/")
	behind := strings.LastIndexByte(where, '@') + 1
	user, where := where[:behind], where[behind:]
	switch {
	case strings.Contains(path, "#"):
		return "", errors.New("what follows # is no part of a server's URL")
	case path != "" && (!strings.HasPrefix(scheme, "ws") || strings.Contains(path, "?")):
		return "", errors.New("a NATS server is a host and a port, and nothing behind them")
	}
	host, port, err := net.SplitHostPort(where)
	switch {
	case err != nil && strings.Contains(where, ":") && !(strings.HasPrefix(where, "[") && strings.HasSuffix(where, "]")):
		return "", errForm
	case err != nil:
		host, port = strings.Trim(where, "[]"), usual
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", errors.New("the port of a server is a number from 1 to 65535")
	}
	if host = canonical(host); host == "" {
		return "", errForm
	}
	where = net.JoinHostPort(host, strconv.FormatUint(n, 10))
	server := scheme + "://" + user + where + path
	if u, err := url.Parse(server); err != nil || u.Host != where { // as it is read by what connects
		return "", errForm
	}
	return server, nil
}

// canonical is a host as it is written here; empty for what can be none.
func canonical(host string) string {
	if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() == "" {
		return ip.Unmap().String()
	}
	if strings.ContainsAny(host, " \t\r\n%?\\[]:\"'<>") {
		return ""
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// kinds begin the addresses that are no lists of servers.
var kinds = []string{"context:", "sqlite:"}

// Keys are what the servers of an address are known by, one for each: the same with TLS and without it, since one port
// has one server. An address that is no list of servers (sqlite:PATH, context:NAME) is known by itself.
func Keys(address string) []string {
	list, err := Parse(address)
	if err != nil || slices.ContainsFunc(kinds, func(kind string) bool { return strings.HasPrefix(address, kind) }) { // whose names may look like ports
		return []string{address}
	}
	keys := strings.Split(list, ",")
	for i, key := range keys {
		scheme, rest, _ := strings.Cut(key, "://")
		plain := "nats://"
		if strings.HasPrefix(scheme, "ws") {
			plain = "ws://"
		}
		keys[i] = plain + rest[strings.LastIndexByte(rest, '@')+1:]
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
