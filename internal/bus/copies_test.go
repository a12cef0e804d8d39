package bus

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestCompare: copies are alike when they go from the same place to the same, and lack as much between; a server whose
// clock removes what is old may begin elsewhere, once it is old.
func TestCompare(t *testing.T) {
	now := time.Unix(1e9, 0)
	h := func(server string, first, last, messages uint64) Held {
		return Held{Server: server, First: first, Last: last, Messages: messages, Began: now.Add(-time.Hour)}
	}
	aged := func(age time.Duration, copies ...Held) []Held {
		for i := range copies {
			copies[i].Age = age
		}
		return copies
	}
	for name, c := range map[string]struct {
		copies []Held
		said   string
	}{
		"one":           {copies: []Held{h("a", 1, 9, 9)}},
		"alike":         {copies: []Held{h("a", 1, 9, 9), h("b", 1, 9, 9)}},
		"alike, holes":  {copies: []Held{h("a", 1, 9, 7), h("b", 1, 9, 7)}},
		"empty":         {copies: []Held{h("a", 10, 9, 0), h("b", 10, 9, 0)}},
		"old":           {copies: aged(time.Hour, h("a", 3, 9, 7), h("b", 1, 9, 9))},
		"young":         {copies: aged(2*time.Hour, h("a", 3, 9, 7), h("b", 1, 9, 9)), said: "it holds 3 to 9 on a, 1 to 9 on b"},
		"young, gone":   {copies: aged(2*time.Hour, h("a", 10, 9, 0), h("b", 1, 9, 9)), said: "it holds nothing on a, 1 to 9 on b"},
		"a hole":        {copies: []Held{h("b", 1, 9, 8), h("a", 1, 9, 9)}, said: "b lacks 1 of its messages"},
		"a hole, old":   {copies: aged(time.Hour, h("a", 3, 9, 7), h("b", 1, 9, 7)), said: "b lacks 2 of its messages"},
		"its beginning": {copies: []Held{h("a", 1, 9, 9), h("b", 4, 9, 6)}, said: "it holds 1 to 9 on a, 4 to 9 on b"},
		"its end":       {copies: aged(time.Hour, h("b", 1, 9, 9), h("a", 1, 8, 8)), said: "it holds 1 to 8 on a, 1 to 9 on b"},
		"two of three": {
			copies: []Held{h("a", 1, 9, 5), h("b", 1, 9, 9), h("c", 1, 9, 8)},
			said:   "a lacks 4 of its messages, c lacks 1 of its messages",
		},
	} {
		if said := compare(c.copies, c.copies, now); said != c.said {
			t.Errorf("%s: %q", name, said)
		}
	}
	// What differs while the stream changes, from one look to the other.
	for name, c := range map[string]struct {
		before, copies []Held
		said           string
	}{
		"b behind":            {before: []Held{h("a", 1, 20, 20), h("b", 1, 10, 10)}, copies: []Held{h("a", 1, 40, 40), h("b", 1, 30, 30)}},
		"b stands still":      {before: []Held{h("a", 1, 20, 20), h("b", 1, 10, 10)}, copies: []Held{h("a", 1, 40, 40), h("b", 1, 10, 10)}, said: "it holds 1 to 40 on a, 1 to 10 on b"},
		"b trims later":       {before: []Held{h("a", 11, 20, 10), h("b", 1, 20, 20)}, copies: []Held{h("a", 31, 40, 10), h("b", 21, 40, 20)}},
		"a lost its begin":    {before: []Held{h("a", 11, 20, 10), h("b", 1, 20, 20)}, copies: []Held{h("a", 11, 40, 30), h("b", 1, 40, 40)}, said: "it holds 11 to 40 on a, 1 to 40 on b"},
		"keys, b behind":      {before: []Held{h("a", 1, 20, 5), h("b", 1, 18, 5)}, copies: []Held{h("a", 1, 40, 6), h("b", 1, 38, 5)}},
		"keys, b lost one":    {before: []Held{h("a", 1, 20, 5), h("b", 1, 20, 4)}, copies: []Held{h("a", 1, 41, 6), h("b", 1, 41, 5)}, said: "b lacks 1 of its messages"},
		"keys, b has nothing": {before: []Held{h("a", 1, 20, 5), h("b", 20, 20, 1)}, copies: []Held{h("a", 1, 41, 6), h("b", 40, 40, 1)}, said: "it holds 1 to 41 on a, 40 to 40 on b"},
		"b is new":            {before: []Held{h("a", 1, 20, 5)}, copies: []Held{h("a", 1, 41, 6), h("b", 40, 40, 1)}},
		"a is gone":           {before: []Held{h("a", 1, 20, 5), h("b", 1, 20, 5)}, copies: []Held{h("b", 1, 40, 5)}},
	} {
		if said := compare(c.before, c.copies, now); said != c.said {
			t.Errorf("%s: %q", name, said)
		}
	}
}

// TestLookAtCopies: each server says what it holds of the streams.
func TestLookAtCopies(t *testing.T) {
	s, js := begin(t)
	for range 3 {
		if _, err := js.Publish(t.Context(), "s", nil); err != nil {
			t.Fatal(err)
		}
	}
	copies, err := LookAtCopies(t.Context(), s.Links.Sys)
	name := s.ns.Name()
	if err != nil || len(copies["S"]) != 1 || copies["S"][0].Server != name || copies["S"][0].First != 1 || copies["S"][0].Last != 3 {
		t.Fatalf("%+v, %v", copies, err)
	}
	if copies.Messages(name) != 3 || copies.Messages("other") != 0 || copies.Servers() != 1 {
		t.Errorf("%d messages on %d servers", copies.Messages(name), copies.Servers())
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := LookAtCopies(ended, s.Links.Sys); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

// TestUnlike: of copies that are not alike is told, and of those that lack something on one server.
func TestUnlike(t *testing.T) {
	began := time.Now().Add(-time.Hour)
	h := func(server string, first, last, messages uint64) Held {
		return Held{Server: server, First: first, Last: last, Messages: messages, Began: began}
	}
	c := Copies{
		"alike": {h("a", 1, 9, 9), h("b", 1, 9, 9)},
		"ends":  {h("a", 1, 9, 9), h("b", 1, 5, 5)},
		"holes": {h("a", 1, 9, 7), h("b", 1, 9, 9)},
	}
	if unlike := c.Unlike(c); len(unlike) != 2 || unlike["ends"] != "it holds 1 to 9 on a, 1 to 5 on b" || unlike["holes"] != "a lacks 2 of its messages" {
		t.Errorf("%q", unlike)
	}
	if short := c.Short(c, "b"); len(short) != 1 || short["ends"] == "" {
		t.Errorf("b: %q", short)
	}
	if short := c.Short(c, "a"); len(short) != 1 || short["holes"] == "" {
		t.Errorf("a: %q", short)
	}
	rooms := Copies{
		"UNIBUS_ends":   {h("a", 1, 9, 9), h("b", 1, 5, 5)}, // it is being brought up to date
		"UNIBUS_begins": {h("a", 1, 9, 9), h("b", 3, 9, 7)},
		"UNIBUS_empty":  {h("a", 1, 9, 9), h("b", 10, 9, 0)},
		"UNIBUS_holes":  {h("a", 1, 9, 9), h("b", 1, 9, 7)},
	}
	if short := rooms.Short(rooms, "b"); len(short) != 3 || short["UNIBUS_ends"] != "" {
		t.Errorf("rooms: %q", short)
	}
	c["ends"][1].Unled = true
	if !c.Unled("ends", "b") || c.Unled("ends", "a") || c.Unled("holes", "b") || c.Unled("other", "b") {
		t.Error("who leads is not told as it is")
	}
	if unlike := c.Unlike(Copies{}); len(unlike) > 0 {
		t.Errorf("that were not looked at before: %q", unlike)
	}
}
