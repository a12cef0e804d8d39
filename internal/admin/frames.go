package admin

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file has the frames of rooms as an archive holds them: how their files are named, and in which order they stand.
// What a frame says is audit.go's.

// storedFrame is a frame in an archive, as the service gave it.
type storedFrame struct {
	room crypto.ID
	store.Frame
}

// places are the first and the last place of a room, as the server said; in an empty room the first is behind the last.
type places struct {
	room        crypto.ID
	first, last uint64
}

// name is where a frame stands in an archive. A sender that is no key is nobody, as for every reader.
func (f *storedFrame) name() string {
	sender := noSender
	if _, err := crypto.NewPublicKey(f.Sender[:]); err == nil {
		sender = f.Sender.String()
	}
	return fmt.Sprintf("frames/%s/%d/%d/%s", f.room, f.Seq, f.Time.UnixMicro(), sender)
}

// parseFrame reads <room>/<place>/<stored>/<sender>.
func parseFrame(name string, parts []string, content []byte) (*storedFrame, error) {
	room, err := crypto.ParseID(parts[0])
	if err != nil {
		return nil, err
	}
	f := &storedFrame{room, store.Frame{Data: content}}
	if f.Seq, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return nil, err
	}
	stored, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil {
		return nil, err
	}
	f.Time = time.UnixMicro(stored).UTC()
	if parts[3] != noSender {
		f.Sender, err = crypto.ParsePublicKey(parts[3])
	}
	if err == nil && f.name() != name { // nothing is written in two ways
		err = errors.New("no frame is named so")
	}
	return f, err
}

// name is where the places of a room stand.
func (p *places) name() string { return fmt.Sprintf("places/%s/%d/%d", p.room, p.first, p.last) }

// parsePlaces reads <room>/<first>/<last>.
func parsePlaces(name string, parts []string, content []byte) (*places, error) {
	room, err := crypto.ParseID(parts[0])
	if err != nil {
		return nil, err
	}
	p := &places{room: room}
	if p.first, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return nil, err
	}
	if p.last, err = strconv.ParseUint(parts[2], 10, 64); err != nil {
		return nil, err
	}
	if len(content) > 0 || p.first == 0 || p.last > crypto.MaxNumber || p.first > p.last+1 || p.name() != name {
		err = errors.New("no room has such places")
	}
	return p, err
}

// frameOrder holds the frames of an archive against the order in which they have to stand: behind all logs, room by room,
// which places there are and then the frames by theirs.
type frameOrder struct {
	logs map[crypto.ID]ledger.Head // that are there
	bus  crypto.ID                 // which of them is that of no room
	met  map[crypto.ID]bool        // rooms whose frames have begun
	now  places                    // of the room whose frames come
	last uint64                    // the last place of it that was taken care of
}

// begun reports whether frames have come, or places.
func (o *frameOrder) begun() bool { return len(o.met) > 0 }

// check is ErrArchive for what does not belong where it stands.
func (o *frameOrder) check(i item) error {
	if p := i.places; p != nil {
		return o.checkPlaces(p)
	}
	f := i.frame
	switch {
	case f.room != o.now.room:
		return damaged("frame %d of room %s stands where none of that room can", f.Seq, f.room)
	case f.Seq <= o.last, f.Seq < o.now.first, f.Seq > o.now.last:
		return damaged("frame %d of room %s stands behind frame %d, of the places %d to %d", f.Seq, f.room, o.last, o.now.first, o.now.last)
	}
	o.last = f.Seq
	return nil
}

// checkPlaces is check for what the places of a room are.
func (o *frameOrder) checkPlaces(p *places) error {
	_, known := o.logs[p.room]
	again := p.room == o.now.room
	switch {
	case !known, p.room == o.bus:
		return damaged("frames of room %s without its log", p.room)
	case again && (p.last != o.now.last || p.first <= max(o.now.first, o.last)), !again && o.met[p.room]:
		return damaged("the places of room %s are not where they belong", p.room)
	}
	if !again {
		o.last = 0
	}
	if o.met == nil {
		o.met = map[crypto.ID]bool{}
	}
	o.now, o.met[p.room] = *p, true
	return nil
}

// microsOf is a time as frames have it: what is before 1970 is then.
func microsOf(t time.Time) uint64 { return uint64(min(max(t.UnixMicro(), 0), math.MaxInt64)) }
