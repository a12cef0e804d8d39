package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// This file adds up what came of all damages, and prints it.

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

// add adds one reading, and what the judge says of it.
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

// String tells it in a line.
func (t *tally) String() string {
	return fmt.Sprintf("%s; %d frames missing: %d named, %d by place, %d behind what could be read, %d untold, %d silent; %d tried again; %d had a writer's streams out of order", counts(t.ends), t.missing, t.named, t.placed, t.unread, t.untold, t.silent, t.again, t.back)
}

// counts says how many ended with which code.
func counts(ends map[int]int) string {
	var parts []string
	for _, code := range slices.Sorted(maps.Keys(ends)) {
		parts = append(parts, fmt.Sprintf("%d with %d", ends[code], code))
	}
	return strings.Join(parts, ", ")
}

// add adds what came of a job, tells it, and returns what is not as promised.
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

// print prints a paragraph for each way and kind.
func (s summary) print() {
	for _, name := range slices.Sorted(maps.Keys(s)) {
		t := s[name]
		fmt.Printf("%s: %d runs and %d with a reader running, %d not as promised; serve refused %d; pub ended %s\n", name, t.runs, t.followed, t.failed, t.refused, counts(t.pubs))
		fmt.Printf("  who knew the room: %s\n  a newcomer: %s\n  once the writers had written again: %s\n", &t.knew, &t.first, &t.later)
	}
}
