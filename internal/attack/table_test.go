package attack

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
)

// attacker is someone who is connected, with all the rights that person has.
type attacker struct {
	*Peer
	name     string
	on       bool           // the bus, not only at its door
	in       chan *nats.Msg // all that the attacker's own inbox is sent
	refusals chan error     // by the server
	requests []request      // that the attacker may make
}

// request is one that somebody may make.
type request struct {
	name   string
	make   func() *nats.Msg
	stores bool // a message, in the attackers' own room
	answer string
}

// attackers are all kinds of people who are merely connected.
var attackers = []string{"stranger", "roomless", "reader", "member", "admin", "kicked", "revoked"}

// attacker connects one of them. Who is not on the allowlist, or not any more, may still say hello; who was
// kicked logs in as signed before.
func (w *world) attacker(name string) *attacker {
	w.Helper()
	a := &attacker{name: name, on: name != "stranger" && name != "revoked", refusals: make(chan error, 4096)}
	refused := nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { a.refusals <- err })
	id := w.attackers[name]
	if a.on {
		a.Peer = w.dial(Options{Identity: id, Rooms: w.rooms(), Login: w.old[name], Nats: []nats.Option{refused}})
	} else {
		a.Peer = w.stranger(id, refused)
	}
	a.in = w.tap(a.Peer, bus.InboxPrefix(a.Inbox)+".>")
	a.requests = w.requests(a)
	return a
}

func (a *attacker) writes() bool { return a.name == "member" || a.name == "admin" }

// den is the subject of what the attacker stores in the attackers' room.
func (w *world) denOf(a *attacker) string { return bus.StoredSubject(w.den.stored.ID(), a.ID.Key()) }

// requests are all that an attacker may ask for, of each kind that is answered in another way.
func (w *world) requests(a *attacker) []request {
	if !a.on {
		return []request{{name: "hello", answer: `"founded"`, make: func() *nats.Msg {
			return &nats.Msg{Subject: bus.HelloSubject(a.Inbox), Data: []byte(`{}`)}
		}}}
	}
	api := func(method, path, body string) func() *nats.Msg {
		return func() *nats.Msg {
			m, err := a.Request(method, path, []byte(body))
			w.must(err)
			return m
		}
	}
	list := []request{
		{name: "GET /bus", make: api(http.MethodGet, "/bus", ""), answer: `"founded"`},
		{name: "GET nothing", make: api(http.MethodGet, "/", ""), answer: "no such route"},
		{name: "GET the past", make: api(http.MethodGet, "/rooms/"+w.den.stored.ID().String()+"/frames", "")},
	}
	if !a.writes() {
		return list
	}
	wrong := nats.Header{nats.ExpectedLastSeqHdr: {"9007199254740991"}}
	return append(list,
		request{name: "store", stores: true, answer: `"seq"`, make: func() *nats.Msg {
			return &nats.Msg{Subject: w.denOf(a), Data: []byte("x")}
		}},
		request{name: "store at a wrong place", answer: "wrong last sequence", make: func() *nats.Msg {
			return &nats.Msg{Subject: w.denOf(a), Data: []byte("x"), Header: wrong}
		}},
		request{name: "publish live", make: func() *nats.Msg {
			return &nats.Msg{Subject: bus.LiveSubject(w.den.live.ID(), a.ID.Key()), Data: []byte("x")}
		}},
	)
}

// subject is one that is not the attacker's to use, with what would do harm there.
type subject struct {
	text string
	data string
}

// subjects are those of every class that there is: JetStream, buckets, the servers themselves, the service,
// other people, and what servers and libraries use between themselves.
func (w *world) subjects(a *attacker) []subject {
	out := w.storeSubjects(a)
	server := w.store.ConnectedServerId()
	out = append(out, []subject{
		{"$SYS.REQ.SERVER.PING.CONNZ", `{"auth":true}`},
		{"$SYS.REQ.SERVER." + server + ".KICK", `{"cid":1}`},
		{"$SYS.REQ.SERVER." + server + ".RELOAD", ""},
		{"$SYS.REQ.ACCOUNT.PING.CONNZ", "{}"},
		{"$SYS.REQ.ACCOUNT.BUS.CONNZ", "{}"},
		{"$SYS.REQ.USER.INFO", ""},
		{"$SYS.REQ.USER.AUTH", "{}"},
		{"$SYS.REQ.CLAIMS.UPDATE", "{}"},
		{"$SYS.SERVER." + server + ".SHUTDOWN", "{}"},
		{"$SYS.ACCOUNT.BUS.CONNECT", "{}"},
	}...)
	out = append(out, w.peopleSubjects(a.ID.Key())...)
	return append(out, []subject{
		{bus.APISubject(a.Inbox), "{}"},
		{"_R_.x.y", "{}"},
		{"_GR_.x.y", "{}"},
		{"$SRV.PING", ""},
		{"$MQTT.sub.x", "x"},
		{"$NRG.V.x", "x"},
		{"anything", "x"},
	}...)
}

// storeSubjects are those of JetStream and of the buckets.
func (w *world) storeSubjects(a *attacker) []subject {
	stream, key, log := bus.StreamName(w.shared.stored.ID()), w.bobID.Key(), w.alice.Bus().String()
	steal, err := json.Marshal(map[string]any{"stream_name": stream, "config": map[string]any{
		"durable_name": "evil", "deliver_subject": bus.InboxPrefix(a.Inbox) + ".stolen", "ack_policy": "none",
	}})
	w.must(err)
	return []subject{
		{"$JS.API.STREAM.DELETE." + stream, ""},
		{"$JS.API.STREAM.PURGE." + stream, ""},
		{"$JS.API.STREAM.UPDATE." + stream, `{"name":"` + stream + `","subjects":["evil"],"max_msgs":1}`},
		{"$JS.API.STREAM.CREATE.EVIL", `{"name":"EVIL","subjects":["evil"],"num_replicas":1}`},
		{"$JS.API.STREAM.MSG.DELETE." + stream, `{"seq":1}`},
		{"$JS.API.STREAM.MSG.GET." + stream, `{"seq":1}`},
		{"$JS.API.STREAM.DELETE.KV_unibus_log", ""},
		{"$JS.API.CONSUMER.CREATE." + stream, string(steal)},
		{"$JS.API.CONSUMER.DURABLE.CREATE." + stream + ".evil", string(steal)},
		{"$JS.API.DIRECT.GET." + stream, `{"seq":1,"batch":1000}`},
		{"$JS.API.META.LEADER.STEPDOWN", ""},
		{"$JS.API.META.RESCUE", "{}"},
		{"$JS.API.ACCOUNT.PURGE.STORE", ""},
		{"$JS.API.INFO", ""},
		{"$JS.ACK." + stream + ".evil.1.1.1.1.0", "+ACK"},
		{"$KV.unibus_log." + log + ".1", "{}"},
		{"$KV.unibus_log." + log + ".9", "{}"},
		{"$KV.unibus_users." + key.String(), "{}"},
		{"$KV.unibus_users._barrier", "{}"},
		{"$KV.unibus_rooms." + w.shared.stored.ID().String(), "{}"},
	}
}

// peopleSubjects are those of the service, and of bob and his rooms; self is the attacker.
func (w *world) peopleSubjects(self crypto.PublicKey) []subject {
	key := w.bobID.Key()
	return []subject{
		{bus.APISubject(w.bob.Inbox), "{}"},
		{"unibus.svc.card", "{}"},
		{bus.HelloSubject(w.bob.Inbox), "{}"},
		{bus.StoredSubject(w.shared.stored.ID(), key), "x"},
		{bus.StoredSubject(w.closed.stored.ID(), key), "x"},
		{bus.StoredSubject(w.closed.stored.ID(), self), "x"},
		{bus.LiveSubject(w.shared.stored.ID(), key), "x"},
		{bus.LiveSubject(w.shared.stored.ID(), self), "x"},
		{bus.LiveSubject(w.shared.live.ID(), key), "x"},
		{bus.LiveSubject(w.closed.stored.ID(), key), "x"},
		{bus.LiveSubject(w.closed.live.ID(), self), "x"},
		{bus.NoticeSubject(key), `{"seq":9}`},
		{bus.InboxPrefix(w.bob.Inbox) + ".x", "{}"},
	}
}

// reserved are replies that no client may name: the server takes nothing that does.
func reserved(reply string) bool {
	return strings.HasPrefix(reply, "_R_") || strings.HasPrefix(reply, "_GR_") || strings.HasPrefix(reply, "$JS.ACK")
}

// refused waits until the server has refused n things, and checks that it has not refused more.
func (w *trial) refused(a *attacker, n int) {
	w.Helper()
	for i := range n {
		select {
		case err := <-a.refusals:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				w.Errorf("%s: %v", a.name, err)
			}
		case <-time.After(soon):
			w.Fatalf("%s was refused %d times, not %d", a.name, i, n)
		}
	}
	select {
	case err := <-a.refusals:
		w.Errorf("%s was refused once more: %v", a.name, err)
	default:
	}
}

// TestConnected lets everyone who is merely connected try everything that is not theirs, in every way in which
// a subject can be named, with every kind of store: and nothing changes for anyone else.
func TestConnected(t *testing.T) {
	ways := []struct {
		name string
		try  func(w *world, a *attacker)
	}{
		{"publication", publish}, {"subscription", subscribe}, {"reply subject", nameReplies}, {"trace destination", nameTraces},
	}
	for _, kind := range stores {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t, kind)
			for _, way := range ways {
				for _, name := range attackers {
					w.part(t, name+" "+way.name, func(w *world) { way.try(w, w.attacker(name)) })
				}
			}
		})
	}
}

// part runs a subtest in the same world.
func (w *world) part(t *testing.T, name string, f func(w *world)) {
	t.Run(name, func(t *testing.T) {
		within := *w
		within.T = t
		f(&within)
	})
}

// publish: an attacker publishes to everything that is not theirs, each time with something
// that would do harm there, and asks to be answered.
func publish(w *world, a *attacker) {
	before := w.picture()
	drain(w.bobs)
	refused := 0
	for _, s := range w.subjects(a) {
		if s.text != bus.APISubject(a.Inbox) || !a.on {
			refused++
		}
		w.must(a.PublishRequest(s.text, bus.InboxPrefix(a.Inbox)+".answer", []byte(s.data)))
	}
	w.must(a.Flush())
	w.refused(a, refused)
	w.settle()
	w.must(a.Flush())
	w.unchanged(before, "")
	for _, m := range drain(a.in) {
		w.Errorf("%s is answered on %s: %q", a.name, m.Subject, m.Data)
	}
	w.onlyAnswers(drain(w.bobs))
	w.lifeGoesOn()
}

// onlyAnswers checks that bob was sent nothing but the answers that he has asked for.
func (w *world) onlyAnswers(sent []*nats.Msg) {
	w.Helper()
	for _, m := range sent {
		if m.Header.Get("Status") == "" {
			w.Errorf("bob is sent, on %s: %q", m.Subject, m.Data)
		}
	}
}

// subscribe: an attacker subscribes to everything that is not theirs, alone, as one of the
// service's own queue group, and by every pattern that contains it. Then the others go about their business.
func subscribe(w *world, a *attacker) {
	closed, key := w.closed.stored.ID().String(), w.bobID.Key().String()
	subjects := []string{
		">", "*", "*.*", "*.*.*", "*.*.*.*", "*.*.>", "$JS.>", "$JS.API.>", "$JS.EVENT.>", "$JS.ACK.>", "$KV.>", "$KV.unibus_log.>",
		"$SYS.>", "$SYS.REQ.USER.AUTH", "$SYS.ACCOUNT.>", "$SRV.>", "_R_.>", "_GR_.>", "$MQTT.>", "$NRG.>",
		"unibus.>", "unibus.*", "unibus.*.*", "unibus.*.*.*", "unibus.api", "unibus.api.*", "unibus.api.>", bus.APISubject(w.bob.Inbox), "unibus.svc.>", "unibus.hello.>", "unibus.hello.*",
		"unibus.s.>", "unibus.s.*.*", "unibus.s." + closed + ".*", bus.StoredSubject(w.den.stored.ID(), a.ID.Key()),
		"unibus.r.>", "unibus.r.*.*", "unibus.r.*.>", "unibus.r." + closed + ".*", "unibus.r." + closed + ".>", "unibus.r." + closed + "." + key,
		"unibus.r.*." + key, "unibus.n.>", "unibus.n.*", "unibus.n." + key,
		"_INBOX.>", "_INBOX.*", "_INBOX.*.>", "_INBOX.*.*.*", bus.InboxPrefix(w.bob.Inbox) + ".>", bus.InboxPrefix(w.bob.Inbox) + ".*.*",
	}
	stolen := make(chan *nats.Msg, 4096)
	for _, s := range subjects {
		for _, queue := range []string{"", "unibus"} {
			_, err := a.ChanQueueSubscribe(s, queue, stolen)
			w.must(err)
		}
	}
	w.must(a.Flush())
	w.refused(a, 2*len(subjects))
	w.lifeGoesOn()
	w.must(a.Flush())
	for _, m := range drain(stolen) {
		w.Errorf("%s gets, by a subscription to %s %s, on %s: %q", a.name, m.Sub.Subject, m.Sub.Queue, m.Subject, m.Data)
	}
}

// nameReplies: an attacker makes every request they may, and names, as where the answer should
// go, everything that is not theirs. NATS checks no permission there: whoever answers publishes with rights
// of their own (SPEC.md §7).
//
// That a reply subject of hello and of a stored message never arrives as it was written rests on what the
// servers make of it on its way through an import with a wildcard, in one direction on the account it
// comes from, and in the other on a subject below _R_. That is documented nowhere: this test has to pass
// with every new version of the server before it is used.
func nameReplies(w *world, a *attacker) {
	before, stored := w.picture(), 0
	for _, r := range a.requests {
		w.part(w.T, r.name, func(w *world) {
			if sent := w.forge(a, r); r.stores {
				stored += sent
			}
		})
	}
	if n := w.unchanged(before, w.denOf(a)); n != stored {
		w.Errorf("%d messages are stored, of %d", n, stored)
	}
	w.lifeGoesOn()
}

// forge makes a request with every reply subject, and counts those that the server has taken.
func (w *world) forge(a *attacker, r request) (sent int) {
	if r.answer != "" { // it is a request that is answered, when it is made properly
		if m, err := a.RequestMsgWithContext(w.ctx, r.make()); err != nil || !strings.Contains(string(m.Data), r.answer) {
			w.Fatalf("the answer is %v, %v", m, err)
		}
	}
	drain(w.bobs)
	drain(a.in)
	for _, s := range w.subjects(a) {
		m := r.make()
		m.Reply = s.text
		w.must(a.PublishMsg(m))
		if !reserved(s.text) {
			sent++
		}
	}
	w.must(a.Flush())
	w.refused(a, len(w.subjects(a))-sent)
	w.settle()
	w.must(a.Flush())
	for _, m := range drain(a.in) {
		w.Errorf("%s is answered on %s: %q", a.name, m.Subject, m.Data)
	}
	for _, m := range drain(w.bobs) {
		if m.Header.Get("Status") == "" && !(a.writes() && acknowledgement(m)) {
			w.Errorf("bob is sent, on %s: %q", m.Subject, m.Data)
		}
	}
	if r.answer != "" {
		sent++ // the proper one
	}
	return sent
}

// acknowledgement reports whether a message is what a stream answers to a publication: the one thing that a
// writer can have sent to others, and that means nothing to them.
func acknowledgement(m *nats.Msg) bool {
	var ack struct {
		Stream string
		Error  any
	}
	return json.Unmarshal(m.Data, &ack) == nil && len(m.Data) < 200 && (strings.HasPrefix(ack.Stream, "UNIBUS_") || ack.Error != nil)
}

// traces are headers that ask for a report.
func traces(to, own string) []nats.Header {
	return []nats.Header{
		{"Nats-Trace-Dest": {to}},
		{"Nats-Trace-Dest": {to}, "Nats-Trace-Only": {"true"}},
		{"Nats-Trace-Dest": {to, to}},
		{"Nats-Trace-Dest": {own, to}},
		{"Nats-Trace-Dest": {to, to}, "Nats-Trace-Origin-Account": {"STORE"}},
		{"Nats-Trace-Dest": {to}, "Nats-Trace-Hop": {"1"}},
		{"Nats-Trace-Dest": {to}, "traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}},
	}
}

// nameTraces: a message may ask the servers to report where it went, on a subject of the sender's
// choice. Whoever may publish asks for reports everywhere, openly and in ways meant to get past the check.
func nameTraces(w *world, a *attacker) {
	before := w.picture()
	drain(w.bobs)
	for i, r := range a.requests {
		if i > 0 && strings.HasPrefix(r.name, "GET") {
			continue // one publication to the API is like another
		}
		for _, s := range w.subjects(a) {
			for _, h := range traces(s.text, bus.APISubject(a.Inbox)) {
				m := r.make()
				if m.Header == nil {
					m.Header = nats.Header{}
				}
				for k, v := range h {
					m.Header[k] = v
				}
				m.Reply = "" // nobody is to answer: what comes is a report
				w.must(a.PublishMsg(m))
			}
		}
	}
	w.must(a.Flush())
	w.settle()
	w.must(a.Flush())
	w.unchanged(before, w.denOf(a))
	for _, m := range drain(a.in) {
		w.Errorf("%s is answered on %s: %q", a.name, m.Subject, m.Data)
	}
	w.onlyAnswers(drain(w.bobs))
	w.lifeGoesOn()
}
