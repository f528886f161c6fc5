package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/engine"
	"github.com/sampan-batch/sampan/internal/runner"
)

type runOptions struct {
	files     []string
	kustomize []string
	recursive bool
	strict    bool
	onlyJobs  bool
	dryRun    bool
	namespace string
	runtime   string
	volumes   string
	images    string
	verbose   bool
	node      engine.Config // what nodeFlags say
	change    overrides
	runControl
	runReport
}

const runHelp = `Run starts a private engine, applies the manifests, follows every Job and Pod to its end and
leaves nothing behind. PATH is a file, a directory, a URL or "-" for standard input; YAML or
JSON, several documents or values in each, lists, what "helm template" or "kubectl get -o
json" print.

All of it is checked before anything starts. Nobody else can change anything in a run, so
that what refers to something that is not there, or asks for more than this machine has, is
refused; and when nothing can go on any more, the run ends and says why.

A CronJob's Job runs once, now. What never ends (Deployments, StatefulSets, Pods that restart
always, …) runs as long as the others do, and Services lead to it: Jobs begin when it is ready,
or does not come any closer to that for 10 s; --only-jobs leaves it out. PersistentVolumeClaims
are directories, which --volumes keeps. Objects that a run does not need (Ingresses, roles, …)
are left out with a warning, which --strict makes an error.

-j N runs at most N pods at a time: Jobs are begun in the order of the input, as others end, and
none has more pods than that at a time. --fail-fast ends the run, gracefully and with 1, when
the first Job or Pod has failed.

With --keep DIR a run that was ended, or killed, is gone on with by the same command: what runs
is suspended, as a Job with "suspend: true" is; Jobs and indexes that are done do not run again.
--retry-failed runs what failed again.

--env sets variables in all containers of the Jobs and Pods, for this run only; --image and
--arg change a container where only one can be meant.

What pods write is printed behind their names; --logs says of which, and --results has it
in files. --joblog has a line for each pod that ended. In a step of a GitHub workflow (where
GITHUB_ACTIONS is true) the output of each pod is a group and each failure an error of the
workflow, and nothing that a pod writes is taken for a command.

It exits with
    0  when all Jobs and Pods are Complete
    1  when one Failed, or could not go on
    2  when the input is wrong; nothing was started
  124  when --timeout passed
  130  on Ctrl-C, SIGTERM and SIGHUP
The pods are ended gracefully; a second Ctrl-C kills them.

Images come from "sampan image load" or from their registries; --runtime=host runs the
commands of a manifest as plain processes of this machine instead.`

func newRun() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run PATH...",
		Short: "Run manifests to the end of their Jobs",
		Long:  runHelp,
		Example: `  sampan run job.yaml
  sampan run --runtime=host --timeout=10m jobs/
  sampan run --dry-run -R deploy/                    # what is wrong, and what has no effect here
  helm template chart | sampan run -
  sampan run -k overlays/test
  kubectl get cronjob nightly -o json | sampan run -
  generate-jobs | sampan run -o json - > result.json
  sampan run --keep state render.yaml                # Ctrl-C; the same again goes on
  sampan run --keep state --retry-failed render.yaml
  generate-jobs | sampan run -j 8 --fail-fast -
  sampan run import.yaml --env DAY=2026-03-01 --env TOKEN   # TOKEN as it is here
  sampan run --logs=failed -o junit tests/ > report.xml
  sampan run --joblog import.log --results import/ import.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			paths := append(args, o.files...)
			if len(paths)+len(o.kustomize) == 0 {
				return usage(fmt.Errorf("which manifests? Give files, directories, URLs or - for standard input\nSee '%s --help'", cmd.CommandPath()))
			}
			return o.run(context.WithoutCancel(cmd.Context()), paths)
		},
	}
	o.addFlags(cmd)
	return cmd
}

func (o *runOptions) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVarP(&o.files, "filename", "f", nil, "a PATH, as kubectl has it")
	f.StringArrayVarP(&o.kustomize, "kustomize", "k", nil, "a kustomization, which an installed kustomize or kubectl builds")
	f.BoolVarP(&o.recursive, "recursive", "R", false, "read the directories below a directory, too")
	f.BoolVar(&o.strict, "strict", false, "refuse objects that would be left out")
	f.BoolVar(&o.onlyJobs, "only-jobs", false, "leave out what never ends: Deployments, StatefulSets, Pods that restart always, …")
	f.BoolVar(&o.dryRun, "dry-run", false, "check everything, say what has no effect here, and start nothing")
	f.StringVar(&o.runtime, "runtime", string(runner.Sandbox), `how containers run: "sandbox" (isolated, from their image) or "host" (a plain process of this machine)`)
	f.StringVar(&o.volumes, "volumes", "", "keep PersistentVolumeClaims in this directory, as NAMESPACE/NAME (default: they end with the run)")
	f.StringVarP(&o.namespace, "namespace", "n", metav1.NamespaceDefault, "namespace of objects that name none")
	f.StringVar(&o.images, "image-dir", "", `directory of the images (default: that of "sampan image")`)
	f.BoolVarP(&o.verbose, "verbose", "v", false, "print the engine's own log")
	o.change.addFlags(cmd)
	o.runControl.addFlags(cmd)
	o.runReport.addFlags(cmd)
	nodeFlags(cmd, &o.node)
	_ = cmd.RegisterFlagCompletionFunc("runtime", cobra.FixedCompletions([]string{"sandbox", "host"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("volumes", dirs)
}

func dirs(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

func (o *runOptions) check() error {
	if _, err := runtimeClass(o.runtime); err != nil {
		return err
	}
	if err := o.runControl.check(); err != nil {
		return err
	}
	return o.runReport.check()
}

func runtimeClass(name string) (runner.Class, error) {
	switch c := runner.Class(name); c {
	case runner.Sandbox, runner.Host:
		return c, nil
	}
	return "", usage(fmt.Errorf("--runtime: %q is not known; use sandbox or host", name))
}

func (o *runOptions) run(ctx context.Context, paths []string) error {
	if err := o.check(); err != nil {
		return err
	}
	out := o.console()
	defer out.Close()
	stops := catchSignals(ctx)
	defer stops.release()
	limited, release := stops.limit(ctx, 0)
	defer release()

	dir, cleanUp, err := o.dataDir(out)
	if err != nil {
		return err
	}
	defer cleanUp()
	p, err := o.plan(limited, paths, dir)
	if cause := context.Cause(limited); cause != nil {
		return &exitError{code: exitOf(cause)}
	}
	if err != nil {
		return usage(few(err))
	}
	for _, note := range p.Notes {
		out.Note("%s", note)
	}
	if o.dryRun {
		return dryRun(p, out)
	}
	// The engine hands over every log by itself: a pod may be deleted, and its log
	// with it, before a client of the API can have seen that it is there.
	kept, err := o.open(o.namespace, out)
	if err != nil {
		return err
	}
	output := o.logOutput(out)
	output.records = kept
	logs := newLogReaders(stops.kill, out, output)
	o.node.HandLog, o.node.HandLogTimes = logs.take, output.stamped
	if o.maxPods > 0 && works(p) > 1 {
		o.node.MaxPods = int64(o.maxPods) + companions(p)
	}
	return kept.close(o.withEngine(ctx, dir, out, stops, func(ctx context.Context, e *engine.Engine) error {
		return o.follow(ctx, limited, e, p, logs, stops)
	}))
}

// few keeps the first of many errors.
func few(err error) error {
	const most = 20
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) <= most {
		return err
	}
	all := joined.Unwrap()
	return errors.Join(append(all[:most:most], fmt.Errorf("and %d more", len(all)-most))...)
}

// withEngine calls do with a private engine, which logs to out, and ends the engine
// afterwards.
func (o *runOptions) withEngine(ctx context.Context, dir string, out *console, stops *signals, do func(context.Context, *engine.Engine) error) error {
	log := slog.New(slog.DiscardHandler)
	if o.verbose {
		log = newLogger(out, slog.LevelInfo)
	}
	engine.RouteLibraryLogs(log)
	engine.HideMemory(log)
	engine.CollectSeldom()
	class, _ := runtimeClass(o.runtime)
	config := o.node
	config.DataDir, config.ImageDir, config.Listen, config.Runtime, config.Private = dir, o.images, "127.0.0.1:0", class, true
	config.Volatile = o.keep == ""
	config.Command, config.Version, config.Logger = "sampan run", Version(), log
	e, err := engine.New(config)
	if inUse := (*engine.InUseError)(nil); errors.As(err, &inUse) {
		return usage(fmt.Errorf("--keep: %s is in use by %s: wait for its end, end it (`sampan stop --data-dir %[1]s`), or give another directory", inUse.Dir, inUse.Holder))
	}
	if err != nil {
		return preflightError(err)
	}
	engineCtx, stopEngine := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEngine()
	ended := make(chan error, 1)
	go func() { ended <- e.Run(engineCtx) }()
	select {
	case <-e.Ready():
	case err := <-ended:
		return preflightError(fmt.Errorf("the engine did not start: %w", err))
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	engineErr := make(chan error, 1)
	go func() {
		err := <-ended
		engineErr <- err
		cancel(fmt.Errorf("the engine ended: %w", err))
	}()
	context.AfterFunc(stops.kill, stopEngine)
	awaitSweep := sweep(stops.kill, e, out)
	err = do(ctx, e)
	awaitSweep()
	stopEngine()
	if stopErr := <-engineErr; err == nil && stopErr != nil && !errors.Is(stopErr, context.Canceled) {
		err = stopErr
	}
	return err
}

// dataDir returns where the engine works, and what to do afterwards.
func (o *runOptions) dataDir(out *console) (dir string, cleanUp func(), err error) {
	if o.keep != "" {
		o.keep, err = filepath.Abs(o.keep) // which is part of the paths of claims
		return o.keep, func() {}, err
	}
	scratch, err := engine.NewScratch(os.TempDir())
	if err != nil {
		return "", nil, usage(fmt.Errorf("no place for the run: %w; TMPDIR or --keep name another", err))
	}
	return scratch.Dir, func() {
		// What containers made, their supervisor has removed, which may do what this
		// user may not.
		if err := scratch.Discard(); err != nil {
			out.Note("warning: %v", err)
		}
	}, nil
}

// sweepPatience is how long a run that has ended goes on removing what others have left, who
// were killed. The next one does the rest.
const sweepPatience = 2 * time.Second

// sweep removes what killed runs have left, beside this one. The end of it is awaited by await.
func sweep(ctx context.Context, e *engine.Engine, out *console) (await func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := e.Sweep(ctx, os.TempDir()); err != nil {
			out.Note("warning: %v", err)
		}
	}()
	return func() {
		select {
		case <-done:
		case <-time.After(sweepPatience):
		case <-ctx.Done():
		}
	}
}
