// Package newfile writes files that were not there before, and tells whether one is still its owner's alone.
package newfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
)

// Create makes a new file of what write writes, which only its owner may read. It is written aside
// and linked, so that it is whole or not there. It never overwrites: the error is then os.ErrExist.
func Create(path string, write func(io.Writer) error) error {
	return aside(path, write, os.Link)
}

// aside writes a file beside the path, and has it put there once it is on the disk.
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
	return Create(path, all(text))
}

// all writes a text.
func all(text []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	}
}

// Replace writes a file anew, for its owner alone: it is written aside, and there whole on the disk when it takes the
// place of the one before.
func Replace(path string, text []byte) error { return aside(path, all(text), os.Rename) }

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

// ErrShared is what Private says of a file that others may use.
var ErrShared = errors.New("others on this machine may read or change it")

// Private checks that nobody but its owner may read or change a file, nor anybody put another in its place. One that is
// not there is no error, nor is any on Windows, where modes do not tell.
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
