package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/admin"
	"github.com/unibus/unibus/internal/ledger"
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

// checkedLogJSON is a log of a file, as scripts see it. What follows Known is of the room's messages, if the file has them.
type checkedLogJSON struct {
	Log     unibus.ID `json:"log"`
	Name    string    `json:"name"` // the bus's, or the room's subject
	Entries uint64    `json:"entries"`
	Head    string    `json:"head"`
	Known   bool      `json:"known"` // this identity has verified the log before
	title   string    // what people call it
	*checkedFramesJSON
}

// checkedFramesJSON is what was found of the frames of a room in a file.
type checkedFramesJSON struct {
	First    uint64 `json:"first"` // place that is stored, as the server said; 0: nothing was
	Last     uint64 `json:"last"`
	Frames   uint64 `json:"frames"`
	Sealed   uint64 `json:"sealed"` // frames whose signature only members can check
	Senders  uint64 `json:"senders"`
	Findings uint64 `json:"findings"`
}

// newCheckedLogJSON is what was found of a log.
func newCheckedLogJSON(s admin.CheckedLog, known bool) checkedLogJSON {
	l := checkedLogJSON{Log: s.ID, Name: nameOfLog(s.State), Entries: s.Head.Seq, Head: s.Head.Hash.String(), Known: known, title: titleOfLog(s.State)}
	if f := s.Frames; f != nil {
		l.checkedFramesJSON = &checkedFramesJSON{First: f.First, Last: f.Last, Frames: f.Frames, Sealed: f.Sealed, Senders: f.Senders, Findings: f.Findings}
		if f.First > f.Last {
			l.First = 0
		}
	}
	return l
}

// verifyFile checks a file of logs, and of frames if it has any, with no server. Whoever has an identity is told as well when
// a log is another than the one that it has verified; anyone else needs none.
func (v *verifyCommand) verifyFile(ctx context.Context, path string) error {
	limitMemory(clientMemory) // the file may be anybody's
	found, wrong := []checkedLogJSON{}, false
	met := map[unibus.ID]bool{}
	logs, err := admin.VerifyArchive(ctx, path, v.known(met), time.Now(), v.a.tellOfFile)
	if err != nil {
		return fmt.Errorf("verify %s: %w", path, err)
	}
	sealed := uint64(0)
	for _, s := range logs {
		found = append(found, newCheckedLogJSON(s, met[s.ID]))
		if f := s.Frames; f != nil {
			wrong = wrong || f.Findings > 0
			sealed += f.Sealed
			if f.Untold > 0 {
				v.a.err.print("unibus: %s: and %d more like these\n", visible(s.Room.Subject), f.Untold)
			}
		}
	}
	if err := v.a.out.value(found, func() { v.tableOfFile(found) }); err != nil {
		return err
	}
	if wrong {
		return errSeeAbove()
	}
	if sealed > 0 {
		v.a.notice("%s: signature and text of each can be checked by members of its room alone", english.Plural(int(sealed), "encrypted frame", ""))
	}
	return nil
}

// known gives what this identity has verified before, if there is one, and remembers in met of which logs that is anything.
func (v *verifyCommand) known(met map[unibus.ID]bool) admin.Known {
	return func(ctx context.Context, log unibus.ID) (func(uint64) ([32]byte, bool), error) {
		o, err := v.a.options()
		if errors.Is(err, unibus.ErrNotFound) && v.a.set.identity == "" { // nobody yet, who has verified nothing
			return func(uint64) (h [32]byte, ok bool) { return h, false }, nil
		}
		if err != nil {
			return nil, err
		}
		hash, err := unibus.RecallLog(ctx, o, log)
		if err == nil {
			_, met[log] = hash(1)
		}
		return hash, err
	}
}

// tableOfFile prints what was found in a file, a log a line; what is of frames only if it has some.
func (v *verifyCommand) tableOfFile(found []checkedLogJSON) {
	header := []string{"LOG", "ENTRIES", "HEAD", "KNOWN"}
	frames := slices.ContainsFunc(found, func(l checkedLogJSON) bool { return l.checkedFramesJSON != nil })
	if frames {
		header = []string{"LOG", "ENTRIES", "PLACES", "FRAMES", "SENDERS", "FINDINGS", "HEAD", "KNOWN"}
	}
	rows := make([][]string, len(found))
	for i, l := range found {
		head := l.Head
		if v.a.out.terminal && !v.full {
			head = head[:16] // as --accept takes it
		}
		row := []string{l.title, number(l.Entries)}
		switch f := l.checkedFramesJSON; {
		case f != nil && f.First > 0:
			row = append(row, fmt.Sprintf("%d-%d", f.First, f.Last), number(f.Frames), number(f.Senders), number(f.Findings))
		case f != nil:
			row = append(row, "-", number(f.Frames), number(f.Senders), number(f.Findings))
		case frames:
			row = append(row, "", "", "", "")
		}
		rows[i] = append(row, head, yesOrEmpty(l.Known))
	}
	v.a.out.table(header, rows)
}

// titleOfLog is what people call a log: a bus has the name of its founder, who might be taken for a room.
func titleOfLog(s *ledger.State) string {
	if s.Room != nil {
		return s.Room.Subject
	}
	return "the allowlist"
}

// nameOfLog is what scripts know a log by: the bus's name, or the room's subject.
func nameOfLog(s *ledger.State) string {
	if s.Room != nil {
		return s.Room.Subject
	}
	return s.Bus.Name
}

// tellOfFile tells what is missing or wrong in a file, by the names that it would have in a room. There is nothing to settle in
// a file, so that no hint says how.
func (a *app) tellOfFile(t admin.Told) {
	n := unibus.Notice{
		Kind: unibus.NoticeKind(t.Kind), Finding: t.Finding, Room: t.Room.ID, Subject: t.Room.Room.Subject, Sender: t.Name,
		Stream: t.Stream, From: t.From, To: t.To, Seq: t.Place, By: t.By, Why: t.Why,
	}
	if t.Sender == (unibus.PublicKey{}) {
		n.Sender = "nobody"
	}
	a.printNotice(n)
}
