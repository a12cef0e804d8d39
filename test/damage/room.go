package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"maps"
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
	"github.com/unibus/unibus/test/run"
)

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

// outcome is what came of one damage.
type outcome struct {
	readings []*reading // first by all, then by the newcomer and the reader when the writers had written once more
	verdicts []verdict
	refused  string   // what the server said that did not start
	last     uint64   // place where the room ends
	pubs     []int    // how the writers' pubs ended
	wrong    []string // besides the verdicts
}

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
	cmd := s.command(ctx, "reader", "sub", subject, "--last", "1")
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return err
	}
	got := bufio.NewReader(out)
	if _, err := got.ReadString('\n'); err != nil {
		cancel()
		return errors.Join(fmt.Errorf("the reader that follows: %w", err), cmd.Wait())
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
		_ = cmd.Wait() // it was told to end
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
	missed := wrote
	for text, err := got.ReadString('\n'); err == nil; text, err = got.ReadString('\n') {
		if strings.HasSuffix(text, " after\n") {
			if missed--; missed == 0 {
				break
			}
		}
	}
	alive := ctx.Err() == nil
	cancel()
	code, err := run.Ended(cmd.Wait())
	if missed > 0 && (code != 6 || !alive) {
		o.fail("the reader that follows had %d of %d new messages, and ended with %d, %v: %s", wrote-missed, wrote, code, err, said.String())
	}
	return nil
}

// summary adds up what came of each way and kind.
type summary map[string]*sum

type sum struct {
	runs, refused      int
	pubs               map[int]int
	knew, first, later tally
	followed, failed   int
}

// tally is of the readings of some people.
type tally struct {
	ends map[int]int
	verdict
	again int // readings that had to be tried again
	back  int // readings with lines behind later ones of their writer's other streams
}

func (t *tally) add(g *reading, v verdict) {
	if t.ends == nil {
		t.ends = map[int]int{}
	}
	t.ends[g.code]++
	t.again += g.again
	if g.back > 0 {
		t.back++
	}
	t.missing, t.named, t.placed = t.missing+v.missing, t.named+v.named, t.placed+v.placed
	t.unread, t.untold, t.silent = t.unread+v.unread, t.untold+v.untold, t.silent+v.silent
}

func (t *tally) String() string {
	return fmt.Sprintf("%s; %d frames missing: %d named, %d by place, %d behind what could be read, %d untold, %d silent; %d tried again; %d had a writer's streams out of order", counts(t.ends), t.missing, t.named, t.placed, t.unread, t.untold, t.silent, t.again, t.back)
}

func counts(ends map[int]int) string {
	var parts []string
	for _, code := range slices.Sorted(maps.Keys(ends)) {
		parts = append(parts, fmt.Sprintf("%d with %d", ends[code], code))
	}
	return strings.Join(parts, ", ")
}

func (s summary) add(j job, o *outcome) (failed []string) {
	t := s[j.way+" "+j.kind]
	if t == nil {
		t = &sum{pubs: map[int]int{}}
		s[j.way+" "+j.kind] = t
	}
	if j.running {
		t.followed++
	} else {
		t.runs++
	}
	if o.refused != "" {
		t.refused++
		tell("%s: serve: %s", j.name(), o.refused)
	}
	for _, code := range o.pubs {
		t.pubs[code]++
	}
	wrong := o.wrong
	for i, g := range o.readings {
		v := o.verdicts[i]
		when := "at first"
		switch {
		case i > len(known):
			when = "later"
			t.later.add(g, v)
		case g.who == newcomer:
			t.first.add(g, v)
		default:
			t.knew.add(g, v)
		}
		for _, w := range v.wrong {
			wrong = append(wrong, fmt.Sprintf("%s, %s: %s", g.who, when, w))
		}
		kinds := map[string]int{}
		for _, f := range g.findings {
			kinds[f.kind]++
		}
		tell("%s: %s, %s: exit %d, %d missing: %d named, %d by place, %d behind what could be read, %d untold, %d silent %v",
			j.name(), g.who, when, g.code, v.missing, v.named, v.placed, v.unread, v.untold, v.silent, kinds)
	}
	for _, w := range wrong {
		failed = append(failed, j.name()+": "+w)
		tell("WRONG: %s: %s", j.name(), w)
	}
	if len(wrong) > 0 {
		t.failed++
	}
	return failed
}

func (s summary) print() {
	for _, name := range slices.Sorted(maps.Keys(s)) {
		t := s[name]
		fmt.Printf("%s: %d runs and %d with a reader running, %d not as promised; serve refused %d; pub ended %s\n", name, t.runs, t.followed, t.failed, t.refused, counts(t.pubs))
		fmt.Printf("  who knew the room: %s\n  a newcomer: %s\n  once the writers had written again: %s\n", &t.knew, &t.first, &t.later)
	}
}
