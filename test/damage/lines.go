package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// Who uses the bus. The first writer founded it.
var (
	writers = []string{"w1", "w2", "w3"}
	known   = append(slices.Clone(writers), "reader") // who wrote to the room, or read it
)

const (
	newcomer = "newcomer" // was invited, and never read
	subject  = "room"
)

// frame is one that was stored.
type frame struct {
	place   uint64
	writer  string
	stream  string
	counter uint64
	lines   []int // of its writer
}

// String tells it in a line.
func (f frame) String() string {
	return fmt.Sprintf("frame %d of stream %s by %s at place %d", f.counter, f.stream, f.writer, f.place)
}

// room is what was written, all of it.
type room struct {
	id     crypto.ID
	frames []frame           // by place
	next   map[string]string // the stream that the first frame of a stream tells of: the one its writer had before
	at     map[string][]int  // for each writer's lines, the index of their frame
	reach  map[string]uint64 // the last place that somebody wrote or read
	marks  uint64            // the last place that the server remembers
	size   int               // lines
	last   map[string]string // each writer's last stream
}

// line is a writer's nth line.
func line(writer string, n, length int) string {
	s := fmt.Sprintf("%s %d ", writer, n)
	return s + strings.Repeat("x", max(0, length-len(s)-1)) + "\n"
}

// parse is the reverse of line; n is -1 for what publish wrote after the damage.
func parse(text string) (writer string, n int, ok bool) {
	writer, rest, _ := strings.Cut(strings.TrimSuffix(text, "\n"), " ")
	if !slices.Contains(writers, writer) {
		return "", 0, false
	}
	if rest == "after" {
		return writer, -1, true
	}
	_, err := fmt.Sscanf(rest, "%d", &n)
	return writer, n, err == nil
}

// people makes identities, and the first of them the bus's founder.
func (s *site) people(ctx context.Context) error {
	for _, who := range append(slices.Clone(known), newcomer) {
		if _, err := s.must(ctx, who, "init", "--name", who); err != nil {
			return err
		}
	}
	return nil
}

// found lets everybody in, and makes the room.
func (s *site) found(ctx context.Context) (id crypto.ID, err error) {
	out, err := s.must(ctx, writers[0], "room", "create", subject)
	if err != nil {
		return id, err
	}
	if id, err = crypto.ParseID(out); err != nil {
		return id, err
	}
	invite := []string{"invite", subject}
	for _, who := range append(slices.Clone(known), newcomer)[1:] {
		card, err := s.must(ctx, who, "whoami", "--card")
		if err != nil {
			return id, err
		}
		if _, err := s.must(ctx, writers[0], "user", "add", card, "--name", who); err != nil {
			return id, err
		}
		invite = append(invite, who)
	}
	_, err = s.must(ctx, writers[0], invite...)
	return id, err
}

// write writes the room in rounds, in each of which every writer has a process, and so a stream, of its own.
func (s *site) write(ctx context.Context, rounds, lines, length int) error {
	each := lines / rounds / len(writers)
	for r := range rounds {
		ended := make(chan error, len(writers))
		for _, w := range writers {
			go func() { ended <- s.publish(ctx, w, r*each, (r+1)*each, length) }()
		}
		var failed []error
		for range writers {
			failed = append(failed, <-ended)
		}
		if err := errors.Join(failed...); err != nil {
			return err
		}
	}
	return nil
}

// publish pipes lines into one pub.
func (s *site) publish(ctx context.Context, writer string, from, to, length int) error {
	cmd := s.command(ctx, writer, "pub", subject, "-q", "--timeout", "20s")
	var text, said strings.Builder
	for n := from; n < to; n++ {
		text.WriteString(line(writer, n, length))
	}
	cmd.Stdin, cmd.Stderr = strings.NewReader(text.String()), &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("pub by %s: %w: %s", writer, err, said.String())
	}
	return nil
}

// operator reads the streams with the service's keys.
func (s *site) operator() (past *bus.Past, done func(), err error) {
	keys, err := bus.LoadKeys(filepath.Join(s.data(), "service.nk"))
	if err != nil {
		return nil, nil, err
	}
	nc, err := bus.Operator(bus.DialOptions{Servers: "nats://" + s.listen, Keys: keys, Timeout: 10 * time.Second})
	if err != nil {
		return nil, nil, err
	}
	if past, err = bus.NewPast(nc); err != nil {
		nc.Close()
		return nil, nil, err
	}
	return past, func() { past.Close(); nc.Close() }, nil
}

// stored lists what the room's stream holds, without lines.
func (s *site) stored(ctx context.Context, id crypto.ID) (frames []frame, err error) {
	past, done, err := s.operator()
	if err != nil {
		return nil, err
	}
	defer done()
	for after := uint64(0); ; {
		part, err := past.Frames(ctx, id, store.FramesQuery{After: after}, 4<<20)
		if err != nil {
			return nil, err
		}
		for _, f := range part.Frames {
			h, err := crypto.ParseHeader(f.Data)
			if err != nil {
				return nil, err
			}
			frames = append(frames, frame{place: f.Seq, stream: fmt.Sprintf("%x", h.Stream), counter: h.Counter})
		}
		if len(part.Frames) == 0 || part.End() >= part.Last {
			return frames, nil
		}
		after = part.End()
	}
}

// survey reads the whole room, as the one who has only read it, and says which frame has which lines.
func (s *site) survey(ctx context.Context, id crypto.ID, lines int) (*room, error) {
	frames, err := s.stored(ctx, id)
	if err != nil {
		return nil, err
	}
	type key struct {
		stream  string
		counter uint64
	}
	index := map[key]int{}
	for i, f := range frames {
		index[key{f.stream, f.counter}] = i
	}
	out, err := s.must(ctx, "reader", "sub", subject, "--all", "--end", "-o", "json")
	if err != nil {
		return nil, err
	}
	r := &room{id: id, frames: frames, at: map[string][]int{}, next: map[string]string{}, last: map[string]string{}, reach: map[string]uint64{}}
	for d := json.NewDecoder(strings.NewReader(out)); ; r.size++ {
		var m struct {
			Stream  string
			Counter uint64
			Body    string
		}
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		w, n, ok := parse(m.Body)
		i, there := index[key{m.Stream, m.Counter}]
		if !ok || !there || n != len(r.at[w]) {
			return nil, fmt.Errorf("line %d of %s, where %d comes next, in frame %d of %s", n, w, len(r.at[w]), m.Counter, m.Stream)
		}
		r.at[w] = append(r.at[w], i)
		frames[i].writer, frames[i].lines = w, append(frames[i].lines, n)
	}
	if r.size != lines {
		return nil, fmt.Errorf("%d of %d lines were read", r.size, lines)
	}
	for _, f := range frames {
		if before := r.last[f.writer]; f.counter == 0 && before != "" {
			r.next[f.stream] = before
		}
		r.last[f.writer] = f.stream
		r.reach[f.writer], r.reach["reader"] = f.place, f.place
	}
	return r, nil
}

// reading is what a run of sub came to.
type reading struct {
	who      string
	code     int
	said     string
	frames   map[int]int // lines read of each frame, by index
	after    []string    // writers whose last message came
	bad      []string    // lines that should not have come
	findings []finding
	again    int    // how often it was tried again
	upTo     uint64 // the place up to which the room could be read, if that was not to its end
	back     int    // lines that came after later ones of their writer, which may be if these are of another stream
}

// finding is what sub told of.
type finding struct {
	kind     string
	stream   string // with counters
	from, to uint64
	first    uint64 // places, if any
	last     uint64
	text     string
}

// attempts is how often a reading is tried again that ends with 5.
const attempts = 2

// sub reads the room from its start.
func (s *site) sub(ctx context.Context, r *room, who string) (*reading, error) {
	got := &reading{who: who, frames: map[int]int{}, again: -1}
	var res result
	for res.code = 5; res.code == 5 && got.again < attempts; got.again++ { // a machine that is busy is no damage
		var err error
		if res, err = s.run(ctx, who, "sub", subject, "--all", "--end"); err != nil {
			return nil, err
		}
	}
	var err error
	got.code, got.said = res.code, res.said
	seen := map[string]int{}
	for lines := bufio.NewReader(strings.NewReader(res.out)); ; {
		text, err := lines.ReadString('\n')
		if err != nil {
			break
		}
		got.take(r, seen, text)
	}
	got.findings = parseFindings(res.said)
	if m := couldBeRead.FindStringSubmatch(res.said); m != nil {
		got.upTo, err = strconv.ParseUint(m[1], 10, 64)
	}
	return got, err
}

var couldBeRead = regexp.MustCompile(`\((\d+) of \d+ places could be read\)`)

// take judges a line by itself: it is a whole one that was written, and not from before one of its stream.
func (g *reading) take(r *room, seen map[string]int, text string) {
	w, n, ok := parse(text)
	switch {
	case !ok || n >= len(r.at[w]):
		g.bad = append(g.bad, fmt.Sprintf("a line that nobody wrote: %.40q", text))
	case n < 0:
		g.after = append(g.after, w)
	default:
		i := r.at[w][n]
		if seen[w] > n {
			g.back++
		}
		seen[w] = max(seen[w], n)
		stream := r.frames[i].stream
		if last, any := seen[stream]; any && n <= last {
			g.bad = append(g.bad, fmt.Sprintf("line %d of %s after line %d", n, w, last))
		}
		seen[stream] = n
		g.frames[i]++
	}
}

// parseFindings reads what sub says on stderr.
func parseFindings(said string) (out []finding) {
	for text := range strings.Lines(said) {
		text = strings.TrimSpace(text)
		rest, ok := strings.CutPrefix(text, "unibus: ")
		if !ok {
			continue
		}
		kind, rest, ok := strings.Cut(rest, ": "+subject+": ")
		if !ok {
			continue
		}
		f := finding{kind: kind, text: text}
		f.parse(rest)
		out = append(out, f)
	}
	return out
}

func (f *finding) parse(text string) {
	var word string
	switch n, _ := fmt.Sscanf(text, "the room reached to place %d before, and now it ends at %d", &f.last, &f.first); {
	case n == 2:
		f.first++
		return
	case f.kind == "lost":
		if n, _ := fmt.Sscanf(text, "messages %d to %d of", &f.first, &f.last); n < 2 {
			_, _ = fmt.Sscanf(text, "message %d of", &f.first)
			f.last = f.first
		}
		return
	}
	if n, _ := fmt.Sscanf(text, "frames %d to %d of stream %s", &f.from, &f.to, &f.stream); n < 3 {
		if n, _ = fmt.Sscanf(text, "frame %d of stream %s", &f.from, &f.stream); n < 2 {
			return
		}
		f.to = f.from
	}
	_, place, ok := strings.Cut(text, " (message ")
	if ok && (f.kind == "forged" || f.kind == "rolled-back") { // others name the place of the frame that told
		if n, _ := fmt.Sscanf(place, "%d %s", &f.first, &word); n > 0 {
			f.last = f.first
		}
	}
	if f.kind == "forged" || f.kind == "rolled-back" {
		f.stream = "" // that of a damaged header
	}
}
