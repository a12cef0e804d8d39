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
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/newfile"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/open"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// An archive is a compressed tar file, which any tar can list:
//
//	manifest.json                                     format, bus, when
//	logs/<log>/<seq>                                  an entry's statement
//	cards/<endpoint>                                  a card's statement
//	keys/<room>/<epoch>/<commit>/<endpoint>/<sealer>  a sealed room key
//	SHA256                                            of all names and contents before it, in hexadecimal
//
// It holds no room key in clear and no message.
const (
	archiveFormat = 2
	manifestName  = "manifest.json"
	sumName       = "SHA256"
	maxItem       = 1 << 20 // bytes of one file in an archive
)

type manifest struct {
	Format  int       `json:"format"`
	Bus     crypto.ID `json:"bus"`
	Logs    int64     `json:"logs"`
	Created time.Time `json:"created"`
	Export  bool      `json:"export,omitempty"` // of some logs, to be checked: nothing can be restored from it
}

// ErrArchive says that an archive is damaged or is none.
var ErrArchive = errors.New("the archive is damaged")

// archiver writes an archive.
type archiver struct {
	tar *tar.Writer
	sum hash.Hash
	now time.Time
}

func (a *archiver) file(name string, content []byte) error {
	if name != sumName {
		digestFile(a.sum, name, content)
	}
	if err := a.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(content)), ModTime: a.now}); err != nil {
		return err
	}
	_, err := a.tar.Write(content)
	return err
}

func digestFile(h hash.Hash, name string, content []byte) {
	fmt.Fprintf(h, "%d %s %d ", len(name), name, len(content))
	h.Write(content)
}

func (i item) name() string {
	switch {
	case i.entry != nil:
		return "logs/" + i.entry.Log.String() + "/" + strconv.FormatUint(i.entry.Seq, 10)
	case i.key != nil:
		return fmt.Sprintf("keys/%s/%d/%s/%s/%s", i.key.Room, i.key.Epoch, i.key.Commit, i.key.Endpoint, i.key.Sealer)
	}
	return "cards/" + i.card.Endpoint.String()
}

func (i item) content() []byte {
	switch {
	case i.entry != nil:
		return i.entry.Statement
	case i.key != nil:
		return i.key.Sealed
	}
	return i.card.Statement
}

// Backup writes everything in a store to a file, whole or not at all. It fails with ErrExists rather
// than replace a file.
func Backup(ctx context.Context, from store.Backend, path string, now time.Time, progress Progress) (r Report, err error) {
	if _, err := os.Stat(path); err == nil { // before all the work
		return r, fmt.Errorf("%s: %w", path, store.ErrExists)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return r, fmt.Errorf("%s: there is no folder %s", path, filepath.Dir(path))
	}
	err = create(path, func(w io.Writer) (err error) {
		r, err = BackupTo(ctx, from, w, now, progress)
		return err
	})
	return r, err
}

// begin writes what an archive begins with.
func (a *archiver) begin(m manifest) error {
	m.Format, m.Created = archiveFormat, a.now.UTC()
	head, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return a.file(manifestName, head)
}

// create writes a file, whole or not at all, that is not there yet.
func create(path string, write func(w io.Writer) error) error {
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

// BackupTo is Backup to what is no file: whoever reads it finds out by the checksum at its end whether it is whole.
func BackupTo(ctx context.Context, from store.Backend, w io.Writer, now time.Time, progress Progress) (r Report, err error) {
	all, err := count(ctx, from, nil, &r)
	if err != nil {
		return r, err
	}
	r.Missing = 0
	return r, archiveTo(w, now, func(a *archiver) error { return a.everything(ctx, from, &r, all, progress) })
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

// everything writes the files of an archive.
func (a *archiver) everything(ctx context.Context, from store.Backend, r *Report, all int64, progress Progress) error {
	if err := a.begin(manifest{Bus: r.Bus, Logs: all}); err != nil {
		return err
	}
	for i, err := range walk(ctx, from) {
		if err != nil {
			return err
		}
		if err := a.file(i.name(), i.content()); err != nil {
			return err
		}
		r.add(i)
		if i.entry != nil && i.entry.Seq == 1 {
			progress(r.Logs, all)
		}
	}
	return nil
}

// archive reads an archive from its start; the last thing it yields is ErrArchive unless the
// checksum is right.
func archive(f io.ReadSeeker, m *manifest) iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		damaged := func(format string, args ...any) {
			yield(item{}, fmt.Errorf("%w: %s", ErrArchive, fmt.Sprintf(format, args...)))
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			yield(item{}, err)
			return
		}
		z, err := gzip.NewReader(f)
		if err != nil {
			damaged("it is not compressed as archives are (%v)", err)
			return
		}
		t, sum := tar.NewReader(z), sha256.New()
		for n := 0; ; n++ {
			h, err := t.Next()
			if err != nil {
				damaged("it ends too early (%v)", err)
				return
			}
			if h.Size > maxItem {
				damaged("%s is too large", h.Name)
				return
			}
			content, err := io.ReadAll(io.LimitReader(t, maxItem))
			if err != nil {
				damaged("%s: %v", h.Name, err)
				return
			}
			if h.Name == sumName {
				if string(content) != hex.EncodeToString(sum.Sum(nil)) {
					damaged("its checksum is wrong")
				} else if err := ends(t, z); err != nil {
					damaged("after its checksum: %v", err)
				}
				return
			}
			digestFile(sum, h.Name, content)
			if n == 0 {
				if err := m.read(h.Name, content); err != nil {
					yield(item{}, err)
					return
				}
				continue
			}
			i, err := parseItem(h.Name, content)
			if err != nil {
				damaged("%s: %v", h.Name, err)
				return
			}
			if !yield(i, nil) {
				return
			}
		}
	}
}

// ends reads an archive to its end, where gzip's own checksum is: that of names and contents says nothing of what
// is around them.
func ends(t *tar.Reader, z io.Reader) error {
	if _, err := t.Next(); err == nil {
		return errors.New("something follows")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	if n, err := io.CopyN(io.Discard, z, 1); n > 0 {
		return errors.New("something follows")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func (m *manifest) read(name string, content []byte) error {
	if name != manifestName || json.Unmarshal(content, m) != nil {
		return fmt.Errorf("%w: it does not begin as one of unibus does", ErrArchive)
	}
	switch {
	case m.Format > archiveFormat:
		return fmt.Errorf("archive of format %d: %w: newer unibus needed", m.Format, store.ErrInvalid)
	case m.Format < archiveFormat:
		return fmt.Errorf("archive of format %d: %w: it holds data of an earlier build of unibus, which this one cannot read", m.Format, store.ErrInvalid)
	}
	return nil
}

// parseItem is the reverse of item.name and item.content.
func parseItem(name string, content []byte) (i item, err error) {
	parts := strings.Split(name, "/")
	switch {
	case parts[0] == "logs" && len(parts) == 3:
		e := store.Entry{Statement: content}
		e.Log, err = crypto.ParseID(parts[1])
		if err == nil {
			e.Seq, err = strconv.ParseUint(parts[2], 10, 64)
		}
		return item{entry: &e}, err
	case parts[0] == "keys" && len(parts) == 6:
		k := store.SealedCopy{SealedKey: store.SealedKey{Sealed: content}}
		var epoch uint64
		k.Room, err = crypto.ParseID(parts[1])
		if err == nil {
			epoch, err = strconv.ParseUint(parts[2], 10, 32)
		}
		if err == nil {
			k.Commit, err = crypto.ParseHash(parts[3])
		}
		if err == nil {
			k.Endpoint, err = crypto.ParsePublicKey(parts[4])
		}
		if err == nil {
			k.Sealer, err = crypto.ParsePublicKey(parts[5])
		}
		k.Epoch = uint32(epoch)
		return item{key: &k}, err
	case parts[0] == "cards" && len(parts) == 2:
		c := store.Card{Statement: content}
		c.Endpoint, err = crypto.ParsePublicKey(parts[1])
		return item{card: &c}, err
	}
	return item{}, errors.New("nothing of its kind belongs in an archive")
}

// Restore puts an archive into the store at a URL, after checking the whole of it, and then checks the store. A
// store that is a file is whole afterwards or not there; of one that is there already nothing is changed or
// removed, only what it lacks is added. ErrConflict and ErrExists as with Migrate.
func Restore(ctx context.Context, path, url string, a Access, progress Progress) (r Report, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return r, fmt.Errorf("%w: there is no file %s", store.ErrNotFound, path)
	}
	if err != nil {
		return r, err
	}
	defer f.Close()
	return RestoreFrom(ctx, f, url, a, progress)
}

// RestoreFrom is Restore of an archive that is read more than once.
func RestoreFrom(ctx context.Context, f io.ReadSeeker, url string, a Access, progress Progress) (r Report, err error) {
	var m manifest
	heads, err := foldArchive(ctx, f, &m, func(*ledger.State) {})
	if err != nil {
		return r, err
	}
	if m.Export {
		return r, fmt.Errorf("%w: it is an export, without keys: only what backup writes can be restored", store.ErrInvalid)
	}
	r.Bus = m.Bus
	err = aside(url, func(url string) error {
		to, done, err := Open(ctx, url, a, open.Make)
		if err != nil {
			return err
		}
		defer done()
		return fill(ctx, f, heads, to, &r, progress)
	})
	return r, err
}

// fill puts a checked archive into a store, and checks that the store then holds the same.
func fill(ctx context.Context, f io.ReadSeeker, heads map[crypto.ID]ledger.Head, to store.Backend, r *Report, progress Progress) error {
	if err := ofBus(ctx, to, r.Bus); err != nil {
		return fmt.Errorf("the store: %w", err)
	}
	var done atomic.Int64
	tick := func() { progress(done.Add(1), 2*int64(len(heads))) }
	return receive(ctx, to, func() error {
		if err := load(ctx, archive(f, new(manifest)), to, &r.Totals, tick); err != nil {
			return err
		}
		_, err := each(ctx, to, func(ctx context.Context, log crypto.ID) error {
			defer tick()
			h, ok := heads[log]
			if !ok {
				return fmt.Errorf("%w: the store has a log %s that the archive has not", ErrDiffers, log)
			}
			return right(ctx, to, log, h)
		})
		return err
	})
}

// aside calls write with the URL of a store to write. A file that is not there yet is written beside its place,
// and put there when write is done, so that nobody finds a part of it.
func aside(url string, write func(url string) error) error {
	u, err := open.Parse(url)
	if err != nil {
		return err
	}
	path := u.Path
	if _, err := os.Stat(path); path == "" || !errors.Is(err, os.ErrNotExist) {
		return write(url)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".unibus-new-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	made := filepath.Join(dir, "store")
	if err := write(open.FileURL(made)); err != nil {
		return err
	}
	if err := os.Link(made, path); errors.Is(err, os.ErrExist) { // another process was quicker
		return fmt.Errorf("%s: %w", path, store.ErrExists)
	} else if err != nil {
		return err
	}
	return sqlite.MoveHeads(made, path)
}

// foldArchive verifies an archive: its checksum, and every log in it by the rules. It returns where
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
	for i, err := range archive(f, m) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		if i.entry == nil {
			continue
		}
		if i.entry.Seq == 1 {
			over()
			fold = ledger.Fold{}
		}
		e, err := fold.Add(i.entry.Statement)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrArchive, err)
		}
		if e.Log != i.entry.Log || e.Seq != i.entry.Seq {
			return nil, fmt.Errorf("%w: entry %d of log %s stands in another's place", ErrArchive, i.entry.Seq, i.entry.Log)
		}
	}
	over()
	if _, ok := heads[m.Bus]; !ok {
		return nil, fmt.Errorf("%w: the log of its bus is missing", ErrArchive)
	}
	return heads, nil
}
