package run

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
)

// Overlay writes what go build and go test are to read instead of some files, or beside them: the paths are those of
// the source tree, from its top on or whole. It returns the file to name with -overlay; that, and the contents, are in
// dir.
func Overlay(dir string, files map[string][]byte) (string, error) {
	replace := map[string]string{}
	for path, content := range files {
		whole, err := filepath.Abs(path)
		if err != nil {
			return "", err
		}
		replace[whole] = filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(replace[whole], content, 0o600); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, text, 0o600)
}

// Ended is the exit code that the error of a command tells of. It returns any other error.
func Ended(err error) (code int, other error) {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}
