package cli

import (
	"github.com/spf13/cobra"

	"github.com/sampan-batch/sampan/internal/engine"
)

// nodeFlags adds the flags that a kubelet has too, under its names. What they
// say is in config when the command runs.
func nodeFlags(cmd *cobra.Command, config *engine.Config) {
	f := cmd.Flags()
	f.Int64Var(&config.PodPids, "pod-max-pids", engine.DefaultPodPids, "how many processes and threads a pod may have (-1 or 0: no limit)")
	f.StringVar(&config.EvictionHard, "eviction-hard", "", `below what pods are evicted, as "memory.available<100Mi,nodefs.available<5%"; "nodefs.available<0%" switches all off
(default `+engine.DefaultEvictionHard+`)`)
	f.StringVar(&config.EvictionMinimumReclaim, "eviction-minimum-reclaim", "", `how much more there has to be before that ends, as "nodefs.available=500Mi"`)
	f.DurationVar(&config.PressureTransition, "eviction-pressure-transition-period", 0, "how long the node keeps a condition after that (default 5m0s)")
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
