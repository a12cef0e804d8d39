package newfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestCreate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sub")
	path := filepath.Join(dir, "f")
	if err := Write(path, []byte("first")); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("second")); !errors.Is(err, os.ErrExist) {
		t.Errorf("it is overwritten: %v", err)
	}
	broken := errors.New("broken")
	if err := Create(filepath.Join(dir, "g"), func(w io.Writer) error { w.Write([]byte("half")); return broken }); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != "first" {
		t.Errorf("it says %q, %v", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("there is %v, %v", list, err)
	}
}

func TestPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "f")
	if err := Private(path); err != nil {
		t.Errorf("one that is not there: %v", err)
	}
	if err := errors.Join(Touch(path), Private(path), Touch(path)); err != nil {
		t.Errorf("a new one: %v", err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602, 0o777} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := Private(path); !errors.Is(err, ErrShared) {
			t.Errorf("%04o: %v", mode, err)
		}
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, shared := range map[os.FileMode]bool{0o777: true, 0o777 | os.ModeSticky: false, 0o775: false} {
		if err := os.Chmod(filepath.Dir(path), mode); err != nil {
			t.Fatal(err)
		}
		if err := Private(path); errors.Is(err, ErrShared) != shared {
			t.Errorf("in a folder of %v: %v", mode, err)
		}
	}
}
