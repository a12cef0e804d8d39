package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/unibus/unibus/test/run"
)

// This file tries one damage on a copy of the room, without a reader or with one that follows, and says what came of it.

// outcome is what came of one damage.
type outcome struct {
	readings []*reading // first by all, then by the newcomer and the reader when the writers had written once more
	verdicts []verdict
	refused  string   // what the server said that did not start
	last     uint64   // place where the room ends
	pubs     []int    // how the writers' pubs ended
	wrong    []string // besides the verdicts
}

// fail adds something that is not as promised.
func (o *outcome) fail(format string, args ...any) {
	o.wrong = append(o.wrong, fmt.Sprintf(format, args...))
}

// try does the damage to a copy.
func (j job) try(ctx context.Context, dir string, n int, listen string, r *room) *outcome {
	o := &outcome{}
	s := &site{dir: filepath.Join(dir, fmt.Sprint("copy", n)), listen: listen}
	err := os.RemoveAll(s.dir)
	if err == nil {
		err = copyTree(filepath.Join(dir, j.way), s.dir)
	}
	if err == nil {
		defer func() { s.stop(syscall.SIGTERM) }()
		if j.running {
			err = j.followed(ctx, s, o)
		} else if err = j.do(s.data()); err == nil {
			err = o.look(ctx, s, r)
		}
	}
	if err != nil {
		o.fail("%v", err)
	}
	return o
}

// look starts the server on what is left, and has the room read and written.
func (o *outcome) look(ctx context.Context, s *site, r *room) error {
	if err := s.start(writers[0]); err != nil {
		said, _ := os.ReadFile(s.serverLog())
		o.refused = tail(string(said))
		return nil
	}
	if err := o.read(ctx, s, r, append(slices.Clone(known), newcomer)); err != nil {
		return err
	}
	if err := o.operator(ctx, s, r); err != nil {
		return err
	}
	for _, w := range writers {
		p, err := s.run(ctx, w, "pub", subject, w+" after")
		if err != nil {
			return err
		}
		o.pubs = append(o.pubs, p.code)
		if p.code != 0 && p.code != 6 {
			o.fail("pub by %s ends with %d: %s", w, p.code, tail(p.said))
		}
	}
	return o.read(ctx, s, r, []string{newcomer, "reader"})
}

// read has some people read the room, at once.
func (o *outcome) read(ctx context.Context, s *site, r *room, people []string) error {
	got, failed := make([]*reading, len(people)), make([]error, len(people))
	var reading sync.WaitGroup
	for i, who := range people {
		reading.Go(func() { got[i], failed[i] = s.sub(ctx, r, who) })
	}
	reading.Wait()
	if err := errors.Join(failed...); err != nil {
		return err
	}
	for _, g := range got {
		o.readings, o.verdicts = append(o.readings, g), append(o.verdicts, r.judge(g))
	}
	return nil
}

// operator looks at what the server and doctor tell of a stream that was made anew or is shorter than it was.
func (o *outcome) operator(ctx context.Context, s *site, r *room) error {
	past, done, err := s.operator()
	if err != nil {
		return err
	}
	defer done()
	info, err := past.Stream(ctx, r.id)
	if err != nil {
		o.fail("the room's stream: %v", err)
		return nil
	}
	if o.last = info.Last; info.Last >= r.marks {
		return nil
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		said, err := os.ReadFile(s.serverLog())
		if err != nil {
			return err
		}
		if strings.Contains(string(said), "made anew") || strings.Contains(string(said), "shorter than it was") {
			break
		}
		if time.Now().After(deadline) {
			o.fail("serve does not tell that the room ends at %d and was at %d", info.Last, r.marks)
			break
		}
	}
	d, err := s.run(ctx, writers[0], "doctor", "--data", s.data(), "-o", "json")
	if err != nil {
		return err
	}
	var checks []struct{ Check, Status string }
	if err := json.Unmarshal([]byte(d.out), &checks); err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	for _, c := range checks {
		if c.Check == "kept streams" && c.Status == "fail" {
			return nil
		}
	}
	o.fail("doctor does not tell that the room ends at %d and was at %d", info.Last, r.marks)
	return nil
}

// followed does the damage while a reader runs. It must not go deaf: it gets what is written then, or ends with 6.
func (j job) followed(ctx context.Context, s *site, o *outcome) error {
	if err := s.start(writers[0]); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	f, err := startFollower(ctx, s)
	if err != nil {
		return err
	}
	how := os.Signal(syscall.SIGTERM)
	if j.way == "killed" {
		how = syscall.SIGKILL
	}
	s.stop(how)
	if err := j.do(s.data()); err != nil {
		return err
	}
	if err := s.start(writers[0]); err != nil {
		said, _ := os.ReadFile(s.serverLog())
		o.refused = tail(string(said))
		cancel()
		_ = f.cmd.Wait() // it was told to end
		return nil
	}
	wrote := 0
	for _, w := range writers {
		p, err := s.run(ctx, w, "pub", subject, w+" after")
		if err != nil {
			return err
		}
		if o.pubs = append(o.pubs, p.code); p.code == 0 || p.code == 6 {
			wrote++
		}
	}
	missed := f.missing(wrote)
	alive := ctx.Err() == nil
	cancel()
	code, err := run.Ended(f.cmd.Wait())
	if missed > 0 && (code != 6 || !alive) {
		o.fail("the reader that follows had %d of %d new messages, and ended with %d, %v: %s", wrote-missed, wrote, code, err, f.said.String())
	}
	return nil
}
