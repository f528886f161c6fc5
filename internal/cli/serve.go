package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/engine"
	"github.com/sampan-batch/sampan/internal/runner"
)

func newServe() *cobra.Command {
	var config engine.Config
	var runtime string
	var log logOptions
	var merge bool
	var nodes string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the long-lived engine that kubectl talks to",
		Long: `Serve runs the engine on a data directory until it is stopped. It prints one line when it
is ready (and notifies systemd), and writes a kubeconfig for the administrator.

SIGTERM and Ctrl-C stop the engine and leave the pods running; the next "sampan serve" on
the same directory finds them as they are. "sampan stop" ends the pods too.`,
		Example: `  sampan serve
  sampan serve --data-dir /srv/sampan --listen 127.0.0.1:7443
  sampan serve --nodes 3                 # several nodes, as kind has them (see 'sampan node')
  kubectl --kubeconfig ~/.local/share/sampan/kubeconfig get jobs`,
		Args: wantArgs(cobra.NoArgs, "serve takes no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			class, err := runtimeClass(runtime)
			if err != nil {
				return err
			}
			if config.MaxPods <= 0 {
				return usage(fmt.Errorf("--max-pods %d: want a positive number (default %d)", config.MaxPods, engine.DefaultMaxPods))
			}
			config.Runtime = class
			if nodes != "" {
				if err := config.SetNodes(func(first string) ([]*corev1.Node, error) { return readNodes(nodes, first) }); err != nil {
					return err
				}
			}
			if config.Logger, err = log.logger(os.Stderr); err != nil {
				return err
			}
			return serve(cmd.Context(), config, merge)
		},
	}
	config = engine.Default()
	config.Command = "sampan serve"
	config.Version = Version()
	config.Supervised = engine.Supervised()
	f := cmd.Flags()
	f.StringVar(&config.DataDir, "data-dir", config.DataDir, "where objects, logs, images and pods are kept")
	f.StringVar(&config.Listen, "listen", config.Listen, "address of the API; port 0 picks one")
	f.StringVar(&config.Kubeconfig, "write-kubeconfig", "", "where to write the administrator's kubeconfig (default DATA-DIR/kubeconfig)")
	f.BoolVar(&merge, "merge-kubeconfig", false, "also make it the context \"sampan\" of $KUBECONFIG or ~/.kube/config (see 'sampan kubeconfig')")
	f.StringVar(&config.TokenFile, "token-auth-file", "", "file of users known by a token, mode 0600, a line each: token,user,uid,\"group1,group2\"")
	f.StringVar(&config.NodeName, "node-name", "", "name of this machine's Node (default: the host name)")
	f.StringVar(&nodes, "nodes", "", "how many nodes this machine is, or a file of Node manifests with their names, labels, taints and capacities (default 1)")
	clusterFlags(f, &config)
	nodeFlags(cmd, &config)
	f.StringVar(&runtime, "runtime", string(runner.Sandbox), `how containers run unless runtimeClassName says otherwise: "sandbox" or "host"`)
	log.addFlags(cmd)
	_ = cmd.RegisterFlagCompletionFunc("runtime", cobra.FixedCompletions([]string{"sandbox", "host"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// clusterFlags are those of what several components of a cluster do.
func clusterFlags(f *pflag.FlagSet, config *engine.Config) {
	f.DurationVar(&config.NodeMonitorGrace, "node-monitor-grace-period", engine.DefaultNodeMonitorGrace, "how long a node may be silent before it is NotReady")
	f.Int64Var(&config.StoreQuota, "quota-backend-bytes", 0, "how large the store may become until nothing new is taken (default a sixteenth of the memory; -1: any size)")
	f.StringVar(&config.NodePortAddresses, "nodeport-addresses", "", `at which of this machine's addresses node ports are: ranges, as "192.0.2.0/24,127.0.0.0/8", or "primary" (default 127.0.0.1)`)
	f.StringVar(&config.IPFamily, "ip-family", "", `what addresses pods and Services have: "ipv4", or "dual" for IPv6 as well (default "dual" where this machine has IPv6)`)
	f.BoolVar(&config.PodRoutes, "pod-routes", false, "give this machine a link and routes to the addresses of pods and Services (as root)")
	f.BoolVar(&config.AutomountDefaultToken, "automount-default-token", false, "mount the token of the account \"default\" of new namespaces into pods that do not refuse it, as Kubernetes does")
	f.Int64Var(&config.MaxPods, "max-pods", config.MaxPods, "how many pods may run at a time, on all nodes together; fewer where a process may not have so many files open (ulimit -n)")
}

func serve(ctx context.Context, config engine.Config, merge bool) error {
	asked, stop := signal.NotifyContext(ctx, stopSignals()...)
	defer stop()
	if handOver(ctx) {
		return nil
	}
	ctx = asked
	// A reader of the log that goes away is no reason to end.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	engine.RouteLibraryLogs(config.Logger)
	engine.HideMemory(config.Logger)
	engine.CollectSeldom()
	if err := reachable(config.Listen); err != nil {
		return err
	}
	e, err := engine.New(config)
	if err != nil {
		return explainListen(preflightError(err), config.Listen)
	}
	go func() {
		select {
		case <-e.Ready():
			if merge {
				if err := mergeKubeconfig(os.Stderr, e.KubeconfigPath(), mergedContext); err != nil {
					config.Logger.Error("the kubeconfig was not merged", "err", err)
				}
			}
			fmt.Printf("sampan is ready: https://%s, kubeconfig %s\n", e.Addr(), e.KubeconfigPath())
		case <-ctx.Done():
		}
	}()
	err = e.Run(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return preflightError(err)
}

// preflightError makes the user's an error for which nothing has been started.
func preflightError(err error) error {
	if isolation := (*engine.IsolationError)(nil); errors.As(err, &isolation) {
		return usage(isolation)
	}
	if limit := (*engine.LimitError)(nil); errors.As(err, &limit) {
		return usage(limit)
	}
	return err
}

func newStop() *cobra.Command {
	dir := engine.Default().DataDir
	var grace time.Duration
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "End the engine of a data directory, its pods and all that belongs to them",
		Long: `Stop ends the engine that works on the data directory, then its pods and the process
that owns them, and leaves nothing running or mounted. The objects stay in the directory:
a later "sampan serve" finds the Jobs, and starts anew what was not finished.`,
		Example: `  sampan stop
  sampan stop --data-dir /srv/sampan --grace-period 5s`,
		Args: wantArgs(cobra.NoArgs, "stop takes no arguments; name the engine by --data-dir"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := engine.Stop(cmd.Context(), dir, grace)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), report)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "data-dir", dir, "the engine's data directory")
	cmd.Flags().DurationVar(&grace, "grace-period", 30*time.Second, "how long pods may take to end before they are killed")
	return cmd
}

// newSupervise is the process that owns the containers; the engine starts it.
func newSupervise() *cobra.Command {
	return &cobra.Command{
		Use:                "supervise",
		Short:              "Own the containers of an engine (started by the engine itself)",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			handOver(cmd.Context()) // what signals mean, the supervisor knows
			return engine.Supervise(context.WithoutCancel(cmd.Context()), args)
		},
	}
}
