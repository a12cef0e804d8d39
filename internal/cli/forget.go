package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
)

// forget gives up which bus is behind an address, when another was made there: as ssh-keygen -R does of a host's key.

// forgetCommand is forget, which has no flags.
type forgetCommand struct{ a *app }

// newForget makes forget.
func newForget(a *app) *cobra.Command {
	f := &forgetCommand{a: a}
	return &cobra.Command{
		Use: "forget ADDRESS", Short: "Forget which bus is at an address", Args: cobra.ExactArgs(1), ValidArgsFunction: completer{a}.addresses,
		Annotations: map[string]string{annotationAsks: "whether to forget it"},
		Long:        "Forget which bus was met at the address of a server, or of a store, as errors name it: whichever is there next is\npinned. What was verified of the bus that was there is kept, for where it is met again. A name that leads\nto the address (unibus bus ls) does so still: unibus bus rm forgets that, too.",
		Example:     `  unibus forget nats://10.0.0.1:4222`,
		RunE:        func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), args[0]) },
	}
}

// forgottenJSON is what was forgotten.
type forgottenJSON struct {
	Address string    `json:"address"`
	Bus     unibus.ID `json:"bus"`
}

// run asks first: whoever is between here and the servers is believed from then on. ErrNotFound when no bus was met there.
func (f *forgetCommand) run(ctx context.Context, named string) error {
	o, err := f.a.options()
	if err != nil {
		return err
	}
	address := named
	// Servers are pinned with their schemes; a context whose name is a number looks like one without.
	if servers, err := parseServers(address); err == nil && !strings.HasPrefix(address, "context:") {
		address = servers
	}
	bus, err := unibus.Forget(ctx, o, address, func(bus unibus.ID) error {
		return f.a.confirm(fmt.Sprintf("forget that the bus %s is at %s", bus, address))
	})
	if errors.Is(err, unibus.ErrNotFound) {
		if known, kerr := unibus.BusNamed(ctx, o, named); kerr == nil {
			return hinted(err, hintForgetBus(known.Name))
		}
		return hinted(err, hintAddress)
	}
	if err != nil {
		return err
	}
	f.a.notice("forgot that the bus %s is at %s", bus, address)
	return f.a.out.value(forgottenJSON{address, bus}, func() {})
}
