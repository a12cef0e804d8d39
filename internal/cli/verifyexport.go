package cli

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/admin"
	"github.com/unibus/unibus/internal/store"
)

// verify --export: what was checked, in a file for who would check it elsewhere (verifyfile.go).

// writeExport writes the logs of the bus and of rooms to a file, and with --frames what these have stored.
func (v *verifyCommand) writeExport(ctx context.Context, c *unibus.Client, rooms []*unibus.Room) error {
	var pasts []admin.Past
	if v.frames {
		// How far rooms reach is asked before their logs are read, so that no message is of an entry that the file has not.
		var err error
		if pasts, err = v.pasts(ctx, rooms); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
	entries, err := c.BusLog(ctx)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	logs := []admin.Log{signedLog(c.Bus(), entries)}
	for _, r := range rooms {
		if entries, err = r.Log(ctx); err != nil {
			return fmt.Errorf("export: %w", err)
		}
		logs = append(logs, signedLog(r.ID(), entries))
		without := !slices.ContainsFunc(pasts, func(p admin.Past) bool { return p.Room == r.ID() })
		if v.frames && without && r.Info().Policy.Stored() { // the file would seem to lack them
			return fmt.Errorf("export: %s: %w: it has begun to store messages meanwhile", r.Subject(), unibus.ErrConflict)
		}
	}
	written := uint64(0)
	for i := range pasts {
		pasts[i].Frames = counted(pasts[i].Frames, &written)
	}
	if err := admin.Export(v.export, logs, pasts, time.Now()); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if !v.frames {
		v.a.notice("%s holds %s", v.export, english.Plural(len(logs), "log", ""))
		return nil
	}
	v.a.notice("%s holds %s, and %s as stored", v.export, english.Plural(len(logs), "log", ""), english.Plural(int(written), "message frame", ""))
	return nil
}

// pasts are what rooms have stored, of those that store anything.
func (v *verifyCommand) pasts(ctx context.Context, rooms []*unibus.Room) (pasts []admin.Past, err error) {
	for _, r := range rooms {
		p, err := unibus.PastOf(ctx, r)
		if err != nil {
			return nil, err
		}
		if p == nil {
			v.a.notice("%s stores nothing: the export has its log alone", r.Subject())
			continue
		}
		pasts = append(pasts, admin.Past{Room: r.ID(), Last: p.Last(), First: p.First, Frames: storedFrames(p.Frames(ctx))})
	}
	return pasts, nil
}

// storedFrames are frames as package admin takes them.
func storedFrames(frames iter.Seq2[unibus.StoredFrame, error]) iter.Seq2[store.Frame, error] {
	return func(yield func(store.Frame, error) bool) {
		for f, err := range frames {
			if !yield(store.Frame{Seq: f.Place, Time: f.Stored, Sender: f.Sender, Data: f.Frame}, err) {
				return
			}
		}
	}
}

// counted counts frames as they pass.
func counted(frames iter.Seq2[store.Frame, error], n *uint64) iter.Seq2[store.Frame, error] {
	return func(yield func(store.Frame, error) bool) {
		for f, err := range frames {
			if err == nil {
				*n++
			}
			if !yield(f, err) {
				return
			}
		}
	}
}

// signedLog is a log as its authors signed it, which is all that is needed to check it elsewhere.
func signedLog(id unibus.ID, entries []unibus.LogEntry) admin.Log {
	l := admin.Log{ID: id}
	for _, e := range entries {
		l.Statements = append(l.Statements, e.Statement)
	}
	return l
}
