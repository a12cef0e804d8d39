package cli

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/service"
)

// nats-config: what NATS servers that are there already need, so that serve --external can stand beside them.

// natsConfigCommand is nats-config, whose only flag is --data.
type natsConfigCommand struct{ a *app }

// newNATSConfig makes nats-config.
func newNATSConfig(a *app) *cobra.Command {
	n := &natsConfigCommand{a}
	c := &cobra.Command{
		Use: "nats-config", Short: "Print the configuration that NATS servers need to ask unibus who may connect", Args: cobra.NoArgs,
		Long: "Print what to include in the configuration of each NATS server of a cluster, so that it asks the\nservice who may connect. It holds no secret: the keys it names are in the --keys file, which is made\nif it is not there, and which unibus serve --external needs.",
		Example: `  unibus nats-config --keys service.nk > unibus.conf
  echo 'include unibus.conf' >> nats-server.conf
  unibus serve --external --server nats://10.0.0.1:4222 \
    --keys service.nk --store jetstream`,
		RunE: func(*cobra.Command, []string) error { return n.run() },
	}
	a.set.defineData(c.Flags())
	return c
}

// natsConfigJSON is the configuration, and the file with the keys it names, as scripts see it.
type natsConfigJSON struct {
	Config string `json:"config"`
	Keys   string `json:"keys"`
}

// run prints the configuration, which holds public keys alone. The file with the secret ones is made if there is none.
func (n *natsConfigCommand) run() error {
	a := n.a
	file := cmp.Or(a.set.keys, service.KeysFile(a.set.dataDir()))
	keys, made, err := bus.LoadOrMakeKeys(file)
	if err != nil {
		return err
	}
	if made {
		a.notice("made the service's keys: %s", file)
	}
	// What the servers are told of keys is public: the seeds stay in the file.
	config, err := keys.Config()
	if err != nil {
		return err
	}
	return a.out.value(natsConfigJSON{config, file}, func() {
		fmt.Fprintf(a.out, "# For unibus: logins are answered by the service.\n%s# And, in the jetstream block, so that messages are synced before they are acknowledged, and since rooms reserve what\n# they may hold at most:\n#   sync_interval: always, max_file_store: 100000T\n", config)
	})
}
