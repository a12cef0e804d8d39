package chat

import (
	"errors"
	"slices"
	"time"

	"github.com/unibus/unibus"
)

// room is what the model knows of one room.
type room struct {
	*unibus.Room
	info    unibus.RoomInfo
	members []unibus.Member

	transcript

	asked   int // how many messages of the past were asked for; 0: none yet
	loading bool

	offset int    // how many lines are below what the screen shows
	news   int    // messages that came while the room was not on the screen
	alarm  bool   // and a finding
	draft  string // what is being written, while another room is on the screen
}

// newRoom is a room that is opened.
func newRoom(r *unibus.Room) *room {
	return &room{Room: r, info: r.Info(), members: r.Members(), transcript: transcript{seen: map[string]bool{}, told: map[string]bool{}}}
}

// readOnly says why nothing can be written in the room; empty when it can.
func (r *room) readOnly() string {
	switch {
	case r.info.Archived:
		return "this room is archived"
	case r.info.Role == "":
		return "you are not a member of this room any more"
	case r.info.Role == unibus.RoleReader:
		return "you are a reader of this room"
	}
	return ""
}

// closed is readOnly in a word, for those in whom it will stay so.
func (r *room) closed() string {
	switch {
	case r.info.Archived:
		return "archived"
	case r.info.Role == "":
		return "out"
	}
	return ""
}

// beginFresh says that what is new begins with the last item that came.
func (r *room) beginFresh() {
	r.endFresh()
	i := r.items[r.unread()-1]
	i.fresh, i.lines = true, nil
}

// endFresh says that nothing is new any more.
func (r *room) endFresh() {
	for _, i := range r.items {
		if i.fresh {
			i.fresh, i.lines = false, nil
		}
	}
}

// nameOf is what a member is called.
func (r *room) nameOf(key unibus.PublicKey) string {
	for _, one := range r.members {
		if one.Key == key && one.Name != "" {
			return one.Name
		}
	}
	return key.String()
}

// join takes in a room's past: messages that are older than those that are here come before them, and entries of the log
// among them.
func (r *room) join(p past, self unibus.PublicKey) {
	r.loading, r.asked = false, p.asked
	r.whole = p.err == nil && len(p.messages) < p.asked
	known := slices.IndexFunc(p.messages, func(m message) bool { return r.seen[m.ID()] })
	if known < 0 {
		known = len(p.messages)
	}
	older := make([]*item, known)
	for n, m := range p.messages[:known] {
		older[n] = messageItem(m)
		r.seen[m.ID()] = true
		r.count(older[n])
	}
	r.items = append(older, r.items...)
	for _, m := range p.messages[known:] {
		r.receive(m, self) // those that are not here yet are on their way
	}
	r.merge(p.entries)
	for _, n := range p.notices {
		r.tell(n)
	}
	if p.err != nil && !errors.Is(p.err, unibus.ErrIntegrity) { // findings are told one by one
		r.add(&item{kind: finding, at: time.Now(), text: "the past could not be read: " + p.err.Error()})
	}
}
