// Package run is what the programs in test have in common.
package run

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
)

// Main calls f with a context that an interrupt ends, and ends the process with 1 when f fails.
func Main(f func(ctx context.Context) error) {
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := f(ctx); err != nil {
		log.Fatal(err)
	}
}

// Ready is what unibus serve -o json says when it is ready.
type Ready struct {
	Server, HTTP string
	Bus          crypto.ID
}

// ServeJSON is Serve for unibus serve -o json.
func ServeJSON(cmd *exec.Cmd) (ready func() (Ready, error), err error) {
	said, err := Serve(cmd)
	if err != nil {
		return nil, err
	}
	return func() (r Ready, err error) {
		line, err := said()
		if err == nil {
			err = json.Unmarshal([]byte(line), &r)
		}
		return r, err
	}, nil
}

// Serve starts unibus serve. What it returns waits for the server's ready line.
func Serve(cmd *exec.Cmd) (ready func() (string, error), err error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() (string, error) {
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || !strings.Contains(line, "ready") {
			return "", fmt.Errorf("the server is not ready: %q, %v", line, err)
		}
		return strings.TrimSpace(line), nil
	}, nil
}
