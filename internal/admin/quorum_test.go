package admin

import (
	"encoding/json"
	"strings"
	"testing"
)

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
		servers      []string
		status, told string
	}{
		{[]string{alone}, Pass, "a server by itself"},
		{[]string{leads, follows, third}, Pass, "3 of 3 servers, led by a"},
		{[]string{leads, follows}, Warn, "2 of 3 servers are there; not c"},
		{[]string{leads}, Fail, "1 of 3 servers are there; not b, c"},
		{[]string{lost}, Fail, "1 of 3 servers are there, and no leader"},
	} {
		var servers []serverStatus
		for _, text := range c.servers {
			var s serverStatus
			if err := json.Unmarshal([]byte(text), &s); err != nil {
				t.Fatal(err)
			}
			servers = append(servers, s)
		}
		var got Check
		quorum(servers, reporter{"quorum", func(c Check) { got = c }})
		if got.Status != c.status || !strings.HasPrefix(got.Detail, c.told) {
			t.Errorf("%v: %s %q instead of %s %q", c.servers, got.Status, got.Detail, c.status, c.told)
		}
	}
}
