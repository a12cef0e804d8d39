package bus

import (
	"testing"

	"go.uber.org/goleak"
)

// TestStopsBetweenStreams: a server that stops while streams are made leaves none of them open.
func TestStopsBetweenStreams(t *testing.T) {
	before := goleak.IgnoreCurrent()
	for range 4 {
		s, _ := startServer(t, serverOptions(t))
		for _, name := range []string{"a", "b", "c", "d"} {
			form := `{"name":"` + name + `","subjects":["` + name + `"],"storage":"file","num_replicas":1,"max_consumers":-1,"max_msgs":-1,"max_bytes":-1,"discard":"old","retention":"limits"}`
			if err := s.Links.Store.PublishRequest("$JS.API.STREAM.CREATE."+name, "nobody", []byte(form)); err != nil {
				t.Fatal(err)
			}
		}
		if !s.Stop() {
			t.Fatal("it was left")
		}
	}
	goleak.VerifyNone(t, before)
}
