package cli

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/redact"
)

// Who I am: init makes an identity, whoami shows it and what the bus knows of it, join introduces it to a bus. Only join
// needs a bus that answers.

// initCommand is init and its flags.
type initCommand struct {
	a *app
	// name is suggested to admins; empty: the login name.
	name string
}

// newInit makes init.
func newInit(a *app) *cobra.Command {
	i := &initCommand{a: a}
	c := &cobra.Command{
		Use: "init", Short: "Make an identity and print its key", Args: cobra.NoArgs,
		Long: "Make an identity: one secret seed, in a file that only you may read, from which all keys\nare derived. It never overwrites one. Whoever has the file is you; keep a copy somewhere safe.",
		Example: `  unibus init --name alice
  unibus init --identity bob.nk --name bob`,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return nameGiven(cmd, i.name) },
		RunE:    func(*cobra.Command, []string) error { return i.run() },
	}
	c.Flags().StringVar(&i.name, "name", "", "`NAME` to suggest to admins (default the login name)")
	return c
}

// nameGiven is a usage error for a --name that is given, and empty: as scripts do whose variable is not set.
func nameGiven(cmd *cobra.Command, name string) error {
	if name == "" && cmd.Flags().Changed("name") {
		return usage("--name '': a name has at least one character")
	}
	return nil
}

// identityJSON is an identity that was made, as scripts see it.
type identityJSON struct {
	File string `json:"file"`
	Key  string `json:"key"`
	Name string `json:"name"`
}

// run makes an identity. ErrExists when there is one: nothing ever overwrites a seed.
func (i *initCommand) run() error {
	file, name := i.a.set.identityFile(), i.name
	if name == "" {
		name = unibus.DefaultName()
	}
	id, err := unibus.NewIdentity()
	if err != nil {
		return err
	}
	err = unibus.SaveIdentity(file, id, name)
	if errors.Is(err, unibus.ErrInvalid) {
		return hinted(err, hintNamed(name))
	}
	if errors.Is(err, unibus.ErrExists) {
		return hinted(err, hintIdentity(file))
	}
	if err != nil {
		return err
	}
	i.a.notice("identity of %s written to %s", name, file)
	made := identityJSON{File: file, Key: id.Key().String(), Name: name}
	return i.a.out.value(made, func() { fmt.Fprintln(i.a.out, made.Key) })
}

// whoamiCommand is whoami and its flags.
type whoamiCommand struct {
	a *app
	// card prints the card alone, by which someone can be invited who has never connected.
	card bool
}

// newWhoami makes whoami.
func newWhoami(a *app) *cobra.Command {
	w := &whoamiCommand{a: a}
	c := &cobra.Command{
		Use: "whoami", Short: "Print my key, and what the bus knows of me", Args: cobra.NoArgs,
		Long: "Print the identity's key, always; on a terminal and with -o json also name, role, bus and number of rooms,\nwhen the bus can be asked; else the bus that was met there before, or the only one there is. --card prints the\ncard, by which an admin can add and invite someone who has never connected.",
		Example: `  unibus whoami
  unibus whoami --card > alice.card
  unibus whoami -o json | jq -r .role`,
		RunE: func(cmd *cobra.Command, _ []string) error { return w.run(cmd.Context()) },
	}
	c.Flags().BoolVar(&w.card, "card", false, "print the card as one base64 line")
	return c
}

// selfJSON is the caller, as scripts see it; what could not be learned is left out.
type selfJSON struct {
	Key   string `json:"key"`
	Name  string `json:"name,omitempty"`
	Role  string `json:"role,omitempty"`
	Bus   string `json:"bus,omitempty"`
	Rooms *int   `json:"rooms,omitempty"`
}

// cardJSON is a card, as scripts see it.
type cardJSON struct {
	Card string `json:"card"`
}

// run prints the key in any case, and asks the bus only for those who look at more: piped, it is the key alone. That a
// bus was tampered with is told as an error; that it could not be asked, as a notice.
func (w *whoamiCommand) run(ctx context.Context) error {
	out := w.a.out
	o, err := w.a.options()
	if err != nil {
		return err
	}
	if w.card {
		raw, err := o.Identity.Card()
		if err != nil {
			return err
		}
		line := base64.StdEncoding.EncodeToString(raw)
		return out.value(cardJSON{line}, func() { fmt.Fprintln(out, line) })
	}
	self := selfJSON{Key: o.Identity.Key().String()}
	if !out.terminal && !out.json { // for another command
		fmt.Fprintln(out, self.Key)
		return nil
	}
	// It has to answer soon, also where no server does: then it tells which bus was met there before.
	o.Timeout = min(o.Timeout, quickTimeout)
	unknown := askBus(ctx, o, &self) // why nothing was learned
	if unknown != nil && !errors.Is(unknown, unibus.ErrIntegrity) {
		known, rerr := unibus.Recall(ctx, o)
		if rerr != nil && !errors.Is(rerr, unibus.ErrNotFound) {
			return rerr
		}
		if met := cmp.Or(known.Bus, known.Only); !met.IsZero() {
			self.Bus = met.String()
		}
	}
	err = out.value(self, func() { self.print(out) })
	if errors.Is(unknown, unibus.ErrIntegrity) || w.a.set.bus != "" && errors.Is(unknown, unibus.ErrNotFound) { // --bus names none
		return errors.Join(err, unknown)
	}
	if unknown != nil {
		w.a.notice("what the bus knows of it was not learned: %v", unknown)
	}
	return err
}

// print shows people what is known.
func (s *selfJSON) print(out *output) {
	fmt.Fprintln(out, s.Key)
	switch {
	case s.Name == "" && s.Bus != "":
		out.pairs("bus", s.Bus)
	case s.Rooms == nil && s.Bus != "":
		out.pairs("name", s.Name, "role", s.Role, "bus", s.Bus)
	case s.Bus != "":
		out.pairs("name", s.Name, "role", s.Role, "bus", s.Bus, "rooms", fmt.Sprint(*s.Rooms))
	}
}

// askBus adds to what is known of the caller what the bus knows of it. A store in which there is no bus knows nothing.
func askBus(ctx context.Context, o unibus.Options, s *selfJSON) error {
	c, err := unibus.Connect(ctx, o)
	if err != nil {
		return err
	}
	defer c.Close()
	if c.Bus() == (unibus.ID{}) {
		return nil
	}
	u, err := c.User(ctx, s.Key)
	if err != nil {
		return err
	}
	s.Name, s.Role, s.Bus = u.Name, string(u.Role), c.Bus().String()
	rooms, err := c.ListMyRooms(ctx)
	if err == nil {
		n := len(rooms)
		s.Rooms = &n
	}
	return err
}

// joinCommand is join and its flags.
type joinCommand struct {
	a *app
	// as is what the bus is to be known as; empty: as it is already, or as its host is called.
	as string
}

// newJoin makes join.
func newJoin(a *app) *cobra.Command {
	j := &joinCommand{a: a}
	c := &cobra.Command{
		Use: "join URL", Short: "Remember a bus and introduce myself to it", Args: cobra.ExactArgs(1),
		Long:    "Remember the server and the bus id (nats://host:4222#BUSID) for this identity, and publish its\ncard. Without an id, the bus that answers is pinned. Whoever is not on the allowlist yet is told\nthe line to send to an admin; once that has run, everything else works.\n\nOne may join several buses. Each has a name, which is that of its host unless --as says otherwise, and the\none joined last is the one in use (unibus bus). A bus that is known already is known at this server\nfrom then on, under the name that it has, or that --as gives it.",
		Example: "  unibus join nats://bus.example.org:4222#BUSID --as work\n  unibus --bus work rooms ls",
		RunE:    func(cmd *cobra.Command, args []string) error { return j.run(cmd.Context(), args[0]) },
	}
	c.Flags().Var(newValue(&j.as, parseBusName), "as", "the `NAME` to know the bus by")
	return c
}

// joinedJSON is a bus that was joined, as scripts see it.
type joinedJSON struct {
	Bus    string `json:"bus"`
	InUse  bool   `json:"in_use"`
	Key    string `json:"key"`
	Name   string `json:"name"`
	Server string `json:"server"`
}

// run joins. Whoever is not on the allowlist yet gets ErrDenied, with the line to send to an admin.
func (j *joinCommand) run(ctx context.Context, url string) error {
	o, err := j.a.options()
	if err != nil {
		return err
	}
	c, err := unibus.JoinAs(ctx, url, j.as, o)
	if errors.Is(err, unibus.ErrInvalid) {
		return hinted(err, hintServer)
	}
	if err != nil {
		return err
	}
	defer c.Close()
	k, err := unibus.BusNamed(ctx, o, c.Bus().String())
	if err != nil {
		return err
	}
	j.a.tellOverridden()
	joined := joinedJSON{Bus: c.Bus().String(), InUse: k.InUse, Key: c.Key().String(), Name: k.Name, Server: redact.URL(url)}
	return j.a.out.value(joined, func() { fmt.Fprintf(j.a.out, "joined the bus %s\n", joined.Bus) })
}
