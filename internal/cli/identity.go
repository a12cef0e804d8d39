package cli

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/redact"
)

func (a *app) initCmd() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use: "init", Short: "Make an identity and print its key", Args: cobra.NoArgs,
		Long: "Make an identity: one secret seed, in a file that only you may read, from which all keys\nare derived. It never overwrites one. Whoever has the file is you; keep a copy somewhere safe.",
		RunE: func(*cobra.Command, []string) error {
			file := a.identityFile()
			if name == "" {
				name = unibus.DefaultName()
			}
			id, err := unibus.NewIdentity()
			if err != nil {
				return err
			}
			err = unibus.SaveIdentity(file, id, name)
			if errors.Is(err, unibus.ErrInvalid) {
				return hinted(err, "give another one: --name NAME")
			}
			if err != nil {
				return err
			}
			a.notice("identity of %s written to %s", name, file)
			key := id.Key().String()
			return a.out.value(map[string]string{"key": key, "name": name, "file": file}, func() { fmt.Fprintln(a.out, key) })
		},
	}
	c.Flags().StringVar(&name, "name", "", "`NAME` to suggest to admins (default the login name)")
	return c
}

// self is what whoami prints.
type self struct {
	Key   string `json:"key"`
	Name  string `json:"name,omitempty"`
	Role  string `json:"role,omitempty"`
	Bus   string `json:"bus,omitempty"`
	Rooms *int   `json:"rooms,omitempty"`
}

func (a *app) whoamiCmd() *cobra.Command {
	var card bool
	c := &cobra.Command{
		Use: "whoami", Short: "Print my key, and what the bus knows of me", Args: cobra.NoArgs,
		Long: "Print the identity's key, always; on a terminal and with -o json also name, role, bus and number of rooms,\nwhen the bus can be asked; else the bus that was met there before, or the only one there is. --card prints the card, by which an admin can add and invite someone\nwho has never connected.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := a.options()
			if err != nil {
				return err
			}
			if card {
				raw, err := o.Identity.Card()
				if err != nil {
					return err
				}
				line := base64.StdEncoding.EncodeToString(raw)
				return a.out.value(map[string]string{"card": line}, func() { fmt.Fprintln(a.out, line) })
			}
			s := self{Key: o.Identity.Key().String()}
			if !a.out.terminal && !a.out.json { // for another command
				fmt.Fprintln(a.out, s.Key)
				return nil
			}
			o.Timeout = min(o.Timeout, quick)
			unknown := a.learn(cmd.Context(), o, &s)
			if unknown != nil && !errors.Is(unknown, unibus.ErrIntegrity) {
				known, rerr := unibus.Recall(cmd.Context(), o)
				if rerr != nil {
					return rerr
				}
				if met := cmp.Or(known.Bus, known.Only); !met.IsZero() {
					s.Bus = met.String()
				}
			}
			err = a.out.value(s, func() {
				fmt.Fprintln(a.out, s.Key)
				switch {
				case s.Rooms == nil && s.Bus != "":
					a.out.pairs("bus", s.Bus)
				case s.Bus != "":
					a.out.pairs("name", s.Name, "role", s.Role, "bus", s.Bus, "rooms", fmt.Sprint(*s.Rooms))
				}
			})
			if errors.Is(unknown, unibus.ErrIntegrity) {
				return errors.Join(err, unknown)
			}
			if unknown != nil {
				a.notice("what the bus knows of it was not learned: %v", unknown)
			}
			return err
		},
	}
	c.Flags().BoolVar(&card, "card", false, "print the card as one base64 line")
	return c
}

// learn asks the bus about the caller.
func (a *app) learn(ctx context.Context, o unibus.Options, s *self) error {
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
	rooms, err := c.ListMyRooms(ctx)
	if err != nil {
		return err
	}
	n := len(rooms)
	s.Name, s.Role, s.Bus, s.Rooms = u.Name, string(u.Role), c.Bus().String(), &n
	return nil
}

func (a *app) joinCmd() *cobra.Command {
	return &cobra.Command{
		Use: "join URL", Short: "Remember a bus and introduce myself to it", Args: cobra.ExactArgs(1),
		Long: "Remember the server and the bus id (nats://host:4222#BUSID) for this identity, and publish its\ncard. Without an id, the bus that answers is pinned. Whoever is not on the allowlist yet is told\nthe line to send to an admin; once that has run, everything else works.",
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := a.options()
			if err != nil {
				return err
			}
			c, err := unibus.Join(cmd.Context(), args[0], o)
			if errors.Is(err, unibus.ErrInvalid) {
				return hinted(err, serverHint)
			}
			if err != nil {
				return err
			}
			defer c.Close()
			return a.out.value(map[string]string{"server": redact.URL(args[0]), "bus": c.Bus().String(), "key": c.Key().String()}, func() {
				fmt.Fprintf(a.out, "joined the bus %s\n", c.Bus())
			})
		},
	}
}

// A token's life: unless told otherwise, and what the service accepts at most.
const (
	defaultTokenLife = "10m"
	maxTokenLife     = 24 * time.Hour
)

func (a *app) tokenCmd() *cobra.Command {
	var ttl time.Duration
	c := &cobra.Command{
		Use: "token", Short: "Print a bearer token for the HTTP API", Args: cobra.NoArgs,
		Long:    "Print a bearer token: whoever has it may use the HTTP API as you, for as long as --ttl says. Those who check\nit allow five minutes more, for clocks that differ.",
		Example: `  curl -H "Authorization: Bearer $(unibus token)" http://127.0.0.1:8222/users`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(c *unibus.Client) error {
				t, err := c.Token(ttl)
				if err != nil {
					return err
				}
				return a.out.value(map[string]string{"token": t}, func() { fmt.Fprintln(a.out, t) })
			})
		},
	}
	c.Flags().Var(newDefault(&ttl, defaultTokenLife, tokenLife), "ttl", "how long it may be used, at most 24h")
	return c
}

func tokenLife(text string) (time.Duration, error) {
	d, err := longer(text)
	if err == nil && d > maxTokenLife {
		err = errors.New("more than 24h")
	}
	return d, err
}
