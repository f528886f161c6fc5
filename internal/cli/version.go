package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build says which program this is.
type build struct {
	Version string `json:"version"`          // of the module, or 0.0.0-dev
	Commit  string `json:"commit,omitempty"` // "-dirty" when files were changed; "" if nobody knows
	Date    string `json:"commitDate,omitempty"`
	Go      string `json:"goVersion"`
	// Platform is GOOS/GOARCH.
	Platform string `json:"platform"`
}

// thisBuild reads what the Go command wrote into the binary.
func thisBuild() build {
	b := build{Version: "0.0.0-dev", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v[1:]
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	b.Commit, b.Date = settings["vcs.revision"], settings["vcs.time"]
	if settings["vcs.modified"] == "true" {
		b.Commit += "-dirty"
	}
	return b
}

// Version is what this binary calls itself: the module's version, with the commit
// in it where it was built from a clone between two releases.
func Version() string { return thisBuild().Version }

func newVersion() *cobra.Command {
	var output outputFormat
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Say which version this is",
		Example: `  sampan version
  sampan version -o json | jq -r .commit`,
		Args: wantArgs(cobra.NoArgs, "sampan version takes no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := output.check(); err != nil {
				return err
			}
			b := thisBuild()
			if output != "" {
				return output.print(cmd.OutOrStdout(), b)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "sampan %s (%s, %s)\n", b.Version, b.Go, b.Platform)
			return err
		},
	}
	output.addFlag(cmd, "one line")
	return cmd
}
