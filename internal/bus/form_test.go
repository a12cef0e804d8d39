package bus

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

func TestDeviations(t *testing.T) {
	for want, change := range map[string]func(c *jetstream.StreamConfig){
		"":                 func(c *jetstream.StreamConfig) { c.Replicas = 5 },
		"persist_mode":     func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode },
		"storage":          func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
		"subjects max_age": func(c *jetstream.StreamConfig) { c.Subjects, c.MaxAge = []string{"other"}, 1 },
		"republish":        func(c *jetstream.StreamConfig) { c.RePublish = &jetstream.RePublish{Source: "a", Destination: "b"} },
		"no_ack sealed":    func(c *jetstream.StreamConfig) { c.NoAck, c.Sealed = true, true },
	} {
		form := StreamForm(crypto.ID{1}, ledger.DefaultPolicy())
		is := StreamForm(crypto.ID{1}, ledger.DefaultPolicy())
		change(&is)
		if got := strings.Join(Deviations(is, form), " "); got != want {
			t.Errorf("deviations %q, want %q", got, want)
		}
	}
	form := StreamForm(crypto.ID{1}, ledger.DefaultPolicy())
	is := form
	form.AllowDirect, is.AllowDirect = true, false
	if got := Deviations(is, form); len(got) != 1 || got[0] != "allow_direct" {
		t.Errorf("deviations %q without allow_direct", got)
	}
}
