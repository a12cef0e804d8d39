package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/freeport"
)

// Size is how many servers a Cluster has.
const Size = 3

// Cluster is three servers that are one bus.
type Cluster struct {
	Founder Peer
	Keys    string // the service's file
	Nodes   [Size]*Node
	dir     string
}

// NewCluster prepares three servers that run a binary, with all of their files in a folder; none is running yet.
// What is worth telling only to those who look closely goes to tell.
func NewCluster(dir, binary string, tell func(format string, args ...any)) (*Cluster, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	founder, err := NewPeer(dir, binary, "founder")
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, Founder: founder, Keys: filepath.Join(dir, "service.nk")}
	if _, _, err := bus.LoadOrMakeKeys(c.Keys); err != nil {
		return nil, err
	}
	var routes []string
	var peers [Size]string
	for i := range peers {
		peers[i] = freeport.Local()
		routes = append(routes, peers[i])
	}
	for i, peer := range peers {
		name := fmt.Sprintf("n%d", i+1)
		n := &Node{Founder: founder, Name: name, Listen: freeport.Local(), Data: filepath.Join(dir, name), Log: c.Log(name), Tell: tell}
		n.Args = []string{"--store", "jetstream", "--keys", c.Keys, "--server-name", name,
			"--cluster-name", "c", "--cluster-listen", peer, "--routes", strings.Join(routes, ",")}
		c.Nodes[i] = n
	}
	return c, nil
}

// Begin starts the servers that are not running.
func (c *Cluster) Begin() error {
	for _, n := range c.Nodes {
		if n.Running() {
			continue
		}
		if err := n.Start(); err != nil {
			return err
		}
	}
	return nil
}

// Up starts all servers and waits until they are ready.
func (c *Cluster) Up(ctx context.Context) error {
	if err := c.Begin(); err != nil {
		return err
	}
	for _, n := range c.Nodes {
		if err := n.IsReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Down stops all servers.
func (c *Cluster) Down() error {
	var failed []error
	for _, n := range c.Nodes {
		if n.Running() {
			_, err := n.Stop()
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// Complaints are what no process may say, whatever happens to it.
func (c *Cluster) Complaints() error { return Complaints(c.dir) }

// Complaints are what no process may say in the logs of a folder, whatever happens to it.
func Complaints(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return err
	}
	var failed []error
	for _, file := range files {
		said, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, bad := range []string{"DATA RACE", "panic: ", "fatal error: "} {
			if i := bytes.Index(said, []byte(bad)); i >= 0 {
				failed = append(failed, fmt.Errorf("%s: %s", filepath.Base(file), said[i:min(len(said), i+6000)]))
			}
		}
	}
	return errors.Join(failed...)
}

// Servers are the addresses of all nodes.
func (c *Cluster) Servers() string {
	var list []string
	for _, n := range c.Nodes {
		list = append(list, n.URL())
	}
	return strings.Join(list, ",")
}

// Log is where processes say what goes on.
func (c *Cluster) Log(name string) Appender { return Appender(filepath.Join(c.dir, name+".log")) }

// Operator connects by way of a node with the service's keys.
func (c *Cluster) Operator(n *Node) (*nats.Conn, error) {
	keys, err := bus.LoadKeys(c.Keys)
	if err != nil {
		return nil, err
	}
	return bus.Operator(bus.DialOptions{Servers: n.URL(), Keys: keys, Timeout: 10 * time.Second})
}

// Appender writes to the end of a file, opened for each write: few are made.
type Appender string

// Write appends to the file, which is made if it is not there.
func (a Appender) Write(p []byte) (int, error) {
	f, err := os.OpenFile(string(a), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Write(p)
}

// Pause waits, or until ctx ends.
func Pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Eventually tries until f succeeds.
func Eventually(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		if Pause(ctx, 100*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("not after %v: %w", patience, err)
		}
	}
}

// Peer is who runs the program: a key, and what is remembered for it.
type Peer struct {
	Binary   string
	Identity string // its file
	State    string // its folder
	Home     string // for configuration
	Told     bool   // also what is no finding
	Key      unibus.PublicKey
}

// NewPeer makes an identity whose files are in a folder.
func NewPeer(dir, binary, name string) (Peer, error) {
	id, err := unibus.NewIdentity()
	if err != nil {
		return Peer{}, err
	}
	p := Peer{Binary: binary, Identity: filepath.Join(dir, name+".nk"), State: filepath.Join(dir, "state"), Home: dir, Key: id.Key()}
	return p, unibus.SaveIdentity(p.Identity, id, name)
}
