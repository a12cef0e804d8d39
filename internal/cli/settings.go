package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/adrg/xdg"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/store/open"
)

// A setting is a global flag, or one of serve, that the command line need not give: it is then taken from the
// environment, the configuration file or its default, in this order. No other flag is a setting, save --data of
// commands that look into serve's folder. What a command does is said where it is called, and not by something
// that happens to be in the environment.

// settings are the values of the global flags. An empty text is a setting that nobody made.
type settings struct {
	// server and context say where NATS servers are, context also how to get in; store goes straight to a store instead,
	// and keys is a file of the service's keys for that.
	server, context, store, keys string
	// tlsCA is a file of the authorities that may vouch for servers; empty: those that the system trusts.
	tlsCA string
	// identity is a file, state a folder; identityFile and stateDir are where they are in any case.
	identity, state string
	// output is text or json.
	output string
	// bus is the id or the name of the one that is meant; empty: the one in use, or whichever is at the server that is named.
	bus string
	// timeout is that of each exchange with a server.
	timeout time.Duration
	// data is the folder of serve, also for commands that look into it; dataDir is where it is in any case.
	data string
	// quiet silences notices, verbose has serve tell more, noColor prints no colour.
	quiet, verbose, noColor bool
	// yes is no setting: it answers for one command.
	yes bool
	// sources are where settings have their values from that the command line does not give.
	sources map[string]sourced
}

// define makes the global flags.
func (s *settings) define(f *pflag.FlagSet) {
	f.Var(newValue(&s.server, parseServers), "server", "NATS `URL` of the bus (also NATS_URL; default that of the bus in use, or "+unibus.DefaultServer+")")
	f.StringVar(&s.context, "context", "", "a NATS context's `NAME`: servers, TLS and credentials from there")
	f.Var(newValue(&s.tlsCA, parseCA), "tls-ca", "trust servers that an authority in `FILE` vouches for, and no others")
	f.StringVar(&s.store, "store", "", "straight to a store: `sqlite:PATH`, or nats://HOST:PORT with an operator's own credentials")
	f.StringVar(&s.keys, "keys", "", "`FILE` of the service's keys, for serve (default service.nk in its data folder) and for nats:// stores")
	f.StringVar(&s.identity, "identity", "", "identity `FILE` (default $XDG_CONFIG_HOME/unibus/identity.nk)")
	f.StringVar(&s.state, "state", "", "`DIR` for what was verified (default $XDG_STATE_HOME/unibus)")
	f.Var(newValue(&s.bus, parseBus), "bus", "go to the bus with this `ID|NAME`, and insist that it is there")
	f.Var(newDefault(&s.timeout, unibus.DefaultTimeout.String(), parsePositive), "timeout", "for each exchange with the server")
	f.VarP(newDefault(&s.output, "text", parseOneOf("text", "json")), "output", "o", "text or json")
	f.BoolVarP(&s.quiet, "quiet", "q", false, "no notices")
	f.BoolVarP(&s.verbose, "verbose", "v", false, "say more")
	f.BoolVar(&s.noColor, "no-color", false, "no colour (also NO_COLOR)")
	f.BoolVar(&s.yes, "yes", false, "answer confirmations with yes")
}

// defineData makes --data, a flag of serve and of commands that look into the data folder of the service on this machine.
func (s *settings) defineData(f *pflag.FlagSet) {
	f.StringVar(&s.data, "data", "", "data `DIR` of the service (default $XDG_DATA_HOME/unibus)")
}

// identityFile is where the identity is, or would be.
func (s *settings) identityFile() string {
	return cmp.Or(s.identity, filepath.Join(xdg.ConfigHome, "unibus", "identity.nk"))
}

// stateDir is the folder for what was verified.
func (s *settings) stateDir() string { return cmp.Or(s.state, filepath.Join(xdg.StateHome, "unibus")) }

// dataDir is the data folder of the service on this machine.
func (s *settings) dataDir() string { return cmp.Or(s.data, filepath.Join(xdg.DataHome, "unibus")) }

// configFile is where the configuration file is, if there is one. No setting moves it.
func configFile() string { return filepath.Join(xdg.ConfigHome, "unibus", "config.yaml") }

// settable are the flags that are settings, by name.
func settable(root *cobra.Command) map[string]*pflag.Flag {
	flags := map[string]*pflag.Flag{}
	// --yes answers for one command: in an environment it would answer for all.
	add := func(f *pflag.Flag) {
		if f.Name != "yes" && f.Name != "help" {
			flags[f.Name] = f
		}
	}
	root.PersistentFlags().VisitAll(add)
	for _, c := range root.Commands() {
		if c.Name() == "serve" {
			c.LocalNonPersistentFlags().VisitAll(add)
		}
	}
	return flags
}

// sourced is a setting's value, and what gives it: a variable or the file. Its place is the variable, or the name in the file.
type sourced struct{ text, from, place string }

// read gives the settings that the command line does not the values they have elsewhere.
func (s *settings) read(cmd *cobra.Command) error {
	// The file is read whole, and first: a name in it that is no setting is told even to who sets everything otherwise.
	flags := settable(cmd.Root())
	file := configFile()
	inFile, err := readConfig(file, flags)
	if err != nil {
		return err
	}
	s.sources = map[string]sourced{}
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		// What the command line gives is not looked for elsewhere, so that a value there that cannot be does not keep a
		// command from running that does not use it.
		if given(cmd.Flags().Lookup(name)) {
			continue
		}
		v, ok := fromEnvironment(name)
		if !ok {
			v, ok = inFile[name]
		}
		if !ok {
			continue
		}
		if err := flags[name].Value.Set(v.text); err != nil {
			return refused(v.place, flags[name], v.text, err)
		}
		s.sources[name] = v
	}
	return nil
}

// leads are the servers, or the NATS context, that this run goes to. Whoever names a bus on the command line, by the name that it
// has here, means where that is, whatever a variable or the file says of servers.
func (s *settings) leads() (server, natsContext string) {
	server, natsContext = s.server, s.context
	if _, err := crypto.ParseID(s.bus); err == nil || s.bus == "" || s.sources["bus"].from != "" {
		return server, natsContext
	}
	if s.sources["server"].from != "" {
		server = ""
	}
	if s.sources["context"].from != "" {
		natsContext = ""
	}
	return server, natsContext
}

// called is what an error calls a setting: the place where it stands, or the flag.
func (s *settings) called(name string) string {
	return cmp.Or(s.sources[name].place, "--"+name)
}

// told is a setting with its value, as it stands there.
func (s *settings) told(name, text string) string { return toldAt(s.sources[name].place, name, text) }

// toldAt is a setting with its value, as it stands in a place, or else on the command line.
func toldAt(place, name, text string) string {
	if place != "" {
		return place + ": " + text
	}
	return "--" + name + " " + text
}

// place adds to an error about the value of a setting where that stands, unless it is the command line, which one has
// before one's eyes.
func (s *settings) place(err error) error {
	var url *open.URLError
	var context *bus.ContextError
	var keys *bus.KeysError
	var file *fs.PathError
	switch {
	case errors.As(err, &url) && url.URL == redact.URL(s.store):
		return s.at("store", err)
	case errors.As(err, &context):
		return s.at("context", err)
	case errors.As(err, &keys) && keys.Path == s.keys:
		return s.at("keys", err)
	case errors.As(err, &file) && s.state != "" && within(file.Path, s.state):
		return s.at("state", err)
	case errors.As(err, &file) && s.data != "" && within(file.Path, s.data):
		return s.at("data", err)
	}
	return err
}

// within reports whether a path is that of a folder, or of something in it.
func within(file, folder string) bool {
	file, err := filepath.Abs(file)
	absolute, err2 := filepath.Abs(folder)
	rel, err3 := filepath.Rel(absolute, file)
	return errors.Join(err, err2, err3) == nil && filepath.IsLocal(rel)
}

// at adds to an error that is about the value of a setting where that stands.
func (s *settings) at(name string, err error) error {
	if v, ok := s.sources[name]; ok && err != nil {
		return fmt.Errorf("%s: %w", v.place, err)
	}
	return err
}

// loadIdentity reads the identity; its errors are those of unibus.LoadIdentity.
func (s *settings) loadIdentity() (*unibus.Identity, error) {
	id, err := unibus.LoadIdentity(s.identityFile())
	return id, s.at("identity", err)
}

// given reports whether the command line gives a flag a value; a --bus that stands alone has none.
func given(f *pflag.Flag) bool {
	return f != nil && f.Changed && f.Value.String() != noBusID
}

// variables are the environment variables of a setting, the first that is not empty deciding.
func variables(name string) []string {
	own := "UNIBUS_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	if name == "server" {
		return []string{own, "NATS_URL"}
	}
	return []string{own}
}

// fromEnvironment looks for a setting among the variables. An empty one counts as not set, as scripts write it.
func fromEnvironment(name string) (sourced, bool) {
	for _, variable := range variables(name) {
		if text := os.Getenv(variable); text != "" {
			return sourced{text, variable, variable}, true
		}
	}
	return sourced{}, false
}

// warnMisspelled tells of variables that are no settings but are spelled nearly like one: nobody would look at them.
func warnMisspelled(root *cobra.Command, notice func(format string, args ...any)) {
	known := map[string]bool{"UNIBUS_FEATURES": true}
	for name := range settable(root) {
		known[variables(name)[0]] = true
	}
	names := slices.Sorted(maps.Keys(known))
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		own, ours := strings.CutPrefix(name, "UNIBUS_")
		if !ours || known[name] {
			continue
		}
		near := slices.MinFunc(names, func(x, y string) int { return distance(name, x) - distance(name, y) })
		if distance(name, near) <= max(1, len(own)/4) {
			notice("%s is no setting and is not looked at: is %s meant?", name, near)
		}
	}
}
