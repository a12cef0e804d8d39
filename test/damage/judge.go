package main

import (
	"fmt"
	"slices"
	"strings"
)

// verdict is what a reading lacks, in frames, and what is wrong with how it ended.
type verdict struct {
	missing int // frames that were not read
	named   int // of them, by stream and counter
	placed  int // else by their places
	unread  int // else behind the place up to which the room could be read, as was said
	untold  int // else: nothing that was signed, and nothing that this reader knew, tells of them
	silent  int // the rest, of which it should have told
	wrong   []string
}

// judge holds a reading against what was written.
func (r *room) judge(g *reading) (v verdict) {
	v.wrong = slices.Clone(g.bad)
	read := func(i int) bool { return len(r.frames[i].lines) > 0 && g.frames[i] == len(r.frames[i].lines) }
	told := r.told(g, read)
	var unnamed, silent []string // examples
	for i, f := range r.frames {
		if n := g.frames[i]; n != 0 && n != len(f.lines) {
			v.wrong = append(v.wrong, fmt.Sprintf("%d of the %d lines of place %d", n, len(f.lines), f.place))
		}
		if read(i) || len(f.lines) == 0 { // a frame that only ends a stream is not seen
			continue
		}
		v.missing++
		signed := f.counter < told[f.stream]
		switch {
		case g.names(f):
			v.named++
		case g.places(f), g.wentBack(f, r.reach[g.who]):
			v.placed++
			if signed {
				unnamed = append(unnamed, f.String())
			}
		case g.upTo > 0 && f.place > g.upTo:
			v.unread++
		case !signed && f.place > r.reach[g.who]:
			v.untold++
		default:
			v.silent++
			silent = append(silent, f.String())
		}
	}
	if v.silent > 0 {
		v.wrong = append(v.wrong, fmt.Sprintf("%d frames are missing silently: %s", v.silent, silent[0]))
	}
	if len(unnamed) > 0 {
		v.wrong = append(v.wrong, fmt.Sprintf("%d frames that others tell of are told by place alone: %s", len(unnamed), unnamed[0]))
	}
	v.end(g)
	return v
}

// end judges the exit code.
func (v *verdict) end(g *reading) {
	switch {
	case g.code == 0 && v.missing > v.untold:
		v.wrong = append(v.wrong, fmt.Sprintf("exit 0 with %d frames missing", v.missing))
	case g.code == 0 && len(g.findings) > 0:
		v.wrong = append(v.wrong, "exit 0 with findings")
	case g.code == 6 && len(g.findings) == 0 && !strings.Contains(g.said, "went back"):
		v.wrong = append(v.wrong, "exit 6 without a finding: "+tail(g.said))
	case g.code != 0 && g.code != 6:
		v.wrong = append(v.wrong, fmt.Sprintf("exit %d: %s", g.code, tail(g.said)))
	}
}

// told says of each stream how many frames what was read tells of: those before the last that was read, and those
// of which the first frame of its writer's next stream tells.
func (r *room) told(g *reading, read func(int) bool) map[string]uint64 {
	told, size := map[string]uint64{}, map[string]uint64{}
	for _, f := range r.frames {
		size[f.stream] = f.counter + 1
	}
	for i, f := range r.frames {
		if !read(i) {
			continue
		}
		told[f.stream] = max(told[f.stream], f.counter)
		if before := r.next[f.stream]; f.counter == 0 && before != "" {
			told[before] = size[before]
		}
	}
	for _, w := range g.after {
		told[r.last[w]] = size[r.last[w]]
	}
	return told
}

func (g *reading) names(f frame) bool {
	return slices.ContainsFunc(g.findings, func(n finding) bool {
		return n.stream == f.stream && n.from <= f.counter && f.counter <= n.to
	})
}

func (g *reading) places(f frame) bool {
	return slices.ContainsFunc(g.findings, func(n finding) bool { return n.first <= f.place && f.place <= n.last })
}

// wentBack reports whether a reader told that the room ends before a place that it knew. Places before that end may
// have been used again since.
func (g *reading) wentBack(f frame, reach uint64) bool {
	return f.place <= reach && slices.ContainsFunc(g.findings, func(n finding) bool { return n.kind == "rolled-back" })
}

// tail is the last line of a text.
func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if n := len(lines); n > 1 && strings.HasPrefix(lines[n-1], "hint:") {
		lines = lines[:n-1]
	}
	return lines[len(lines)-1]
}
