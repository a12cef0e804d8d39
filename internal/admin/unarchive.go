package admin

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"strconv"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file reads archives, which anybody may have made: unarchiver takes the files apart and holds them against the
// checksum, readArchive makes items of them, and foldArchive verifies the logs that these are of. Whoever wants to rely
// on any of it goes through the whole of it first, for the checksum stands at the end.

// readArchive yields the items of an archive from its start, and sets m to its manifest. It yields one error at most, as
// the last thing: ErrArchive unless the archive is whole and its checksum right, ErrInvalid for another format.
func readArchive(f io.ReadSeeker, m *manifest) iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		u, err := newUnarchiver(f)
		var name string
		var content []byte
		if err == nil {
			name, content, err = u.next()
		}
		if err == nil {
			err = m.read(name, content)
		}
		for err == nil {
			var i item
			if name, content, err = u.next(); err == nil {
				i, err = parseItem(name, content)
			}
			if err == nil && !m.Frames && (i.frame != nil || i.places != nil) {
				err = damaged("%s: its manifest says nothing of frames", name)
			}
			if err == nil && !yield(i, nil) {
				return
			}
		}
		if !errors.Is(err, io.EOF) {
			yield(item{}, err)
		}
	}
}

// unarchiver takes an archive apart, file by file.
type unarchiver struct {
	zip io.Reader
	tar *tar.Reader
	sum hash.Hash // of the files so far
}

// newUnarchiver begins at the start of an archive.
func newUnarchiver(f io.ReadSeeker) (*unarchiver, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, damaged("it is not compressed as archives are (%v)", err)
	}
	return &unarchiver{z, tar.NewReader(z), sha256.New()}, nil
}

// next returns the next file; io.EOF, and nothing but that, behind the last one when the checksum is right.
func (u *unarchiver) next() (name string, content []byte, err error) {
	h, err := u.tar.Next()
	if err != nil {
		return "", nil, damaged("it ends too early (%v)", err)
	}
	// The size is only what the header says. Whoever wrote it may say anything, so that no more than that is read.
	if h.Size > maxItem {
		return "", nil, damaged("%s is too large", h.Name)
	}
	content, err = io.ReadAll(io.LimitReader(u.tar, maxItem))
	if err != nil {
		return "", nil, damaged("%s: %v", h.Name, err)
	}
	if h.Name != sumName {
		sumFile(u.sum, h.Name, content)
		return h.Name, content, nil
	}
	if string(content) != hex.EncodeToString(u.sum.Sum(nil)) {
		return "", nil, damaged("its checksum is wrong")
	}
	if err := u.finish(); err != nil {
		return "", nil, damaged("after its checksum: %v", err)
	}
	return "", nil, io.EOF
}

// finish reads an archive to its end, where gzip's own checksum is: that of names and contents says nothing of what
// is around them.
func (u *unarchiver) finish() error {
	if _, err := u.tar.Next(); err == nil {
		return errors.New("something follows")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	if n, err := io.CopyN(io.Discard, u.zip, 1); n > 0 {
		return errors.New("something follows")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// damaged is ErrArchive, and why.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrArchive, fmt.Sprintf(format, args...))
}

// read takes the first file of an archive for its manifest. ErrInvalid for a format that this build does not read.
func (m *manifest) read(name string, content []byte) error {
	if name != manifestName || json.Unmarshal(content, m) != nil {
		return damaged("it does not begin as one of unibus does")
	}
	switch {
	case m.Format > framesFormat:
		return fmt.Errorf("archive of format %d: %w: newer unibus needed", m.Format, store.ErrInvalid)
	case m.Format < archiveFormat:
		return fmt.Errorf("archive of format %d: %w: it holds data of an earlier build of unibus, which this one cannot read", m.Format, store.ErrInvalid)
	case m.Frames != (m.Format == framesFormat), m.Frames && !m.Export:
		return damaged("format %d does not fit what its manifest says", m.Format)
	}
	return nil
}

// parseItem is the reverse of item.name and item.content; ErrArchive for what is no item.
func parseItem(name string, content []byte) (i item, err error) {
	parts := strings.Split(name, "/")
	switch {
	case parts[0] == "logs" && len(parts) == 3:
		i.entry, err = parseEntry(parts[1:], content)
	case parts[0] == "keys" && len(parts) == 6:
		i.key, err = parseKey(parts[1:], content)
	case parts[0] == "cards" && len(parts) == 2:
		i.card = &store.Card{Statement: content}
		i.card.Endpoint, err = crypto.ParsePublicKey(parts[1])
	case parts[0] == "frames" && len(parts) == 5:
		i.frame, err = parseFrame(name, parts[1:], content)
	case parts[0] == "places" && len(parts) == 4:
		i.places, err = parsePlaces(name, parts[1:], content)
	default:
		err = errors.New("nothing of its kind belongs in an archive")
	}
	if err != nil {
		return item{}, damaged("%s: %v", name, err)
	}
	return i, nil
}

// parseEntry reads <log>/<seq>.
func parseEntry(parts []string, content []byte) (*store.Entry, error) {
	log, err := crypto.ParseID(parts[0])
	if err != nil {
		return nil, err
	}
	seq, err := strconv.ParseUint(parts[1], 10, 64)
	return &store.Entry{Log: log, Seq: seq, Statement: content}, err
}

// parseKey reads <room>/<epoch>/<commit>/<endpoint>/<sealer>.
func parseKey(parts []string, content []byte) (*store.SealedCopy, error) {
	room, err := crypto.ParseID(parts[0])
	if err != nil {
		return nil, err
	}
	epoch, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil {
		return nil, err
	}
	commit, err := crypto.ParseHash(parts[2])
	if err != nil {
		return nil, err
	}
	endpoint, err := crypto.ParsePublicKey(parts[3])
	if err != nil {
		return nil, err
	}
	sealer, err := crypto.ParsePublicKey(parts[4])
	key := store.SealedKey{Endpoint: endpoint, Sealer: sealer, Sealed: content}
	return &store.SealedCopy{Room: room, Epoch: uint32(epoch), Commit: commit, SealedKey: key}, err
}

// visitor is shown what an archive holds while it is read, each function if it is there. None of it counts before the whole
// was read: the checksum stands at the end.
type visitor struct {
	entry  func(f *ledger.Fold, e *ledger.Entry) // that the fold of its log has taken in
	log    func(*ledger.State)                   // as it ends
	frame  func(*storedFrame)
	places func(*places) // before the frames of a room, and perhaps again among them
}

// foldArchive verifies an archive: its checksum, every card, and every log in it by the rules (SPEC.md §4). It returns where
// the logs end, and shows what each says.
func foldArchive(ctx context.Context, f io.ReadSeeker, m *manifest, show func(*ledger.State)) (map[crypto.ID]ledger.Head, error) {
	return visitArchive(ctx, f, m, visitor{log: show})
}

// visitArchive is foldArchive, and shows more. Of frames it verifies no more than that they stand in their order, behind
// all logs.
func visitArchive(ctx context.Context, f io.ReadSeeker, m *manifest, v visitor) (map[crypto.ID]ledger.Head, error) {
	l := &logReader{visitor: v, heads: map[crypto.ID]ledger.Head{}, bus: m}
	o := frameOrder{logs: l.heads}
	for i, err := range readArchive(f, m) {
		o.bus = m.Bus
		if err == nil {
			err = ctx.Err()
		}
		switch {
		case err != nil:
		case i.entry != nil && o.begun():
			err = damaged("entry %d of log %s stands behind frames", i.entry.Seq, i.entry.Log)
		case i.entry != nil:
			err = l.add(i.entry)
		case i.frame != nil || i.places != nil:
			if err = l.over(); err == nil {
				err = o.check(i)
			}
			v.show(i, err)
		case i.card != nil:
			if _, err = crypto.OpenCard(i.card.Statement, i.card.Endpoint); err != nil {
				err = damaged("the card of %s is none: %v", i.card.Endpoint, err)
			}
		} // a sealed key nobody can verify but whom it is for
		if err != nil {
			return nil, err
		}
	}
	if err := l.over(); err != nil {
		return nil, err
	}
	// Without the allowlist nobody could be let in, and nobody be kept out.
	if _, ok := l.heads[m.Bus]; !ok {
		return nil, damaged("the log of its bus is missing")
	}
	if m.Export && int64(len(l.heads)) != m.Logs {
		return nil, damaged("it has %d logs, and its manifest says %d", len(l.heads), m.Logs)
	}
	return l.heads, nil
}

// show shows a frame, or the places of a room, unless there is something wrong with where it stands.
func (v visitor) show(i item, wrong error) {
	switch {
	case wrong != nil:
	case i.frame != nil && v.frame != nil:
		v.frame(i.frame)
	case i.places != nil && v.places != nil:
		v.places(i.places)
	}
}

// logReader folds the logs of an archive, one after the other.
type logReader struct {
	visitor
	bus   *manifest // whose bus and rooms they have to be, in an export
	fold  *ledger.Fold
	heads map[crypto.ID]ledger.Head // of the logs that are over
}

// add verifies the next entry.
func (l *logReader) add(entry *store.Entry) error {
	if entry.Seq == 1 {
		if err := l.over(); err != nil {
			return err
		}
	}
	if l.fold == nil {
		l.fold = new(ledger.Fold)
	}
	// The names of files are what somebody wrote. Where an entry belongs is what it says itself.
	e, err := l.fold.Add(entry.Statement)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	if e.Log != entry.Log || e.Seq != entry.Seq {
		return damaged("entry %d of log %s stands in another's place", entry.Seq, entry.Log)
	}
	if l.entry != nil {
		l.entry(l.fold, e)
	}
	return nil
}

// over ends the log that is being read, if one is.
func (l *logReader) over() error {
	if l.fold == nil {
		return nil
	}
	s := l.fold.State()
	l.fold = nil
	if s.Head.Seq == 0 {
		return nil
	}
	if _, twice := l.heads[s.ID]; twice {
		return damaged("log %s stands in it twice", s.ID)
	}
	switch isBus := s.Bus != nil; {
	case !l.bus.Export:
	case isBus != (s.ID == l.bus.Bus), isBus != (len(l.heads) == 0):
		return damaged("log %s is not where the log of the bus has to be, and nothing else", s.ID)
	case !isBus && s.Room.Bus != l.bus.Bus:
		return damaged("the room %s is of another bus", s.ID)
	}
	l.heads[s.ID] = s.Head
	if l.log != nil {
		l.log(s)
	}
	return nil
}
