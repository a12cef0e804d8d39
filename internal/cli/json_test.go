package cli

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus"
)

// docs/json.md against what commands print: every field that comes is in the table of its command, with its type; every
// field of a table comes.

// documented is a field as a table has it.
type documented struct {
	kind           string
	null, optional bool
	came           bool
}

// shape is a table: what one kind of value holds. The field a[].b is b in the elements of a, and a.* is whatever name
// a has in it.
type shape struct {
	title  string
	fields map[string]*documented
	values int // that were held against it
}

// introducing is how the page says what a table is of: "A list: `rooms ls`, `rekey`".
var introducing = regexp.MustCompile("^(One value|A list|A value a line|A line on stderr|Body of): (.*)$")

// readShapes reads the tables of the page, by how they are introduced and what they are of: "A list: rooms ls".
func readShapes(t *testing.T, page string) map[string]*shape {
	t.Helper()
	shapes := map[string]*shape{}
	var current *shape
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		if m := introducing.FindStringSubmatch(line); m != nil {
			if current == nil || len(current.fields) > 0 {
				current = &shape{title: line, fields: map[string]*documented{}}
			}
			for _, name := range strings.Split(m[2], ", ") {
				shapes[m[1]+": "+strings.Trim(name, "`")] = current
			}
		}
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		kind := strings.TrimSpace(cells[2])
		d := &documented{}
		kind, d.optional = strings.CutSuffix(kind, ", optional")
		d.kind, d.null = strings.CutSuffix(kind, " or null")
		current.fields[strings.Trim(cells[1], " `")] = d
	}
	if len(shapes) < 30 {
		t.Fatalf("the page has %d tables", len(shapes))
	}
	return shapes
}

// is reports whether a value is of a type, as the page calls it.
func is(kind string, v any) bool {
	text, isText := v.(string)
	switch kind {
	case "string":
		return isText
	case "integer":
		n, ok := v.(float64)
		return ok && n == math.Trunc(n)
	case "number":
		_, ok := v.(float64)
		return ok
	case "boolean":
		_, ok := v.(bool)
		return ok
	case "list":
		_, ok := v.([]any)
		return ok
	case "object":
		_, ok := v.(map[string]any)
		return ok
	case "time":
		at, err := time.Parse(time.RFC3339, text)
		return err == nil && at.Location() == time.UTC
	case "key":
		_, err := unibus.ParseKey(text)
		return err == nil && strings.ToUpper(text) == text
	case "id":
		return len(text) == idLength && strings.Trim(text, "abcdefghijklmnopqrstuvwxyz234567") == ""
	case "hash":
		raw, err := hex.DecodeString(text)
		return err == nil && len(raw) == 32
	case "duration":
		_, err := time.ParseDuration(text)
		return err == nil
	}
	return false
}

// check holds a value against a table.
func (s *shape) check(v any) error {
	s.values++
	return s.object("", v)
}

// object holds what an object has in it against the fields below a path.
func (s *shape) object(path string, v any) error {
	o, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%s%v is no object", path, v)
	}
	for name, value := range o {
		d := s.fields[path+name]
		place := path + name
		if d == nil {
			d, place = s.fields[path+"*"], path+"*"
		}
		if d == nil {
			return fmt.Errorf("%s%s is not documented", path, name)
		}
		d.came = true
		if value == nil && d.null {
			continue
		}
		if !is(d.kind, value) {
			return fmt.Errorf("%s is no %s: %v", place, d.kind, value)
		}
		if err := s.below(place, d, value); err != nil {
			return err
		}
	}
	for name, d := range s.fields {
		rest, below := strings.CutPrefix(name, path)
		if below && !strings.ContainsAny(rest, ".*[") && !d.optional && o[rest] == nil && !d.null {
			return fmt.Errorf("%s is missing", name)
		}
	}
	return nil
}

// below looks into objects, and into lists of objects.
func (s *shape) below(place string, d *documented, value any) error {
	switch d.kind {
	case "object":
		return s.object(place+".", value)
	case "list":
		for _, one := range value.([]any) {
			if _, is := one.(map[string]any); is {
				if err := s.object(place+"[].", one); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// jsonTest runs commands, and holds what they print against the page.
type jsonTest struct {
	*testBus
	page   string
	shapes map[string]*shape
}

// value checks text that is one value of a table.
func (j *jsonTest) value(title, text string) {
	j.t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		j.t.Errorf("%s: %v in %s", title, err, text)
		return
	}
	j.decoded(title, v)
}

func (j *jsonTest) decoded(title string, v any) {
	j.t.Helper()
	s := j.shapes[title]
	if s == nil {
		j.t.Errorf("there is no table for %q", title)
		return
	}
	if err := s.check(v); err != nil {
		j.t.Errorf("%s: %v", title, err)
	}
}

// one runs a command that prints one value, and ends with 0.
func (j *jsonTest) one(called, user string, args ...string) {
	j.t.Helper()
	j.value("One value: "+called, j.must(exitDone, user, append(args, "-o", "json")...))
}

// list runs a command that prints a list, and returns it.
func (j *jsonTest) list(called string, code int, user string, args ...string) []any {
	j.t.Helper()
	text := j.must(code, user, append(args, "-o", "json")...)
	var all []any
	if err := json.Unmarshal([]byte(text), &all); err != nil || all == nil {
		j.t.Errorf("%s: no list (%v): %s", called, err, text)
	}
	for _, one := range all {
		j.decoded("A list: "+called, one)
	}
	return all
}

// lines runs a command that prints a value a line.
func (j *jsonTest) lines(called, user string, args ...string) {
	j.t.Helper()
	for line := range strings.Lines(j.must(exitDone, user, append(args, "-o", "json")...)) {
		j.value("A value a line: "+called, line)
	}
}

// log checks a log, and the body of each entry.
func (j *jsonTest) log(args ...string) {
	j.t.Helper()
	j.entries("log", args...)
}

// entries is log of a table of its own.
func (j *jsonTest) entries(called string, args ...string) {
	j.t.Helper()
	var entries []map[string]any
	if err := json.Unmarshal([]byte(j.must(exitDone, "admin", append([]string{"log", "-o", "json"}, args...)...)), &entries); err != nil {
		j.t.Fatal(err)
	}
	for _, e := range entries {
		body, _ := e["body"].(map[string]any)
		e["body"] = map[string]any{}
		j.decoded("A list: "+called, e)
		if op := e["op"].(string); op == "archive" || op == "leave" {
			if len(body) > 0 {
				j.t.Errorf("the body of %s is not empty: %v", op, body)
			}
		} else {
			j.decoded("Body of: "+op, body)
		}
	}
}

// follow checks the lines of a log that is followed, but for bodies, which are those of log.
func (j *jsonTest) follow() {
	j.t.Helper()
	j.t.Setenv("UNIBUS_IDENTITY", j.path("admin.nk"))
	r, w, err := os.Pipe()
	if err != nil {
		j.t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"log", "ops", "--follow", "-o", "json"}, j.temp(""), w, j.temp(""))
		w.Close()
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		j.t.Fatalf("log --follow: %v", err)
	}
	var e map[string]any
	if err := json.Unmarshal([]byte(line), &e); err != nil {
		j.t.Fatal(err)
	}
	e["body"] = map[string]any{}
	j.decoded("A value a line: log --follow", e)
	cancel()
	if ended := <-code; ended != exitInterrupted {
		j.t.Errorf("log --follow ends with %d", ended)
	}
}

// TestJSON runs every command on a bus, so that every field comes.
func TestJSON(t *testing.T) {
	page, err := os.ReadFile("../../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	j := &jsonTest{newTestBus(t), string(page), readShapes(t, string(page))}
	j.one("init", "admin", "init", "--name", "alice")
	ready, _ := j.serve("--http", "127.0.0.1:0", "--data", "data")
	j.value("One value: serve", ready)
	j.people()
	j.rooms()
	j.messages()
	j.leaving()
	j.operators()
	j.log("--bus")
	j.follow()
	j.one("demo", "admin", "demo", "--input", j.write("lines", strings.Repeat("something of which there are several\n", 3)))
	j.lines("bench", "admin", "bench", "--count", "4")
	j.value("One value: version", j.printed(newVersionJSON(map[string]bool{"decentralized": true}, []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}})))
	j.one("version", "admin", "version")
	j.complete()
}

// people are the commands about who one is, and about the allowlist.
func (j *jsonTest) people() {
	for _, user := range []string{"bob", "carol", "dave"} {
		j.must(exitDone, user, "init", "--name", user, "-q")
	}
	key := func(user string) string { return strings.TrimSpace(j.must(exitDone, user, "whoami")) }
	j.list("user add", exitDone, "admin", "user", "add", key("bob"), "--name", "bob", "--expires", "30d")
	j.must(exitDone, "admin", "user", "add", key("carol"), "--name", "carol")
	j.must(exitDone, "admin", "user", "add", key("dave"), "--name", "dave")
	j.one("whoami", "admin", "whoami")
	j.one("whoami --card", "admin", "whoami", "--card")
	for _, user := range []string{"bob", "carol", "dave"} {
		j.one("join", user, "join", os.Getenv("UNIBUS_SERVER"))
	}
	j.list("bus ls", exitDone, "bob", "bus", "ls")
	j.one("bus rename", "bob", "bus", "rename", "local", "work")
	j.one("bus use", "bob", "bus", "use", "work")
	j.one("bus rm", "carol", "bus", "rm", "local", "--yes")
	j.one("token", "bob", "token")
	j.one("user show", "admin", "user", "show", "bob")
	j.one("user set", "admin", "user", "set", "bob", "--name", "rob", "--expires", "40d")
	j.must(exitDone, "eve", "init", "--name", "eve", "-q")
	j.must(exitDone, "admin", "user", "add", key("eve"), "--name", "eve")
	j.must(exitDone, "admin", "user", "revoke", "eve")
	j.must(exitDone, "frank", "init", "-q")
	j.must(exitDone, "admin", "user", "add", key("frank"), "--name", "frank")
	team := j.write("team", key("admin")+"\n"+key("bob")+" bob\n"+key("carol")+"\n"+key("dave")+"\n"+key("eve")+" eve # again\n")
	j.one("user sync", "admin", "user", "sync", "--file", team, "--prune", "--yes")
	j.must(exitDone, "admin", "user", "revoke", "eve")
}

// rooms are the commands that make and change rooms; of every entry that a log can have there is one at the end.
func (j *jsonTest) rooms() {
	j.one("room create", "admin", "room", "create", "live", "--retain", "none")
	j.one("room create", "admin", "room", "create", "ops")
	for _, args := range [][]string{
		{"room", "create", "joined", "--history", "joined"}, {"invite", "ops", "bob", "carol", "dave"}, {"invite", "joined", "bob"},
		{"role", "ops", "bob", "reader"}, {"role", "ops", "bob", "member"}, {"room", "set", "ops", "--pad"}, {"room", "set", "joined", "--history", "shared"},
		{"room", "set", "joined", "--anew"},
	} {
		if args[1] == "create" {
			j.one("room create", "admin", args...)
		} else {
			called := args[0]
			if called == "room" {
				called += " " + args[1]
			}
			j.one(called, "admin", args...)
		}
	}
	j.one("room show", "admin", "room", "show", "ops")
	j.list("rooms ls", exitDone, "admin", "rooms", "ls")
	key := j.identity("dave").Key().String()
	j.must(exitDone, "admin", "user", "revoke", "dave")
	j.list("rekey", exitDone, "admin", "rekey", "ops", "joined")
	j.must(exitDone, "admin", "user", "add", key, "--name", "dave")
	j.must(exitDone, "admin", "invite", "ops", "dave")
	j.list("members", exitDone, "admin", "members", "ops")
}

// messages are read back as they were written, with marks that are rare.
func (j *jsonTest) messages() {
	j.one("pub", "bob", "pub", "ops", "one", "-H", "k=v")
	if e := j.exec("admin", "\xff\xfe", "pub", "ops", "--whole"); e.code != exitDone {
		j.t.Fatalf("%+v", e)
	}
	j.one("kick", "admin", "kick", "ops", "bob") // whose message is a former member's then
	j.lines("sub", "admin", "sub", "ops", "--all", "--end")
	j.one("room show", "admin", "room", "show", "ops")
	rare := &unibus.Message{Sender: j.identity("admin").Key(), Time: time.Now().UTC(), Body: []byte("x"), Late: true, Unsure: true}
	j.value("A value a line: sub", j.printed(newMessageJSON(rare)))
	a := newApp(j.temp(""), j.temp(""), j.temp(""))
	a.out.json = true
	a.tellNotice(unibus.Notice{Kind: unibus.NoticeGap, Sender: "U", From: 1, To: 2})
	told, err := os.ReadFile(a.err.raw.Name())
	if err != nil {
		j.t.Fatal(err)
	}
	j.value("A line on stderr: sub", string(told))
}

// leaving is how people come out of rooms, and off the allowlist.
func (j *jsonTest) leaving() {
	j.one("leave", "carol", "leave", "ops")
	j.must(exitDone, "admin", "invite", "ops", "bob")
	j.one("invite", "admin", "invite", "ops", "bob", "carol", "--skip-existing")
	j.list("verify", exitDone, "admin", "verify", "--all")
	j.one("verify --bus", "admin", "verify", "--bus")
	j.one("verify --bus --export", "admin", "verify", "--bus", "--export", "bus.ub")
	j.list("verify --export", exitDone, "admin", "verify", "ops", "--export", "audit.ub", "--frames", "-q")
	j.list("verify FILE", exitDone, "admin", "verify", "audit.ub")
	j.entries("log FILE", "audit.ub")
	j.list("members FILE", exitDone, "admin", "members", "audit.ub")
	j.list("members FILE", exitDone, "admin", "members", "audit.ub", "--bus")
	j.one("user revoke", "admin", "user", "revoke", "dave", "--reason", "gone")
	j.list("user ls", exitDone, "admin", "user", "ls")
	j.one("room archive", "admin", "room", "archive", "live", "--yes")
	for _, room := range []string{"ops", "joined", "live"} {
		j.log(room)
	}
}

// operators are the commands about stores.
func (j *jsonTest) operators() {
	j.one("backup", "admin", "backup", "all.tar.gz", "--data", "data")
	j.list("verify", exitDone, "admin", "verify", "ops", "--store", "sqlite:data/unibus.db")
	j.one("verify --accept", "admin", "verify", "ops", "--accept", "1")
	j.value("One value: verify --accept", j.printed(acceptedJSON{Lost: true}))
	j.one("forget", "dave", "forget", os.Getenv("UNIBUS_SERVER"), "--yes")
	j.list("verify FILE", exitDone, "admin", "verify", "all.tar.gz")
	j.one("restore", "admin", "restore", "all.tar.gz", "--store", "sqlite:restored.db")
	j.one("migrate --dry-run", "admin", "migrate", "--from", "sqlite:restored.db", "--to", "sqlite:copy.db", "--dry-run")
	j.one("migrate", "admin", "migrate", "--from", "sqlite:restored.db", "--to", "sqlite:copy.db")
	j.one("nats-config", "admin", "nats-config", "--data", "elsewhere")
	checks := j.list("doctor", exitDone, "admin", "doctor", "--data", "data")
	if !slices.ContainsFunc(checks, func(c any) bool { return c.(map[string]any)["hint"] != nil }) {
		j.list("doctor", exitFailed, "nobody", "doctor")
	}
	server := os.Getenv("UNIBUS_SERVER")
	_, stop := j.serve("--store", "jetstream", "--data", "streams")
	j.one("store scale", "admin", "store", "scale", "--replicas", "1", "--data", "streams")
	j.one("store nkey", "admin", "store", "nkey", "--data", "streams")
	stop()
	j.t.Setenv("UNIBUS_SERVER", server)
}

// identity is that of a user.
func (j *jsonTest) identity(user string) *unibus.Identity {
	j.t.Helper()
	id, err := unibus.LoadIdentity(j.path(user + ".nk"))
	if err != nil {
		j.t.Fatal(err)
	}
	return id
}

// printed is a value as commands print it.
func (j *jsonTest) printed(v any) string {
	j.t.Helper()
	f := j.temp("")
	o := newOutput(f)
	o.json = true
	if err := o.value(v, nil); err != nil {
		j.t.Fatal(err)
	}
	text, err := os.ReadFile(f.Name())
	if err != nil {
		j.t.Fatal(err)
	}
	return string(text)
}

// complete reports what of the page never came, and commands that are not on it, whose second names need not be.
func (j *jsonTest) complete() {
	for title, s := range j.shapes {
		if s.values == 0 {
			j.t.Errorf("%s: nothing was held against it", title)
		}
		for name, d := range s.fields {
			if !d.came {
				j.t.Errorf("%s: %s never comes", s.title, name)
			}
		}
	}
	for _, path := range commandPaths() {
		name := strings.Join(path, " ")
		if name != "room ls" && !strings.Contains(j.page, "`"+name+"`") {
			j.t.Errorf("docs/json.md does not speak of %s", name)
		}
	}
}
