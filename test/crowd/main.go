// Command crowd has a hundred processes of one identity make a thousand rooms at once. Each of them has to end with 0,
// and every room has to be there.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/unibus/unibus/test/run"
)

var (
	binary    = flag.String("unibus", "bin/unibus", "the program under test")
	processes = flag.Int("processes", 100, "how many run at once")
	rooms     = flag.Int("rooms", 10, "how many each of them makes, one after the other")
)

func main() {
	flag.Parse()
	run.Main(func(ctx context.Context) error {
		return run.In("", "unibus-crowd-", func(dir string) error { return crowd(ctx, dir) })
	})
}

func crowd(ctx context.Context, dir string) error {
	peer, err := run.NewPeer(dir, *binary, "founder")
	if err != nil {
		return err
	}
	serve := peer.Command(ctx, "", "serve", "-o", "json", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"))
	serve.Stderr = os.Stderr
	ready, err := run.ServeJSON(serve)
	if err != nil {
		return err
	}
	defer func() {
		_ = serve.Cancel()
		_ = serve.Wait()
	}()
	is, err := ready()
	if err != nil {
		return err
	}
	began := time.Now()
	took, failed := makeRooms(ctx, peer, is.Server)
	if len(failed) > 0 {
		return fmt.Errorf("crowd: FAILED: %d of %d did not end with 0:\n  %s", len(failed), len(took), strings.Join(failed, "\n  "))
	}
	list, err := peer.Command(ctx, is.Server, "rooms", "ls").Output()
	if n := strings.Count(string(list), "\n"); err != nil || n < len(took) {
		return fmt.Errorf("crowd: FAILED: %d rooms were made, and %d lines list them: %v", len(took), n, err)
	}
	slices.Sort(took)
	fmt.Printf("crowd: ok: %d rooms in %v, every exit 0; half within %v, all within %v\n",
		len(took), time.Since(began).Round(time.Second), took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	return nil
}

// makeRooms returns how long each room took, and what those said that failed.
func makeRooms(ctx context.Context, peer run.Peer, server string) (took []time.Duration, failed []string) {
	var all sync.WaitGroup
	var mu sync.Mutex
	for p := range *processes {
		all.Go(func() {
			for n := range *rooms {
				began := time.Now()
				said, err := peer.Command(ctx, server, "room", "create", fmt.Sprintf("room.%d.%d", p, n)).CombinedOutput()
				mu.Lock()
				took = append(took, time.Since(began))
				if err != nil {
					failed = append(failed, fmt.Sprintf("%v: %s", err, said))
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return took, failed
}
