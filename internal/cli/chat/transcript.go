package chat

import (
	"slices"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/shown"
)

// transcript is what stands in a room, in its order: what was said and what happened, and at its end what one has written
// oneself and that is on its way.
type transcript struct {
	items []*item
	seen  map[string]bool // messages, by id
	told  map[string]bool // notices, as they read
	bytes int             // that the items take, as count estimates
	names int             // columns of the widest name of those who wrote, as far as it is shown
	entry uint64          // the last entry of the log that was told; 0: the log was not read yet

	nameless int // messages of one's own that may come back, and need not

	whole bool // all there is was read
}

// add puts an item behind all others but those that are still on their way.
func (t *transcript) add(i *item) {
	at := t.unread()
	t.items = slices.Insert(t.items, at, i)
	t.count(i)
	t.redate(at)
}

// count takes what an item needs into account.
func (t *transcript) count(i *item) {
	t.bytes += i.weight()
	if i.kind == said || i.kind == own {
		t.names = max(t.names, min(ansi.StringWidth(shown.Text(i.name)), maxName))
	}
}

// redate says, of the item at a place and of the next, whether a day begins there.
func (t *transcript) redate(from int) {
	for n := max(from, 0); n < min(from+2, len(t.items)); n++ {
		i := t.items[n]
		newDay := n == 0 || !sameDay(t.items[n-1].at, i.at)
		if i.newDay != newDay {
			i.newDay, i.lines = newDay, nil
		}
	}
}

// sameDay reports whether two times are of one day, where the reader is.
func sameDay(a, b time.Time) bool {
	return a.Local().Format(time.DateOnly) == b.Local().Format(time.DateOnly)
}

// receive adds a message, unless it is there already. self is who reads.
func (t *transcript) receive(m message, self unibus.PublicKey) (added bool) {
	if t.seen[m.ID()] {
		return false
	}
	t.seen[m.ID()] = true
	i := messageItem(m)
	if m.Sender == self {
		if t.named(m) {
			return false
		}
		t.settle(m, i)
	}
	t.add(i)
	return true
}

// named gives a message of one's own that stands there already (progress) its id, and reports whether there is one.
func (t *transcript) named(m message) bool {
	if t.nameless == 0 {
		return false
	}
	for _, i := range slices.Backward(t.items) {
		if i.kind == said && i.id == "" && i.stream == m.Stream && m.says(i.text) {
			i.id = m.ID()
			t.nameless--
			return true
		}
	}
	return false
}

// settle takes away what was shown of a message of one's own while it was on its way.
func (t *transcript) settle(m message, by *item) {
	// Others that one has, or another program of one's own, may have said the same: it is this stream's first.
	n := slices.IndexFunc(t.mine(), func(i *item) bool { return i.stream == m.Stream && m.says(i.text) })
	if n >= 0 {
		one := t.mine()[n]
		by.number, by.state, by.live = one.number, one.state, one.live // which may have to be said still
		t.remove(t.unread() + n)
	}
}

// stand has a message of one's own stand where it is, once it was sent in a room that stores nothing: it need not come back.
func (t *transcript) stand(i *item) {
	at := slices.Index(t.items, i)
	if at < 0 || !i.live || i.state != stored {
		return
	}
	t.items = slices.Delete(t.items, at, at+1)
	i.kind = said
	t.nameless++
	t.items = slices.Insert(t.items, t.unread(), i)
	t.redate(at - 1)
	t.redate(at)
}

// cameBack takes away a message of one's own that was read before it was known in which stream it went.
func (t *transcript) cameBack(sent *item) {
	at := slices.IndexFunc(t.items, func(i *item) bool {
		return i.kind == said && i.from == sent.from && i.stream == sent.stream && i.text == cut(sent.text) && i.number == 0
	})
	if at >= 0 {
		one := t.items[at]
		one.number, one.state, one.live, one.lines = sent.number, sent.state, sent.live, nil
		t.remove(slices.Index(t.items, sent))
	}
}

// unread is where those messages of one's own begin that were not read yet.
func (t *transcript) unread() int {
	n := len(t.items)
	for n > 0 && t.items[n-1].kind == own {
		n--
	}
	return n
}

// mine are those messages.
func (t *transcript) mine() []*item { return t.items[t.unread():] }

// remove takes an item away.
func (t *transcript) remove(n int) {
	t.bytes -= t.items[n].weight()
	t.items = slices.Delete(t.items, n, n+1)
	t.redate(n)
}

// tell adds what is said about the room, once. Findings are told in words of alarm.
func (t *transcript) tell(n unibus.Notice) (added bool) {
	text := string(n.Kind) + ": " + n.String()
	if t.told[text] {
		return false
	}
	t.told[text] = true
	kind := remark
	if n.Finding {
		kind = finding
	}
	t.add(&item{kind: kind, at: time.Now(), text: text})
	return true
}

// merge puts the entries of the room's log among its messages, by the times that their authors say: all of them if the
// whole past is here, and else those since the first message.
func (t *transcript) merge(entries []unibus.LogEntry) {
	if len(entries) == 0 {
		return
	}
	t.entry = max(t.entry, entries[len(entries)-1].Seq)
	t.items = slices.DeleteFunc(t.items, func(i *item) bool { return i.kind == change })
	if first := slices.IndexFunc(t.items, func(i *item) bool { return i.kind == said }); first >= 0 && !t.whole {
		since := t.items[first].at
		entries = slices.DeleteFunc(slices.Clone(entries), func(e unibus.LogEntry) bool { return e.Time.Before(since) })
	}
	var merged []*item
	for _, i := range t.items {
		for len(entries) > 0 && (i.at.After(entries[0].Time) || i.kind == own) {
			merged, entries = append(merged, changeItem(entries[0])), entries[1:]
		}
		merged = append(merged, i)
	}
	for _, e := range entries {
		merged = append(merged, changeItem(e))
	}
	t.items = merged
	for n := range t.items {
		t.redate(n)
	}
}

// grow adds the entries that the room's log has more than before.
func (t *transcript) grow(entries []unibus.LogEntry) {
	for _, e := range entries {
		if e.Seq > t.entry {
			t.add(changeItem(e))
			t.entry = e.Seq
		}
	}
}

// progress takes how far a message of one's own has come; false when it is not here any more.
func (t *transcript) progress(e sent) bool {
	for _, i := range slices.Backward(t.items) {
		if i.number == e.number {
			i.state, i.live, i.lines = e.state, e.live, nil
			if i.kind != own {
				if e.state == failed { // it was read, whatever its writer knows
					i.state = waiting
				}
				return e.state != failed
			}
			if e.stream != (unibus.StreamID{}) && e.stream != i.stream {
				i.stream = e.stream
				t.cameBack(i)
			}
			t.stand(i)
			return true
		}
	}
	return false
}

// write adds a message of one's own that is on its way, as the last.
func (t *transcript) write(i *item) {
	t.items = append(t.items, i)
	t.count(i)
	t.redate(len(t.items) - 1)
}

// takeBack takes the last message away that was not stored, and returns what it says; empty when all are.
func (t *transcript) takeBack() string {
	for n, i := range slices.Backward(t.mine()) {
		if i.state == failed {
			t.remove(t.unread() + n)
			return i.text
		}
	}
	return ""
}

// trim lets go of the oldest half of what is here.
func (t *transcript) trim() {
	gone := t.items[:len(t.items)/2]
	for _, i := range gone {
		t.bytes -= i.weight()
		delete(t.seen, i.id)
		delete(t.told, i.text)
		if i.kind == said && i.id == "" {
			t.nameless--
		}
	}
	t.items = slices.Clone(t.items[len(gone):])
	t.whole = false
	t.redate(0)
}
