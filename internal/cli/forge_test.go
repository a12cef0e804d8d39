package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdForge makes an export without the last frame of another, as anybody can: its checksum is right.
func cmdForge(ts *testscript.TestScript, _ bool, args []string) {
	raw, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	z, err := gzip.NewReader(bytes.NewReader(raw))
	ts.Check(err)
	type file struct {
		name    string
		content []byte
	}
	var files []file
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		ts.Check(err)
		content, err := io.ReadAll(r)
		ts.Check(err)
		files = append(files, file{h.Name, content})
	}
	sum := sha256.New()
	files = files[:len(files)-2] // the last frame, and the checksum
	for _, f := range files {
		fmt.Fprintf(sum, "%d %s %d ", len(f.name), f.name, len(f.content))
		sum.Write(f.content)
	}
	files = append(files, file{"SHA256", []byte(hex.EncodeToString(sum.Sum(nil)))})
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	for _, f := range files {
		ts.Check(w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o600, Size: int64(len(f.content))}))
		_, err := w.Write(f.content)
		ts.Check(err)
	}
	ts.Check(errors.Join(w.Close(), zip.Close(), os.WriteFile(ts.MkAbs(args[1]), out.Bytes(), 0o600)))
}
