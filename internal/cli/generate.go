package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra/doc"
	"github.com/spf13/viper"
)

// completionFiles are the names under which shells look for completions.
var completionFiles = map[string]string{"bash": "unibus.bash", "zsh": "_unibus", "fish": "unibus.fish", "powershell": "unibus.ps1"}

// Generate writes completion scripts and man pages into two folders.
func Generate(completions, man string) error {
	a := &app{in: os.Stdin, out: newOutput(os.Stdout), err: newOutput(os.Stderr), config: viper.New()}
	root := a.root()
	for _, dir := range []string{completions, man} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for shell, generate := range shells {
		var b bytes.Buffer
		if err := generate(root, &b); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(completions, completionFiles[shell]), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	epoch := time.Unix(0, 0).UTC() // the pages do not depend on when they were made
	return doc.GenManTree(root, &doc.GenManHeader{Title: "UNIBUS", Section: "1", Source: "unibus", Manual: "unibus", Date: &epoch}, man)
}
