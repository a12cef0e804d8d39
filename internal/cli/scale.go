package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/admin"
	"github.com/unibus/unibus/internal/store/open"
)

// store scale: on how many servers of a cluster a bus is kept.

// newStore makes the group store.
func newStore(a *app) *cobra.Command {
	return newGroup("store", "Look after the store", `  unibus store scale --replicas 3
  unibus store nkey > store.nk && chmod 600 store.nk`,
		newStoreScale(a), newStoreNkey(a))
}

// storeScaleCommand is store scale and its flags.
type storeScaleCommand struct {
	a *app
	// replicas is on how many servers everything is to be kept; 0: it was not said.
	replicas int
}

// newStoreScale makes store scale.
func newStoreScale(a *app) *cobra.Command {
	s := &storeScaleCommand{a: a}
	c := &cobra.Command{
		Use: "scale --replicas N", Short: "Keep a JetStream store and the rooms' streams on N servers", Args: cobra.NoArgs,
		Long:    "Change on how many servers of the cluster the store and the rooms' streams are kept, while the bus is in\nuse, and wait until every copy is current.",
		Example: `  unibus store scale --replicas 3`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return s.run(cmd.Context()) },
	}
	a.set.defineData(c.Flags())
	c.Flags().Var(newValue(&s.replicas, parseBetween(1, 5)), "replicas", "on how many servers, 1 to 5")
	return c
}

// scaledJSON is what was scaled, as scripts see it.
type scaledJSON struct {
	Changed  int64   `json:"changed"`
	Replicas int     `json:"replicas"`
	Seconds  float64 `json:"seconds"`
}

// run changes the copies of a bus that is in use, and returns when each is current. ErrNotFound when there is no store in
// the servers.
func (s *storeScaleCommand) run(ctx context.Context) error {
	a := s.a
	if s.replicas == 0 {
		return hinted(usage("store scale: --replicas N says on how many servers"), hintUseLine(s.a.cmd))
	}
	o, err := a.operator()
	if err != nil {
		return err
	}
	// Only what is in servers can be on several, so without a store these are meant, whatever the data folder says.
	url := a.set.store
	if url == "" {
		if url, err = a.servers(ctx); err != nil {
			return err
		}
	}
	if open.IsFile(url) {
		return usage("store scale: a file is kept on one machine; only a JetStream store can be on several")
	}
	nc, err := o.acc.Dial(url)
	if err != nil {
		return hintOperator(err)
	}
	defer nc.Close()
	began := time.Now()
	var streams int64
	err = a.progress("scale to "+strconv.Itoa(s.replicas), func(p admin.Progress) (err error) {
		streams, err = admin.Scale(ctx, nc, s.replicas, p)
		return err
	})
	if err != nil {
		err = fmt.Errorf("scale: %w", err)
		if errors.Is(err, unibus.ErrNotFound) {
			return hinted(err, hintScale)
		}
		return err
	}
	return a.out.value(scaledJSON{streams, s.replicas, time.Since(began).Seconds()}, func() {
		fmt.Fprintf(a.out, "%s changed; each is kept on %d now, all current\n", english.Plural(int(streams), "stream", ""), s.replicas)
	})
}
