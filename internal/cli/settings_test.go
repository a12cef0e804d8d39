package cli

import (
	"encoding/pem"
	"errors"
	"maps"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// settingNames are all settings there are: the global flags but --yes, and those of serve. A flag that joins them is
// read from everybody's environment: it is added here knowingly.
var settingNames = []string{
	"bus", "context", "identity", "keys", "no-color", "output", "quiet", "server", "state", "store", "timeout", "tls-ca", "verbose",
	"cluster-listen", "cluster-name", "cluster-tls-ca", "cluster-tls-cert", "cluster-tls-key", "data", "external", "http", "listen",
	"max-rooms", "nats-config", "replicas", "routes", "server-name", "sync", "tls-cert", "tls-key",
}

// TestSettingsAreListed: no other flag is a setting.
func TestSettingsAreListed(t *testing.T) {
	got := slices.Sorted(maps.Keys(settable(newRoot(newApp(os.Stdin, os.Stdout, os.Stderr)))))
	if want := slices.Sorted(slices.Values(settingNames)); !slices.Equal(got, want) {
		t.Errorf("settings are %v, not %v", got, want)
	}
}

// everyCommand calls f with each command of a tree.
func everyCommand(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		everyCommand(sub, f)
	}
}

// everyFlag are the names of all flags of all commands.
func everyFlag() map[string]bool {
	names := map[string]bool{}
	everyCommand(newRoot(newApp(os.Stdin, os.Stdout, os.Stderr)), func(c *cobra.Command) {
		c.InitDefaultHelpFlag()
		c.Flags().VisitAll(func(f *pflag.Flag) { names[f.Name] = true })
		c.PersistentFlags().VisitAll(func(f *pflag.Flag) { names[f.Name] = true })
	})
	return names
}

// commandPaths are the commands that do something, as one calls them.
func commandPaths() [][]string {
	var paths [][]string
	everyCommand(newRoot(newApp(os.Stdin, os.Stdout, os.Stderr)), func(c *cobra.Command) {
		if !c.HasSubCommands() && c.Name() != "help" && c.Runnable() {
			paths = append(paths, strings.Fields(c.CommandPath())[1:])
		}
	})
	return paths
}

// prepared is what a command would run with, when it is called without flags: the values of its flags and the settings.
type prepared struct {
	flags    map[string]string
	settings settings
}

// prepareCommand does everything with a command but run it.
func prepareCommand(t *testing.T, b *testBus, path []string) (prepared, error) {
	t.Helper()
	a := newApp(b.temp(""), b.temp(""), b.temp(""))
	cmd, _, err := newRoot(a).Find(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.ParseFlags(nil); err != nil {
		t.Fatal(err)
	}
	err = a.prepare(cmd, nil)
	p := prepared{flags: map[string]string{}, settings: *a.set}
	cmd.Flags().VisitAll(func(f *pflag.Flag) { p.flags[f.Name] = f.Value.String() })
	return p, err
}

// TestNothingElseIsASetting: every flag of every command, by its name in the environment and in the file. Those that are
// no settings change no command from the environment, and are refused in the file, with the place where they stand.
func TestNothingElseIsASetting(t *testing.T) {
	b := newTestBus(t)
	file := filepath.Join(b.dir, "xdg_config_home", "unibus", "config.yaml")
	before := map[string]prepared{}
	for _, path := range commandPaths() {
		p, err := prepareCommand(t, b, path)
		if err != nil {
			t.Fatal(err)
		}
		before[strings.Join(path, " ")] = p
	}
	var others []string
	for name := range everyFlag() {
		if !slices.Contains(settingNames, name) {
			others = append(others, name)
		}
	}
	if len(others) < 20 {
		t.Fatalf("no flags but %v are looked at", others)
	}
	for _, name := range others {
		t.Setenv("UNIBUS_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_")), "1")
	}
	for _, path := range commandPaths() {
		called := strings.Join(path, " ")
		p, err := prepareCommand(t, b, path)
		if err != nil || !reflect.DeepEqual(p, before[called]) {
			t.Errorf("unibus %s is changed by the environment (%v): %+v instead of %+v", called, err, p, before[called])
		}
	}
	for _, name := range others {
		b.write("xdg_config_home/unibus/config.yaml", name+": 1\n")
		for _, path := range commandPaths() {
			_, err := prepareCommand(t, b, path)
			if want := file + ": " + name + ": there is no such setting"; err == nil || err.Error() != want || exitCode(t.Context(), err) != exitUsage {
				t.Errorf("unibus %s with %s in the file: %v", strings.Join(path, " "), name, err)
			}
		}
	}
}

// TestOverlookedNames: what YAML gives a meaning of its own is no setting either, nor is a group a value.
func TestOverlookedNames(t *testing.T) {
	b := newTestBus(t)
	file := filepath.Join(b.dir, "xdg_config_home", "unibus", "config.yaml")
	for text, want := range map[string]string{
		"null: 1":            "null: there is no such setting",
		"~: 1":               "~: there is no such setting",
		"plain: {}":          "plain: there is no such setting",
		"<<: {timeout: 1s}":  "<<: there is no such setting",
		"timeout: {}":        "timeout: {}: not a value",
		"timeout: 1s\nyes:":  "yes: there is no such setting",
		"serve: {listen: x}": "serve.listen: there is no such setting",

		"Timeout: 3s":                           "Timeout: there is no such setting\nhint: there is timeout",
		"TLS_CA: x":                             "TLS_CA: there is no such setting\nhint: there is tls-ca",
		"timeout: 1s\nbus:\ntimeout: 1s":        "timeout: it is on line 1, and on line 3 again",
		"bus:\nbus:":                            "bus: it is on line 1, and on line 2 again",
		"timeout: 1s\n---\noutput: json":        "line 2: another document begins there, and settings are one",
		"# one\n---\n---\noutput: json":         "line 3: another document begins there, and settings are one",
		"timeout: 1s\n---\n- x\na: b: c\n":      "line 4: not NAME: VALUE",
		"routes: [a:1, [b]]":                    "routes: []: not a value",
		"? [timeout]\n: 1s":                     "line 1: not NAME: VALUE",
		"just words":                            "line 1: not NAME: VALUE",
		"- x" + strings.Repeat("\n", maxSought): "line 1: not NAME: VALUE",
		"timeout: 1s\n\t:[" + strings.Repeat("\nx: 1", maxSought): "not NAME: VALUE",
		"#" + strings.Repeat("x", maxSettings):                    "it has 65538 bytes, and settings have at most 65536",
	} {
		b.write("xdg_config_home/unibus/config.yaml", text+"\n")
		if e := b.exec("admin", "", "version"); e.code != exitUsage || !strings.HasPrefix(e.err, "unibus: "+file+": "+want+"\n") {
			t.Errorf("%s: exit code %d, %s", text, e.code, e.err)
		}
	}
	if _, err := os.Stat("/dev/zero"); err == nil { // which has no end
		if err := errors.Join(os.Remove(file), os.Symlink("/dev/zero", file)); err != nil {
			t.Fatal(err)
		}
		if e := b.exec("admin", "", "version"); e.code != exitUsage || !strings.HasPrefix(e.err, "unibus: "+file+": it is no file\n") {
			t.Errorf("a device: exit code %d, %s", e.code, e.err)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range []string{"", "# nothing\n", "---\n# nothing\n", "---\ntimeout: 3s\n...\n", "timeout:\n", "timeout: ''\nroutes: []\nstate: ~\n", "timeout: &a 3s\nsync: *a\n"} {
		b.write("xdg_config_home/unibus/config.yaml", text)
		b.must(exitDone, "admin", "version")
	}
}

// TestSettingsAreRead: each setting changes what every command runs with, from the environment and from the file; and one
// that cannot be is a usage error that names the place.
func TestSettingsAreRead(t *testing.T) {
	b := newTestBus(t)
	t.Setenv("UNIBUS_TIMEOUT", "")
	file := filepath.Join(b.dir, "xdg_config_home", "unibus", "config.yaml")
	vouching := httptest.NewTLSServer(nil)
	defer vouching.Close()
	authority := b.write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: vouching.Certificate().Raw})))
	value := map[string][2]string{ // one that can be, and one that cannot
		"bus": {"work", "a/b"}, "server": {"nats://127.0.0.1:1", "http://x"}, "timeout": {"3s", "banana"}, "output": {"json", "yaml"},
		"quiet": {"true", "maybe"}, "verbose": {"true", "maybe"}, "no-color": {"true", "maybe"}, "external": {"true", "maybe"},
		"listen": {"127.0.0.1:1", "4222"}, "http": {"127.0.0.1:1", "x"}, "cluster-listen": {"127.0.0.1:1", "x"}, "routes": {"127.0.0.1:1", "x"},
		"max-rooms": {"7", "0"}, "replicas": {"3", "9"}, "sync": {"3s", "banana"}, "tls-ca": {authority, "x"},
	}
	for _, name := range settingNames {
		v, typed := value[name]
		if !typed {
			v[0] = "some"
		}
		variable := variables(name)[0]
		flag := func() string {
			a := newApp(b.temp(""), b.temp(""), b.temp(""))
			root := newRoot(a)
			cmd, _, _ := root.Find([]string{"serve"})
			if err := cmd.ParseFlags(nil); err != nil {
				t.Fatal(err)
			}
			if err := a.prepare(cmd, nil); err != nil {
				return err.Error()
			}
			return settable(root)[name].Value.String()
		}
		t.Setenv(variable, v[0])
		if got := flag(); got != v[0] {
			t.Errorf("%s=%s: %s", variable, v[0], got)
		}
		t.Setenv(variable, "")
		b.write("xdg_config_home/unibus/config.yaml", name+": \""+v[0]+"\"\n")
		if got := flag(); got != v[0] {
			t.Errorf("%s in the file: %s", name, got)
		}
		if typed {
			t.Setenv(variable, v[1])
			if e := b.exec("admin", "", "version"); e.code != exitUsage || !strings.HasPrefix(e.err, "unibus: "+variable+": "+v[1]+": ") {
				t.Errorf("%s=%s: exit code %d, %s", variable, v[1], e.code, e.err)
			}
			t.Setenv(variable, "")
			b.write("xdg_config_home/unibus/config.yaml", name+": "+v[1]+"\n")
			if e := b.exec("admin", "", "version"); e.code != exitUsage || !strings.HasPrefix(e.err, "unibus: "+file+": "+name+": "+v[1]+": ") {
				t.Errorf("%s: %s in the file: exit code %d, %s", name, v[1], e.code, e.err)
			}
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
}

// TestValuesAreWritten: a value in the file is what stands there, whatever it is in YAML; an empty one is none, as that of a
// variable.
func TestValuesAreWritten(t *testing.T) {
	b := newTestBus(t)
	t.Setenv("UNIBUS_TIMEOUT", "")
	for _, c := range []struct{ name, in, want string }{
		{"bus", "0123", "0123"}, {"bus", "1.10", "1.10"}, {"bus", "2026-01-02", "2026-01-02"}, {"bus", "yes", "yes"}, {"bus", "0x5", "0x5"},
		{"context", "1_000", "1_000"}, {"state", "1e3", "1e3"}, {"max-rooms", "010", "010"}, {"quiet", "True", "true"}, {"state", "&a no", "no"},
		{"routes", "[a:1, nats://b:2]", "a:1,nats://b:2"}, {"timeout", "''", "5s"}, {"timeout", "", "5s"}, {"timeout", "~", "5s"}, {"bus", `""`, ""},
	} {
		b.write("xdg_config_home/unibus/config.yaml", c.name+": "+c.in+"\n")
		p, err := prepareCommand(t, b, []string{"serve"})
		if got := p.flags[c.name]; err != nil || strings.Trim(got, "[]") != c.want {
			t.Errorf("%s: %s is read as %q (%v)", c.name, c.in, got, err)
		}
		if _, set := p.settings.sources[c.name]; set != (c.in != "" && c.in != "~" && !strings.Contains(`''""`, c.in)) {
			t.Errorf("%s: %s is set: %v", c.name, c.in, set)
		}
	}
	for in, want := range map[string]string{"0x5": "timeout: 0x5: not a duration", "1_0": "timeout: 1_0: not a duration"} {
		b.write("xdg_config_home/unibus/config.yaml", "timeout: "+in+"\n")
		if _, err := prepareCommand(t, b, []string{"serve"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("timeout: %s: %v", in, err)
		}
	}
}

// takenAddress is one at which another listens.
func takenAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// TestErrorsNameThePlace: what is wrong with a setting that the command line does not give is told with the place where it
// stands, the variable or the name in the file; and with the flag where the command line gives it.
func TestErrorsNameThePlace(t *testing.T) {
	b := newTestBus(t)
	b.must(exitDone, "admin", "init")
	busy := takenAddress(t)
	b.write("not.pem", "")
	file := filepath.Join(b.dir, "xdg_config_home", "unibus", "config.yaml")
	for _, c := range []struct {
		args, name, value string
		from, flag        string // what is told with the place, and with the flag; PLACE is the place
	}{
		{"rooms ls", "store", "foo", `PLACE: store "foo": `, `store "foo": `},
		{"rooms ls", "store", "nats://u:pass@h?x=1", `PLACE: store "nats://h?x=1": `, `store "nats://h?x=1": `},
		{"rooms ls", "store", "jetstream", "PLACE: jetstream: that is for unibus serve", "--store jetstream: that is for unibus serve"},
		{"rooms ls", "context", "none", "PLACE: NATS context none: ", "NATS context none: "},
		{"doctor", "keys", "none.nk", "PLACE: service keys none.nk: ", "service keys none.nk: "},
		{"serve", "store", "nats://h", "PLACE: serve keeps a bus in ", "--store: serve keeps a bus in "},
		{"serve", "replicas", "3", "PLACE is for --store jetstream", "--replicas is for --store jetstream"},
		{"serve", "tls-cert", "none", "PLACE: not found: there is no file none", "--tls-cert: not found: there is no file none"},
		{"serve", "tls-cert", "not.pem", "PLACE and --tls-key go together", "--tls-cert and --tls-key go together"},
		{"serve --tls-key not.pem", "tls-cert", "not.pem", "PLACE: not.pem, --tls-key not.pem: ", "--tls-cert not.pem, --tls-key not.pem: "},
		{"serve", "cluster-name", "c", "PLACE needs --cluster-listen", "--cluster-name needs --cluster-listen"},
		{"serve", "cluster-name", "a b", "PLACE: a b: not a name without spaces", "--cluster-name a b: not a name without spaces"},
		{"serve", "server-name", "a b", "PLACE: a b: not a name without spaces", "--server-name a b: not a name without spaces"},
		{"serve", "cluster-listen", "127.0.0.1:1", "PLACE: a cluster needs --cluster-name", "--cluster-listen: a cluster needs --cluster-name"},
		{"serve", "routes", "127.0.0.1:1", "PLACE: a cluster needs --cluster-name", "--routes: a cluster needs --cluster-name"},
		{"serve", "cluster-tls-cert", "not.pem", "PLACE: a cluster needs --cluster-name", "--cluster-tls-cert: a cluster needs --cluster-name"},
		{"serve --cluster-name c --cluster-listen 127.0.0.1:1", "cluster-tls-ca", "not.pem", "--cluster-tls-cert, --cluster-tls-key and PLACE go together", "--cluster-tls-cert, --cluster-tls-key and --cluster-tls-ca go together"},
		{"serve --cluster-name c --cluster-listen 127.0.0.1:1", "store", "sqlite:x", "PLACE: the servers of a cluster share", "--store: the servers of a cluster share"},
		{"serve --listen " + busy, "http", busy, "--listen " + busy + ": ", "--listen " + busy + ": "},
		{"serve", "listen", busy, "PLACE: " + busy + ": already exists", "--listen " + busy + ": already exists"},
		{"serve --listen 127.0.0.1:0", "data", "not.pem", "PLACE: the data folder: ", "the data folder: "},
	} {
		variable := variables(c.name)[0]
		before := os.Getenv(variable)
		told := func(place, want string, more ...string) {
			t.Helper()
			want = "unibus: " + strings.Replace(want, "PLACE", place, 1)
			if e := b.exec("admin", "", append(strings.Fields(c.args), more...)...); !strings.HasPrefix(e.err, want) {
				t.Errorf("%s with %s in %s: %s, not %s", c.args, c.value, place, e.err, want)
			}
		}
		t.Setenv(variable, c.value)
		told(variable, c.from)
		t.Setenv(variable, "")
		b.write("xdg_config_home/unibus/config.yaml", c.name+": \""+c.value+"\"\n")
		told(file+": "+c.name, c.from)
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		told("--"+c.name, c.flag, "--"+c.name, c.value)
		t.Setenv(variable, before)
	}
}

// TestErrorsNameThePlaceOfTheRest: likewise the hint of an address that is taken, and an identity that is not there.
func TestErrorsNameThePlaceOfTheRest(t *testing.T) {
	b := newTestBus(t)
	b.must(exitDone, "admin", "init")
	t.Setenv("UNIBUS_LISTEN", takenAddress(t))
	if e := b.exec("admin", "", "serve"); !strings.Contains(e.err, "\nhint: another address: UNIBUS_LISTEN=127.0.0.1:PORT; ") {
		t.Errorf("an address that is taken: %s", e.err)
	}
	if e := b.exec("nobody", "", "rooms", "ls"); !strings.HasPrefix(e.err, "unibus: UNIBUS_IDENTITY: read the identity: ") {
		t.Errorf("without an identity: %s", e.err)
	}
}
