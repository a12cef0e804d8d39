// Package newfile writes files so that a reader, or a crash, never meets half of one: each is written under another name
// beside its place, synced, and put there in one step. Create makes one that was not there, Replace takes the place of one
// that was. It also tells whether a file is still its owner's alone (Private).
//
// What is in the files, and who may write when several processes would, is left to its callers.
package newfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
)

// Create makes a new file of what write writes, which only its owner may read. After a crash it is there whole, or not at
// all. It never overwrites one: the error is then os.ErrExist.
func Create(path string, write func(io.Writer) error) error {
	return aside(path, write, os.Link)
}

// aside writes a file under another name in the folder of path, and calls put to move or link it there once it is on the
// disk.
func aside(path string, write func(io.Writer) error, put func(made, path string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".unibus-new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return put(f.Name(), path)
}

// Write is Create for a text at hand; it makes the folder too.
func Write(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return Create(path, whole(text))
}

// whole is a function that writes a text, for Create.
func whole(text []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	}
}

// Replace writes a file, for its owner alone, in place of one that may be there. After a crash it is the old one or the new
// one, whole.
func Replace(path string, text []byte) error { return aside(path, whole(text), os.Rename) }

// Touch makes an empty file, and its folder, for its owner alone; one that is there is left as it is.
func Touch(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// ErrShared says that others may use a file that is meant for its owner alone.
var ErrShared = errors.New("others on this machine may read or change it")

// Private checks that nobody but its owner may read or change a file, and that not everybody may put another in its place:
// else it is ErrShared. A file that is not there is no error, and on Windows none is, since modes say nothing there.
func Private(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || runtime.GOOS == "windows" {
		return nil
	}
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s has the mode %04o: %w", path, mode, ErrShared)
	}
	folder, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	if mode := folder.Mode(); mode&0o002 != 0 && mode&os.ModeSticky == 0 {
		return fmt.Errorf("the folder %s has the mode %04o: %w", filepath.Dir(path), mode.Perm(), ErrShared)
	}
	return nil
}
