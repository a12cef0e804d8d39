package storetest

import (
	"bytes"
	"database/sql"
	"errors"
	"os"
	"testing"
)

// This file is for tests of what is read from a file that a disk has damaged.

// DamagedFile damages a SQLite file, one thing at a time: by a statement, which read has to tell of with the error
// damaged, and by a bit flipped at every step-th byte, of which read may tell so or not at all.
func DamagedFile(t *testing.T, path string, statements []string, step int, read func() error, damaged error) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	put := func(data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, statement := range statements {
		put(data)
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = db.Exec(statement)
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		if err := read(); !errors.Is(err, damaged) {
			t.Errorf("%s: %v", statement, err)
		}
	}
	told := 0
	for at := 0; at < len(data); at += step {
		flipped := bytes.Clone(data)
		flipped[at] ^= 1 << (at % 8)
		put(flipped)
		if err := read(); errors.Is(err, damaged) {
			told++
		} else if err != nil {
			t.Errorf("a bit of byte %d of %d flipped: %v", at, len(data), err)
		}
	}
	if told == 0 {
		t.Error("no damage was told of")
	}
}
