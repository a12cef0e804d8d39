package cli

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/unibus/unibus/dev"
)

// version tells what this program is: scripts look at the protocol, people at the version, whoever finds a fault at the
// commit.

// Version is the program's version, set when it is built.
var Version = "0.0.0-dev"

// newVersion makes version.
func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Example: `  unibus version
  unibus version -o json | jq -r .version`,
		RunE: func(*cobra.Command, []string) error { return printVersion(a.out) },
	}
}

// versionJSON is the program, as scripts see it.
type versionJSON struct {
	Commit   string          `json:"commit,omitempty"`
	Features map[string]bool `json:"features"`
	Go       string          `json:"go"`
	Protocol string          `json:"protocol"`
	Version  string          `json:"version"`
}

// newVersionJSON is this program, given which features are on and what the Go toolchain recorded of the build.
func newVersionJSON(features map[string]bool, build []debug.BuildSetting) versionJSON {
	v := versionJSON{Features: features, Go: runtime.Version(), Protocol: "v1", Version: Version}
	for _, s := range build {
		if s.Key == "vcs.revision" {
			v.Commit = s.Value
		}
	}
	return v
}

// features says which feature flags are on. One that there is not is a usage error of every command, as of a setting.
func features() (map[string]bool, error) {
	on, err := dev.Features(os.Getenv("UNIBUS_FEATURES"))
	if err != nil {
		err = hinted(usage("UNIBUS_FEATURES: %w", err), hintFeatures)
	}
	return on, err
}

// printVersion prints it.
func printVersion(out *output) error {
	on, err := features()
	if err != nil {
		return err
	}
	var build []debug.BuildSetting // of which tests have none
	if info, ok := debug.ReadBuildInfo(); ok {
		build = info.Settings
	}
	v := newVersionJSON(on, build)
	return out.value(v, func() { fmt.Fprintf(out, "unibus %s (%s, protocol %s)\n", v.Version, v.Go, v.Protocol) })
}
