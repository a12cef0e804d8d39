package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite"

	"github.com/unibus/unibus/internal/admin"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/freeport"
	"github.com/unibus/unibus/internal/service"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"unibus":     func() { os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
		"ticks":      ticks,
		"foreground": func() { fmt.Println("in the foreground:", foreground(os.Stderr)) },
	})
}

// ticks writes the numbers from 1 to its argument, a line each, a hundred a second.
func ticks() {
	n, err := strconv.Atoi(os.Args[1])
	if err != nil {
		os.Exit(exitUsage)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	for i := range n {
		<-tick.C
		fmt.Println(i + 1)
	}
}

// TestScripts runs the command-line contract, with real processes.
//
//	serve [ARGS]            start a bus, with the identity "admin"
//	stop                    stop it
//	as USER                 what is run from now on is run as USER
//	run CODE USER ARGS…     run unibus as USER; it must exit with CODE
//	spawn NAME USER ARGS…   the same in the background
//	await NAME REGEXP       wait until its output matches
//	signal NAME INT         send a signal
//	reap NAME CODE          wait for its end
//	sqlite FILE STATEMENT   change a store behind everyone's back
//	absent DIR TEXT…        no file below DIR holds one of the texts
//	cluster [ARGS]          start three servers that are one bus, with the identity "admin"
//	nats CONFIG             start a NATS server that is not unibus's, on a free port or where it was; sets NATS
//	nats stop               stop it
//	nats logins N           wait until it has been connected to N times
//	certificate NAME        make NAME.pem and NAME.key for 127.0.0.1, which nobody vouches for
//	port NAME               set NAME to a free address
//	node start|stop|kill N  start or end one of them
//	forge IN OUT            make an export without the last frame of another, its checksum right
//	until REGEXP USER ARGS… run unibus as USER until its output matches
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Values[spawnedKey{}] = &spawned{by: map[string]*process{}}
			env.Values[natsKey{}] = new(*server.Server)
			for _, v := range []string{"XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"} {
				env.Setenv(v, filepath.Join(env.WorkDir, strings.ToLower(v)))
			}
			env.Setenv("HOME", env.WorkDir)
			examples, err := filepath.Abs("../../examples")
			if err != nil {
				return err
			}
			env.Setenv("EXAMPLES", examples)
			env.Setenv("UNIBUS_TIMEOUT", "20s") // for machines that are busy; what must time out says when
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"serve": cmdServe, "halt": cmdHalt, "run": cmdRun, "spawn": cmdSpawn, "await": cmdAwait,
			"signal": cmdSignal, "reap": cmdReap, "sqlite": cmdSQLite, "absent": cmdAbsent,
			"as":   func(ts *testscript.TestScript, _ bool, args []string) { as(ts, args[0]) },
			"nats": cmdNATS, "port": cmdPort, "certificate": cmdCertificate, "cluster": cmdCluster, "node": cmdNode, "until": cmdUntil, "forge": cmdForge,
			"unstream": cmdUnstream,
		},
	})
}

type spawnedKey struct{}

type spawned struct{ by map[string]*process }

// process is one in the background.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex
	out bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func processes(ts *testscript.TestScript) map[string]*process {
	return ts.Value(spawnedKey{}).(*spawned).by
}

func as(ts *testscript.TestScript, user string) {
	ts.Setenv("UNIBUS_IDENTITY", ts.MkAbs(user+".nk"))
	ts.Setenv("UNIBUS_STATE", ts.MkAbs("state"))
}

// patience is for what must happen soon; it only matters when it does not.
const patience = time.Minute

func start(ts *testscript.TestScript, name string, args ...string) *process {
	cmd := exec.Command("unibus", args...)
	cmd.Path = filepath.Join(strings.Split(ts.Getenv("PATH"), string(os.PathListSeparator))[0], "unibus")
	cmd.Err = nil
	cmd.Dir = ts.MkAbs(".")
	for _, v := range []string{"PATH", "HOME", "UNIBUS_IDENTITY", "UNIBUS_STATE", "UNIBUS_SERVER", "UNIBUS_TIMEOUT", "UNIBUS_KEYS", "UNIBUS_STORE", "UNIBUS_FEATURES", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "TMPDIR", "SSL_CERT_FILE", "GOCOVERDIR"} {
		cmd.Env = append(cmd.Env, v+"="+ts.Getenv(v))
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p, p
	ts.Check(cmd.Start())
	go func() {
		_ = cmd.Wait() // the state says how it ended
		close(p.done)
	}()
	processes(ts)[name] = p
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		<-p.done
	})
	return p
}

func await(ts *testscript.TestScript, name, pattern string) []string {
	p := processes(ts)[name]
	re := regexp.MustCompile("(?m)" + pattern)
	deadline := time.Now().Add(patience)
	for {
		if m := re.FindStringSubmatch(p.text()); m != nil {
			return m
		}
		select {
		case <-p.done:
			if m := re.FindStringSubmatch(p.text()); m != nil {
				return m
			}
			ts.Fatalf("%s ended without %q; it said:\n%s", name, pattern, p.text())
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s never said %q, but:\n%s", name, pattern, p.text())
		}
	}
}

func cmdServe(ts *testscript.TestScript, _ bool, args []string) {
	as(ts, "admin")
	listen := freeport.Local()
	if old := ts.Getenv("UNIBUS_SERVER"); old != "" { // where it was before
		listen = strings.TrimPrefix(old, "nats://")
	}
	start(ts, "serve", append([]string{"serve", "-o", "json", "--listen", listen, "--data", ts.MkAbs("data")}, args...)...)
	line := await(ts, "serve", `^\{"admin.*$`)[0]
	var ready struct{ Server, Bus, Admin, HTTP string }
	ts.Check(json.Unmarshal([]byte(line), &ready))
	ts.Setenv("UNIBUS_SERVER", ready.Server)
	ts.Setenv("BUS", ready.Bus)
	ts.Setenv("HTTP", ready.HTTP)
}

func cmdPort(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], freeport.Local())
}

func cmdCertificate(ts *testscript.TestScript, _ bool, args []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	now := time.Now()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	ts.Check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	write := func(name, kind string, der []byte) {
		ts.Check(os.WriteFile(ts.MkAbs(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	write(args[0]+".pem", "CERTIFICATE", certificate)
	write(args[0]+".key", "PRIVATE KEY", private)
}

// cmdUnstream removes the stream of the room that a file describes, as whoever runs the servers may.
func cmdUnstream(ts *testscript.TestScript, _ bool, args []string) {
	var room struct {
		ID crypto.ID `json:"room_id"`
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &room))
	keys, err := bus.LoadKeys(service.KeysFile(ts.MkAbs("data")))
	ts.Check(err)
	nc, err := admin.Access{Keys: keys, Timeout: patience}.Dial(ts.Getenv("UNIBUS_SERVER"))
	ts.Check(err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ts.Check(js.DeleteStream(ctx, bus.StreamName(room.ID)))
}

type natsKey struct{}

func cmdNATS(ts *testscript.TestScript, _ bool, args []string) {
	running := ts.Value(natsKey{}).(**server.Server)
	switch args[0] {
	case "stop":
		(*running).Shutdown()
		(*running).WaitForShutdown()
		return
	case "logins":
		want, err := strconv.ParseUint(args[1], 10, 64)
		ts.Check(err)
		for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			v, err := (*running).Varz(nil)
			ts.Check(err)
			if v.TotalConnections >= want {
				return
			}
			if time.Now().After(deadline) {
				ts.Fatalf("%d connections, not %d", v.TotalConnections, want)
			}
		}
	}
	listen := freeport.Local()
	if old := ts.Getenv("NATS"); old != "" {
		listen = strings.TrimPrefix(old, "nats://")
	}
	conf := ts.ReadFile(args[0]) + fmt.Sprintf("\nlisten: %q\njetstream { store_dir: %q, sync_interval: always, max_file_store: 100000T }\n", listen, ts.MkAbs("js"))
	o := &server.Options{NoSigs: true, NoLog: true}
	ts.Check(o.ProcessConfigString(conf))
	s, err := server.NewServer(o)
	ts.Check(err)
	s.Start()
	ts.Defer(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(patience) {
		ts.Fatalf("the NATS server does not start")
	}
	*running = s
	ts.Setenv("NATS", s.ClientURL())
}

// cmdCluster picks ports, and starts three servers at once: none is ready before most are there.
func cmdCluster(ts *testscript.TestScript, _ bool, args []string) {
	var servers []string
	for i := range 3 {
		n := strconv.Itoa(i + 1)
		ts.Setenv("N"+n, freeport.Local())
		ts.Setenv("R"+n, freeport.Local())
		servers = append(servers, "nats://"+ts.Getenv("N"+n))
	}
	ts.Setenv("UNIBUS_SERVER", strings.Join(servers, ","))
	ts.Setenv("UNIBUS_KEYS", ts.MkAbs("service.nk"))
	ts.Check(ts.Exec("unibus", "nats-config", "-q"))
	ts.Setenv("NODE_ARGS", strings.Join(args, " "))
	for i := range 3 {
		startNode(ts, strconv.Itoa(i+1))
	}
	for i := range 3 {
		await(ts, "n"+strconv.Itoa(i+1), `"ready":true`)
	}
}

func startNode(ts *testscript.TestScript, n string) {
	as(ts, "admin")
	var routes []string
	for _, other := range []string{"1", "2", "3"} {
		if other != n {
			routes = append(routes, ts.Getenv("R"+other))
		}
	}
	args := []string{
		"serve", "-o", "json", "--listen", ts.Getenv("N" + n), "--data", ts.MkAbs("data" + n), "--server-name", "n" + n,
		"--cluster-name", "c", "--cluster-listen", ts.Getenv("R" + n), "--routes", strings.Join(routes, ","),
	}
	start(ts, "n"+n, append(args, strings.Fields(ts.Getenv("NODE_ARGS"))...)...)
}

func cmdNode(ts *testscript.TestScript, _ bool, args []string) {
	name := "n" + args[1]
	switch args[0] {
	case "start":
		startNode(ts, args[1])
		await(ts, name, `"ready":true`)
	case "stop":
		cmdSignal(ts, false, []string{name, "TERM"})
		cmdReap(ts, false, []string{name, "0|130"})
	case "kill":
		cmdSignal(ts, false, []string{name, "KILL"})
		<-processes(ts)[name].done
	}
}

func cmdUntil(ts *testscript.TestScript, _ bool, args []string) {
	as(ts, args[1])
	re := regexp.MustCompile("(?m)" + args[0])
	for deadline := time.Now().Add(2 * patience); ; {
		_ = ts.Exec("unibus", args[2:]...) // what it prints decides
		if re.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("unibus %s never printed %s", strings.Join(args[2:], " "), args[0])
		}
	}
}

func cmdHalt(ts *testscript.TestScript, _ bool, _ []string) {
	cmdSignal(ts, false, []string{"serve", "TERM"})
	cmdReap(ts, false, []string{"serve", "0|130"})
}

func cmdRun(ts *testscript.TestScript, _ bool, args []string) {
	as(ts, args[1])
	err := ts.Exec("unibus", args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("unibus %s: exit code %d instead of %s", strings.Join(args[2:], " "), code, args[0])
	}
}

func cmdSpawn(ts *testscript.TestScript, _ bool, args []string) {
	as(ts, args[1])
	start(ts, args[0], args[2:]...)
}

func cmdAwait(ts *testscript.TestScript, _ bool, args []string) { await(ts, args[0], args[1]) }

func cmdSignal(ts *testscript.TestScript, _ bool, args []string) {
	s := signals[args[1]]
	ts.Check(processes(ts)[args[0]].cmd.Process.Signal(s))
}

func cmdReap(ts *testscript.TestScript, _ bool, args []string) {
	p := processes(ts)[args[0]]
	select {
	case <-p.done:
	case <-time.After(patience):
		ts.Fatalf("%s does not end; it said:\n%s", args[0], p.text())
	}
	code := strconv.Itoa(p.cmd.ProcessState.ExitCode())
	if !strings.Contains("|"+args[1]+"|", "|"+code+"|") {
		ts.Fatalf("%s ended with %s instead of %s; it said:\n%s", args[0], code, args[1], p.text())
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".out"), []byte(p.text()), 0o644))
}

func cmdSQLite(ts *testscript.TestScript, _ bool, args []string) {
	db, err := sql.Open("sqlite", "file:"+ts.MkAbs(args[0])+"?_pragma=busy_timeout(5000)")
	ts.Check(err)
	defer db.Close()
	result, err := db.Exec(args[1])
	ts.Check(err)
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		ts.Fatalf("%s changes nothing (%v)", args[1], err)
	}
}

func cmdAbsent(ts *testscript.TestScript, _ bool, args []string) {
	files := 0
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, text := range args[1:] {
			if bytes.Contains(raw, []byte(text)) {
				return fmt.Errorf("%q is in %s", text, path)
			}
		}
		return nil
	}))
	if files == 0 {
		ts.Fatalf("no files in %s", args[0])
	}
}

// TestEncodeJSON: JSON holds nothing that a terminal would act on, and still means the same.
func TestEncodeJSON(t *testing.T) {
	hostile := "a\x1b[2Jb\u009b2Jc\u202ed\u2028e\x7ff\U000e0001g\n\u00e9<&>"
	var line bytes.Buffer
	o := &output{Writer: bufio.NewWriter(&line)}
	if err := errors.Join(o.encode(map[string]string{"body": hostile, hostile: "x"}), o.Flush()); err != nil {
		t.Fatal(err)
	}
	if text := strings.TrimSuffix(line.String(), "\n"); visible(text) != text || !strings.Contains(text, "\u00e9<&>") {
		t.Errorf("%q", text)
	}
	var back map[string]string
	if err := json.Unmarshal(line.Bytes(), &back); err != nil || back["body"] != hostile || back[hostile] != "x" {
		t.Errorf("%q, %v", back, err)
	}
}

func TestVisible(t *testing.T) {
	for in, want := range map[string]string{
		"plain ümläut 日本":       "plain ümläut 日本",
		"\x1b[31mred\x1b[0m":    `\x1b[31mred\x1b[0m`,
		"a\nb\tc\r":             `a\x0ab\tc\x0d`,
		"\u202egnp.exe":         `\u202egnp.exe`,
		"\u009b2J":              `\x9b2J`,
		string([]byte{0xff, 0}): `\xff\x00`,
	} {
		if got := visible(in); got != want {
			t.Errorf("visible(%q) = %s, want %s", in, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { visible("nothing to hide") }); n != 0 {
		t.Errorf("a safe line costs %v allocations", n)
	}
}

func TestMessages(t *testing.T) {
	long := strings.Repeat("x", 300<<10)
	for _, c := range []struct {
		in   string
		f    pubFlags
		want []string
	}{
		{"a\nb\n", pubFlags{}, []string{"a", "b"}},
		{"a\n\nb", pubFlags{}, []string{"a", "", "b"}},
		{"", pubFlags{}, nil},
		{"\n", pubFlags{}, []string{""}},
		{"a\r\n", pubFlags{}, []string{"a\r"}},
		{"a\nb\x00c\x00", pubFlags{null: true}, []string{"a\nb", "c"}},
		{"a\nb\n", pubFlags{whole: true}, []string{"a\nb\n"}},
		{"", pubFlags{whole: true}, []string{""}},
		{"a\nb\nc\n", pubFlags{count: 2}, []string{"a", "b"}},
		{long + "\n" + long, pubFlags{}, []string{long, long}},
	} {
		var got []string
		n, err := c.f.messages(bufio.NewReader(strings.NewReader(c.in)), func(b []byte) error {
			got = append(got, string(b))
			return nil
		})
		if err != nil || int(n) != len(c.want) || strings.Join(got, "|") != strings.Join(c.want, "|") {
			t.Errorf("%.20q: %d messages, %v", c.in, n, err)
		}
	}
}
