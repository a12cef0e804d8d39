package service

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.yaml.in/yaml/v3"

	"github.com/unibus/unibus/internal/attack"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/storetest"
)

// TestOpenAPIAnswers: every route answers with the statuses, headers and fields that docs/openapi.yaml has for it, no
// other, and all of them.
func TestOpenAPIAnswers(t *testing.T) {
	n, admin := node(t, "")
	bob := person(t, 'b')
	c := &caller{t: t, peer: mustDial(t, n, admin, n.Bus), doc: readDescription(t), admin: admin}
	c.logs(n, bob)
	c.keysAndCards(bob)
	c.listings(n, bob)
	c.overHTTP(n.HTTP)
	c.problems()
	c.doc.missing()
}

// caller asks the API of a bus as its admin, and holds each answer against the description.
type caller struct {
	t     *testing.T
	peer  *attack.Peer
	doc   *description
	admin *crypto.Identity

	room, archived *ledger.State
}

// ask asks over NATS, by a route of the description and the path that is one of it.
func (c *caller) ask(route, path string, in any, want int) []byte {
	c.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		c.t.Fatal(err)
	}
	method, _, _ := strings.Cut(route, " ")
	m, err := c.peer.Request(method, path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	answer, err := c.peer.RequestMsgWithContext(c.t.Context(), m)
	if err != nil {
		c.t.Fatal(err)
	}
	if got := answer.Header.Get("Status"); got != strconv.Itoa(want) {
		c.t.Fatalf("%s (%s): %s %s, not %d", route, path, got, answer.Data, want)
	}
	c.doc.answer(route, want, http.Header(answer.Header), answer.Data)
	if method == http.MethodGet {
		c.askHead(path, answer)
	}
	return answer.Data
}

// askHead asks for what a GET was answered with, but for its body.
func (c *caller) askHead(path string, got *nats.Msg) {
	c.t.Helper()
	m, err := c.peer.Request(http.MethodHead, path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	answer, err := c.peer.RequestMsgWithContext(c.t.Context(), m)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, name := range []string{"Status", "Content-Type", "First", "Last"} {
		if answer.Header.Get(name) != got.Header.Get(name) {
			c.t.Errorf("HEAD %s: the %s is %q, and that of GET %q", path, name, answer.Header.Get(name), got.Header.Get(name))
		}
	}
	if len(answer.Data) > 0 {
		c.t.Errorf("HEAD %s is answered with a body: %s", path, answer.Data)
	}
}

// enter offers the next entry of a log that the caller follows.
func (c *caller) enter(log *ledger.State, body ledger.Body) []byte {
	c.t.Helper()
	statement, err := log.Next(c.admin, body, time.Now())
	if err != nil {
		c.t.Fatal(err)
	}
	route, path := "POST /logs/{log}", "/logs/"+log.ID.String()
	if log.Head.Seq == 0 {
		route, path = "POST /logs", "/logs"
	}
	c.ask(route, path, store.EntryBody{Entry: statement}, http.StatusCreated)
	if _, err := storetest.Advance(log, statement); err != nil {
		c.t.Fatal(err)
	}
	return statement
}

// create makes a room with the default policy.
func (c *caller) create(subject string) *ledger.State {
	room, commit := new(ledger.State), crypto.RoomKey{1}.Commit(1)
	c.enter(room, &ledger.Create{Bus: c.peer.Bus, Subject: subject, Policy: ledger.DefaultPolicy(), Nonce: make([]byte, 16), Commit: &commit})
	return room
}

// logs makes a bus with a member, one who is revoked, a room and one that is archived.
func (c *caller) logs(n *Node, bob *crypto.Identity) {
	founded, err := store.Load(c.t.Context(), n.store, n.Bus)
	if err != nil {
		c.t.Fatal(err)
	}
	until := crypto.Number(time.Now().Add(time.Hour).Unix())
	c.enter(founded, &ledger.Add{Users: []ledger.NewUser{{Key: bob.Key(), Name: "bob", Role: ledger.RoleUser, Expires: &until}}})
	carol := person(c.t, 'c').Key()
	c.enter(founded, &ledger.Add{Users: []ledger.NewUser{{Key: carol, Name: "carol", Role: ledger.RoleUser}}})
	c.enter(founded, &ledger.Revoke{Keys: []crypto.PublicKey{carol}})

	c.room, c.archived = c.create("described"), c.create("described.no.more")
	c.enter(c.archived, &ledger.Archive{})
	late, err := c.room.Next(c.admin, &ledger.Archive{}, time.Now())
	if err != nil {
		c.t.Fatal(err)
	}
	path := "/logs/" + c.room.ID.String()
	again := c.enter(c.room, &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleMember}}})
	c.ask("POST /logs/{log}", path, store.EntryBody{Entry: again}, http.StatusOK)
	c.ask("POST /logs/{log}", path, store.EntryBody{Entry: late}, http.StatusConflict)
	c.ask("GET /logs/{log}", path, nil, http.StatusOK)
	c.ask("POST /heads", "/heads", store.LogsBody{Logs: []crypto.ID{c.room.ID}}, http.StatusOK)
	c.ask("GET /bus", "/bus", nil, http.StatusOK)
}

// keysAndCards keeps a copy of the room's key, and a card.
func (c *caller) keysAndCards(bob *crypto.Identity) {
	keys := "/rooms/" + c.room.ID.String() + "/keys"
	c.ask("PUT /rooms/{room}/keys", keys, store.KeysBody{
		Epoch: 1, Commit: crypto.RoomKey{1}.Commit(1),
		Keys: []store.MembersCopy{{Endpoint: c.admin.Key(), Sealed: make([]byte, crypto.SealedSize)}},
	}, http.StatusNoContent)
	c.ask("GET /rooms/{room}/keys/{epoch}", keys+"/latest", nil, http.StatusOK)

	card, err := bob.Card()
	if err != nil {
		c.t.Fatal(err)
	}
	of := "/cards/" + bob.Key().String()
	c.ask("PUT /cards/{endpoint}", of, store.CardBody{Card: card}, http.StatusNoContent)
	c.ask("GET /cards/{endpoint}", of, nil, http.StatusOK)
	c.ask("POST /cards", "/cards", store.CardsBody{Cards: []store.Card{{Endpoint: bob.Key(), Statement: card}}}, http.StatusNoContent)
	c.ask("POST /cards/query", "/cards/query", store.EndpointsBody{Endpoints: []crypto.PublicKey{bob.Key()}}, http.StatusOK)
}

// listings reads rooms, members, users, and what a room stores.
func (c *caller) listings(n *Node, bob *crypto.Identity) {
	room := "/rooms/" + c.room.ID.String()
	c.ask("GET /members/{endpoint}/rooms", "/members/"+c.admin.Key().String()+"/rooms", nil, http.StatusOK)
	c.ask("GET /rooms", "/rooms", nil, http.StatusOK)
	c.ask("GET /rooms", "/rooms?subject=described", nil, http.StatusOK)
	c.ask("GET /rooms/{room}", room, nil, http.StatusOK)
	c.stored(n, bob)
	c.ask("GET /rooms/{room}/members", room+"/members", nil, http.StatusOK)
	c.ask("GET /users", "/users", nil, http.StatusOK)
	c.ask("GET /users/{endpoint}", "/users/"+bob.Key().String(), nil, http.StatusOK)
	c.ask("GET /rooms/{room}/frames", room+"/frames", nil, http.StatusOK)
	c.ask("GET /rooms/{room}", "/rooms/"+crypto.ID{1}.String(), nil, http.StatusNotFound)
}

// stored has a room keep frames of two, and somebody's that names nobody, and asks what it has stored.
func (c *caller) stored(n *Node, bob *crypto.Identity) {
	c.t.Helper()
	path := "/rooms/" + c.room.ID.String() + "?stream=1"
	asked := func() *store.Stream {
		c.t.Helper()
		var body store.RoomBody
		if err := json.Unmarshal(c.ask("GET /rooms/{room}", path, nil, http.StatusOK), &body); err != nil || body.Stream == nil {
			c.t.Fatalf("%+v, %v", body, err)
		}
		return body.Stream
	}
	if s := asked(); s.Frames != 0 || s.Began != nil || s.Time != nil || len(s.Writers) != 0 {
		c.t.Errorf("nothing is stored, and told is %+v", s)
	}
	for _, subject := range []string{
		bus.StoredSubject(c.room.ID, c.admin.Key()), bus.StoredSubject(c.room.ID, bob.Key()), bus.StoredSubject(c.room.ID, bob.Key()),
		"unibus.s." + c.room.ID.String() + ".nobody",
	} {
		if _, err := n.links.Store.RequestWithContext(c.t.Context(), subject, []byte("a frame")); err != nil {
			c.t.Fatal(err)
		}
	}
	s := asked()
	frames := map[crypto.PublicKey]uint64{}
	for _, w := range s.Writers {
		if frames[w.Endpoint] = w.Frames; w.Time == nil || w.Time.Before(*s.Began) || w.Time.After(*s.Time) {
			c.t.Errorf("the last frame of %s is of %v, of all of them %v to %v", w.Endpoint, w.Time, s.Began, s.Time)
		}
	}
	if s.Frames != 4 || s.First != 1 || s.Last != 4 || s.Bytes == 0 || len(frames) != 2 || frames[c.admin.Key()] != 1 || frames[bob.Key()] != 2 {
		c.t.Errorf("told is %+v", s)
	}
	for more, told := range map[string]bool{"": true, "?stream=1": true, "?stream=0": false} {
		raw := c.ask("GET /rooms/{room}", "/rooms/"+c.room.ID.String()+more, nil, http.StatusOK)
		bySubject := c.ask("GET /rooms", "/rooms?subject=described&"+strings.TrimPrefix(more, "?"), nil, http.StatusOK)
		for _, raw := range [][]byte{raw, bySubject} {
			if strings.Contains(string(raw), "writers") != told {
				c.t.Errorf("with %q told is %s", more, raw)
			}
		}
	}
}

// overHTTP asks for what is there over HTTP alone.
func (c *caller) overHTTP(address string) {
	for _, path := range []string{"/", "/healthz", "/metrics"} {
		answer, err := http.Get("http://" + address + path)
		if err != nil {
			c.t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			c.t.Fatal(err)
		}
		c.doc.answer("GET "+path, answer.StatusCode, answer.Header, body)
	}
	http.DefaultClient.CloseIdleConnections()
}

// problems holds the kinds and statuses that the service answers with against those that are described.
func (c *caller) problems() {
	served := map[string]bool{"unibus:unavailable": true, "503": true}
	for _, p := range problems {
		served["unibus:"+p.name], served[strconv.Itoa(p.status)] = true, true
	}
	fields := c.doc.at("components", "responses", "problem", "content", problemType, "schema", "properties")
	described := map[string]bool{}
	for _, name := range []string{"type", "status"} {
		enum := child(child(fields, name), "enum")
		if enum == nil {
			c.t.Fatalf("docs/openapi.yaml does not list what %s of problems there are", name)
		}
		for _, v := range enum.Content {
			described[v.Value] = true
			if !served[v.Value] {
				c.t.Errorf("docs/openapi.yaml has the %s %s of problems, which nothing answers with", name, v.Value)
			}
		}
	}
	for v := range served {
		if !described[v] {
			c.t.Errorf("docs/openapi.yaml lacks %s among types or statuses of problems", v)
		}
	}
}

// description is docs/openapi.yaml, and which of it answers have shown.
type description struct {
	t    *testing.T
	root *yaml.Node
	seen map[*yaml.Node]bool // responses, and properties of their bodies
}

func readDescription(t *testing.T) *description {
	return &description{t: t, root: openAPI(t).Content[0], seen: map[*yaml.Node]bool{}}
}

// at is what stands under keys, one in the other.
func (d *description) at(keys ...string) *yaml.Node {
	d.t.Helper()
	n := d.root
	for _, key := range keys {
		if n = d.resolve(child(n, key)); n == nil {
			d.t.Fatalf("docs/openapi.yaml has no %s", strings.Join(keys, " "))
		}
	}
	return n
}

// resolve follows a reference.
func (d *description) resolve(n *yaml.Node) *yaml.Node {
	if n == nil {
		return nil
	}
	ref := child(n, "$ref")
	if ref == nil {
		return n
	}
	return d.at(strings.Split(strings.TrimPrefix(ref.Value, "#/"), "/")...)
}

// answer holds an answer against what is described of its route. Errors may be described together, as default.
func (d *description) answer(route string, status int, header http.Header, body []byte) {
	d.t.Helper()
	method, path, _ := strings.Cut(route, " ")
	responses := d.at("paths", path, strings.ToLower(method), "responses")
	response := d.resolve(child(responses, strconv.Itoa(status)))
	if response == nil && status >= http.StatusBadRequest {
		response = d.resolve(child(responses, "default"))
	}
	if response == nil {
		d.t.Errorf("%s answers %d, which is not described", route, status)
		return
	}
	d.seen[response] = true
	for _, name := range []string{"First", "Last", "Lost"} {
		if _, ok := header[name]; ok && child(child(response, "headers"), name) == nil {
			d.t.Errorf("%s answers with the header %s, which is not described", route, name)
		}
	}
	content := child(response, "content")
	if content == nil {
		if len(body) > 0 {
			d.t.Errorf("%s answers %d with a body, which is not described: %s", route, status, body)
		}
		return
	}
	kind, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	media := child(content, kind)
	if media == nil {
		d.t.Errorf("%s answers %d with %q, which is not described", route, status, kind)
		return
	}
	if strings.HasSuffix(kind, "json") {
		var v any
		if err := json.Unmarshal(body, &v); err != nil {
			d.t.Errorf("%s: %v", route, err)
		}
		d.check(route, child(media, "schema"), v)
	}
}

// check holds a value against its schema, as far as schemas of this description go.
func (d *description) check(place string, schema *yaml.Node, v any) {
	d.t.Helper()
	schema = d.resolve(schema)
	if either := child(schema, "oneOf"); either != nil {
		i := slices.IndexFunc(either.Content, func(n *yaml.Node) bool { return isOf(d.resolve(n), v) })
		if i < 0 {
			d.t.Errorf("%s: %v is none of what is described", place, v)
			return
		}
		schema = d.resolve(either.Content[i])
	}
	if !isOf(schema, v) {
		d.t.Errorf("%s: %v is of another type than is described", place, v)
	}
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			property := child(child(schema, "properties"), name)
			if property == nil {
				d.t.Errorf("%s: the field %s is not described", place, name)
				continue
			}
			d.seen[property] = true
			d.check(place+"."+name, property, value)
		}
	case []any:
		for _, value := range v {
			d.check(place+"[]", child(schema, "items"), value)
		}
	case string:
		if pattern := child(schema, "pattern"); pattern != nil && !regexp.MustCompile(pattern.Value).MatchString(v) {
			d.t.Errorf("%s: %q does not match %s", place, v, pattern.Value)
		}
		if enum := child(schema, "enum"); enum != nil && !slices.ContainsFunc(enum.Content, func(n *yaml.Node) bool { return n.Value == v }) {
			d.t.Errorf("%s: %q is not among what is described", place, v)
		}
	}
}

// isOf reports whether a value is of a type that a schema allows.
func isOf(schema *yaml.Node, v any) bool {
	of := child(schema, "type")
	if of == nil {
		return false
	}
	got := map[bool]string{true: "integer", false: "number"}
	name := fmt.Sprintf("%T", v)
	switch v := v.(type) {
	case nil:
		name = "null"
	case bool:
		name = "boolean"
	case float64:
		name = got[v == math.Trunc(v)]
	case []any:
		name = "array"
	case map[string]any:
		name = "object"
	}
	return of.Value == name || slices.ContainsFunc(of.Content, func(n *yaml.Node) bool { return n.Value == name })
}

// missing tells what is described and no answer has shown: successes, and fields of bodies.
func (d *description) missing() {
	paths := d.at("paths")
	for i := 0; i < len(paths.Content); i += 2 {
		path, item := paths.Content[i].Value, paths.Content[i+1]
		for j := 0; j < len(item.Content); j += 2 {
			responses := child(item.Content[j+1], "responses")
			if responses == nil { // parameters
				continue
			}
			route := strings.ToUpper(item.Content[j].Value) + " " + path
			for k := 0; k < len(responses.Content); k += 2 {
				status, response := responses.Content[k].Value, d.resolve(responses.Content[k+1])
				if status != "default" && !d.seen[response] {
					d.t.Errorf("%s is described to answer %s, and did not", route, status)
				}
				if content := child(response, "content"); content != nil {
					d.unseen(route+" "+status, child(content.Content[1], "schema"))
				}
			}
		}
	}
}

// unseen tells fields that no answer had.
func (d *description) unseen(place string, schema *yaml.Node) {
	if schema = d.resolve(schema); schema == nil {
		return
	}
	if either := child(schema, "oneOf"); either != nil {
		for _, s := range either.Content {
			d.unseen(place, s)
		}
	}
	d.unseen(place+"[]", child(schema, "items"))
	properties := child(schema, "properties")
	for i := 0; properties != nil && i < len(properties.Content); i += 2 {
		name := properties.Content[i].Value
		if !d.seen[properties.Content[i+1]] {
			d.t.Errorf("%s: the field %s is described, and no answer has it", place, name)
			continue
		}
		d.unseen(place+"."+name, properties.Content[i+1])
	}
}
