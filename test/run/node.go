package run

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

const (
	patience  = 2 * time.Minute // for what must happen at some time; it only matters when it does not
	stopLimit = 5 * time.Second // from SIGTERM to the end of a process
)

// Command is unibus run by the peer. It is told to end when ctx does.
func (p Peer) Command(ctx context.Context, servers string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.Binary, args...)
	cmd.Env = append(os.Environ(), "UNIBUS_IDENTITY="+p.Identity, "UNIBUS_STATE="+p.State, "UNIBUS_SERVER="+servers,
		"UNIBUS_QUIET="+strconv.FormatBool(!p.Told), "XDG_CONFIG_HOME="+p.Home)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopLimit
	return cmd
}

// Node is one server, which may be running.
type Node struct {
	Founder Peer
	Name    string
	Listen  string // its address for clients
	Data    string // its folder
	Args    []string
	Log     io.Writer
	Tell    func(format string, args ...any)
	process *process // the last one
}

// process is one run of a server.
type process struct {
	cmd   *exec.Cmd
	ready chan error    // receives one
	gone  chan struct{} // closed when the process has ended
}

// URL is where its clients connect.
func (n *Node) URL() string { return "nats://" + n.Listen }

// Running reports whether the last process has not ended.
func (n *Node) Running() bool {
	if n.process == nil {
		return false
	}
	select {
	case <-n.process.gone:
		return false
	default:
		return true
	}
}

// Start starts the server; it need not be ready when Start returns.
func (n *Node) Start() error {
	args := append([]string{"serve", "--data", n.Data, "--listen", n.Listen}, n.Args...)
	cmd := n.Founder.Command(context.Background(), "", args...)
	cmd.Stderr = n.Log
	ready, err := Serve(cmd)
	if err != nil {
		return err
	}
	p := &process{cmd: cmd, ready: make(chan error, 1), gone: make(chan struct{})}
	n.process = p
	go func() { // ends with the process
		_, err := ready()
		p.ready <- err
		_ = cmd.Wait() // how a server ends that was told to does not matter
		close(p.gone)
	}()
	return nil
}

// IsReady waits until the server says that it is ready.
func (n *Node) IsReady(ctx context.Context) error {
	select {
	case err := <-n.process.ready:
		n.process.ready <- err
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(patience):
		return fmt.Errorf("%s is not ready after %v", n.Name, patience)
	}
}

// Kill kills the server, and returns once it is gone.
func (n *Node) Kill() {
	_ = n.process.cmd.Process.Kill() // it may have ended
	<-n.process.gone
}

// Stop tells the server to stop and says how long it took. One that does not end in time says what it is
// doing, and is killed.
func (n *Node) Stop() (time.Duration, error) {
	began := time.Now()
	if err := n.process.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		<-n.process.gone // it has ended already
		return 0, nil
	}
	select {
	case <-n.process.gone:
	case <-time.After(stopLimit):
		_ = n.process.cmd.Process.Signal(syscall.SIGQUIT)
		select {
		case <-n.process.gone:
		case <-time.After(stopLimit):
			n.Kill()
		}
		return time.Since(began), fmt.Errorf("%s did not end within %v of SIGTERM", n.Name, stopLimit)
	}
	took := time.Since(began)
	n.Tell("%s stopped in %v", n.Name, took.Round(time.Millisecond))
	return took, nil
}
