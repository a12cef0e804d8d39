//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
)

// This file judges what was seen: first without a model whether somebody was let in who was revoked, then by a model of
// one user, and at last whether each acknowledged message is there.

// judge checks what was seen.
func (w *world) judge(ctx context.Context) error {
	w.tell("at the end")
	if err := w.last(ctx); err != nil {
		return err
	}
	result := porcupine.CheckOperationsTimeout(model(), w.history, 5*time.Minute)
	log.Printf("porcupine: %d operations on %d users: %s", len(w.history), len(w.users), result)
	if result != porcupine.Ok {
		w.explain()
		return fmt.Errorf("the history is not linearizable: %s", result)
	}
	if err := w.lateGrants(); err != nil {
		return err
	}
	return w.messages(ctx)
}

// explain prints what was seen of a user whose history has no explanation.
func (w *world) explain() {
	m := model()
	for _, part := range m.Partition(w.history) {
		if porcupine.CheckOperations(m, part) {
			continue
		}
		slices.SortFunc(part, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
		first := part[0].Call
		for _, o := range part {
			fmt.Printf("%9.3fs to %9.3fs  %4d %-7s %s\n", time.Duration(o.Call-first).Seconds(), time.Duration(o.Return-first).Seconds(), o.ClientId,
				[]string{"allow", "revoke", "log in"}[o.Input.(input).op], map[int]string{done: "done", refused: "refused", unknown: "unknown", -1: "impossible"}[o.Output.(int)])
		}
		return
	}
}

// last reads, at the end, who is active, as the log has it and as servers let in.
func (w *world) last(ctx context.Context) error {
	for i, id := range w.users {
		began := time.Now()
		c, err := bus.Dial(bus.DialOptions{Servers: server(i%nodes + 1), Identity: id, Bus: w.bus, Timeout: timeout})
		switch {
		case err == nil:
			c.Close()
			w.record(5000, input{i, opLogin}, done, began, time.Now())
		case errors.Is(err, unibus.ErrDenied):
			w.record(5000, input{i, opLogin}, refused, began, time.Now())
		default:
			return fmt.Errorf("the bus has not recovered: %w", err)
		}
	}
	return nil
}

// lateGrants looks for what matters most by itself, without a model: a login that began after a
// revocation was acknowledged, with no allowing since, and was granted.
func (w *world) lateGrants() error {
	for _, r := range w.history {
		in := r.Input.(input)
		if in.op != opRevoke || r.Output != done {
			continue
		}
		allowed := int64(1<<62 - 1) // when somebody first tried to allow the user again
		for _, o := range w.history {
			if oi := o.Input.(input); oi.user == in.user && oi.op == opAdd && o.Return > r.Call {
				allowed = min(allowed, o.Call)
			}
		}
		for _, o := range w.history {
			if oi := o.Input.(input); oi.user == in.user && oi.op == opLogin && o.Output == done && o.Call > r.Return && o.Return < allowed {
				return fmt.Errorf("user %d was let in %v after the revocation was acknowledged", in.user, time.Duration(o.Call-r.Return))
			}
		}
	}
	log.Print("nobody was let in after an acknowledged revocation")
	return nil
}

// model is one user of the allowlist: active or not.
func model() porcupine.Model {
	return (&porcupine.NondeterministicModel{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			by := map[int][]porcupine.Operation{}
			for _, o := range history {
				user := o.Input.(input).user
				by[user] = append(by[user], o)
			}
			var out [][]porcupine.Operation
			for _, part := range by {
				out = append(out, part)
			}
			return out
		},
		Init: func() []any { return []any{true} },
		Step: func(state, in, out any) []any {
			active := state.(bool)
			outcome := out.(int)
			switch op := in.(input).op; {
			case outcome == -1:
				return nil
			case op == opLogin && (outcome == done) != active:
				return nil
			case op == opLogin:
				return []any{active}
			}
			after := in.(input).op == opAdd
			switch {
			case outcome == unknown && after != active:
				return []any{active, after}
			case outcome == done && after != active:
				return []any{after}
			case outcome != done && after == active:
				return []any{active}
			}
			return nil
		},
		Equal: func(a, b any) bool { return a == b },
	}).ToModel()
}

// messages reads the room from its start: every acknowledged message is there once, in its sender's
// order.
func (w *world) messages(ctx context.Context) error {
	room, err := w.founder.Room(ctx, "messages")
	if err != nil {
		return err
	}
	var findings []unibus.Notice
	sub, err := room.Subscribe(ctx, unibus.SubscribeOptions{All: true, End: true, Notice: func(n unibus.Notice) {
		if n.Finding {
			findings = append(findings, n)
		}
	}})
	if err != nil {
		return err
	}
	defer sub.Close()
	seen := map[string]int{}
	last := map[string]int{}
	for m, err := range sub.Messages() {
		if err != nil {
			return err
		}
		var writer, n int
		if _, err := fmt.Sscanf(string(m.Body), "%d %d", &writer, &n); err != nil {
			return err
		}
		seen[string(m.Body)]++
		if before, ok := last[m.Stream.String()]; ok && n <= before {
			return fmt.Errorf("message %s after %d", m.Body, before)
		}
		last[m.Stream.String()] = n
	}
	sent := 0
	for _, list := range w.sent {
		for _, text := range list {
			sent++
			if seen[text] != 1 {
				return fmt.Errorf("the acknowledged message %q is there %d times", text, seen[text])
			}
		}
	}
	if len(findings) > 0 {
		return fmt.Errorf("%d findings, the first: %v", len(findings), findings[0])
	}
	log.Printf("%d messages acknowledged, %d stored: each there once, in order", sent, len(seen))
	return nil
}
