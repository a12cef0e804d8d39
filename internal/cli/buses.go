package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/crypto"
)

// The buses that an identity knows by name: bus ls, use, rename and rm. No bus is asked for anything by them. Which one a
// command goes to is decided where it connects (package unibus), by --bus or else by which is in use.

// busCommands is what the commands of the group share.
type busCommands struct{ a *app }

// newBus makes bus and the commands below it.
func newBus(a *app) *cobra.Command {
	b := busCommands{a}
	complete := completer{a}
	ls := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "The buses I know", Args: cobra.NoArgs,
		Long: "List the buses that this identity has joined, by name. The one in use is marked with *: that is where every\ncommand goes that names neither another, with --bus, nor a server.",
		Example: `  unibus bus ls
  unibus bus ls -o json | jq -r '.[] | select(.in_use) | .server'`,
		RunE: func(cmd *cobra.Command, _ []string) error { return b.ls(cmd.Context()) },
	}
	use := &cobra.Command{
		Use: "use NAME", Short: "Have commands go to another bus", Args: cobra.ExactArgs(1), ValidArgsFunction: complete.firstBus,
		Long:    "Have commands go to another bus that was joined, by its name or id. For one command alone there is --bus.",
		Example: "  unibus bus use home\n  unibus --bus work rooms ls",
		RunE:    func(cmd *cobra.Command, args []string) error { return b.use(cmd.Context(), args[0]) },
	}
	rename := &cobra.Command{
		Use: "rename OLD NEW", Short: "Give a bus another name", Args: cobra.ExactArgs(2), ValidArgsFunction: complete.firstBus,
		Long:    "Give a bus another name. Names are this identity's own: 1 to 64 letters, digits, dots, underscores and\ndashes, with no dash first, and nothing that could be the id of a bus.",
		Example: `  unibus bus rename local work`,
		RunE:    func(cmd *cobra.Command, args []string) error { return b.rename(cmd.Context(), args[0], args[1]) },
	}
	rm := &cobra.Command{
		Use: "rm NAME", Short: "Forget a bus", Args: cobra.ExactArgs(1), ValidArgsFunction: complete.firstBus,
		Annotations: map[string]string{annotationAsks: "whether to forget it"},
		Long:        "Forget the name of a bus and its server, and, as forget does, which bus is at that address. What was verified\nof the bus is kept: if it is joined again, it cannot take any of that back. If it was the one in use, none is\nuntil unibus bus use says which.",
		Example: `  unibus bus rm work
  unibus bus use home && unibus bus rm work --yes`,
		RunE: func(cmd *cobra.Command, args []string) error { return b.rm(cmd.Context(), args[0]) },
	}
	return newGroup("bus", "The buses I know: see them, choose one, rename and forget them", `  unibus bus ls
  unibus bus use home
  unibus --bus work rooms ls`,
		ls, use, rename, rm)
}

// busJSON is a bus that is known, as scripts see it; what is not known of it is left out.
type busJSON struct {
	Name    string `json:"name"`
	Bus     string `json:"bus,omitempty"`
	Server  string `json:"server"`
	InUse   bool   `json:"in_use"`
	Founder string `json:"founder,omitempty"`
}

// newBusJSON is a bus as it is printed.
func newBusJSON(k unibus.KnownBus) busJSON {
	j := busJSON{Name: k.Name, Server: k.Server, InUse: k.InUse}
	if !k.Bus.IsZero() {
		j.Bus = k.Bus.String()
	}
	if k.Founder != (unibus.PublicKey{}) {
		j.Founder = k.Founder.String()
	}
	return j
}

// ls prints the buses.
func (b busCommands) ls(ctx context.Context) error {
	o, err := b.a.known()
	if err != nil {
		return err
	}
	buses, err := unibus.Buses(ctx, o)
	if err != nil {
		return err
	}
	list, rows := []busJSON{}, [][]string{}
	for _, k := range buses {
		j := newBusJSON(k)
		mark := ""
		if j.InUse {
			mark = "*"
		}
		list = append(list, j)
		rows = append(rows, []string{mark, j.Name, j.Bus, j.Server})
	}
	return b.a.out.value(list, func() {
		if len(rows) == 0 {
			b.a.notice("no buses; unibus join nats://HOST:PORT#BUSID remembers one")
			return
		}
		b.a.out.table([]string{"USE", "NAME", "BUS", "SERVER"}, rows)
	})
}

// use makes a bus the one in use.
func (b busCommands) use(ctx context.Context, name string) error {
	o, err := b.a.known()
	if err != nil {
		return err
	}
	k, err := unibus.UseBus(ctx, o, name)
	if err != nil {
		return err
	}
	b.a.notice("%s is the bus in use, at %s", k.Name, k.Server)
	b.a.tellOverridden()
	return b.a.out.value(newBusJSON(k), func() {})
}

// rename gives a bus another name.
func (b busCommands) rename(ctx context.Context, name, to string) error {
	o, err := b.a.known()
	if err != nil {
		return err
	}
	k, err := unibus.RenameBus(ctx, o, name, to)
	if err != nil {
		return err
	}
	b.a.notice("%s is %s now", name, k.Name)
	return b.a.out.value(newBusJSON(k), func() {})
}

// rm forgets a bus, and asks first: whoever is at its address when it is joined again without its id is believed.
func (b busCommands) rm(ctx context.Context, name string) error {
	o, err := b.a.known()
	if err != nil {
		return err
	}
	k, err := unibus.RemoveBus(ctx, o, name, func(k unibus.KnownBus) error {
		return b.a.confirm(fmt.Sprintf("forget the bus %s, at %s", k.Name, k.Server))
	})
	if err != nil {
		return err
	}
	b.a.notice("forgot the bus %s, at %s", k.Name, k.Server)
	return b.a.out.value(newBusJSON(k), func() {})
}

// known are options for what is remembered, of which the names of buses are a part.
func (s *session) known() (unibus.Options, error) {
	id, err := s.set.loadIdentity()
	return unibus.Options{Identity: id, StateDir: s.set.stateDir()}, err
}

// busID is the id of the bus that --bus means; zero when it is not given.
func (s *session) busID(ctx context.Context) (unibus.ID, error) {
	if id, err := crypto.ParseID(s.set.bus); err == nil || s.set.bus == "" {
		return id, nil
	}
	o, err := s.known()
	if errors.Is(err, unibus.ErrNotFound) { // whoever has no identity has joined none
		return unibus.ID{}, hinted(fmt.Errorf("bus %s: %w: there is no identity that knows it", s.set.bus, unibus.ErrNotFound), hintBusID)
	}
	if err != nil {
		return unibus.ID{}, err
	}
	k, err := unibus.BusNamed(ctx, o, s.set.bus)
	if err == nil && k.Bus.IsZero() {
		err = hinted(fmt.Errorf("bus %s: %w: which one it is was forgotten with its address", k.Name, unibus.ErrNotFound), hintBusID)
	}
	return k.Bus, err
}

// tellOverridden tells whoever chooses a bus that a setting goes before it.
func (s *session) tellOverridden() {
	for _, name := range []string{"server", "context", "store", "bus"} {
		if place := s.set.sources[name].from; place != "" {
			s.notice("%s says where commands go, whatever bus is in use: %s", place, s.cmd.Flags().Lookup(name).Value)
		}
	}
}
