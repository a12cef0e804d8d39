package run

import "os"

// In calls f with a folder to work in: the one that is named, which is kept, or else a new one, which is removed
// afterwards.
func In(folder, pattern string, f func(dir string) error) error {
	if folder != "" {
		return f(folder)
	}
	dir, err := os.MkdirTemp("", pattern)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return f(dir)
}
