package admin

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/shown"
	"github.com/unibus/unibus/internal/tasks"
)

// What servers say of themselves, asked once over the system account, and what is to be thought of it. Everything but
// asking is a function of the answers: who is there, whose clock is off, who syncs late, whether there is a quorum.

// askWait is how long the next answer is waited for, of servers and of services.
const askWait = 500 * time.Millisecond

// serverStatus is what a server says of itself ($SYS.REQ.SERVER.PING.VARZ).
type serverStatus struct {
	Server struct {
		Name string
		Ver  string
	}
	Data struct {
		Now       time.Time
		Host      string // that it listens on
		TLS       bool   `json:"tls_required"`
		JetStream struct {
			Config *struct { // nil: it has no JetStream
				SyncInterval time.Duration `json:"sync_interval"`
				SyncAlways   bool          `json:"sync_always"`
			}
			Meta *struct { // nil: it is in no cluster
				Leader   string // empty: none is known
				Replicas []struct{ Name string }
				Size     int `json:"cluster_size"`
			}
		}
	}
	skew time.Duration // its clock less ours
}

// Servers looks at the servers of a bus as their operator, and reports the checks servers, server clocks, durability,
// quorum, transport, and copies where there are several. When none answers, that is all it reports.
func Servers(ctx context.Context, l *bus.Links, report func(Check)) {
	servers, err := askServers(ctx, l.Sys)
	r := reporter{"servers", report}
	if err != nil || len(servers) == 0 {
		r.fail(noHelp, "no server answers its operator (%v)", err)
		return
	}
	var names []string
	for _, s := range servers {
		names = append(names, s.Server.Name+" "+s.Server.Ver)
	}
	slices.Sort(names)
	r.pass("%d: %s", len(servers), strings.Join(names, ", "))
	// Each of these can be told by what the servers said; only whether copies are alike has to be asked for.
	clocks(servers, report)
	durability(servers, reporter{"durability", report})
	quorum(servers, reporter{"quorum", report})
	transport(servers, reporter{"transport", report})
	if len(servers) > 1 {
		copies(ctx, l, reporter{"copies", report})
	}
}

// askServers asks every server of a cluster. How long an answer was under way is taken for the same in both directions.
func askServers(ctx context.Context, sys *nats.Conn) (out []serverStatus, err error) {
	began := time.Now()
	err = bus.AskServers(ctx, sys, "VARZ", nil, askWait, func(answer []byte) error {
		var s serverStatus
		if err := json.Unmarshal(answer, &s); err != nil {
			return err
		}
		s.skew = s.Data.Now.Sub(began.Add(time.Since(began) / 2))
		out = append(out, s)
		return nil
	})
	return out, err
}

// clocks tells of the server whose clock is furthest from this machine's.
func clocks(servers []serverStatus, report func(Check)) {
	worst := servers[0]
	for _, s := range servers {
		if s.skew.Abs() > worst.skew.Abs() {
			worst = s
		}
	}
	Clock("server clocks", worst.Server.Name, worst.skew, report)
}

// durability tells of a server that may lose what it acknowledged. One is enough: it may be the one that leads.
func durability(servers []serverStatus, r reporter) {
	for _, s := range servers {
		c := s.Data.JetStream.Config
		if c == nil {
			r.fail(noHelp, "%s has no JetStream", s.Server.Name)
			return
		}
		if !c.SyncAlways {
			r.warn(help(remedy.SyncAlways), "%s acknowledges up to %v before it writes to disk: a power failure loses that", s.Server.Name, c.SyncInterval)
			return
		}
	}
	r.pass("what is written is synced before it is acknowledged: a power failure loses none of it")
}

// quorum holds the servers that answered against those that the cluster's leader knows of. Servers that do not answer
// cannot be counted by their answers; the leader knows who is to be there.
func quorum(servers []serverStatus, r reporter) {
	for _, s := range servers {
		if m := s.Data.JetStream.Meta; m != nil && m.Leader == s.Server.Name {
			led(s, servers, r)
			return
		}
	}
	meta := servers[0].Data.JetStream.Meta
	if meta == nil {
		r.pass("a server by itself, which needs no others")
		return
	}
	r.fail(help(remedy.StartMostServers), "%d of %d servers are there, and no leader: nothing can be written, nobody is let in", len(servers), max(meta.Size, len(servers)))
}

// led tells which of the servers that a leader knows of are not among those that answered.
func led(leader serverStatus, servers []serverStatus, r reporter) {
	there := map[string]bool{}
	for _, s := range servers {
		there[s.Server.Name] = true
	}
	m := leader.Data.JetStream.Meta
	var off []string
	for _, other := range m.Replicas {
		if !there[other.Name] {
			off = append(off, other.Name)
		}
	}
	all := len(m.Replicas) + 1
	switch left := all - len(off); {
	case 2*left <= all: // one that was left alone still takes itself for the leader
		r.fail(help(remedy.StartMostServers), "%d of %d servers are there; not %s: nothing can be written, nobody is let in", left, all, strings.Join(off, ", "))
	case len(off) > 0:
		r.warn(help(remedy.StartMissingServers), "%d of %d servers are there; not %s", left, all, strings.Join(off, ", "))
	default:
		r.pass("%d of %d servers, led by %s", all, all, m.Leader)
	}
}

// transport warns of servers that listen beyond their machine without TLS: what is written stays sealed, but the subjects
// and the times of it can be seen.
func transport(servers []serverStatus, r reporter) {
	var open []string
	for _, s := range servers {
		if !s.Data.TLS && !bus.Loopback(s.Data.Host) {
			open = append(open, s.Server.Name)
		}
	}
	if len(open) > 0 {
		r.warn(help(remedy.UseTLS), "reached from other machines without TLS: %s", shown.Few(open))
		return
	}
	r.pass("TLS, or from the server's own machine only")
}

// copiesWait is between two looks at the copies of streams, of which only what is the same at both counts.
const copiesWait = 2 * time.Second

// copies looks whether the servers hold the same of every stream. A server that a damaged disk has cost some of a stream
// takes itself for current, and answers whoever asks it with what it has.
func copies(ctx context.Context, l *bus.Links, r reporter) {
	before, err := bus.LookAtCopies(ctx, l.Sys)
	now := before
	if err == nil && len(before.Unlike(before)) > 0 {
		if err = tasks.Pause(ctx, copiesWait); err == nil {
			now, err = bus.LookAtCopies(ctx, l.Sys)
		}
	}
	var list []string
	for name, in := range now.Unlike(before) {
		list = append(list, name+": "+in)
	}
	switch {
	case err != nil:
		r.fail(noHelp, "they cannot be compared: %v", err)
	case len(list) > 0:
		r.fail(help(remedy.CopyAgain), "not alike: %s", shown.Few(list))
	default:
		r.pass("the servers hold the same of every stream")
	}
}
