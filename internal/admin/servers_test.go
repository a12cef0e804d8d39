package admin

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/remedy"
)

// serversSaying are servers that say something of themselves, each in JSON.
func serversSaying(t *testing.T, texts ...string) (servers []serverStatus) {
	t.Helper()
	for _, text := range texts {
		var s serverStatus
		must(t, json.Unmarshal([]byte(text), &s))
		servers = append(servers, s)
	}
	return servers
}

// TestQuorum: what servers say of their cluster, and what is told of it.
func TestQuorum(t *testing.T) {
	const (
		alone   = `{"server":{"name":"a"}}`
		leads   = `{"server":{"name":"a"},"data":{"jetstream":{"meta":{"leader":"a","cluster_size":3,"replicas":[{"name":"b"},{"name":"c"}]}}}}`
		follows = `{"server":{"name":"b"},"data":{"jetstream":{"meta":{"leader":"a","cluster_size":3}}}}`
		third   = `{"server":{"name":"c"},"data":{"jetstream":{"meta":{"leader":"a","cluster_size":3}}}}`
		lost    = `{"server":{"name":"b"},"data":{"jetstream":{"meta":{"cluster_size":3}}}}`
	)
	for _, c := range []struct {
		servers []string
		want    finding
	}{
		{[]string{alone}, finding{"quorum", Pass, 0, "a server by itself"}},
		{[]string{leads, follows, third}, finding{"quorum", Pass, 0, "3 of 3 servers, led by a"}},
		{[]string{leads, follows}, finding{"quorum", Warn, remedy.StartMissingServers, "2 of 3 servers are there; not c"}},
		{[]string{leads}, finding{"quorum", Fail, remedy.StartMostServers, "1 of 3 servers are there; not b, c"}},
		{[]string{lost}, finding{"quorum", Fail, remedy.StartMostServers, "1 of 3 servers are there, and no leader"}},
	} {
		servers := serversSaying(t, c.servers...)
		finds(t, c.want.tells, func(report func(Check)) { quorum(servers, reporter{"quorum", report}) }, c.want)
	}
}

// TestDurability: a server that syncs late may lose what it acknowledged; one without JetStream keeps nothing.
func TestDurability(t *testing.T) {
	const (
		always = `{"server":{"name":"a"},"data":{"jetstream":{"config":{"sync_always":true,"sync_interval":120000000000}}}}`
		late   = `{"server":{"name":"b"},"data":{"jetstream":{"config":{"sync_interval":120000000000}}}}`
		none   = `{"server":{"name":"c"}}`
	)
	for _, c := range []struct {
		servers []string
		want    finding
	}{
		{[]string{always, always}, finding{"durability", Pass, 0, "synced before"}},
		{[]string{always, late}, finding{"durability", Warn, remedy.SyncAlways, "b acknowledges up to 2m0s before"}},
		{[]string{always, none}, finding{"durability", Fail, 0, "c has no JetStream"}},
	} {
		servers := serversSaying(t, c.servers...)
		finds(t, c.want.tells, func(report func(Check)) { durability(servers, reporter{"durability", report}) }, c.want)
	}
}

// TestTransport: a server that other machines reach has TLS.
func TestTransport(t *testing.T) {
	const (
		local = `{"server":{"name":"a"},"data":{"host":"127.0.0.1"}}`
		open  = `{"server":{"name":"b"},"data":{"host":"0.0.0.0"}}`
		tls   = `{"server":{"name":"c"},"data":{"host":"0.0.0.0","tls_required":true}}`
	)
	for _, c := range []struct {
		servers []string
		want    finding
	}{
		{[]string{local, tls}, finding{"transport", Pass, 0, "TLS"}},
		{[]string{local, open, tls}, finding{"transport", Warn, remedy.UseTLS, "without TLS: b"}},
	} {
		servers := serversSaying(t, c.servers...)
		finds(t, c.want.tells, func(report func(Check)) { transport(servers, reporter{"transport", report}) }, c.want)
	}
}

// TestClocks: the clock that is furthest off is told of, ahead or behind.
func TestClocks(t *testing.T) {
	for _, c := range []struct {
		skews []time.Duration // of the servers a, b, …
		want  finding
	}{
		{[]time.Duration{0, time.Second}, finding{"server clocks", Pass, 0, "that of b is 1s from this machine's at most"}},
		{[]time.Duration{5 * time.Second, -time.Second}, finding{"server clocks", Pass, 0, "that of a is 5s"}},
		{[]time.Duration{time.Second, -6 * time.Second}, finding{"server clocks", Warn, remedy.KeepClocks, "that of b is 6s"}},
		{[]time.Duration{2 * time.Minute}, finding{"server clocks", Warn, remedy.KeepClocks, "that of a is 2m0s"}},
		{[]time.Duration{-2*time.Minute - time.Second, time.Minute}, finding{"server clocks", Fail, remedy.KeepClocks, "that of a is 2m1s from this machine's: logins will be refused"}},
	} {
		var servers []serverStatus
		for i, skew := range c.skews {
			s := serverStatus{skew: skew}
			s.Server.Name = string(rune('a' + i))
			servers = append(servers, s)
		}
		finds(t, c.want.tells, func(report func(Check)) { clocks(servers, report) }, c.want)
	}
}

// TestServers: servers by themselves and of a cluster are well, and those that do not answer are told of once.
func TestServers(t *testing.T) {
	n := startNode(t)
	well := []finding{
		{"servers", Pass, 0, "1: unibus-"}, {"server clocks", Pass, 0, "at most"}, {"durability", Pass, 0, "synced"},
		{"quorum", Pass, 0, "a server by itself"}, {"transport", Pass, 0, ""},
	}
	look := func(ctx context.Context, n *node) func(func(Check)) {
		return func(report func(Check)) { Servers(ctx, &n.Links, report) }
	}
	finds(t, "one", look(t.Context(), n), well...)
	over, end := context.WithCancel(t.Context())
	end()
	finds(t, "nobody waits", look(over, n), finding{"servers", Fail, 0, "no server answers its operator (context canceled)"})
	n.answers(t, "$SYS.REQ.SERVER.PING.VARZ", "no status")
	finds(t, "no status", look(t.Context(), n), finding{"servers", Fail, 0, "no server answers its operator (json"})
	n.Links.Sys.Close()
	finds(t, "a closed connection", look(t.Context(), n), finding{"servers", Fail, 0, "no server answers its operator"})
}

// TestCopies: what another server holds of a stream is held against it, twice.
func TestCopies(t *testing.T) {
	n := startNode(t)
	migrated(t, n.open(t, 1))
	compare := func(ctx context.Context) func(func(Check)) {
		return func(report func(Check)) { copies(ctx, &n.Links, reporter{"copies", report}) }
	}
	finds(t, "one copy", compare(t.Context()), finding{"copies", Pass, 0, "the same of every stream"})
	less := server.StreamDetail{Name: "KV_unibus_log", State: server.StreamState{Msgs: 1, FirstSeq: 1, LastSeq: 1}}
	type of struct {
		Name string `json:"name"`
	}
	n.answers(t, "$SYS.REQ.SERVER.PING.JSZ", map[string]any{
		"server": of{"z"},
		"data":   server.JSInfo{AccountDetails: []*server.AccountDetail{{Name: bus.AccountStore, Streams: []server.StreamDetail{less}}}},
	})
	finds(t, "one that has less", compare(t.Context()), finding{"copies", Fail, remedy.CopyAgain, "not alike: KV_unibus_log: it holds "})
	over, end := context.WithCancel(t.Context())
	end()
	finds(t, "nobody waits", compare(over), finding{"copies", Fail, 0, "they cannot be compared: context canceled"})
}
