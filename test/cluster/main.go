// Command cluster starts three servers on loopback that are one bus, and looks at what people see of it
// while its streams change leaders (stepdowns), while its nodes are restarted one after the other, also with
// damaged files (rolling), and while they are told to stop at any moment (sigterm). Each prints one line
// with its result, and fails when something is not as promised.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/test/run"
)

var (
	binary  = flag.String("unibus", "bin/unibus", "the program under test")
	folder  = flag.String("dir", "", "an empty folder to work in, which is kept (default one that is removed)")
	verbose = flag.Bool("v", false, "tell more")
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "cluster [flags] stepdowns|rolling|sigterm")
		flag.PrintDefaults()
	}
	flag.Parse()
	try := map[string]func(context.Context, *cluster) (string, error){"stepdowns": stepdowns, "rolling": rolling, "sigterm": sigterm}[flag.Arg(0)]
	if try == nil {
		flag.Usage()
		os.Exit(2)
	}
	run.Main(func(ctx context.Context) error { return with(ctx, flag.Arg(0), try) })
}

const keep = "100GiB" // of a room's messages: all of them

// cluster is three servers that are one bus, whose founder reads and writes.
type cluster struct{ *run.Cluster }

// unibus runs one command, which has to succeed.
func (c *cluster) unibus(ctx context.Context, args ...string) (string, error) {
	cmd := c.Founder.Command(ctx, c.Servers(), append([]string{"--timeout", "20s"}, args...)...)
	var said bytes.Buffer
	cmd.Stderr = io.MultiWriter(&said, c.Log("clients"))
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("unibus %s: %w: %s", strings.Join(args, " "), err, said.Bytes())
	}
	return strings.TrimSpace(string(out)), err
}

// room makes a stored room.
func (c *cluster) room(ctx context.Context, subject string) (crypto.ID, error) {
	out, err := c.unibus(ctx, "room", "create", subject, "--max-bytes", keep)
	if err != nil {
		return crypto.ID{}, err
	}
	return crypto.ParseID(out)
}

// with does one of them on a cluster of its own.
func with(ctx context.Context, name string, try func(context.Context, *cluster) (string, error)) error {
	return run.In(*folder, "unibus-cluster-", func(dir string) error { return within(ctx, dir, name, try) })
}

// within does one of them in a folder.
func within(ctx context.Context, dir, name string, try func(context.Context, *cluster) (string, error)) error {
	three, err := run.NewCluster(dir, *binary, tell)
	if err != nil {
		return err
	}
	c := &cluster{three}
	ctx, cancel := context.WithCancel(ctx)
	result, err := try(ctx, c)
	cancel()
	if err = errors.Join(err, c.Down(), c.Complaints()); err != nil {
		return fmt.Errorf("%s: FAILED: %w", name, err)
	}
	fmt.Printf("%s: ok: %s\n", name, result)
	return nil
}

// tell logs what only those want to know who look closely.
func tell(format string, args ...any) {
	if *verbose {
		log.Printf(format, args...)
	}
}
