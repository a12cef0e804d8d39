// Package demo plays the story of a private room on one machine: a bus is founded, a book is sent through an encrypted
// room, the server's files are searched for it, and one of two people is revoked. Every step is checked against what
// unibus promises, with real servers, files and connections. It prints nothing: whoever runs it is told of each step.
//
// A demo holds what the steps build for each other; before.go has them up to the search, after.go from then on.
package demo

import (
	"bytes"
	"compress/gzip"
	"context"
	_ "embed"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/service"
)

// opticks is Isaac Newton's Opticks, in the public domain: something real to send.
//
//go:embed opticks.txt.gz
var opticks []byte

// Book returns the text that is sent when there is none other. The caller closes it.
func Book() (io.ReadCloser, error) { return gzip.NewReader(bytes.NewReader(opticks)) }

// Options say what a run works on, and who is told.
type Options struct {
	Dir     string              // an empty folder; the caller removes it
	Lines   [][]byte            // to send, at least one
	Visible func(string) string // makes a line that was sent safe to look at
	// Step is told of each step that is done: what was found, of which all lines but the first are to be shown below, and
	// how long it took.
	Step func(name, detail string, took time.Duration)
}

// Facts are what was measured.
type Facts struct {
	Bytes      uint64 `json:"bytes"`  // of the lines, with their ends
	Lines      int    `json:"lines"`  // that were sent and read
	Passed     bool   `json:"passed"` // always: a run that did not pass has no facts
	Read       string `json:"read"`   // how long reading took, as a duration
	ReadRate   int64  `json:"read_rate"`
	RevokeDrop string `json:"revoke_drop"` // how long after being revoked bob's subscription ended
	Send       string `json:"send"`        // how long sending took, until all was acknowledged
	SendRate   int64  `json:"send_rate"`
	Steps      int    `json:"steps"`
}

// demo is one run of the story. Its steps build on one another.
type demo struct {
	ctx     context.Context
	dir     string
	lines   [][]byte
	visible func(string) string
	facts   Facts

	node         *service.Node
	alice, bob   *unibus.Client
	keys         map[string]*unibus.Identity
	room, theirs *unibus.Room // alice's and bob's view of it
	got          [][]byte     // what bob read
}

// Run plays the story, and fails at the first step that does not go as promised, with its name.
func Run(ctx context.Context, o Options) (Facts, error) {
	d := &demo{ctx: ctx, dir: o.Dir, lines: o.Lines, visible: o.Visible, keys: map[string]*unibus.Identity{}}
	defer d.close()
	steps := []struct {
		name string
		do   func() (string, error)
	}{
		{"found a bus", d.found},
		{"allowlist alice and bob", d.allow},
		{"make an encrypted, stored room", d.create},
		{"invite bob", d.invite},
		{"send lines from alice", d.send},
		{"read them as bob", d.receive},
		{"search the server's files for them", d.search},
		{"renew the room's key", d.rekey},
		{"revoke bob, who is connected", d.revoke},
		{"turn bob away at the door", d.refuse},
		{"shut bob out of what comes after", d.shutOut},
		{"verify both logs", d.verify},
	}
	for i, s := range steps {
		began := time.Now()
		detail, err := s.do()
		if err != nil {
			return Facts{}, fmt.Errorf("step %d, %s: %w", i+1, s.name, err)
		}
		if ctx.Err() != nil {
			return Facts{}, ctx.Err()
		}
		o.Step(s.name, detail, time.Since(began))
	}
	d.facts.Steps, d.facts.Passed = len(steps), true
	return d.facts, nil
}

// close ends what the steps began.
func (d *demo) close() {
	for _, c := range []*unibus.Client{d.alice, d.bob} {
		if c != nil {
			_ = c.Close() // what it sent was acknowledged, or the demo failed already
		}
	}
	if d.node != nil {
		d.node.Stop()
	}
}

// mismatch is a step that did not go as promised.
func mismatch(format string, args ...any) error { return fmt.Errorf("demo: "+format, args...) }

// connect connects as one of the people of the story.
func (d *demo) connect(name string) (*unibus.Client, error) {
	return unibus.Connect(d.ctx, unibus.Options{
		Identity: d.keys[name], Name: name, StateDir: filepath.Join(d.dir, name), Server: d.node.URL(),
	})
}
