package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/engine"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/plan"
	"github.com/sampan-batch/sampan/internal/runner"
)

type runOptions struct {
	files     []string
	recursive bool
	strict    bool
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

func newRun() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run PATH...",
		Short: "Run manifests to the end of their Jobs",
		Long: `Run starts a private engine, applies the manifests, follows every Job and Pod to its end and
leaves nothing behind. PATH is a file, a directory, a URL or "-" for standard input; YAML or
JSON, several documents or values in each, lists, what "helm template" or "kubectl get -o
json" print.

All of it is checked before anything starts. Nobody else can change anything in a run, so
that what refers to something that is not there, or asks for more than this machine has, is
refused; and when nothing can go on any more, the run ends and says why.

A CronJob's Job runs once, now. A Pod that never ends runs as long as the others do.
PersistentVolumeClaims are directories, which --volumes keeps. Objects that a run does not
need (Services, roles, …) are left out with a warning, which --strict makes an error.

--env sets variables in all containers of the Jobs and Pods, for this run only; --image and
--arg change a container where only one can be meant.

It exits with
    0  when all Jobs and Pods are Complete
    1  when one Failed, or could not go on
    2  when the input is wrong; nothing was started
  124  when --timeout passed
  130  on Ctrl-C, SIGTERM and SIGHUP
The pods are ended gracefully; a second Ctrl-C kills them.

Images come from "sampan image load" or from their registries; --runtime=host runs the
commands of a manifest as plain processes of this machine instead.`,
		Example: `  sampan run job.yaml
  sampan run --runtime=host --timeout=10m jobs/
  sampan run --dry-run -R deploy/                    # what is wrong, and what has no effect here
  helm template chart | sampan run -
  kubectl get cronjob nightly -o json | sampan run -
  generate-jobs | sampan run -o json - > result.json
  sampan run import.yaml --env DAY=2026-03-01 --env TOKEN   # TOKEN as it is here`,
		RunE: func(cmd *cobra.Command, args []string) error {
			paths := append(args, o.files...)
			if len(paths) == 0 {
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
	f.BoolVarP(&o.recursive, "recursive", "R", false, "read the directories below a directory, too")
	f.BoolVar(&o.strict, "strict", false, "refuse objects that would be left out")
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
	stops := catchSignals()
	defer stops.release()
	limited, release := stops.limit(ctx, 0)
	defer release()

	dir, cleanUp, err := o.dataDir()
	if err != nil {
		return err
	}
	defer cleanUp()
	p, err := o.plan(limited, paths, dir)
	if cause := context.Cause(limited); cause != nil {
		return &exitError{code: exitOf(cause), err: cause}
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
	logs := newLogReaders(stops.kill, out)
	logs.mute = o.noLogs
	o.node.HandLog = logs.take
	return o.withEngine(ctx, dir, stops, func(ctx context.Context, config *rest.Config) error {
		return o.follow(ctx, limited, config, p, logs, stops)
	})
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

// withEngine calls do with a private engine, and ends the engine afterwards.
func (o *runOptions) withEngine(ctx context.Context, dir string, stops *signals, do func(context.Context, *rest.Config) error) error {
	log := slog.New(slog.DiscardHandler)
	if o.verbose {
		log = newLogger(os.Stderr, slog.LevelInfo)
	}
	engine.RouteLibraryLogs(log)
	engine.HideMemory(log)
	class, _ := runtimeClass(o.runtime)
	config := o.node
	config.DataDir, config.ImageDir, config.Listen, config.Runtime, config.Private = dir, o.images, "127.0.0.1:0", class, true
	config.Command, config.Version, config.Logger = "sampan run", Version(), log
	e, err := engine.New(config)
	if err != nil {
		return err
	}
	engineCtx, stopEngine := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEngine()
	ended := make(chan error, 1)
	go func() { ended <- e.Run(engineCtx) }()
	select {
	case <-e.Ready():
	case err := <-ended:
		return fmt.Errorf("the engine did not start: %w", err)
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
	err = do(ctx, e.RESTConfig())
	stopEngine()
	if stopErr := <-engineErr; err == nil && stopErr != nil && !errors.Is(stopErr, context.Canceled) {
		err = stopErr
	}
	return err
}

// dataDir returns where the engine works, and what to do afterwards.
func (o *runOptions) dataDir() (dir string, cleanUp func(), err error) {
	if o.keep != "" {
		return o.keep, func() {}, nil
	}
	dir, err = os.MkdirTemp("", "sampan-run-*")
	if err != nil {
		return "", nil, err
	}
	return dir, func() {
		// What containers made, their supervisor has removed, which may do what this
		// user may not. Nobody comes back to what is left.
		if err := engine.Discard(dir); err != nil {
			fmt.Fprintln(os.Stderr, "sampan: warning:", err)
		}
	}, nil
}

// follow applies the plan and follows what runs. limited ends when the run is to.
func (o *runOptions) follow(ctx, limited context.Context, config *rest.Config, p *plan.Plan, logs *logReaders, stops *signals) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := makeClaims(p.Claims); err != nil { // in a directory that the engine has found safe
		return err
	}
	watched, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(limited, func() { cancel(context.Cause(limited)) })()
	done, err := apply(watched, config, p)
	if err != nil && watched.Err() == nil {
		return usage(err)
	}
	if o.timeout > 0 {
		defer time.AfterFunc(o.timeout, func() { cancel(errTimedOut) }).Stop()
	}
	f := newFollower(client, logs, true, done.works...)
	f.noLogs = true // the engine hands them over
	cause := context.Cause(watched)
	if err == nil {
		cause = f.Run(watched)
	}
	res, err := f.result(cause)
	if err != nil {
		return err
	}
	if cause != nil {
		if res.Reason == "" {
			logs.console.Note("%s: ending the pods gracefully (Ctrl-C again kills them)", cause)
		}
		o.end(client, f, done.all(), stops)
	} else if len(done.companions) > 0 {
		o.end(client, f, done.companions, stops)
	}
	return conclude(res, outputFormat(o.output), logs.console)
}

// end deletes what runs and waits until its pods have ended. Where that cannot be, as on
// a full disk, the engine takes what is left with it.
func (o *runOptions) end(client kubernetes.Interface, f *follower, running []started, stops *signals) {
	ctx, cancel := context.WithTimeout(stops.kill, patience(running))
	defer cancel()
	f.leaving = map[types.UID]bool{}
	f.board.Leave()
	for _, obj := range running {
		err := remove(ctx, client, obj.Object)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			if stops.kill.Err() == nil {
				f.console.Note("warning: delete %s: %v; killing the pods", obj.GetName(), err)
			}
			return
		}
		f.works[obj.GetUID()] = true // its end is awaited, if it was not before
		f.leaving[obj.GetUID()] = true
	}
	if f.Run(ctx) != nil && stops.kill.Err() == nil {
		f.console.Note("warning: the pods have not ended within %s; killing them", patience(running))
	}
}

// remove deletes a Job with its pods, or a pod.
func remove(ctx context.Context, client kubernetes.Interface, obj kind.Object) error {
	options := metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationForeground)}
	if _, ok := obj.(*corev1.Pod); ok {
		return client.CoreV1().Pods(obj.GetNamespace()).Delete(ctx, obj.GetName(), metav1.DeleteOptions{})
	}
	return client.BatchV1().Jobs(obj.GetNamespace()).Delete(ctx, obj.GetName(), options)
}

// patience is how long the pods of what runs may take to end.
func patience(running []started) time.Duration {
	var grace int64
	for _, obj := range running {
		switch obj := obj.Object.(type) {
		case *batchv1.Job:
			grace = max(grace, ptr.Deref(obj.Spec.Template.Spec.TerminationGracePeriodSeconds, 30))
		case *corev1.Pod:
			grace = max(grace, ptr.Deref(obj.Spec.TerminationGracePeriodSeconds, 30))
		}
	}
	return time.Duration(grace)*time.Second + 10*time.Second
}
