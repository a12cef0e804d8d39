package cli

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus"
)

// misuses are command lines that make no sense, and parts of what is said of each, with bars between them.
var misuses = map[string]string{
	"nonsense":                                  "unibus: nonsense: unknown command|hint: unibus --help shows the commands",
	"user lst":                                  "unibus: user lst: unknown command|hint: there is unibus user ls",
	"rooms create":                              "unibus: rooms create: unknown command|hint: there is unibus room create",
	"help user nonsense":                        "unibus: user nonsense: unknown command",
	"user nonsense --help":                      "unibus: user nonsense: unknown command",
	"invite r":                                  "unibus: invite: USER is missing|hint: usage: unibus invite",
	"role r":                                    "unibus: role: USER and ROLE are missing|hint: usage: unibus role",
	"api":                                       "unibus: api: METHOD and PATH are missing",
	"join":                                      "unibus: join: URL is missing",
	"rooms ls --nonsense":                       "unibus: --nonsense: unknown flag|hint: unibus rooms ls --help shows the flags",
	"rooms ls -z":                               "unibus: -z: unknown flag",
	"rooms ls --al":                             "unibus: --al: unknown flag|hint: there is --all",
	"room create r --retian 5s":                 "unibus: --retian: unknown flag|hint: there is --retain",
	"rooms --all --member x":                    "unibus: --all or --member, not both|hint: unibus rooms --member x\n",
	"user add x --expire":                       "unibus: --expire: unknown flag|hint: there is --expires",
	"rooms ls --member":                         "unibus: --member: it needs a value",
	"rooms ls --all=perhaps":                    "unibus: --all perhaps: neither true nor false|hint: --all: every room",
	"rooms ls --all --member x":                 "unibus: --all or --member, not both",
	"rooms ls --store jetstream":                "unibus: --store jetstream: that is for unibus serve|hint: without --store",
	"rooms ls --server http://h":                "http is no scheme|hint: unibus serve prints",
	"role r bob king":                           "unibus: role king: not a role|hint: usage: unibus role",
	"rekey":                                     "unibus: rekey: rooms, or --stale, or --all|hint: usage: unibus rekey ROOM…",
	"rekey r --all":                             "unibus: rekey: rooms, or --stale, or --all",
	"room create r --plain --pad":               "unibus: --pad has no effect",
	"log":                                       "unibus: log: a ROOM, or --bus",
	"log r --bus":                               "unibus: log: a ROOM, or --bus|hint: unibus log r\n",
	"pub r -H x":                                `unibus: header "x" is not KEY=VALUE|hint: -H x=VALUE`,
	"pub r -H x:y":                              "hint: -H x=y\n",
	"pub r -H =y":                               "hint: -H NAME=y\n",
	"pub r m --file f -q --whole":               "hint: unibus pub r m -q\n",
	"pub r m --ack most":                        "unibus: --ack most: neither all nor none|hint: --ack all\n",
	"pub r m --ack non":                         "hint: --ack all\n",
	"rekey --stale r":                           "unibus: rekey: rooms, or --stale, or --all|hint: unibus rekey --stale\n",
	"sub r --last 5 --all":                      "hint: unibus sub r --last 5\n",
	"sub r --since 1h --last=5 -- q":            "hint: unibus sub r --since 1h -- q\n",
	"sub r --format %s -o json":                 "--format or -o json, not both|hint: unibus sub r --format '%s'\n",
	"sub r --format %s -ojson":                  "hint: unibus sub r --format '%s'\n",
	"sub r --template {{.foo}}":                 "unibus: --template {{.foo}}: a message has no field foo; it has body, |hint: --template '{{.time}} {{.name}}: {{.body}}'\n",
	"sub r --template {{.nam}}":                 "a message has no field nam; |hint: --template '{{.name}}'\n",
	"bench rt":                                  "unibus: bench rt: there is |hint: unibus bench rtt\n",
	"token --ttl x":                             "unibus: --ttl x: |hint: --ttl 10m\n",
	"token --ttl 5":                             "hint: --ttl 5s\n",
	"rooms --timeout x":                         "hint: --timeout 5s\n",
	"user set bob --role king":                  "unibus: --role king: neither admin nor user|hint: --role user\n",
	"user set bob --role adimn":                 "hint: --role admin\n",
	"serve --store mysql:x":                     "unibus: --store: serve keeps a bus in sqlite:PATH or in jetstream|--store jetstream\n",
	"user rename bob rob":                       "unibus: user rename: unknown command|hint: unibus user set bob --name rob\n",
	"user rename bob":                           "hint: unibus user set bob --name NAME\n",
	"user add bob":                              "user keys begin with U|hint: a key begins with U and has 56 characters; they see theirs with unibus whoami\n",
	"user add UABC":                             "4 characters instead of 56|with unibus whoami\n",
	"pub r --whole --null":                      "unibus: --whole or --null, not both|hint: unibus pub r --whole\n",
	"pub r m --whole":                           "unibus: with a MESSAGE no input is read",
	"sub r --all --new":                         "unibus: --new, --all, --last and --since: one of them",
	"sub r --queue q --all":                     "unibus: --queue shares new messages",
	"sub r --format %q":                         `unibus: --format %q: there is no "%q"|%s body, %k sender's key|hint: --format '%n: %s\n'`,
	"sub r --format a%":                         `unibus: --format a%: there is no "%"`,
	`sub r --format \q`:                         `unibus: --format \q: there is no \q|\n \t \r \0 \xHH, and two`,
	`sub r --format \x4`:                        `there is no \x`,
	`sub r --format \xzz`:                       `there is no \x`,
	`sub r --format a\`:                         `there is no \`,
	"sub r --format=":                           "unibus: --format : nothing would be written",
	"sub r --format %s --template x":            "unibus: --format or --template, not both",
	"sub r --format %s --null":                  `unibus: --format says itself what a message ends with: \0 instead of --null`,
	"sub r --format %s --headers":               "unibus: --format says itself where headers stand: %h instead of --headers",
	"verify":                                    "unibus: name the rooms to verify",
	"verify r --accept x":                       `unibus: --accept "x": it is neither`,
	"verify r q --accept 5":                     "unibus: --accept is about one room",
	"verify --bus --accept 5":                   "unibus: --accept 5: places are those",
	"verify r --export f --accept 5":            "unibus: --export writes what was checked|hint: unibus verify r --export f\n",
	"user add":                                  "unibus: give one KEY",
	"user add --file f --name n":                "unibus: --name is for one user",
	"migrate":                                   "unibus: migrate needs --from and --to",
	"migrate --from sqlite:a --to sqlite:a":     "unibus: migrate: --from and --to are the same store",
	"restore x":                                 "unibus: restore: where to?|hint: --store sqlite:PATH",
	"backup x":                                  "which store? there is none|hint: --data DIR",
	"store scale":                               "unibus: store scale: --replicas N",
	"store scale --replicas 3 --store sqlite:x": "unibus: store scale: a file is kept on one machine",
	"doctor --repair":                           "unibus: --repair needs the store|hint: --store URL",
	"completion tcsh":                           "unibus: completion tcsh: bash, zsh",
	"demo --input /dev/null":                    "unibus: --input /dev/null: it has no lines",
	"bench disk":                                "unibus: bench disk: there is pub, sub, rtt, rekey, auth, or all",
	"bench pub disk":                            "unibus: bench disk: there is",
	"bench --server nats://h":                   "unibus: bench: --server has no effect: it runs a bus of its own|hint: unibus bench\n",
	"bench --store sqlite:x":                    "unibus: bench: --store has no effect",
	"bench --count 0":                           "unibus: --count 0: not a whole number from 1 up",
	"bench --for 0s":                            "unibus: --for 0s: not a duration longer than nothing",
	"bench --for 2h":                            "unibus: --for 2h: more than 1h",
	"bench --size 1000000":                      "unibus: --size 1000000: not a whole number from 1 to 524288",
	"init --name !":                             "hint: give another one: --name NAME",

	// Only what is near is suggested.
	"ls":             "hint: there is unibus bus ls, unibus rooms ls, unibus user ls\n",
	"foo":            "unibus: foo: unknown command|hint: unibus --help shows the commands",
	"help foo":       "unibus: foo: unknown command|hint: unibus --help shows the commands",
	"help rom":       "unibus: rom: unknown command|hint: there is unibus room\n",
	"help chta":      "hint: there is unibus chat\n",
	"help config":    "unibus: config: unknown command|hint: there is unibus help configuration\n",
	"help exit-code": "hint: there is unibus help exit-codes\n",
}

// TestUsage: command lines that make no sense end with 2, say what is wrong in our own words and how it is right.
func TestUsage(t *testing.T) {
	b := newTestBus(t)
	b.must(exitDone, "admin", "init", "-q")
	b.write("xdg_config_home/unibus/config.yaml", "timeout: 300ms\n")
	for called, want := range misuses {
		if called == "init --name !" {
			b.t.Setenv("UNIBUS_IDENTITY", b.path("other.nk"))
		}
		e := b.exec("admin", "", strings.Fields(called)...)
		for part := range strings.SplitSeq(want, "|") {
			if e.code != exitUsage || !strings.Contains(e.err, part) || e.out != "" {
				t.Errorf("unibus %s: %d, %s%s: not %s", called, e.code, e.out, e.err, part)
			}
		}
	}
	t.Setenv("UNIBUS_OUTPUT", "json")
	if e := b.exec("admin", "", "sub", "r", "--format", "%s"); e.code != exitUsage || !strings.HasSuffix(e.err, "hint: unibus sub r\n") {
		t.Errorf("JSON by a setting: %+v", e)
	}
	t.Setenv("UNIBUS_OUTPUT", "")
	b.write("xdg_config_home/unibus/config.yaml", "yes: true\n")
	if e := b.exec("admin", "", "version"); e.code != exitUsage || !strings.Contains(e.err, "yes: there is no such setting\nhint: settings are the global flags but --yes, which answers for one command, ") {
		t.Errorf("--yes as a setting: %+v", e)
	}
	b.write("xdg_config_home/unibus/config.yaml", "timeout: 1s\na: b: c\n")
	if e := b.exec("admin", "", "version"); e.code != exitUsage || !strings.Contains(e.err, "config.yaml: line 2: not NAME: VALUE\nhint: ") {
		t.Errorf("what is no YAML: %+v", e)
	}
}

// wordsTest is a bus on which commands are run as people run them, without JSON.
type wordsTest struct{ *testBus }

// says runs a command that ends with a code, and whose stdout and stderr together hold some texts.
func (w *wordsTest) says(code int, user, called string, want ...string) {
	w.t.Helper()
	args := strings.Fields(called)
	if last := len(args) - 1; args[last] == "_" { // nothing yet, for what completes it
		args[last] = ""
	}
	e := w.exec(user, "", args...)
	for _, part := range want {
		if !strings.Contains(e.out+e.err, part) {
			w.t.Errorf("unibus %s: no %q in\n%s%s", called, part, e.out, e.err)
		}
	}
	if e.code != code {
		w.t.Errorf("unibus %s: %d instead of %d\n%s%s", called, e.code, code, e.out, e.err)
	}
}

// TestWords: what commands tell people.
func TestWords(t *testing.T) {
	w := &wordsTest{newTestBus(t)}
	w.says(exitDone, "admin", "init --name alice", "identity of alice written to")
	w.says(exitConflict, "admin", "init", "exists", "hint: unibus whoami --identity ")
	w.says(exitNotFound, "nobody", "whoami", "hint: make one: unibus init")
	for _, user := range []string{"bob", "carol"} {
		w.says(exitDone, user, "init -q --name "+user)
	}
	_, stop := w.serve("--data", "data")
	w.members()
	w.rooms()
	w.messages()
	w.completions()
	w.operators()
	stop()
	w.t.Setenv("UNIBUS_TIMEOUT", "300ms")
	w.says(exitUnavailable, "admin", "rooms ls", "hint: is it running?")
	w.says(exitFailed, "admin", "doctor", "fail  reachable", "not everything is well")
	w.says(exitDone, "admin", "doctor --repair --data data", "warn  reachable")
	w.says(exitDone, "admin", "whoami -o json", `"bus":"`)
	w.says(exitDone, "admin", "room create alone --store sqlite:alone.db")
	w.says(exitFailed, "admin", "doctor --store sqlite:data/unibus.db --bus "+strings.Repeat("b", 32), "holds the bus", "hint: --store URL or --data DIR for the store of that bus")
}

// members are those who get on the allowlist, and off it.
func (w *wordsTest) members() {
	bob := strings.TrimSpace(w.must(exitDone, "bob", "whoami"))
	carol := strings.TrimSpace(w.must(exitDone, "carol", "whoami"))
	list := w.write("team", "# the team\n\n"+bob+" bob\n"+carol+" carol\n")
	w.says(exitDenied, "bob", "rooms ls", "hint: ", "unibus user add "+bob)
	w.says(exitNotFound, "admin", "user add --file none", "there is no file none")
	w.says(exitUsage, "admin", "user add --file "+w.write("bad", bob+" bob and more\n"), "bad: line 1: ", "more than KEY and NAME", "hint: a KEY or CARD")
	if e := w.exec("admin", "x\n", "user", "add", "-"); e.code != exitUsage || !strings.Contains(e.err, "unibus: standard input: line 1: ") {
		w.t.Errorf("what is no key in a list: %+v", e)
	}
	w.says(exitUsage, "admin", "user add --file "+w.write("empty", "# nobody\n"), "nobody is in it")
	w.says(exitDone, "admin", "user add --file "+list, "added "+bob+" as bob")
	w.says(exitConflict, "admin", "user add "+bob+" --name bob", "hint: unibus user show USER")
	w.says(exitDone, "admin", "user add --skip-existing --file "+list, "bob ("+bob+") is there already")
	w.says(exitConflict, "admin", "user add --skip-existing "+bob+" --name rob", "on the allowlist as bob, not rob")
	for _, user := range []string{"bob", "carol"} {
		w.says(exitDone, user, "join "+os.Getenv("UNIBUS_SERVER"), "joined the bus")
	}
	w.says(exitUsage, "bob", "join http://h", "hint: unibus serve prints")
	w.says(exitDenied, "bob", "user add "+strings.TrimSpace(w.must(exitDone, "admin", "whoami")), "only an admin")
	w.says(exitDone, "admin", "user ls", "NAME", "alice", "bob", "active")
	w.says(exitDone, "admin", "user show bob", "name", "added", "alice (U")
	w.says(exitUsage, "admin", "user revoke alice", "which is yourself: without a terminal this needs --yes", "hint: unibus user revoke alice --yes\n")
	w.says(exitUsage, "admin", "user set alice --role user", "a plain user: without a terminal", "hint: unibus user set alice --role user --yes\n")
	w.says(exitUsage, "admin", "user set alice --expires=30d -q", "hint: unibus user set alice --expires=30d -q --yes\n")
	w.says(exitUsage, "admin", "user sync --prune --file "+w.write("alone", strings.TrimSpace(w.must(exitDone, "admin", "whoami"))+" alice\n"), "hint: unibus user sync --prune --file ", "/alone --yes\n")
	w.says(exitUsage, "admin", "forget "+os.Getenv("UNIBUS_SERVER"), "hint: unibus forget "+os.Getenv("UNIBUS_SERVER")+" --yes\n")
	w.says(exitUsage, "admin", "bus rm local", "hint: unibus bus rm local --yes\n")
	for _, called := range []string{"user revoke alice --yes", "user set alice --role user --yes"} {
		w.says(exitDenied, "admin", called, "the last admin has to stay", "unibus user set USER --role admin\n")
	}
}

// rooms are made, changed and left.
func (w *wordsTest) rooms() {
	w.says(exitDone, "admin", "room create ops --rekey-after 10m", "its key is renewed after 10 messages")
	w.says(exitDone, "admin", "invite ops bob carol --role reader", "invited bob, carol to ops as reader")
	w.says(exitConflict, "admin", "invite ops bob", "in the room already", "unibus role ops bob ROLE; ", "--skip-existing\n")
	w.says(exitConflict, "admin", "room create ops", "already exists", "hint: unibus room show ops\n")
	w.says(exitConflict, "bob", "room create ops", "hint: unibus room show ops\n")
	w.says(exitDone, "admin", "role ops bob member", "bob is now member of ops")
	w.says(exitDone, "admin", "room show ops", "subject", "created", " by alice")
	w.says(exitDone, "admin", "rooms ls", "ROOM", "ops", "owner")
	w.says(exitDone, "admin", "room ls", "ROOM", "ops", "owner")
	w.says(exitDone, "admin", "room list --member carol", "ops", "reader")
	w.says(exitDone, "admin", "rooms ls --all", "ops")
	w.says(exitDone, "admin", "rooms ls --member carol", "ops", "reader")
	w.says(exitUsage, "admin", "room set ops", "name what is to change")
	w.says(exitUsage, "admin", "room set ops --retain none", "remove what ops has stored: without a terminal this needs --yes", "hint: unibus room set ops --retain none --yes\n")
	w.says(exitUsage, "admin", "room set --retain none -- ops", "hint: unibus room set --retain none --yes -- ops\n")
	w.says(exitDone, "admin", "room set ops --pad", "sizes padded")
	w.says(exitDone, "admin", "room set ops --anew", "ops begins anew")
	w.says(exitUsage, "admin", "room archive ops", "needs --yes", "hint: unibus room archive ops --yes\n")
	w.refusals()
	w.mistaken()
	w.says(exitDone, "admin", "log ops", "SEQ", "create", "invite")
	w.says(exitDone, "admin", "rekey --all", "ops epoch 2")
	w.says(exitDone, "admin", "room create live --retain none")
	w.says(exitDone, "admin", "sub live --all --end", "live stores nothing")
}

// refusals are what a room's rules forbid: the hint leads to who may, or to what has to come before.
func (w *wordsTest) refusals() {
	for _, called := range []string{"leave ops", "kick ops alice", "role ops alice member"} {
		w.says(exitDenied, "admin", called, "not allowed: the last owner", "unibus role ops USER owner; ")
	}
	for _, called := range []string{"kick ops carol", "role ops carol member", "rekey ops", "room set ops --pad", "room set ops --retain 1s", "room set ops --retain none", "room archive ops"} {
		w.says(exitDenied, "bob", called, "room ops: not allowed: ", "only an owner", "hint: unibus members ops shows who its owners and admins are\n")
	}
	w.must(exitDone, "admin", "room", "create", "ended")
	w.must(exitDone, "admin", "room", "archive", "ended", "--yes")
	for _, called := range []string{"pub ended x", "invite ended bob", "leave ended", "rekey ended"} {
		w.says(exitDenied, "admin", called, "archived", "unibus room create OTHER\n")
	}
	w.says(exitConflict, "admin", "room create ended", "unibus room create OTHER\n")
	w.says(exitConflict, "carol", "room create ended", "unibus room create OTHER\n") // of others' rooms no more is told
}

// mistaken are subjects, patterns, names and orders of arguments that cannot be: the hint has one that can.
func (w *wordsTest) mistaken() {
	for called, hint := range map[string]string{
		"pub op*.> x": "hint: unibus rooms ls ", "pub o> x": "hint: unibus rooms ls ", "pub .ops x": "hint: there is ops\n", "sub o.>.x": "hint: unibus sub 'o.>'\n",
		"room create ops.>": "hint: unibus room create ops\n", "room create _x": "hint: unibus room create x\n", "room create >": "hint: unibus room create ops.alerts\n",
	} {
		w.says(exitUsage, "admin", called, "not valid: ", hint)
	}
	w.says(exitNotFound, "admin", "invite --role reader bob ops", "hint: unibus invite --role reader ops bob\n")
	w.says(exitNotFound, "admin", "role bob ops reader", "hint: unibus role ops bob reader\n")
	w.says(exitNotFound, "admin", "kick bob ops carol", "hint: unibus kick ops bob carol\n")
	w.says(exitNotFound, "admin", "kick bob other", "hint: unibus rooms ls ")
	key := strings.TrimSpace(w.must(exitDone, "nobody", "init", "--name", "nobody"))
	for _, args := range [][]string{{"user", "add", key}, {"user", "set", "bob"}, {"init", "--identity", w.path("none")}} {
		if e := w.exec("admin", "", append(args, "--name", "two words")...); e.code != exitUsage || !strings.HasSuffix(e.err, "hint: --name two.words\n") {
			w.t.Errorf("unibus %v: %+v", args, e)
		}
	}
}

// messages are published, read and checked.
func (w *wordsTest) messages() {
	w.says(exitDone, "bob", "pub ops one")
	w.says(exitDone, "bob", "pub ops more --count 3 -H k=v")
	if e := w.exec("admin", "two\nthree\n", "pub", "ops"); e.code != exitDone {
		w.t.Errorf("pub: %+v", e)
	}
	w.says(exitDone, "admin", "pub ops --ack none --file "+w.write("lines", "four\n"))
	w.says(exitNotFound, "admin", "pub ops --file none", "there is no file none")
	w.says(exitDenied, "carol", "pub ops x", "you are a reader")
	w.says(exitDone, "admin", "sub ops --all --end --headers", "one\n", "k: v\n\nmore\n", "three\n")
	w.says(exitDone, "admin", "sub ops --last 1 --count 1 --null", "\x00")
	w.says(exitDone, "admin", "sub ops --end", "nothing stored was asked for")
	w.says(exitUnavailable, "admin", "sub ops --count 1 --wait 50ms", "0 of 1 message came, and none for 50ms")
	w.says(exitDone, "admin", "verify ops --export logs", "SUBJECT", "logs holds 2 logs")
	w.says(exitDone, "admin", "verify --bus", "ADMINS")
	w.says(exitDone, "admin", "verify logs", "LOG", "ops", "yes")
	w.says(exitUsage, "admin", "members ops logs", "the FILE comes first", "hint: unibus members logs ops\n")
	w.says(exitUsage, "admin", "log ops logs", "the FILE comes first", "hint: unibus log logs ops\n")
	w.says(exitDone, "admin", "verify ops --accept 2", "ops is taken for what it is up to place 2")
	w.says(exitNotFound, "admin", "verify lines", "the file is not an export or a backup")
	w.says(exitNotFound, "admin", "verify --bus --accept 0000000f", "the bus log ends at entry")
	w.says(exitDone, "carol", "leave ops", "left ops")
	w.says(exitDone, "admin", "kick ops bob", "removed bob from ops, now at epoch")
	w.says(exitDone, "admin", "invite ops bob")
	w.says(exitDone, "admin", "user revoke bob", "ops\n", "revoked bob (U", "these rooms are stale")
	w.says(exitNotFound, "admin", "user revoke bob", "revoked already, at 2")
	w.says(exitDone, "admin", "user show bob", "revoked")
	w.says(exitDone, "admin", "members ops", "bob", "revoked")
	w.says(exitDone, "admin", "doctor", "my stale")
}

// completions are what a shell offers.
func (w *wordsTest) completions() {
	w.says(exitDone, "admin", "__complete sub o", "ops\n")
	w.says(exitDone, "admin", "__complete invite ops _", "carol\n")
	for command, who := range map[string][2]string{"invite": {"carol", "alice"}, "kick": {"alice", "carol"}, "role": {"alice", "carol"}} {
		offered := strings.Fields(w.must(exitDone, "admin", "__complete", command, "ops", ""))
		if !slices.Contains(offered, who[0]) || slices.Contains(offered, who[1]) {
			w.t.Errorf("%s offers %q", command, offered)
		}
	}
	w.says(exitDone, "admin", "__complete role ops carol _", "reader\n")
	w.says(exitDone, "admin", "__complete sub ops --since _", "yesterday\n")
	w.says(exitDone, "admin", "__complete pub r --ack _", "none\n")
	w.says(exitDone, "nobody", "__complete sub o", ":4\n")
	if offered := w.must(exitDone, "admin", "__complete", "sub", "--"); strings.Contains(offered, "`") || !strings.Contains(offered, "--count\tend after N messages") {
		w.t.Errorf("flags are offered as %q", offered)
	}
	for _, subject := range []string{"o$(touch${IFS}x)", "o`id`", "o;id", "o'", "o\"", "o&", "o|", "o{a,b}", "o~", "o!", "o#", "o\\"} {
		w.must(exitDone, "admin", "room", "create", "--", subject)
		if offered := w.must(exitDone, "admin", "__complete", "sub", subject[:1]); strings.Contains(offered, subject) {
			w.t.Errorf("%s is offered to shells: %q", subject, offered)
		}
	}
	w.says(exitDone, "admin", "completion fish", "complete -c unibus")
	w.says(exitDone, "admin", "help user add", "--skip-existing")
	for _, command := range []string{"log", "members", "verify"} {
		w.says(exitDone, "admin", command+" --help", "      --bus [ID|NAME]  ")
	}
	w.says(exitDone, "admin", "leave --help", "unibus role ops.alerts bob owner && unibus leave ops.alerts\n")
	w.says(exitNotFound, "admin", "api GET /nope?x=1", "unibus: api GET /nope: not found: no such route\nhint: openapi.yaml, in docs/ ")
	w.says(exitNotFound, "admin", "api GET /rooms/"+strings.Repeat("a", 32), "unibus: api GET /rooms/", "not found")
	w.says(exitDone, "admin", "user", "Available Commands")
	w.says(exitDone, "admin", "token", "\n")
	w.says(exitDone, "admin", "version", "protocol v1")
}

// operators look after the store.
func (w *wordsTest) operators() {
	w.says(exitDone, "admin", "doctor --data data", "pass  store", "pass  identity")
	w.says(exitDone, "admin", "backup all.tar.gz --data data", "backed up the bus")
	archive := w.exec("admin", "", "backup", "-", "--data", "data", "-q")
	if e := w.exec("admin", archive.out, "restore", "-", "--store", "sqlite:piped.db"); e.code != exitDone || !strings.Contains(e.out, "restored the bus") {
		w.t.Errorf("restore -: %+v", e)
	}
	w.says(exitIntegrity, "admin", "restore "+w.write("broken", "\x1f\x8b nothing")+" --store sqlite:other.db", "restore: ")
	w.says(exitDone, "admin", "migrate --from sqlite:piped.db --to sqlite:copy.db --dry-run", "would move")
	w.says(exitDone, "admin", "migrate --from sqlite:piped.db --to sqlite:copy.db", "migrated the bus")
	w.says(exitNotFound, "admin", "store scale --replicas 1 --data data", "unibus migrate takes it to JetStream")
	w.says(exitDone, "admin", "nats-config --data new", "made the service's keys", "auth_callout")
	w.says(exitDone, "admin", "rooms ls --store sqlite:piped.db", "ops")
}

// TestStates: the word for each state a user can be in.
func TestStates(t *testing.T) {
	past, soon, late := time.Now().Add(-time.Hour), time.Now().Add(time.Hour), time.Now().Add(100*24*time.Hour)
	for _, c := range []struct {
		u    userJSON
		want string
	}{
		{userJSON{Active: true}, "active"},
		{userJSON{Active: true, Expires: &soon}, "until " + formatTime(soon)},
		{userJSON{Active: true, Expires: &late}, "until " + formatTime(late)},
		{userJSON{Expires: &past}, "expired"},
		{userJSON{Expires: &past, Revoked: &past}, "revoked"},
		{userJSON{}, "revoked"},
	} {
		if got := c.u.state(); got != c.want {
			t.Errorf("%+v: %s instead of %s", c.u, got, c.want)
		}
	}
}

// TestMessageLine: on a terminal nothing of what others wrote acts, and what is special about a message is marked.
func TestMessageLine(t *testing.T) {
	b := newTestBus(t)
	a := newApp(b.temp(""), b.temp(""), b.temp(""))
	a.out.terminal = true
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	show := func(m unibus.Message, f messageFlags) string {
		before, _ := os.ReadFile(a.out.raw.Name())
		if f.page == nil {
			f.page = &page{day: at.Local().Format("Monday, 2 January 2006")}
		}
		if err := a.showMessage(&m, f); err != nil {
			t.Fatal(err)
		}
		a.out.Flush()
		after, _ := os.ReadFile(a.out.raw.Name())
		return strings.TrimPrefix(string(after), string(before))
	}
	hostile := unibus.Message{
		Subject: "o\x1bps", Name: "b\x07ob", Time: at, Body: []byte("x\x1b[2J"), Former: true, Late: true,
		Headers: []unibus.Header{{Key: "k\x1b", Value: "v\x1b"}},
	}
	clock := at.Local().Format(time.TimeOnly)
	want := clock + ` o\x1bps b\x07ob (former) (late, of 2026-01-02T03:04:05Z)  x\x1b[2J` + "\n" + strings.Repeat(" ", 67) + `k\x1b: v\x1b` + "\n"
	if got := show(hostile, messageFlags{headers: true, several: true}); got != want {
		t.Errorf("%q instead of %q", got, want)
	}
	a.out.plain = false
	if got := show(hostile, messageFlags{}); strings.Contains(got, "\x1b[2J") || !strings.Contains(got, "\x1b[32mb\\x07ob") {
		t.Errorf("in colour: %q", got)
	}
	if got := show(hostile, messageFlags{raw: true}); got != "x\x1b[2J\n" {
		t.Errorf("as it is: %q", got)
	}
	parts := unibus.Message{Time: at, Name: "bob", Unsure: true, Parts: [][]byte{[]byte(strings.Repeat("a", unsureSize)), []byte("b")}}
	if got := show(parts, messageFlags{}); !strings.HasSuffix(got, "aab\n") {
		t.Errorf("in pieces: %.40q", got)
	}
	if told, _ := os.ReadFile(a.err.raw.Name()); !strings.Contains(string(told), "that may be only its end") {
		t.Errorf("an unsure message: %s", told)
	}
}

// TestHelpPages: every command is in a group of help, each page about something else is there, and the flags that all commands
// take are on theirs alone.
func TestHelpPages(t *testing.T) {
	b := newTestBus(t)
	for _, c := range newRoot(newApp(b.temp(""), b.temp(""), b.temp(""))).Commands() {
		if c.Runnable() && c.GroupID == "" {
			t.Errorf("%s is in no group", c.Name())
		}
	}
	for page, says := range map[string]string{
		"flags": "--tls-ca FILE", "configuration": "UNIBUS_LISTEN", "exit-codes": "something was altered", "identities": "unibus whoami",
		"kick": "unibus help flags", "room set": "--retain",
	} {
		text := b.must(exitDone, "admin", append([]string{"help"}, strings.Fields(page)...)...)
		if !strings.Contains(text, says) {
			t.Errorf("help %s does not say %q: %s", page, says, text)
		}
		if strings.Contains(text, "--no-color") != (page == "flags" || page == "configuration") {
			t.Errorf("help %s: the flags of every command: %s", page, text)
		}
	}
}

// TestPage: people see a day once, rooms and senders in columns, and bodies beside them as they were written, so that no line
// of one looks like a message.
func TestPage(t *testing.T) {
	b := newTestBus(t)
	a := newApp(b.temp(""), b.temp(""), b.temp(""))
	a.out.terminal, a.out.width = true, 60
	f := messageFlags{several: true, page: &page{}}
	at := time.Date(2026, 1, 2, 13, 4, 5, 0, time.Local)
	for _, m := range []unibus.Message{
		{Subject: "ops", Name: "alexandra", Time: at, Body: []byte("if x {\n\treturn\n}\n")},
		{Subject: "ops.alerts", Name: "bob", Time: at.Add(time.Second), Body: []byte("13:04:07 ops alexandra  not a message of hers\n13:04:08 nor this")},
		{Subject: "ops", Name: "bob", Time: at.Add(24 * time.Hour), Body: []byte("")},
	} {
		if err := a.showMessage(&m, f); err != nil {
			t.Fatal(err)
		}
	}
	a.out.Flush()
	got, _ := os.ReadFile(a.out.raw.Name())
	const want = `— Friday, 2 January 2026 —
13:04:05 ops alexandra  if x {
                            return
                        }
13:04:06 ops.alerts bob        13:04:07 ops alexandra  not a
                               message of hers
                               13:04:08 nor this
— Saturday, 3 January 2026 —
13:04:05 ops        bob        ` + "\n"
	if string(got) != want {
		t.Errorf("%s\ninstead of\n%s", got, want)
	}
}

// TestConfirm: --yes answers, a person answers on a terminal, and nothing waits where there is none.
func TestConfirm(t *testing.T) {
	b := newTestBus(t)
	a := newApp(b.temp("y\n"), b.temp(""), b.temp(""))
	if err := a.confirm("leave"); exitCode(t.Context(), err) != exitUsage {
		t.Errorf("without a terminal: %v", err)
	}
	if err := a.confirmOnTerminal("leave"); err != nil {
		t.Errorf("what is only asked on a terminal: %v", err)
	}
	a.set.yes = true
	if err := a.confirm("leave"); err != nil {
		t.Errorf("with --yes: %v", err)
	}
}

// TestLogOfNode: passwords do not get into the log of serve.
func TestLogOfNode(t *testing.T) {
	b := newTestBus(t)
	a := newApp(b.temp(""), b.temp(""), b.temp(""))
	a.set.verbose = true
	log := (&serveCommand{a: a}).log()
	log.Info("connected", "to", "nats://u:hush@h:1", "why", usage("nats://u:hush@h:2"), "n", 3)
	told, _ := os.ReadFile(a.err.raw.Name())
	if text := string(told); strings.Contains(text, "hush") || !strings.Contains(text, "h:1") || !strings.Contains(text, "h:2") || !strings.Contains(text, "n=3") {
		t.Errorf("%s", text)
	}
}

// TestFeatures: a feature flag that there is not is told by every command, as a setting that cannot be.
func TestFeatures(t *testing.T) {
	w := &wordsTest{newTestBus(t)}
	t.Setenv("UNIBUS_FEATURES", "foo")
	for _, called := range []string{"version", "rooms ls", "serve --listen 127.0.0.1:0"} {
		w.says(exitUsage, "admin", called, `unibus: UNIBUS_FEATURES: there is no feature "foo"; there are: `, "hint: UNIBUS_FEATURES= unibus version -o json ")
	}
	t.Setenv("UNIBUS_FEATURES", "-decentralized")
	w.says(exitDone, "admin", "version", "protocol v1")
}

// TestMisspelled: a variable that is nearly a setting is told, and no other.
func TestMisspelled(t *testing.T) {
	b := newTestBus(t)
	t.Setenv("UNIBUS_TIMEOT", "1s")
	t.Setenv("UNIBUS_LISTEM", "x")
	t.Setenv("UNIBUS_SOMETHING", "x")
	e := b.exec("admin", "", "version")
	lines := strings.Split(strings.TrimSpace(e.err), "\n")
	slices.Sort(lines)
	want := []string{
		"UNIBUS_LISTEM is no setting and is not looked at: is UNIBUS_LISTEN meant?",
		"UNIBUS_TIMEOT is no setting and is not looked at: is UNIBUS_TIMEOUT meant?",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("%q instead of %q", lines, want)
	}
}
