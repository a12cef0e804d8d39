package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
)

// store nkey is how other programs get at what the servers keep, the nats CLI above all: as the user of the service that
// looks after streams and buckets.

// storeNkeyCommand is store nkey, which has no flags but --data.
type storeNkeyCommand struct{ a *app }

// newStoreNkey makes store nkey.
func newStoreNkey(a *app) *cobra.Command {
	s := &storeNkeyCommand{a: a}
	c := &cobra.Command{
		Use: "nkey", Short: "Print the key by which the nats CLI gets at streams and buckets", Args: cobra.NoArgs,
		Long:    "Print the seed of the user that looks after streams and buckets, from the service's keys: --keys FILE, or\nservice.nk in the data folder. Whoever has it may read and remove all that the servers keep, sealed as it\nis; keep it as you keep the service's keys.",
		Example: "  unibus store nkey > store.nk && chmod 600 store.nk\n  nats --nkey store.nk stream ls --all",
		RunE:    func(*cobra.Command, []string) error { return s.run() },
	}
	a.set.defineData(c.Flags())
	return c
}

// nkeyJSON is the seed, as scripts see it.
type nkeyJSON struct {
	Seed string `json:"seed"`
}

// run prints the seed. ErrNotFound where there are no keys of a service.
func (s *storeNkeyCommand) run() error {
	o, err := s.a.operator()
	if err == nil && o.acc.Keys == nil {
		err = hinted(fmt.Errorf("store nkey: %w: there are no keys of a service in %s", unibus.ErrNotFound, s.a.set.dataDir()), hintOtherKeys)
	}
	if err != nil {
		return err
	}
	seed, err := o.acc.Keys.Seed(bus.DutyStore)
	if err != nil {
		return err
	}
	return s.a.out.value(nkeyJSON{seed}, func() { fmt.Fprintln(s.a.out, seed) })
}
