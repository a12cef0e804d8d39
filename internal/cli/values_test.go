package cli

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/service"
)

// reading is a parser whose value is written as text.
func reading[T any](parse parser[T]) func(string) (string, error) {
	return func(text string) (string, error) {
		v, err := parse(text)
		return fmt.Sprint(v), err
	}
}

// TestValues: what each kind of value takes for what, and what it refuses.
func TestValues(t *testing.T) {
	for name, c := range map[string]struct {
		parse func(string) (string, error)
		takes map[string]string
		not   string // words
	}{
		"count":    {reading(parseCount), map[string]string{"1": "1", "2147483647": "2147483647"}, "0 -1 1.5 x 2147483648"},
		"between":  {reading(parseBetween(1, 5)), map[string]string{"1": "1", "5": "5"}, "0 6 x"},
		"positive": {reading(parsePositive), map[string]string{"5s": "5s", "2d": "48h0m0s"}, "0 0s -1s 5 x"},
		"wait":     {reading(parseWait), map[string]string{"0": "0s", "1m": "1m0s"}, "-1s 5 x"},
		"word":     {reading(parseOneOf("a", "b", "c")), map[string]string{"a": "a"}, "d A"},
		"size":     {reading(parseSize), map[string]string{"0": "0", "4KiB": "4096", "1GB": "1000000000"}, "1 4095 x 10PB -1"},
		"sync":     {reading(parseSync), map[string]string{"always": "always", "10s": "10s"}, "0 never"},
		"address":  {reading(parseAddress), map[string]string{"127.0.0.1:0": "127.0.0.1:0", ":65535": ":65535"}, "4222 127.0.0.1 h:65536 h:x"},
		"routes":   {reading(parseRoutes), map[string]string{"a:1,nats://u:p@b:2": "[a:1 nats://u:p@b:2]"}, "a a:1,b"},
		"servers":  {reading(parseServers), map[string]string{"nats://h:1": "nats://h:1", "h:1": "nats://h:1"}, "http://h"},
		"bus":      {reading(parseBus), map[string]string{strings.Repeat("B", 32): strings.Repeat("b", 32), "Work.2": "Work.2"}, "-x a/b * wоrk " + strings.Repeat("a", 32)},
		"bus name": {reading(parseBusName), map[string]string{"work": "work"}, "-x a/b " + strings.Repeat("b", 32)},
		"role":     {reading(parseRole), map[string]string{"owner": "owner"}, "user Owner"},
		"retain":   {reading(parseRetention), map[string]string{"none": "{0 true}", "0": "{0 false}", "1s": "{1000000000 false}"}, "500ms -1s x"},
		"rekey":    {reading(parseRekeyAfter), map[string]string{"0": "", "10000m": "10000 messages", "5msgs": "5 messages", "720h": "30d", "1h30m": "1h30m"}, "0m 30s x m"},
		"token":    {reading(parseTokenLife), map[string]string{"24h": "24h0m0s"}, "24h1s 0 x"},
	} {
		for text, want := range c.takes {
			if got, err := c.parse(text); err != nil || got != want {
				t.Errorf("%s %s: %s (%v), not %s", name, text, got, err, want)
			}
		}
		for _, text := range strings.Fields(c.not) {
			if got, err := c.parse(text); err == nil {
				t.Errorf("%s %s is taken for %s", name, text, got)
			}
		}
	}
}

// TestWhen: durations count from now, in the direction that is meant; else it is a time.
func TestWhen(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"24h": now.Add(-24 * time.Hour), "7d": now.AddDate(0, 0, -7), "2026-01-02T15:04:05Z": time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC),
		"2026-01-02": time.Date(2026, 1, 2, 0, 0, 0, 0, time.Local), "2026-01-02 15:04": time.Date(2026, 1, 2, 15, 4, 0, 0, time.Local),
		"05:00": time.Date(2026, 3, 4, 5, 0, 0, 0, time.UTC), "5:06:08": time.Date(2026, 3, 3, 5, 6, 8, 0, time.UTC), "23:59": time.Date(2026, 3, 3, 23, 59, 0, 0, time.UTC),
		"yesterday": time.Date(2026, 3, 3, 0, 0, 0, 0, time.UTC), "today": time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC),
	} {
		if got, err := parseWhen(text, now, -1); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v (%v), not %v", text, got, err, want)
		}
	}
	if got, err := parseWhen("1h", now, 1); err != nil || !got.Equal(now.Add(time.Hour)) {
		t.Errorf("in an hour: %v (%v)", got, err)
	}
	for text, want := range map[string]time.Time{"05:00": time.Date(2026, 3, 5, 5, 0, 0, 0, time.UTC), "tomorrow": time.Date(2026, 3, 5, 0, 0, 0, 0, time.UTC)} {
		if got, err := parseWhen(text, now, 1); err != nil || !got.Equal(want) {
			t.Errorf("until %s: %v (%v), not %v", text, got, err, want)
		}
	}
	for _, text := range []string{"whenever", "-1h", "25:00", ""} {
		if got, err := parseWhen(text, now, -1); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
	if _, err := parseExpiry("2001-01-01"); err == nil {
		t.Error("an expiry may be past")
	}
	if _, err := parseSince("2999-01-01"); err == nil {
		t.Error("what is still to come is a time since when")
	}
	if at, err := parseSince("1h"); err != nil || !at.Before(time.Now()) {
		t.Errorf("since 1h: %v (%v)", at, err)
	}
}

// TestPolicyFlags: what room set changes is what was named, and nothing else; what would have no effect is refused.
func TestPolicyFlags(t *testing.T) {
	hour := retention{age: time.Hour}
	for _, c := range []struct {
		f     policyFlags
		given string
		was   *unibus.Retain
		want  string
	}{
		{policyFlags{pad: true, history: "joined"}, "", &unibus.Retain{Age: 5, Bytes: 6}, "history shared; stores 5s, at most 6 B"},
		{policyFlags{pad: true, history: "joined"}, "pad history", &unibus.Retain{Age: 5, Bytes: 6}, "history joined; stores 5s, at most 6 B; sizes padded"},
		{policyFlags{retain: hour, bytes: 1 << 20}, "retain", &unibus.Retain{Age: 5, Bytes: 6}, "stores 1h, at most 6 B"},
		{policyFlags{retain: hour, bytes: 1 << 20}, "max-bytes", &unibus.Retain{Age: 5, Bytes: 6}, "stores 5s, at most 1.0 MiB"},
		{policyFlags{retain: hour, bytes: 1 << 20}, "retain", nil, "stores 1h, at most 1.0 MiB"},
		{policyFlags{retain: retention{none: true}}, "retain", &unibus.Retain{Age: 5}, "stores nothing"},
		{policyFlags{retain: hour}, "pad", nil, "stores nothing"},
		{policyFlags{rekey: unibus.RekeyAfter{Messages: 9}}, "rekey-after", nil, "key renewed after 9 messages"},
	} {
		p := unibus.DefaultPolicy()
		p.Retain = c.was
		c.f.change(&p, func(flag string) bool { return strings.Contains(" "+c.given+" ", " "+flag+" ") })
		if got := p.String(); !strings.Contains(got, c.want) {
			t.Errorf("%+v, given %s: %s instead of %s", c.f, c.given, got, c.want)
		}
	}
	for _, f := range []policyFlags{
		{plain: true, pad: true}, {plain: true, history: "joined"}, {plain: true, rekey: unibus.RekeyAfter{Age: 9}},
	} {
		if err := f.check(false); err == nil {
			t.Errorf("%+v is not refused", f)
		}
	}
	if none := (policyFlags{retain: retention{none: true}}); none.check(true) == nil || none.check(false) != nil {
		t.Error("--max-bytes with --retain none")
	}
	if p := (&policyFlags{plain: true, retain: retention{none: true}}).policy(); p.Encrypted() || p.Stored() {
		t.Errorf("a plain room that stores nothing: %v", p)
	}
}

// TestServeFlags: what cannot be started is refused before anything is made.
func TestServeFlags(t *testing.T) {
	cluster := func(change func(*bus.Cluster)) service.NodeOptions {
		c := bus.Cluster{Name: "c", Listen: "127.0.0.1:1"}
		change(&c)
		return service.NodeOptions{Store: service.JetStream, Cluster: c}
	}
	for want, o := range map[string]service.NodeOptions{
		"":                                 cluster(func(*bus.Cluster) {}),
		"a cluster needs --cluster-name":   cluster(func(c *bus.Cluster) { c.Name = "" }),
		"--cluster-name needs":             cluster(func(c *bus.Cluster) { c.Listen = "" }),
		"--cluster-tls-ca go together":     cluster(func(c *bus.Cluster) { c.TLSCert = "x" }),
		"share a store: --store jetstream": {Cluster: bus.Cluster{Name: "c", Listen: "x"}},
	} {
		if err := checkCluster(&settings{}, o); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v instead of %s", err, want)
		}
	}
	for o, good := range map[*service.NodeOptions]bool{
		{}: true, {Store: "sqlite:x"}: true, {Store: service.JetStream, Replicas: 3}: true, {Store: "nats://h"}: false, {Replicas: 3}: false,
	} {
		if err := checkStore(&settings{}, *o); (err == nil) != good {
			t.Errorf("%+v: %v", *o, err)
		}
	}
	for c, unsafe := range map[string]bool{"127.0.0.1:1": false, "10.0.0.1:1": true, "host:1": true} {
		if got := unsafeRoutes(bus.Cluster{Name: "c", Listen: c}); got != unsafe {
			t.Errorf("routes at %s: unsafe %v", c, got)
		}
	}
	b := newTestBus(t)
	for _, c := range []struct {
		code int
		args string
		want string
	}{
		{exitUsage, "--external --listen 127.0.0.1:0", "--listen has no effect with --external"},
		{exitNotFound, "--external --server nats://127.0.0.1:1", "service's keys"},
		{exitNotFound, "--tls-cert none", "there is no file none"},
		{exitUsage, "--tls-cert not.pem", "--tls-cert and --tls-key go together"},
		{exitUsage, "--tls-cert not.pem --tls-key not.pem", "no certificate and its key"},
		{exitUsage, "--external --cluster-name c", "--cluster-name has no effect with --external"},
		{exitUsage, "--store nats://h:1", "serve keeps a bus in"},
	} {
		b.write("not.pem", "")
		e := b.exec("admin", "", append([]string{"serve"}, strings.Fields(c.args)...)...)
		if e.code != c.code || !strings.Contains(e.err, c.want) {
			t.Errorf("serve %s: %d, %s", c.args, e.code, e.err)
		}
	}
	if _, err := os.Stat(b.path("xdg_data_home")); !os.IsNotExist(err) {
		t.Errorf("a data folder was made: %v", err)
	}
}
