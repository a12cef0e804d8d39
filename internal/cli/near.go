package cli

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/remedy"
)

// What may have been meant by a name that is nearly right, of commands, flags, settings, rooms and users alike.

// maxNear is how many names are offered; among more nobody would look for theirs.
const maxNear = 3

// suggest adds to the error of a room or a user that is not there which ones may have been meant: of the caller's own rooms,
// and of those on the allowlist. Of other rooms nobody is told that they are there.
func suggest(ctx context.Context, c *unibus.Client, err error) error {
	return each(err, func(one error) error { return suggestOne(ctx, c, one) })
}

// suggestOne is suggest of one error.
func suggestOne(ctx context.Context, c *unibus.Client, err error) error {
	var own hintError
	if err == nil || errors.As(err, &own) {
		return err
	}
	var name string
	var known []string
	switch help := remedy.Of(err); help.Kind {
	case remedy.ListRooms:
		name = help.Room
		refs, _ := c.ListMyRooms(ctx) // what fails is told already
		for _, r := range refs {
			known = append(known, r.Subject)
		}
	case remedy.ListUsers:
		name = help.User
		for _, u := range c.Users() {
			if u.Active {
				known = append(known, u.Name)
			}
		}
	}
	near := nearNames(name, known)
	if strings.ContainsAny(name, "*>") { // a pattern, where one room is wanted
		near = slices.DeleteFunc(known, func(subject string) bool { ok, _ := unibus.Matches(name, subject); return !ok })
		near = near[:min(len(near), maxNear)]
	}
	if len(near) == 0 {
		return err
	}
	for i := range near {
		near[i] = shellQuoted(near[i])
	}
	return hinted(err, hintNear(near))
}

// mistaken reports whether a name differs from what was typed by as much as people mistype: a letter in three, but one at least.
func mistaken(typed, name string) bool {
	return distance(strings.ToLower(typed), strings.ToLower(name)) <= max(1, len(typed)/3)
}

// isNear reports whether a name may have been meant by what was typed: mistaken, or its beginning.
func isNear(typed, name string) bool {
	return typed != "" && (strings.HasPrefix(name, typed) || mistaken(typed, name))
}

// nearNames are those of some names that are spelled nearly like one, the nearest first; or else those that begin with it.
func nearNames(name string, known []string) (near []string) {
	if name == "" {
		return nil
	}
	name = strings.ToLower(name)
	apart := func(other string) int { return distance(name, strings.ToLower(other)) }
	known = slices.Clone(known)
	slices.SortFunc(known, func(x, y string) int { return cmp.Or(apart(x)-apart(y), strings.Compare(x, y)) })
	for _, other := range known {
		if mistaken(name, other) {
			near = append(near, other)
		}
	}
	if near == nil {
		for _, other := range known {
			if strings.HasPrefix(strings.ToLower(other), name) {
				near = append(near, other)
			}
		}
	}
	return near[:min(len(near), maxNear)]
}

// nearest is the one of some words, of which there is at least one, that is spelled most nearly like a text.
func nearest(text string, words []string) string {
	return slices.MinFunc(words, func(x, y string) int { return distance(text, x) - distance(text, y) })
}

// distance is how many letters have to be changed, added, left out or swapped with the next to make one text of the other.
func distance(a, b string) int {
	// Three rows of the table of optimal string alignment: row[j] is the distance of the beginning of a so far from b[:j],
	// above and top are the same for one and two letters less of a.
	above, top := make([]int, len(b)+1), make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		top, above, row = above, row, top
		row[0] = i + 1
		for j := range len(b) {
			change := above[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, row[j]+1, above[j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], top[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
