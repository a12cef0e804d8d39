package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/unibus/unibus/internal/freeport"
	"github.com/unibus/unibus/internal/service"
)

// This file writes a room, keeps what a server leaves of it, and hands each damage out as a job: a worker tries it on a
// copy (outcome.go), and what came of all is added up (summary.go).

var (
	lines  = flag.Int("lines", 50000, "room: stored beforehand, by three writers")
	length = flag.Int("length", 760, "room: bytes of a line")
	rounds = flag.Int("rounds", 8, "room: streams of each writer")
	flips  = flag.Int("flips", 100, "room: bits flipped, on what a server left that was stopped, and on what one left that was killed")
	only   = flag.String("only", "", "room: the kinds of damage to try, of flip, block, cut, folder and file (default all)")
	match  = flag.String("match", "", "room: only what says so of itself")
	ways   = flag.String("ways", "stopped,killed", "room: how the server was ended before the damage")
	follow = flag.Bool("follow", true, "room: also with a reader that runs meanwhile, once for each kind of damage")
)

// damagedRoom writes a room, breaks copies of it, and prints what came of it.
func damagedRoom(ctx context.Context, dir string) error {
	began := time.Now()
	r, err := prepare(ctx, dir)
	if err != nil {
		return err
	}
	log.Printf("room: %d lines in %d frames, %d streams of each writer; written in %v", r.size, len(r.frames), *rounds, time.Since(began).Round(time.Second))
	jobs := make(chan job)
	sums, failed := summary{}, []string(nil)
	var mu sync.Mutex
	var working sync.WaitGroup
	for n := range *workers {
		listen := freeport.Local()
		working.Go(func() {
			for j := range jobs {
				o := j.try(ctx, dir, n, listen, r)
				mu.Lock()
				failed = append(failed, sums.add(j, o)...)
				mu.Unlock()
			}
		})
	}
	jerr := give(ctx, dir, r, jobs)
	close(jobs)
	working.Wait()
	sums.print()
	log.Printf("room: done after %v", time.Since(began).Round(time.Second))
	if jerr == nil && len(failed) > 0 {
		jerr = fmt.Errorf("%d are not as promised:\n  %s", len(failed), strings.Join(failed, "\n  "))
	}
	return jerr
}

// job is one damage to be tried.
type job struct {
	way     string // the server was ended before: stopped or killed
	running bool   // with a reader that follows
	harm
}

// name says of a job what a person needs to try it again.
func (j job) name() string {
	name := j.way + ", " + j.what
	if j.running {
		name += ", with a reader running"
	}
	return name
}

// give gives all jobs out.
func give(ctx context.Context, dir string, r *room, jobs chan<- job) error {
	for way := range strings.SplitSeq(*ways, ",") {
		list, err := harms(filepath.Join(dir, way, "data"), r.id, *flips, rand.New(rand.NewPCG(*seed, 1)))
		if err != nil {
			return err
		}
		for i, h := range list {
			if *only != "" && !slices.Contains(strings.Split(*only, ","), h.kind) || !strings.Contains(h.what, *match) {
				continue
			}
			given := []job{{way, false, h}}
			if *follow && (h.kind != "flip" || i == 0) {
				given = append(given, job{way, true, h})
			}
			for _, j := range given {
				select {
				case jobs <- j:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
	}
	return nil
}

// prepare writes the room, and keeps what a server leaves that is killed, and one that is stopped.
func prepare(ctx context.Context, dir string) (*room, error) {
	s := &site{dir: filepath.Join(dir, "first"), listen: freeport.Local()}
	if err := errors.Join(os.MkdirAll(s.dir, 0o700), s.people(ctx), s.start(writers[0])); err != nil {
		return nil, err
	}
	defer s.stop(syscall.SIGTERM)
	id, err := s.found(ctx)
	if err != nil {
		return nil, err
	}
	total := *lines - *lines%(*rounds*len(writers))
	if err := s.write(ctx, *rounds, total, *length); err != nil {
		return nil, err
	}
	r, err := s.survey(ctx, id, total)
	if err != nil {
		return nil, err
	}
	r.marks = r.frames[len(r.frames)-1].place
	if err := s.marked(ctx, r); err != nil {
		return nil, err
	}
	s.stop(syscall.SIGKILL)
	if err := copyTree(s.dir, filepath.Join(dir, "killed")); err != nil {
		return nil, err
	}
	if err := s.start(writers[0]); err != nil {
		return nil, err
	}
	s.stop(syscall.SIGTERM)
	return r, copyTree(s.dir, filepath.Join(dir, "stopped"))
}

// marked waits until the server remembers how far the room reaches.
func (s *site) marked(ctx context.Context, r *room) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		marks, err := service.LoadMarks(service.MarksFile(s.data()))
		if err == nil && marks[r.id.String()].Last == r.marks {
			return nil
		}
	}
	return errors.New("the server does not remember how far the room reaches")
}
