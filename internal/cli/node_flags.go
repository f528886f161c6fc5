package cli

import (
	"github.com/spf13/cobra"

	"github.com/sampan-batch/sampan/internal/engine"
)

// nodeFlags adds the flags that a kubelet has too, under its names. What they
// say is in config when the command runs.
func nodeFlags(cmd *cobra.Command, config *engine.Config) {
	cmd.Flags().Int64Var(&config.PodPids, "pod-max-pids", engine.DefaultPodPids, "how many processes and threads a pod may have (-1 or 0: no limit)")
	before := cmd.PreRun
	cmd.PreRun = func(cmd *cobra.Command, args []string) {
		if config.PodPids == 0 {
			config.PodPids = -1 // as a kubelet has it
		}
		if before != nil {
			before(cmd, args)
		}
	}
}
