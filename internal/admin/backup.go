package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// A backup is everything in a store, in the order of walk, in an archive (archive.go). The bus may go on meanwhile: of a
// log that grows, the archive has what was there when its turn came, which is a log by the rules as well.

// Backup writes everything in a store to a file, whole or not at all. It fails with ErrExists rather
// than replace a file, and with ErrDamaged when something in the store is not what was signed: who keeps the last few backups
// keeps none that cannot be restored.
func Backup(ctx context.Context, from store.Backend, path string, now time.Time, progress Progress) (r Report, err error) {
	if err := CheckNew(path); err != nil {
		return r, err
	}
	err = createFile(path, func(w io.Writer) (err error) {
		r, err = BackupTo(ctx, from, w, now, progress)
		return err
	})
	return r, err
}

// CheckNew says why a file cannot be made: one is there, ErrExists, or there is no folder for it. That is found out again when
// it is made, but after all the work.
func CheckNew(path string) error {
	if _, err := os.Stat(path); err == nil {
		return fmt.Errorf("%s: %w", path, store.ErrExists)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return fmt.Errorf("%s: there is no folder %s", path, filepath.Dir(path))
	}
	return nil
}

// BackupTo is Backup to what is no file: whoever reads it finds out by the checksum at its end whether it is whole.
func BackupTo(ctx context.Context, from store.Backend, w io.Writer, now time.Time, progress Progress) (r Report, err error) {
	r, all, err := survey(ctx, from, nil)
	if err != nil {
		return r, err
	}
	r.Missing = 0 // there is no target that could lack something
	err = archiveTo(w, now, func(a *archiver) error { return a.store(ctx, from, &r, all, progress) })
	return r, err
}

// whole is ErrDamaged for a store whose file is damaged, or that lists a room beyond its log: what is not there at all no
// archive would tell of.
func whole(ctx context.Context, from store.Backend) error {
	if file, ok := from.(interface{ CheckFile(context.Context) error }); ok {
		if err := file.CheckFile(ctx); err != nil {
			return err
		}
	}
	for room, err := range from.Rooms(ctx, crypto.ID{}) {
		if err != nil {
			return err
		}
		head, err := store.HeadOf(ctx, from, room.ID)
		switch {
		case errors.Is(err, store.ErrNotFound), err == nil && head.Seq < room.Seq:
			return fmt.Errorf("%w: the log of the room %s ends at entry %d, and is listed as of entry %d", store.ErrDamaged, room.Subject, head.Seq, room.Seq)
		case err != nil:
			return err
		}
	}
	return nil
}

// store writes the files of a whole store, which has so many logs.
func (a *archiver) store(ctx context.Context, from store.Backend, r *Report, all int64, progress Progress) error {
	if err := a.begin(manifest{Bus: r.Bus, Logs: all}); err != nil {
		return err
	}
	if err := whole(ctx, from); err != nil {
		return err
	}
	var proof proof
	for i, err := range walk(ctx, from) {
		if err == nil {
			err = proof.check(i)
		}
		if err != nil {
			return err
		}
		if err := a.item(i); err != nil {
			return err
		}
		r.add(i)
		if i.entry != nil && i.entry.Seq == 1 {
			progress(r.Logs, all)
		}
	}
	return nil
}
