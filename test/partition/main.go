//go:build linux

// Command partition starts three servers in network namespaces that are one bus, lets admins and peers
// work on it while the leader is parted from the others and joined again, and checks what they saw
// with porcupine: the allowlist is linearizable, nobody is let in after a revocation was acknowledged,
// and no acknowledged change or message is lost. It needs root, and prints what it did as it goes.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"sync"
	"time"

	"github.com/unibus/unibus/test/run"
)

const (
	nodes   = 3
	timeout = 4 * time.Second
)

var (
	binary  = flag.String("unibus", "bin/unibus", "the program under test")
	admins  = flag.Int("admins", 20, "people who allow and revoke users")
	peers   = flag.Int("peers", 40, "users who are allowed and revoked, and log in")
	writers = flag.Int("writers", 10, "peers who publish")
	verbose = flag.Bool("v", false, "show what the servers say")
	calm    = flag.Duration("calm", 10*time.Second, "before the partition, and after it")
	parted  = flag.Duration("parted", 20*time.Second, "how long the leader is parted from the others")
)

func main() {
	flag.Parse()
	run.Main(partition)
}

// partition makes everything, parts the leader from the others under load, joins it again, and judges what was seen.
func partition(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "unibus-partition-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	w := &world{dir: dir}
	defer w.down()
	if err := w.up(ctx); err != nil {
		return err
	}
	if err := w.people(ctx); err != nil {
		return err
	}
	leader, err := w.leader(ctx)
	if err != nil {
		return err
	}
	load, cancel := context.WithCancel(ctx)
	defer cancel()
	var wait sync.WaitGroup
	w.load(load, &wait)
	run.Pause(ctx, *calm)
	w.tell("before the partition")
	log.Printf("parting n%d, which leads the log, from the others; clients still reach it", leader)
	if err := sh("ip link set ub%dr down", leader); err != nil {
		return err
	}
	run.Pause(ctx, *parted)
	w.tell("in the partition")
	log.Printf("joining n%d again", leader)
	if err := sh("ip link set ub%dr up", leader); err != nil {
		return err
	}
	run.Pause(ctx, *calm)
	cancel()
	wait.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return w.judge(ctx)
}
