package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/admin"
)

// verify FILE: an export or a backup is checked with no server. Whether an argument is such a file or a room is told by
// how the file begins, for a room may have the name of a file that happens to lie here.

// isFile reports whether there is a file of that name.
func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// archiveHead is how archives begin as they are written: compressed by gzip, without a name and a time.
var archiveHead = [10]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}

// isArchive reports whether the file of that name begins as archives do, or as one does of which a byte or two are
// damaged: those are to be told as what they are.
func isArchive(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	// Two bytes of the head may be damaged, or all of it but its mark.
	var head [len(archiveHead)]byte
	if _, err = io.ReadFull(f, head[:]); err != nil {
		return false
	}
	other := 0
	for i := range head {
		if head[i] != archiveHead[i] {
			other++
		}
	}
	return other <= 2 || head[0] == archiveHead[0] && head[1] == archiveHead[1]
}

// verifyNamesake checks a room when there is a file of that name, which can not be checked, as is said when there is
// no such room.
func (v *verifyCommand) verifyNamesake(ctx context.Context, name string) error {
	const none = "the file is not an export or a backup"
	found := false
	err := v.a.with(ctx, func(c *unibus.Client) error {
		r, err := c.Room(ctx, name)
		if err != nil {
			return err
		}
		found = true
		return v.checkRooms(ctx, []*unibus.Room{r})
	})
	// There is a room: what was found of it counts, and the file does not matter.
	switch {
	case found:
		return err
	case errors.Is(err, unibus.ErrInvalid), errors.Is(err, unibus.ErrUnavailable):
		return hinted(usage("verify %s: %s", name, none), hintVerifiable)
	case errors.Is(err, unibus.ErrNotFound):
		return fmt.Errorf("verify %s: %w: %s, and there is no room of that name", name, unibus.ErrNotFound, none)
	}
	return err
}

// checkedLogJSON is a log of a file, as scripts see it.
type checkedLogJSON struct {
	Log     unibus.ID `json:"log"`
	Name    string    `json:"name"` // the bus's, or the room's subject
	Entries uint64    `json:"entries"`
	Head    string    `json:"head"`
	Known   bool      `json:"known"` // this identity has verified the log before
}

// verifyFile checks a file of logs with no server.
func (v *verifyCommand) verifyFile(ctx context.Context, path string) error {
	o, err := v.a.options()
	if err != nil {
		return err
	}
	found := []checkedLogJSON{}
	met := map[unibus.ID]bool{}
	logs, err := admin.VerifyArchive(ctx, path, func(ctx context.Context, log unibus.ID) (func(uint64) ([32]byte, bool), error) {
		hash, err := unibus.RecallLog(ctx, o, log)
		_, met[log] = hash(1)
		return hash, err
	})
	if err != nil {
		return fmt.Errorf("verify %s: %w", path, err)
	}
	for _, s := range logs {
		l := checkedLogJSON{Log: s.ID, Entries: s.Head.Seq, Head: s.Head.Hash.String(), Known: met[s.ID]}
		if s.Room != nil {
			l.Name = s.Room.Subject
		} else {
			l.Name = s.Bus.Name
		}
		found = append(found, l)
	}
	return v.a.out.value(found, func() {
		rows := make([][]string, len(found))
		for i, l := range found {
			head := l.Head
			if v.a.out.terminal && !v.full {
				head = head[:16] // as --accept takes it
			}
			rows[i] = []string{l.Name, number(l.Entries), head, yesOrEmpty(l.Known)}
		}
		v.a.out.table([]string{"LOG", "ENTRIES", "HEAD", "KNOWN"}, rows)
	})
}
