package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/verb"
)

// verbs are for machines that have no kubectl, and mean what they mean there. Export
// kubectl does not have.
func verbs() []*cobra.Command {
	return []*cobra.Command{newGet(), newDescribe(), newApply(), newCreate(), newDelete(), newExport()}
}

// open connects a command with the API.
func (c *cluster) open(cmd *cobra.Command) (*verb.API, error) {
	config, namespace, err := c.config()
	if err != nil {
		return nil, err
	}
	notes := cmd.ErrOrStderr()
	return verb.Open(config, namespace, func(text string) { fmt.Fprintln(notes, "Warning:", plainLines(text)) })
}

// verbCommand is a command that calls do with the API.
func verbCommand(cmd *cobra.Command, c *cluster, do func(ctx context.Context, api *verb.API, out, notes io.Writer, args []string) error) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		api, err := c.open(cmd)
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if term.IsTerminal(int(os.Stdout.Fd())) {
			out = plainText{out}
		}
		err = do(cmd.Context(), api, out, cmd.ErrOrStderr(), args)
		if wrong := verb.ArgumentError(""); errors.As(err, &wrong) {
			return usage(err)
		}
		return err
	}
	c.addFlags(cmd, cmd.Flags(), "n")
	return cmd
}

// plainText prints nothing that drives a terminal: objects hold what anybody wrote.
type plainText struct{ io.Writer }

func (p plainText) Write(text []byte) (int, error) {
	if _, err := io.WriteString(p.Writer, plainLines(string(text))); err != nil {
		return 0, err
	}
	return len(text), nil
}

func addSelection(f *pflag.FlagSet, s *verb.Selection) {
	f.StringVarP(&s.Labels, "selector", "l", "", "only objects with these labels: app=import,tier!=test")
	f.StringVar(&s.Fields, "field-selector", "", "only objects with these fields: status.phase=Failed")
	f.BoolVarP(&s.AllNamespaces, "all-namespaces", "A", false, "objects of all namespaces")
}

func newGet() *cobra.Command {
	var c cluster
	var o verb.Get
	cmd := verbCommand(&cobra.Command{
		Use:   "get KIND[,KIND...] [NAME...] | KIND/NAME...",
		Short: "Show objects, as kubectl get does",
		Example: `  sampan get jobs
  sampan get pods -l job-name=import -w
  sampan get job/import -o yaml
  sampan get cronjobs -A -o jsonpath='{.items[*].metadata.name}'`,
	}, &c, func(ctx context.Context, api *verb.API, out, notes io.Writer, args []string) error {
		return api.Get(ctx, out, notes, args, o)
	})
	f := cmd.Flags()
	f.StringVarP(&o.Output, "output", "o", "", "wide, json, yaml, name or jsonpath=TEMPLATE (default: a table)")
	f.BoolVarP(&o.Watch, "watch", "w", false, "go on with what changes, until Ctrl-C")
	f.BoolVar(&o.NoHeaders, "no-headers", false, "a table without its first line")
	f.BoolVar(&o.ShowLabels, "show-labels", false, "a table with the labels")
	addSelection(f, &o.Selection)
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"wide", "json", "yaml", "name", "jsonpath="}, cobra.ShellCompDirectiveNoFileComp))
	return completeKinds(cmd, &c)
}

func newExport() *cobra.Command {
	var c cluster
	var s verb.Selection
	cmd := verbCommand(&cobra.Command{
		Use:   "export [KIND[,KIND...] [NAME...] | KIND/NAME...]",
		Short: "Write objects as manifests that another cluster takes",
		Long: `Export writes the objects of a namespace, or of all, as manifests that another cluster takes. What a cluster makes by itself is left out: status, uids,
addresses, nodes, defaults of this cluster, objects that others own, Jobs and pods that have ended. Secrets are among it, in plain text.`,
		Example: `  sampan export > everything.yaml
  sampan export -A > everything.yaml
  sampan export cronjobs,configmaps -l app=import`,
	}, &c, func(ctx context.Context, api *verb.API, out, notes io.Writer, args []string) error {
		return api.Export(ctx, out, notes, args, s)
	})
	addSelection(cmd.Flags(), &s)
	return completeKinds(cmd, &c)
}

func newDescribe() *cobra.Command {
	var c cluster
	var s verb.Selection
	cmd := verbCommand(&cobra.Command{
		Use:   "describe KIND [NAME...] | KIND/NAME...",
		Short: "Show objects in detail, with their events, as kubectl describe does",
		Long:  "Describe shows objects in detail, with their events, as kubectl describe does. Why a Job does not run, `sampan explain` says.",
		Example: `  sampan describe job/import
  sampan describe node`,
	}, &c, func(ctx context.Context, api *verb.API, out, _ io.Writer, args []string) error {
		return api.Describe(ctx, out, args, s)
	})
	addSelection(cmd.Flags(), &s)
	return completeKinds(cmd, &c)
}

// manifestFlags are those of commands that read manifests.
func manifestFlags(f *pflag.FlagSet, in *inputs) {
	f.StringSliceVarP(&in.paths, "filename", "f", nil, `a file, a directory, a URL or "-" for standard input`)
	f.StringArrayVarP(&in.kustomize, "kustomize", "k", nil, "a kustomization, which an installed kustomize or kubectl builds")
	f.BoolVarP(&in.recursive, "recursive", "R", false, "read the directories below a directory, too")
}

// manifests reads what the flags name.
func manifests(ctx context.Context, in inputs) ([]verb.Manifest, error) {
	in.stdin = os.Stdin
	objects, err := in.read(ctx)
	if err != nil {
		return nil, usage(few(err))
	}
	all := make([]verb.Manifest, len(objects))
	for i, o := range objects {
		all[i] = verb.Manifest{Unstructured: o.Unstructured, Where: o.Where()}
	}
	return all, nil
}

// newWriter is apply or create.
func newWriter(cmd *cobra.Command, force bool, write func(*verb.API, context.Context, io.Writer, []verb.Manifest, verb.Write) error) *cobra.Command {
	var c cluster
	var in inputs
	var w verb.Write
	var dryRun string
	cmd.Args = cobra.ArbitraryArgs
	cmd = verbCommand(cmd, &c, func(ctx context.Context, api *verb.API, out, _ io.Writer, args []string) error {
		if in.paths = append(in.paths, args...); in.none() {
			return usage(errors.New("which manifests? Give -f PATH, or -k DIR"))
		}
		switch dryRun {
		case "none", "server":
			w.DryRun = dryRun == "server"
		default:
			return usage(fmt.Errorf(`--dry-run: %q is not known; use server (offline: sampan run --dry-run)`, dryRun))
		}
		objects, err := manifests(ctx, in)
		if err != nil {
			return err
		}
		return write(api, ctx, out, objects, w)
	})
	f := cmd.Flags()
	manifestFlags(f, &in)
	f.StringVar(&dryRun, "dry-run", "none", `"server": the API answers as if, and writes nothing`)
	if force {
		f.BoolVar(&w.Force, "force-conflicts", false, "take over fields that somebody else has written")
	}
	return cmd
}

func newApply() *cobra.Command {
	return newWriter(&cobra.Command{
		Use:   "apply -f PATH",
		Short: "Make objects be as manifests say, as kubectl apply --server-side does",
		Example: `  sampan apply -f cronjob.yaml
  helm template chart | sampan apply -f -`,
	}, true, (*verb.API).Apply)
}

func newCreate() *cobra.Command {
	return newWriter(&cobra.Command{
		Use:     "create -f PATH",
		Short:   "Create the objects of manifests, as kubectl create does",
		Example: `  sampan create -f job.yaml       # with generateName: another each time`,
	}, false, (*verb.API).Create)
}

func newDelete() *cobra.Command {
	var c cluster
	var in inputs
	var now bool
	var cascade string
	d := verb.Delete{Wait: true}
	var timeout time.Duration
	cmd := verbCommand(&cobra.Command{
		Use:   "delete KIND NAME... | KIND/NAME... | KIND -l LABELS | KIND --all | -f PATH",
		Short: "Delete objects, and what they own, as kubectl delete does",
		Example: `  sampan delete job/import
  sampan delete jobs -l app=import --wait=false
  sampan delete -f cronjob.yaml`,
	}, &c, func(ctx context.Context, api *verb.API, out, _ io.Writer, args []string) error {
		if now {
			d.Grace = 1
		}
		var known bool
		if d.Cascade, known = cascades[cascade]; !known {
			return usage(fmt.Errorf("--cascade: %q is not known; use background, foreground or orphan", cascade))
		}
		if timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, timeout, &exitError{exitTimedOut, errors.New("not all of it was gone in time")})
			defer cancel()
		}
		switch {
		case in.none():
			return api.Delete(ctx, out, args, d)
		case len(args) > 0 || d.All || d.Selection != (verb.Selection{}):
			return usage(errors.New("-f and -k name the objects already; leave out names, selectors, -A and --all"))
		}
		objects, err := manifests(ctx, in)
		if err != nil {
			return err
		}
		return api.DeleteManifests(ctx, out, objects, d)
	})
	f := cmd.Flags()
	manifestFlags(f, &in)
	addSelection(f, &d.Selection)
	f.BoolVar(&d.All, "all", false, "all objects of the kind")
	f.BoolVar(&d.Wait, "wait", true, "return when all is gone")
	f.BoolVar(&d.IgnoreNotFound, "ignore-not-found", false, "what is not there is no error")
	f.BoolVar(&now, "now", false, "give pods a second, instead of the time that they ask for")
	f.Int64Var(&d.Grace, "grace-period", -1, "seconds that pods get (-1: what they ask for)")
	f.StringVar(&cascade, "cascade", "background", "what becomes of what the objects own: background, foreground or orphan")
	f.DurationVar(&timeout, "timeout", 0, "how long to wait, and exit with 124 (0: for ever)")
	_ = cmd.RegisterFlagCompletionFunc("cascade", cobra.FixedCompletions([]string{"background", "foreground", "orphan"}, cobra.ShellCompDirectiveNoFileComp))
	return completeKinds(cmd, &c)
}

var cascades = map[string]metav1.DeletionPropagation{
	"background": metav1.DeletePropagationBackground, "foreground": metav1.DeletePropagationForeground, "orphan": metav1.DeletePropagationOrphan,
}

// completeKinds completes kinds, and names of objects.
func completeKinds(cmd *cobra.Command, c *cluster) *cobra.Command {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		config, namespace, err := c.config()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		config.Timeout = 2 * time.Second
		api, err := verb.Open(config, namespace, func(string) {})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return api.Complete(cmd.Context(), args, typed), cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}
