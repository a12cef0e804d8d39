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
	case m.Format > archiveFormat:
		return fmt.Errorf("archive of format %d: %w: newer unibus needed", m.Format, store.ErrInvalid)
	case m.Format < archiveFormat:
		return fmt.Errorf("archive of format %d: %w: it holds data of an earlier build of unibus, which this one cannot read", m.Format, store.ErrInvalid)
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

// foldArchive verifies an archive: its checksum, and every log in it by the rules (SPEC.md §4). It returns where
// the logs end, and shows what each says.
func foldArchive(ctx context.Context, f io.ReadSeeker, m *manifest, show func(*ledger.State)) (map[crypto.ID]ledger.Head, error) {
	heads := map[crypto.ID]ledger.Head{}
	var fold ledger.Fold
	over := func() { // with a log
		if s := fold.State(); s.Head.Seq > 0 {
			heads[s.ID] = s.Head
			show(s)
		}
	}
	for i, err := range readArchive(f, m) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		if i.entry == nil { // keys are sealed and cards are verified where they are written
			continue
		}
		if i.entry.Seq == 1 {
			over()
			fold = ledger.Fold{}
		}
		// The names of files are what somebody wrote. Where an entry belongs is what it says itself.
		e, err := fold.Add(i.entry.Statement)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrArchive, err)
		}
		if e.Log != i.entry.Log || e.Seq != i.entry.Seq {
			return nil, damaged("entry %d of log %s stands in another's place", i.entry.Seq, i.entry.Log)
		}
	}
	over()
	// Without the allowlist nobody could be let in, and nobody be kept out.
	if _, ok := heads[m.Bus]; !ok {
		return nil, damaged("the log of its bus is missing")
	}
	return heads, nil
}
