package bench

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// Run takes the measurements that stand in series.go, one after the other. In each unibus and raw NATS take turns, so that
// a disk or a processor that is slow for a while is slow for both.

// Options of Run.
type Options struct {
	Dir     string        // an empty folder; the caller removes it
	What    []string      // which of Kinds; empty: all
	For     time.Duration // how long each measurement takes, both sides together, beside what has to be made before
	Count   int           // how often each side does what is measured, at most; 0: a number that depends on Size
	Size    int           // bytes of a message
	Timeout time.Duration // of each exchange with the bus

	Begin func(Progress) // told of each measurement when it begins
	Row   func(Row) error
}

// Progress says which measurement begins: the so-maniest of how many.
type Progress struct {
	What, Measure string
	Number, Of    int
}

// Row is what was measured: a rate, of which more is better, or a time, of which less is.
type Row struct {
	Measure string  `json:"measure"` // in words
	Ratio   float64 `json:"ratio"`   // of unibus to raw NATS
	Raw     float64 `json:"raw"`
	Unibus  float64 `json:"unibus"`
	Unit    string  `json:"unit"` // of both: Rate or Milliseconds
	What    string  `json:"what"` // one of Kinds
}

// Units of rows.
const (
	Rate         = "/s" // messages, or logins, a second
	Milliseconds = "ms"
)

// hangs is how much longer than it should a measurement may take, with what has to be made for it: then something hangs,
// as when a message that was sent does not come.
const hangs = time.Minute

// Run founds a bus and measures; it calls Row for each row as soon as it is there.
func Run(ctx context.Context, o Options) error {
	b, err := Start(ctx, o.Dir, o.Size, o.Timeout)
	if ctx.Err() != nil { // what else went wrong is a consequence
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	defer b.Close()
	chosen := slices.DeleteFunc(series(), func(m measurement) bool { return len(o.What) > 0 && !slices.Contains(o.What, m.what) })
	for i, m := range chosen {
		o.Begin(Progress{m.what, m.name, i + 1, len(chosen)})
		bounded, done := context.WithTimeout(ctx, 2*o.For+hangs)
		rows, err := m.take(bounded, b, o)
		done()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("%s, %s: %w", m.what, m.name, err)
		}
		for _, row := range rows {
			row.What, row.Measure, row.Ratio = m.what, m.name+row.Measure, row.Unibus/row.Raw
			if err := o.Row(row); err != nil {
				return err
			}
		}
	}
	return nil
}

// Most that a side does in one measurement when nobody says: more would fill a disk, and tell nothing more.
const (
	mostMessages = 200_000
	mostBytes    = 64 << 20
)

// count is how often each side does what is measured, at most.
func (o *Options) count() int {
	if o.Count > 0 {
		return o.Count
	}
	return max(1, min(mostMessages, mostBytes/o.Size))
}

// rounds is how often each side has its turn in the measurement of a rate.
func (o *Options) rounds() int { return min(4, o.count()) }

// begin begins a turn of one side at a rate.
func (o *Options) begin(ctx context.Context) *turn {
	return newTurn(ctx, o.count()/o.rounds(), o.For/time.Duration(2*o.rounds()))
}

// turn says how long a side goes on: for some time, or until it has done as much as it may; it may always do one thing.
type turn struct {
	left, done int
	over       atomic.Bool
	stop       func() bool
	clock      *time.Timer
}

// newTurn begins a turn, which ends with ctx, too.
func newTurn(ctx context.Context, most int, length time.Duration) *turn {
	t := &turn{left: most}
	end := func() { t.over.Store(true) }
	t.clock = time.AfterFunc(length, end)
	t.stop = context.AfterFunc(ctx, end)
	return t
}

// more reports whether one more may be done.
func (t *turn) more() bool {
	if t.left == 0 || t.done > 0 && t.over.Load() {
		return false
	}
	t.left--
	t.done++
	return true
}

// end frees what the turn holds.
func (t *turn) end() {
	t.clock.Stop()
	t.stop()
}

// tally is what one side did in all of its turns.
type tally struct {
	done int
	took time.Duration
}

// add has a side take a turn.
func (a *tally) add(ctx context.Context, side Side, o *Options) error {
	t := o.begin(ctx)
	defer t.end()
	began := time.Now()
	err := side(ctx, t.more)
	a.took += time.Since(began)
	a.done += t.done
	return err
}

// rate is how much of it was done a second.
func (a *tally) rate() float64 { return float64(a.done) / max(a.took, 1).Seconds() }

// alternate has two sides take turns, and returns their rates.
func alternate(ctx context.Context, o *Options, ours, raw Side) ([]Row, error) {
	var a, b tally
	for range o.rounds() {
		if err := b.add(ctx, raw, o); err != nil {
			return nil, fmt.Errorf("raw NATS: %w", err)
		}
		if err := a.add(ctx, ours, o); err != nil {
			return nil, err
		}
	}
	return []Row{{Unit: Rate, Unibus: a.rate(), Raw: b.rate()}}, nil
}

// compare has two sides do one thing each, again and again, and returns how long that took them: as percentiles.
func compare(ctx context.Context, o *Options, ours, raw func() error, percents ...int) ([]Row, error) {
	var a, b []time.Duration
	t := newTurn(ctx, o.count(), o.For)
	defer t.end()
	for t.more() {
		began := time.Now()
		if err := raw(); err != nil {
			return nil, fmt.Errorf("raw NATS: %w", err)
		}
		between := time.Now()
		if err := ours(); err != nil {
			return nil, err
		}
		a, b = append(a, time.Since(between)), append(b, between.Sub(began))
	}
	slices.Sort(a)
	slices.Sort(b)
	rows := make([]Row, len(percents))
	for i, p := range percents {
		rows[i] = Row{Measure: fmt.Sprintf(", p%d", p), Unit: Milliseconds, Unibus: milliseconds(Percentile(a, p)), Raw: milliseconds(Percentile(b, p))}
	}
	return rows, nil
}

// milliseconds is a time as rows have it; nothing takes no time at all.
func milliseconds(d time.Duration) float64 { return float64(max(d, 1)) / float64(time.Millisecond) }
