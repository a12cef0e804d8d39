package ledger

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/unibus/unibus/internal/crypto"
)

// Of a list that is longer than briefList, brief words have the first briefShown.
const (
	briefList  = 5
	briefShown = 3
)

// wording is how the words of an entry are put.
type wording struct {
	name func(crypto.PublicKey) string // gives a key the name that people know it by
	most int                           // how long a list may be to be told whole
}

// list writes what an entry does to several, one after the other, or the first few and how many more there are.
func (w wording) list(all []string) string {
	if len(all) <= w.most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%d users: %s and %d more", len(all), strings.Join(all[:briefShown], ", "), len(all)-briefShown)
}

// keys is list of keys, as names.
func (w wording) keys(keys []crypto.PublicKey) string {
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i] = w.name(key)
	}
	return w.list(names)
}

// String is a policy in a few words, for people.
func (p Policy) String() string {
	words := []string{"encryption " + p.Encryption, "history " + p.History, "stores " + p.Retain.String()}
	if p.Pad {
		words = append(words, "sizes padded")
	}
	if after := p.RekeyAfter.String(); after != "" {
		words = append(words, "key renewed after "+after)
	}
	return strings.Join(words, "; ")
}

// String says how much is stored, and for how long; also of nil, which is nothing.
func (r *Retain) String() string {
	if r == nil {
		return "nothing"
	}
	age, size := "for ever", "any size"
	if r.Age > 0 {
		age = duration(r.Age)
	}
	if r.Bytes > 0 {
		size = "at most " + humanize.IBytes(uint64(r.Bytes))
	}
	return age + ", " + size
}

// String says when a key is renewed; empty for never.
func (a RekeyAfter) String() string {
	var parts []string
	if a.Age > 0 {
		parts = append(parts, duration(a.Age))
	}
	if a.Messages > 0 {
		parts = append(parts, fmt.Sprint(a.Messages, " messages"))
	}
	return strings.Join(parts, " or ")
}

// duration writes seconds as a duration without the zeros at its end, whole days as such.
func duration(seconds crypto.Number) string {
	const day = 24 * 60 * 60
	if seconds%day == 0 {
		return fmt.Sprint(seconds/day, "d")
	}
	if seconds > math.MaxInt64/crypto.Number(time.Second) {
		return fmt.Sprint(seconds, "s")
	}
	s := (time.Duration(seconds) * time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
