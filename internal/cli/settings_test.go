package cli

import (
	"encoding/pem"
	"maps"
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
	} {
		b.write("xdg_config_home/unibus/config.yaml", text+"\n")
		if e := b.exec("admin", "", "version"); e.code != exitUsage || !strings.HasPrefix(e.err, "unibus: "+file+": "+want+"\n") {
			t.Errorf("%s: exit code %d, %s", text, e.code, e.err)
		}
	}
	for _, text := range []string{"", "# nothing\n", "timeout:\n", "Timeout: 3s\n"} {
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
