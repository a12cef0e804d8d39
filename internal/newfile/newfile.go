// Package newfile writes files that were not there before.
package newfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

// Create makes a new file of what write writes, which only its owner may read. It is written aside
// and linked, so that it is whole or not there. It never overwrites: the error is then os.ErrExist.
func Create(path string, write func(io.Writer) error) error {
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
	return os.Link(f.Name(), path)
}

// Write is Create for a text at hand; it makes the folder too.
func Write(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return Create(path, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}
