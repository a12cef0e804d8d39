package admin

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/newfile"
	"github.com/unibus/unibus/internal/store"
)

// This file has the format of an archive, and writes one: archiveTo lays gzip, tar and the checksum around what somebody
// puts into it file by file. unarchive.go is the reverse of it. An archive is a compressed tar file (SPEC.md §8), which any
// tar can list:
//
//	manifest.json                                     format, bus, when
//	logs/<log>/<seq>                                  an entry's statement
//	cards/<endpoint>                                  a card's statement
//	keys/<room>/<epoch>/<commit>/<endpoint>/<sealer>  a sealed room key
//	frames/<room>/<place>/<stored>/<sender>           a frame, when the server stored it (Unix µs), and whose it says that it is
//	places/<room>/<first>/<last>                      before the frames of a room: the places that it has, as the server says;
//	                                                  and again where it was trimmed while it was read, with another first
//	SHA256                                            of all names and contents before it, in hexadecimal
//
// A backup has logs, cards and keys; an export has logs, and on request frames. Neither holds a room key in clear, nor a
// message of an encrypted room: its frames are as the server keeps them.
const (
	archiveFormat = 2
	framesFormat  = 3 // of an export with frames, which earlier builds do not know
	manifestName  = "manifest.json"
	noSender      = "-" // of a frame that is stored under the subject of nobody
	sumName       = "SHA256"
	maxItem       = 1 << 20 // bytes of one file in an archive
)

// manifest says what an archive is.
type manifest struct {
	Format  int       `json:"format"`
	Bus     crypto.ID `json:"bus"`
	Logs    int64     `json:"logs"`
	Created time.Time `json:"created"`
	Export  bool      `json:"export,omitempty"` // of some logs, to be checked: nothing can be restored from it
	Frames  bool      `json:"frames,omitempty"` // it has the frames of rooms beside their logs
}

// ErrArchive says that an archive is damaged or is none.
var ErrArchive = errors.New("the archive is damaged")

// archiver writes an archive, file by file.
type archiver struct {
	tar *tar.Writer
	sum hash.Hash
	now time.Time
}

// archiveTo writes an archive of what f puts into it.
func archiveTo(w io.Writer, now time.Time, f func(a *archiver) error) error {
	z := gzip.NewWriter(w)
	a := &archiver{tar.NewWriter(z), sha256.New(), now}
	if err := f(a); err != nil {
		return err
	}
	if err := a.file(sumName, []byte(hex.EncodeToString(a.sum.Sum(nil)))); err != nil {
		return err
	}
	return errors.Join(a.tar.Close(), z.Close())
}

// begin writes what an archive begins with.
func (a *archiver) begin(m manifest) error {
	m.Format, m.Created = archiveFormat, a.now.UTC()
	if m.Frames {
		m.Format = framesFormat
	}
	head, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return a.file(manifestName, head)
}

// item writes the file of an item.
func (a *archiver) item(i item) error { return a.file(i.name(), i.content()) }

// file writes one file. The checksum itself is not a part of what it is of.
func (a *archiver) file(name string, content []byte) error {
	if name != sumName {
		sumFile(a.sum, name, content)
	}
	if err := a.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(content)), ModTime: a.now}); err != nil {
		return err
	}
	_, err := a.tar.Write(content)
	return err
}

// sumFile adds a file to the checksum of an archive. Lengths go before name and content, so that no two archives of
// different files are the same to it.
func sumFile(h hash.Hash, name string, content []byte) {
	fmt.Fprintf(h, "%d %s %d ", len(name), name, len(content))
	h.Write(content)
}

// name is where an item stands in an archive.
func (i item) name() string {
	switch {
	case i.entry != nil:
		return "logs/" + i.entry.Log.String() + "/" + strconv.FormatUint(i.entry.Seq, 10)
	case i.key != nil:
		return fmt.Sprintf("keys/%s/%d/%s/%s/%s", i.key.Room, i.key.Epoch, i.key.Commit, i.key.Endpoint, i.key.Sealer)
	case i.frame != nil:
		return i.frame.name()
	case i.places != nil:
		return i.places.name()
	}
	return "cards/" + i.card.Endpoint.String()
}

// content is what stands there.
func (i item) content() []byte {
	switch {
	case i.entry != nil:
		return i.entry.Statement
	case i.key != nil:
		return i.key.Sealed
	case i.frame != nil:
		return i.frame.Data
	case i.places != nil:
		return nil
	}
	return i.card.Statement
}

// createFile writes a file, whole or not at all, that is not there yet; else ErrExists.
func createFile(path string, write func(w io.Writer) error) error {
	err := newfile.Create(path, write)
	var at *os.PathError
	switch {
	case errors.Is(err, os.ErrExist):
		return fmt.Errorf("%s: %w", path, store.ErrExists)
	case errors.As(err, &at): // of a file that is written aside
		return fmt.Errorf("%s: %w", path, at.Err)
	}
	return err
}
