package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// Outcomes of a check.
const (
	Pass = "pass"
	Warn = "warn"
	Fail = "fail"
)

// Check is one thing that was looked at.
type Check struct {
	Name   string `json:"check"`
	Status string `json:"status"`
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"` // what helps
}

// Clocks may be apart by minutes before tokens suffer from it: checkers allow 5.
const (
	warnSkew = 5 * time.Second
	maxSkew  = 2 * time.Minute
	askWait  = 500 * time.Millisecond // for the next server to answer
)

// named are checks under one name.
type named struct {
	name   string
	report func(Check)
}

func (n named) pass(format string, args ...any) {
	n.report(Check{Name: n.name, Status: Pass, Detail: fmt.Sprintf(format, args...)})
}

func (n named) warn(hint, format string, args ...any) {
	n.report(Check{n.name, Warn, fmt.Sprintf(format, args...), hint})
}

func (n named) fail(hint, format string, args ...any) {
	n.report(Check{n.name, Fail, fmt.Sprintf(format, args...), hint})
}

// serverStatus is what a server says of itself ($SYS.REQ.SERVER.PING.VARZ).
type serverStatus struct {
	Server struct {
		Name string
		Ver  string
	}
	Data struct {
		Now       time.Time
		Host      string
		TLS       bool `json:"tls_required"`
		JetStream struct {
			Config *struct {
				SyncInterval time.Duration `json:"sync_interval"`
				SyncAlways   bool          `json:"sync_always"`
			}
			Meta *struct {
				Leader   string
				Replicas []struct{ Name string }
				Size     int `json:"cluster_size"`
			}
		}
	}
	skew time.Duration // its clock less ours
}

// Servers looks at the servers of a bus as their operator.
func Servers(ctx context.Context, l *bus.Links, report func(Check)) {
	servers, err := askServers(ctx, l.Sys)
	n := named{"servers", report}
	if err != nil || len(servers) == 0 {
		n.fail("", "no server answers its operator (%v)", err)
		return
	}
	var names []string
	for _, s := range servers {
		names = append(names, s.Server.Name+" "+s.Server.Ver)
	}
	slices.Sort(names)
	n.pass("%d: %s", len(servers), strings.Join(names, ", "))
	worst := servers[0]
	for _, s := range servers {
		if s.skew.Abs() > worst.skew.Abs() {
			worst = s
		}
	}
	Clock("server clocks", worst.Server.Name, worst.skew, report)
	durability(servers, named{"durability", report})
	quorum(servers, named{"quorum", report})
	transport(servers, named{"transport", report})
	if len(servers) > 1 {
		copies(ctx, l, named{"copies", report})
	}
}

// copiesWait is between two looks at the copies of streams, of which only what is the same at both counts.
const copiesWait = 2 * time.Second

// copies looks whether the servers hold the same of every stream.
func copies(ctx context.Context, l *bus.Links, n named) {
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
		n.fail("", "they cannot be compared: %v", err)
	case len(list) > 0:
		n.fail(bus.Recopy, "not alike: %s", bus.Few(list))
	default:
		n.pass("the servers hold the same of every stream")
	}
}

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

// Clock reports, as the check name, how far another's clock is ahead of this machine's.
func Clock(name, whose string, skew time.Duration, report func(Check)) {
	n := named{name, report}
	text := fmt.Sprintf("that of %s is %v from this machine's", whose, skew.Abs().Round(time.Millisecond))
	const hint = "keep clocks in step, as with chrony or systemd-timesyncd"
	switch {
	case skew.Abs() > maxSkew:
		n.fail(hint, "%s: logins will be refused", text)
	case skew.Abs() > warnSkew:
		n.warn(hint, "%s", text)
	default:
		n.pass("%s at most", text)
	}
}

func durability(servers []serverStatus, n named) {
	for _, s := range servers {
		c := s.Data.JetStream.Config
		if c == nil {
			n.fail("", "%s has no JetStream", s.Server.Name)
			return
		}
		if !c.SyncAlways {
			n.warn("set sync_interval: always in its jetstream block", "%s acknowledges up to %v before it writes to disk: a power failure loses that", s.Server.Name, c.SyncInterval)
			return
		}
	}
	n.pass("synced before it is acknowledged")
}

// quorum holds the servers that answered against those that the cluster's leader knows of.
func quorum(servers []serverStatus, n named) {
	there := map[string]bool{}
	for _, s := range servers {
		there[s.Server.Name] = true
	}
	for _, s := range servers {
		m := s.Data.JetStream.Meta
		if m == nil || m.Leader != s.Server.Name {
			continue
		}
		var off []string
		for _, r := range m.Replicas {
			if !there[r.Name] {
				off = append(off, r.Name)
			}
		}
		all := len(m.Replicas) + 1
		if 2*(all-len(off)) <= all { // one that was left alone still takes itself for the leader
			n.fail("most servers of the cluster have to be there", "%d of %d servers are there; not %s: nothing can be written, nobody is let in", all-len(off), all, strings.Join(off, ", "))
			return
		}
		if len(off) > 0 {
			n.warn("bring them back: the next loss may cost the quorum", "%d of %d servers are there; not %s", all-len(off), all, strings.Join(off, ", "))
			return
		}
		n.pass("%d of %d servers, led by %s", all, all, m.Leader)
		return
	}
	meta := servers[0].Data.JetStream.Meta
	if meta == nil {
		n.pass("a server by itself")
		return
	}
	n.fail("most servers of the cluster have to be there", "%d of %d servers are there, and no leader: nothing can be written, nobody is let in", len(servers), max(meta.Size, len(servers)))
}

// Look is how a store is looked at.
type Look struct {
	Repair bool // mend what can be mended
	Served bool // it is certainly the store that the service serves from
	Report func(Check)
}

// Streams looks at the copies of the store's buckets and of the rooms' streams, and holds the streams
// against the rooms; those that are missing are made in a repair.
func Streams(ctx context.Context, a Access, servers string, s store.Backend, look Look) {
	report, repair := look.Report, look.Repair
	n := named{"replicas", report}
	nc, err := a.Dial(servers)
	if err != nil {
		n.fail("", "%v", err)
		return
	}
	defer nc.Close()
	want := map[string]*store.Room{} // streams that are or may be there; nil for those of archived rooms
	for r, err := range s.Rooms(ctx, crypto.ID{}) {
		if err != nil {
			n.fail("", "the rooms cannot be listed: %v", err)
			return
		}
		if r.Archived {
			want[bus.StreamName(r.ID)] = nil
		} else if r.Policy.Stored() {
			want[bus.StreamName(r.ID)] = &r
		}
	}
	found, err := replicas(ctx, nc, a.step(), n)
	if err != nil {
		n.fail("", "the streams cannot be listed: %v", err)
		return
	}
	mend := func(r store.Room) error {
		step, cancel := context.WithTimeout(ctx, a.step())
		defer cancel()
		return ensure(step, nc, s, r)
	}
	form(want, found, repair, mend, named{"stream settings", report})
	var orphans []string
	for _, f := range found {
		name := f.name
		if _, known := want[name]; !known && strings.HasPrefix(name, "UNIBUS_") {
			orphans = append(orphans, name)
		}
		delete(want, name)
	}
	missing, err := complete(want, repair, mend)
	n = named{"streams", report}
	switch {
	case err != nil:
		n.fail("", "%v", err)
	case len(missing) > 0 && repair:
		n.pass("made for rooms without: %s", bus.Few(missing))
	case len(missing) > 0:
		n.fail("unibus doctor --repair, or restart unibus serve: it makes them", "rooms without their stream: %s", bus.Few(missing))
	case len(orphans) > 0:
		n.warn(look.orphanHint(), "streams without a room in this store: %s", bus.Few(orphans))
	default:
		n.pass("one for every stored room, and no other")
	}
}

// orphanHint is what to do about streams whose rooms are not in the store that was looked at.
func (l *Look) orphanHint() string {
	if l.Served {
		return "look at them, and remove them with nats stream rm"
	}
	return "leave them: if the service serves from another store, its rooms are there"
}

// streamForm is a stream that is there.
type streamForm struct {
	name   string
	config jetstream.StreamConfig
}

// Copies are behind for a moment whenever something is stored: it is looked again at those that were.
const (
	behindLooks = 5
	behindWait  = 300 * time.Millisecond
)

// stillBehind returns those of some streams whose copies are not current at any of a few more looks.
func stillBehind(ctx context.Context, js jetstream.JetStream, behind []string) ([]string, error) {
	for range behindLooks {
		if len(behind) == 0 {
			break
		}
		if err := tasks.Pause(ctx, behindWait); err != nil {
			return nil, err
		}
		behind = slices.DeleteFunc(behind, func(name string) bool {
			s, err := js.Stream(ctx, name)
			return err == nil && bus.Current(s.CachedInfo())
		})
	}
	return behind, nil
}

// replicas looks at the copies of all streams that are a bus's, and returns what streams there are.
func replicas(ctx context.Context, nc *nats.Conn, step time.Duration, n named) (found []streamForm, err error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(step))
	if err != nil {
		return nil, err
	}
	counts := map[int]int{}
	var behind []string
	list := js.ListStreams(ctx)
	for info := range list.Info() {
		name := info.Config.Name
		if !ours(name) {
			continue
		}
		found = append(found, streamForm{name, info.Config})
		counts[info.Config.Replicas]++
		if !bus.Current(info) {
			behind = append(behind, name)
		}
	}
	if err := list.Err(); err != nil {
		return nil, err
	}
	if behind, err = stillBehind(ctx, js, behind); err != nil {
		return nil, err
	}
	switch {
	case len(behind) > 0:
		n.warn("wait, or bring the servers back that are missing", "not current on every server: %s: %s", english.Plural(len(behind), "stream", ""), bus.Few(behind))
	case len(counts) > 1:
		var parts []string
		for _, replicas := range slices.Sorted(maps.Keys(counts)) {
			parts = append(parts, fmt.Sprintf("%d on %d", counts[replicas], replicas))
		}
		n.warn("unibus store scale --replicas N", "streams are kept on different numbers of servers: %s", strings.Join(parts, ", "))
	default:
		for replicas, streams := range counts {
			n.pass("%s, each on %d", english.Plural(streams, "stream", ""), replicas)
		}
	}
	return found, nil
}

// complete names the rooms whose stream is not there, and with repair makes it.
func complete(want map[string]*store.Room, repair bool, ensure func(store.Room) error) (missing []string, err error) {
	for _, r := range want {
		if r == nil {
			continue
		}
		missing = append(missing, r.Subject)
		if !repair {
			continue
		}
		if err := ensure(*r); err != nil {
			return missing, err
		}
	}
	return missing, nil
}

// ensure makes the stream of a room.
func ensure(ctx context.Context, nc *nats.Conn, s store.Backend, r store.Room) error {
	replicas := func(context.Context) (int, error) { return 1, nil }
	if kept, ok := s.(interface {
		Replicas(context.Context) (int, error)
	}); ok {
		replicas = kept.Replicas
	}
	streams, err := bus.NewStreams(nc, replicas)
	if err != nil {
		return err
	}
	return streams.Ensure(ctx, r.ID, func(ctx context.Context) (ledger.Policy, error) {
		state, err := store.Load(ctx, s, r.ID)
		if err == nil && state.Room == nil {
			err = fmt.Errorf("%w: the log %s is of no room", store.ErrDamaged, r.ID)
		}
		if err != nil {
			return ledger.Policy{}, err
		}
		return state.Room.Policy, nil
	})
}

// Views checks every log by the rules and every view against its log; in a repair the views are
// written anew. It also tells of stale rooms and of those with a single owner.
func Views(ctx context.Context, s store.Backend, look Look) {
	report, repair := look.Report, look.Repair
	n := named{"views", report}
	var mu sync.Mutex
	var broken, ended, sole, stale, keyless []string
	wrong, rooms, without := 0, 0, 0
	compare := s.Differs
	if repair {
		compare = s.Rebuild
	}
	users, err := allowlist(ctx, s)
	if err != nil {
		n.fail(backOf(s)+"; what is damaged is not repaired", "%v", err)
		return
	}
	now := time.Now()
	logs, err := eachLog(ctx, s, func(ctx context.Context, log crypto.ID) error {
		state, err := store.Load(ctx, s, log)
		w, lack := 0, 0
		if err == nil {
			w, err = compare(ctx, state)
		}
		if err == nil && (w == 0 || repair) {
			lack, err = withoutKey(ctx, s, state)
		}
		mu.Lock()
		defer mu.Unlock()
		wrong += w
		switch {
		case errors.Is(err, store.ErrShort):
			ended = append(ended, err.Error())
			return nil
		case errors.Is(err, store.ErrDamaged):
			broken = append(broken, err.Error())
			return nil
		case errors.Is(err, store.ErrConflict): // it has grown just now, and its views with it
			return nil
		}
		if err != nil || state.Room == nil || state.Room.Archived != 0 {
			return err
		}
		rooms++
		if without += lack; lack > 0 {
			keyless = append(keyless, state.Room.Subject)
		}
		if owners(state.Room) == 1 {
			sole = append(sole, state.Room.Subject)
		}
		if ledger.Stale(state.Room, users, now) {
			stale = append(stale, state.Room.Subject)
		}
		return nil
	})
	switch {
	case err != nil:
		n.fail("", "%v", err)
	case len(broken) > 0:
		n.fail(backOf(s)+"; what is damaged is not repaired", "%s", bus.Few(broken))
	case len(ended) > 0:
		n.fail(backOf(s)+"; or take what is there for all there is: unibus doctor --repair", "%s", bus.Few(ended))
	case wrong > 0 && repair:
		n.pass("%s were wrong and are right now, in %s", english.Plural(wrong, "record", ""), english.Plural(logs, "log", ""))
	case wrong > 0:
		behind, err := s.Behind(ctx)
		if err != nil {
			n.fail("", "%v", err)
			return
		}
		n.fail("unibus doctor --repair", "%s are not what the logs say; %d of %s are ahead of their views", english.Plural(wrong, "record", ""), len(behind), english.Plural(logs, "log", ""))
	default:
		n.pass("all of %s as they say", english.Plural(logs, "log", ""))
	}
	if err == nil {
		n = named{"room keys", report}
		if len(keyless) > 0 {
			n.fail("an owner or admin of each: unibus rekey ROOM", "%s without a copy of their room's key: %s", english.Plural(without, "member", ""), bus.Few(keyless))
		} else {
			n.pass("there for every member of a room")
		}
		RoomChecks(rooms, stale, sole, report)
	}
}

// withoutKey counts the members of a room to whom nobody has sealed its newest key.
func withoutKey(ctx context.Context, s store.Backend, state *ledger.State) (n int, err error) {
	if state.Room == nil || state.Room.Archived != 0 || !state.Room.Policy.Encrypted() {
		return 0, nil
	}
	members, newest := state.Room.Members(), state.Room.Epoch().Number
	for k, err := range s.Sealed(ctx, state.ID) {
		if err != nil {
			return 0, err
		}
		if k.Epoch == newest {
			delete(members, k.Endpoint)
		}
	}
	return len(members), nil
}

// Cards verifies the card of everyone: without one nobody seals a room's key to its owner, and no room that they are
// in gets another key.
func Cards(ctx context.Context, s store.Backend, look Look) {
	n := named{"cards", look.Report}
	var broken []string
	all := 0
	for card, err := range s.AllCards(ctx) {
		if err == nil {
			all++
			if _, err := crypto.OpenCard(card.Statement, card.Endpoint); err != nil {
				broken = append(broken, card.Endpoint.String())
			}
			continue
		}
		n.fail("", "%v", err)
		return
	}
	if len(broken) > 0 {
		n.fail("those they are of put them there again with unibus join", "%d of %d are not what was signed: %s", len(broken), all, bus.Few(broken))
		return
	}
	n.pass("%d, each signed by whose it is", all)
}

// allowlist is the bus as its log says.
func allowlist(ctx context.Context, s store.Log) (*ledger.Bus, error) {
	id, err := BusOf(ctx, s)
	if err != nil {
		return nil, err
	}
	state, err := store.Load(ctx, s, id)
	if err != nil {
		return nil, err
	}
	return state.Bus, nil
}

func owners(r *ledger.Room) (n int) {
	for _, role := range r.Members() {
		if role == ledger.RoleOwner {
			n++
		}
	}
	return n
}

// backOf is what helps with a store that is damaged: what other servers hold, or a backup.
func backOf(s store.Backend) string {
	if _, ok := s.(records); ok {
		return BackToServers
	}
	return back
}

// BackToServers is what helps with a store in NATS servers that is damaged.
const BackToServers = "without other servers bring back a backup into one that keeps no bus: unibus restore ARCHIVE --store nats://HOST; else " + bus.Recopy

// back is what helps with a file that is damaged.
const back = "bring back a backup into a new file: unibus restore ARCHIVE --store sqlite:NEW, and serve that: unibus serve --store sqlite:NEW"

// file is a store that is kept in a file, with what was acknowledged beside it.
type file interface {
	CheckFile(ctx context.Context) error
	CheckHeads(ctx context.Context) error
	Unrecorded(ctx context.Context) (int, error)
	ResetHeads(ctx context.Context) error
}

// records is a store whose servers may not be able to read all that they have.
type records interface {
	CheckRecords(ctx context.Context) error
}

// Kept looks at the file that a store is kept in, and at whether it holds what was acknowledged; or at whether the servers
// can read all that they have.
func Kept(ctx context.Context, s store.Backend, look Look) {
	if r, ok := s.(records); ok {
		n := named{"records", look.Report}
		if err := r.CheckRecords(ctx); err != nil {
			n.fail(backOf(s), "%v", err)
			return
		}
		n.pass("the servers can read all that they keep")
	}
	f, ok := s.(file)
	if !ok {
		return
	}
	n := named{"database", look.Report}
	if err := f.CheckFile(ctx); err != nil {
		n.fail(back, "%v", err)
		return
	}
	unrecorded := 0
	err := f.CheckHeads(ctx)
	if err == nil {
		unrecorded, err = f.Unrecorded(ctx)
	}
	switch {
	case unrecorded > 0:
		n.warn("serve records it when it starts", "whole; but nothing says what was acknowledged of %s: that it is an older copy would not be noticed", english.Plural(unrecorded, "log", ""))
	case err == nil:
		n.pass("whole, and with all that was acknowledged")
	case !look.Repair:
		n.fail(back+"; or take what is there for all there is: unibus doctor --repair", "%v", err)
	default:
		if reset := f.ResetHeads(ctx); reset != nil {
			n.fail(back, "%v", errors.Join(err, reset))
			return
		}
		n.warn("", "what is there is taken for all there is (%v)", err)
	}
}

// RoomChecks reports on stale rooms and those with a single owner, of a number of rooms.
func RoomChecks(total int, stale, sole []string, report func(Check)) {
	n := named{"stale rooms", report}
	if len(stale) > 0 {
		n.warn("their owners and admins: unibus rekey --stale", "%d of %d: %s", len(stale), total, bus.Few(stale))
	} else {
		n.pass("none of %d", total)
	}
	n = named{"owners", report}
	if len(sole) > 0 {
		n.warn("a second owner: unibus role ROOM USER owner", "a single one in %d of %d: %s", len(sole), total, bus.Few(sole))
	} else {
		n.pass("no room depends on a single one")
	}
}
