package reader

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/store"
)

// TestWhereToBegin: a reading begins where it is asked to, and ends with what is stored.
func TestWhereToBegin(t *testing.T) {
	w := newWorld(t)
	r := w.Room("begin", stored())
	for i := range contextFrames + 8 {
		w.publish(r, fmt.Sprint(i))
	}
	all, _, err := w.everything(r)
	w.Must(err)
	if len(all) != contextFrames+8 || all[0] != "0" {
		t.Fatalf("all are %q", all)
	}
	message, err := w.stream(r).GetMsg(w.Ctx, 6)
	w.Must(err)
	for name, c := range map[string]struct {
		o    Options
		want []string
	}{
		"nothing stored":       {Options{}, nil},
		"the last one":         {Options{Last: 1}, all[len(all)-1:]},
		"the last three":       {Options{Last: 3}, all[len(all)-3:]},
		"more than there are":  {Options{Last: 1000}, all},
		"since the sixth":      {Options{Since: message.Time}, all[5:]},
		"since it was founded": {Options{Since: time.Unix(0, 0)}, all},
		"since tomorrow":       {Options{Since: time.Now().Add(24 * time.Hour)}, nil},
	} {
		var told noticed
		c.o.End, c.o.Notice = true, told.add
		texts, err := rest(w.read(c.o, r))
		if err != nil || !slices.Equal(texts, c.want) || told.String() != "[]" {
			t.Errorf("%s: %q, want %q; told is %s, and the end is %v", name, texts, c.want, &told, err)
		}
	}
}

// TestSinceIsBySealing: a server that leaves out the first of what was stored since a time, by the times it gives, is
// found out by when its frames were sealed: they are delivered all the same.
func TestSinceIsBySealing(t *testing.T) {
	w := newWorld(t)
	r := w.Room("since", stored())
	w.publish(r, "before")
	since := time.Now()
	w.publish(r, "one", "two", "three")
	w.lies(func(q store.FramesQuery, past *store.Past) error {
		if !q.Since.IsZero() {
			past.Frames = past.Frames[2:]
		}
		return nil
	})
	if texts, err := rest(w.read(Options{Since: since, End: true}, r)); err != nil || !slices.Equal(texts, []string{"one", "two", "three"}) {
		t.Errorf("%q are read, and the end is %v", texts, err)
	}
}

// TestEndsEarlier: a room that ends before what was read of it in an earlier reading is a finding, which tells the kind of
// error apart; until a person accepts it.
func TestEndsEarlier(t *testing.T) {
	w := newWorld(t)
	r := w.Room("earlier", stored())
	w.publish(r, "one", "two", "three")
	_, _, err := w.everything(r)
	w.Must(err)
	w.lies(endAt(2))
	for range 2 {
		texts, told, err := w.everything(r)
		if !slices.Equal(texts, []string{"one", "two"}) || told != "[!rolled-back 3-3]" || !errors.Is(err, room.ErrRolledBack) || !errors.Is(err, store.ErrIntegrity) {
			t.Errorf("%q are read, told is %s, and the end is %v", texts, told, err)
		}
	}
	known, err := r.Pins.Places.Of(w.Ctx, r.ID)
	w.Must(err)
	past, err := w.reader.Frames(w.Ctx, r.ID, store.FramesQuery{})
	w.Must(err)
	known.Seq, known.Own, known.Accepted = 2, 2, 2
	known.Hash = sha256.Sum256(past.Frames[1].Data)
	known.OwnHash = known.Hash
	w.Must(r.Pins.Places.Accept(w.Ctx, r.ID, known))
	if _, told, err := w.everything(r); told != "[]" || err != nil {
		t.Errorf("what a person accepted is told as %s, and the end is %v", told, err)
	}
}

// TestAnotherFrameThere: a room that has another frame where one was read is a finding in that reading and in every later
// one, until a person accepts it.
func TestAnotherFrameThere(t *testing.T) {
	w := newWorld(t)
	r := w.Room("another", stored())
	w.publish(r, "one", "two")
	_, _, err := w.everything(r)
	w.Must(err)
	past, err := w.Store.Frames(w.Ctx, r.ID, store.FramesQuery{})
	w.Must(err)
	one := past.Frames[0].Data
	w.lies(func(_ store.FramesQuery, past *store.Past) error {
		for i, f := range past.Frames {
			if f.Seq == 2 {
				past.Frames[i].Data = one
			}
		}
		return nil
	})
	for range 2 {
		texts, told, err := w.everything(r)
		if !slices.Equal(texts, []string{"one"}) || strings.Count(told, "!rolled-back 2-2") != 1 || !errors.Is(err, room.ErrRolledBack) {
			t.Errorf("%q are read, told is %s, and the end is %v", texts, told, err)
		}
	}
}

// TestLastOfWhatIsDamaged: the last messages are as many as are asked for, though frames among them are none, which is
// told of once.
func TestLastOfWhatIsDamaged(t *testing.T) {
	w := newWorld(t)
	r := w.Room("damaged", stored())
	w.publish(r, "one", "two")
	for range 5 {
		w.put(r, w.Key(), []byte("rubbish"))
	}
	w.publish(r, "three")
	w.Must(w.stream(r).DeleteMsg(w.Ctx, 4))
	var told noticed
	texts, err := rest(w.read(Options{Last: 2, End: true, Notice: told.add}, r))
	if !slices.Equal(texts, []string{"two", "three"}) || !errors.Is(err, store.ErrIntegrity) || told.String() != "[!forged 0-0 !lost 4-4 !forged 0-0 !forged 0-0 !forged 0-0]" {
		t.Errorf("%q are read, told is %s, and the end is %v", texts, &told, err)
	}
}

// TestByPlace: messages are put by where they are stored, but those of a stream stay in its order. A picture is a letter
// for a stream and the places of its frames, as they were read.
func TestByPlace(t *testing.T) {
	for picture, want := range map[string]string{
		"a1 b2 a3":       "a1 b2 a3",
		"b2 a1 a3":       "a1 b2 a3",
		"a5 a3 b4":       "b4 a5 a5", // a3 was sent again, and is stored behind its successor
		"a1 a9 a4 b6 c2": "a1 c2 b6 a9 a9",
	} {
		var batch []Message
		for token := range strings.SplitSeq(picture, " ") {
			batch = append(batch, message(token[0], uint64(token[1]-'0')))
		}
		byPlace(batch)
		var got []string
		for _, m := range batch {
			got = append(got, fmt.Sprintf("%c%d", m.Stream[0], m.Place))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s > %s, want %s", picture, strings.Join(got, " "), want)
		}
	}
}
