package service

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/unibus/unibus/internal/store"
)

// TestWaitTells: what a service waits for is told when that begins and when it changes.
func TestWaitTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(bytes.Buffer)
		o := Options{Patient: true, Log: slog.New(slog.NewTextHandler(log, nil))}
		waits := []string{"quorum", "quorum", "quorum", "bus", "bus"}
		err := o.wait(t.Context(), func() error {
			if len(waits) == 0 {
				return nil
			}
			why := waits[0]
			waits = waits[1:]
			return fmt.Errorf("%w: no %s", store.ErrUnavailable, why)
		})
		if got := log.String(); err != nil || strings.Count(got, "\n") != 2 || strings.Count(got, "no quorum") != 1 || strings.Count(got, "no bus") != 1 {
			t.Errorf("%v, log: %s", err, got)
		}
	})
}
