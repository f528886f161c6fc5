package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/engine"
	"github.com/sampan-batch/sampan/internal/manifest"
	"github.com/sampan-batch/sampan/internal/plan"
)

func newNode() *cobra.Command {
	var api cluster
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Switch the nodes of this machine off and on",
		Long: `An engine can be several nodes ("sampan serve --nodes 3"). These commands do to one of them
what happens to machines, so that you see what becomes of its pods. Who wants to drain or
delete a node asks the API, as everywhere: kubectl drain, kubectl delete node.`,
		Example: `  sampan node ls
  sampan node kill worker-2      # the power fails
  sampan node start worker-2     # it is back`,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f := cmd.PersistentFlags()
	f.StringVar(&api.kubeconfig, "kubeconfig", "", "how to reach the engine (default: $KUBECONFIG, else that of this machine's engine, else ~/.kube/config)")
	f.StringVar(&api.context, "context", "", "the context of the kubeconfig to use")
	cmd.AddCommand(nodeList(&api),
		nodeSwitch(&api, "start", "Start a node again", `Start has a node that was stopped or killed run again. What it finds of its pods it brings in
line with the API: a pod that was deleted or replaced meanwhile ends.`, "started"),
		nodeSwitch(&api, "stop", "Have nobody look after a node", `Stop ends the agent of a node (its kubelet). The containers go on, and nobody says how they are,
as when a kubelet is stopped or a network is cut: the node is NotReady after its grace period.`, "stopped"),
		nodeSwitch(&api, "kill", "Have a node lose its power", `Kill ends a node and all of its containers at once. Nobody is told: the node is NotReady after
its grace period, and its pods are replaced when they no longer tolerate that.`, "killed"))
	return cmd
}

func nodeList(api *cluster) *cobra.Command {
	var output outputFormat
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the nodes of this machine",
		Example: `  sampan node ls
  sampan node ls -o json`,
		Args: wantArgs(cobra.NoArgs, "node ls takes no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := output.check(); err != nil {
				return err
			}
			config, _, err := api.config()
			if err != nil {
				return err
			}
			all, err := engine.NodesOf(cmd.Context(), config)
			if err != nil {
				return err
			}
			if output != "" {
				return output.print(cmd.OutOrStdout(), all)
			}
			rows := [][]string{{"NAME", "STATE", "DIRECTORY"}}
			for _, n := range all {
				rows = append(rows, []string{plain(n.Name), plain(n.State), plain(n.Directory)})
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), table(rows))
			return err
		},
	}
	output.addFlag(cmd, "a table")
	return cmd
}

// nodeSwitch is the command that does something with one node.
func nodeSwitch(api *cluster, what, short, long, done string) *cobra.Command {
	return &cobra.Command{
		Use: what + " NAME", Short: short, Long: long,
		Example: "  sampan node " + what + " worker-2",
		Args:    wantArgs(cobra.ExactArgs(1), "which node? `sampan node ls` lists them"),
		RunE: func(cmd *cobra.Command, args []string) error {
			config, _, err := api.config()
			if err != nil {
				return err
			}
			if _, err := engine.SwitchNode(cmd.Context(), config, args[0], what); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "node %s %s\n", plain(args[0]), done)
			return err
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return nodeNames(cmd.Context(), api, len(args) > 0), cobra.ShellCompDirectiveNoFileComp
		},
	}
}

func nodeNames(ctx context.Context, api *cluster, enough bool) (names []string) {
	config, _, err := api.config()
	if err != nil || enough {
		return nil
	}
	all, _ := engine.NodesOf(ctx, config) // who is not told completes nothing
	for _, n := range all {
		names = append(names, n.Name)
	}
	return names
}

// readNodes makes nodes of what --nodes says: how many, or the file that describes them.
func readNodes(said, first string) ([]*corev1.Node, error) {
	n, err := strconv.Atoi(said)
	switch {
	case errors.Is(err, strconv.ErrRange), err == nil && (n < 1 || n > engine.MaxNodes):
		return nil, usage(fmt.Errorf("--nodes %s: want 1 to %d, or a file", said, engine.MaxNodes))
	case err == nil:
		return engine.NumberedNodes(first, n), nil
	}
	data, err := readBounded(said)
	if err != nil {
		return nil, usage(fmt.Errorf("--nodes: %w", err))
	}
	objects, err := manifest.Decode(said, data)
	if err != nil {
		return nil, usage(err)
	}
	nodes, err := plan.Nodes(objects, engine.MaxNodes)
	if err != nil {
		return nil, usage(err)
	}
	if len(nodes) == 0 {
		return nil, usage(fmt.Errorf("--nodes %s: it describes no node", said))
	}
	return nodes, nil
}

// readBounded reads a small file of the user's.
func readBounded(path string) ([]byte, error) {
	const most = 1 << 20
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > most {
		return nil, fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return os.ReadFile(path)
}
