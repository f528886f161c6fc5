package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/engine"
	"github.com/sampan-batch/sampan/internal/runner"
)

type runOptions struct {
	runtime   string
	timeout   time.Duration
	keep      string
	output    string
	noLogs    bool
	namespace string
	images    string
	verbose   bool
	node      engine.Config // what nodeFlags say
}

func newRun() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run PATH...",
		Short: "Run manifests to the end of their Jobs",
		Long: `Run starts a private engine, applies the manifests, follows every Job to its end and
leaves nothing behind. PATH is a file, a directory or "-" for standard input; YAML with
several documents or JSON.

It exits with 0 when all Jobs are Complete, 1 when one Failed, 2 when the input is wrong,
and 130 on Ctrl-C, after ending the pods gracefully (a second Ctrl-C kills them).

Images come from "sampan image load" or from their registries; --runtime=host runs the
commands of a manifest as plain processes of this machine instead.`,
		Example: `  sampan run job.yaml
  sampan run --runtime=host --timeout=10m jobs/
  generate-jobs | sampan run -o json - > result.json`,
		Args: wantArgs(cobra.MinimumNArgs(1), "which manifests? Give files, directories or - for standard input"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args) },
	}
	f := cmd.Flags()
	f.StringVar(&o.runtime, "runtime", string(runner.Sandbox), `how containers run: "sandbox" (isolated, from their image) or "host" (a plain process of this machine)`)
	f.DurationVar(&o.timeout, "timeout", 0, "end the Jobs after this time and exit with 1 (0: never)")
	f.StringVar(&o.keep, "keep", "", "keep the engine's data (objects, logs) in this directory")
	f.StringVarP(&o.output, "output", "o", "", `print the result to standard output as "json"; everything else goes to standard error`)
	f.BoolVar(&o.noLogs, "no-logs", false, "do not print what the pods write")
	f.StringVarP(&o.namespace, "namespace", "n", metav1.NamespaceDefault, "namespace of objects that name none")
	f.StringVar(&o.images, "image-dir", "", `directory of the images (default: that of "sampan image")`)
	f.BoolVarP(&o.verbose, "verbose", "v", false, "print the engine's own log")
	nodeFlags(cmd, &o.node)
	_ = cmd.RegisterFlagCompletionFunc("runtime", cobra.FixedCompletions([]string{"sandbox", "host"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (o *runOptions) check() error {
	if o.output != "" && o.output != "json" {
		return usage(fmt.Errorf("--output: %q is not known; use json", o.output))
	}
	if _, err := runtimeClass(o.runtime); err != nil {
		return err
	}
	if o.timeout < 0 {
		return usage(errors.New("--timeout: must not be negative"))
	}
	return nil
}

func runtimeClass(name string) (runner.Class, error) {
	switch c := runner.Class(name); c {
	case runner.Sandbox, runner.Host:
		return c, nil
	}
	return "", usage(fmt.Errorf("--runtime: %q is not known; use sandbox or host", name))
}

// Causes for which a run ends before its Jobs have.
var (
	errInterrupted = errors.New("interrupted")
	errTimedOut    = errors.New("timed out")
)

func (o *runOptions) run(ctx context.Context, paths []string) error {
	if err := o.check(); err != nil {
		return err
	}
	manifests, err := readManifests(paths, os.Stdin)
	if err != nil {
		return usage(err)
	}
	if err := checkRunnable(manifests); err != nil {
		return usage(err)
	}
	out := newConsole(os.Stdout, os.Stderr)
	if o.output == "json" {
		out = newConsole(os.Stderr, os.Stderr)
	}
	stops := catchSignals()
	defer stops.release()

	// The engine hands over every log by itself: a pod may be deleted, and its log
	// with it, before a client of the API can have seen that it is there.
	logs := newLogReaders(stops.kill, out)
	if !o.noLogs {
		o.node.HandLog = logs.take
	}
	return o.withEngine(ctx, stops, func(ctx context.Context, config *rest.Config) error {
		return o.follow(ctx, config, manifests, logs, stops)
	})
}

// withEngine calls do with a private engine, and ends the engine afterwards.
func (o *runOptions) withEngine(ctx context.Context, stops *signals, do func(context.Context, *rest.Config) error) error {
	dir, cleanUp, err := o.dataDir()
	if err != nil {
		return err
	}
	defer cleanUp()
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

// follow applies the manifests and follows the Jobs.
func (o *runOptions) follow(ctx context.Context, config *rest.Config, manifests []manifest, logs *logReaders, stops *signals) error {
	out := logs.console
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	jobs, err := apply(ctx, config, manifests, o.namespace, out)
	if err != nil {
		return err
	}
	f := newFollower(client, logs, true, jobs)
	followCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	context.AfterFunc(stops.end, func() { cancel(errInterrupted) })
	context.AfterFunc(ctx, func() { cancel(errInterrupted) }) // SIGTERM
	if o.timeout > 0 {
		timer := time.AfterFunc(o.timeout, func() { cancel(errTimedOut) })
		defer timer.Stop()
	}
	err = f.Run(followCtx)
	early := errors.Is(err, errInterrupted) || errors.Is(err, errTimedOut)
	if err != nil && !early {
		return err
	}
	res := result{Status: "Complete", ExitCode: exitOK, Jobs: f.results()}
	for _, j := range res.Jobs {
		if j.Status != string(batchv1.JobComplete) {
			res.Status, res.ExitCode = "Failed", exitFailed
		}
	}
	if early {
		res.Status, res.ExitCode = "Interrupted", exitInterrupted
		if errors.Is(err, errTimedOut) {
			res.Status, res.ExitCode = "TimedOut", exitFailed
		}
		for i := range res.Jobs {
			if res.Jobs[i].Status == "Running" {
				res.Jobs[i].stop(time.Now())
			}
		}
		out.Note("%s: ending the pods gracefully (Ctrl-C again kills them)", err)
		o.end(client, f, jobs, stops)
	}
	if err := o.report(res, out); err != nil {
		return err
	}
	if res.ExitCode != exitOK {
		return &exitError{code: res.ExitCode}
	}
	return nil
}

// end deletes the Jobs and waits until their pods have ended. Where that cannot
// be, as on a full disk, the engine takes what is left with it.
func (o *runOptions) end(client kubernetes.Interface, f *follower, jobs []*batchv1.Job, stops *signals) {
	ctx, cancel := context.WithTimeout(stops.kill, patience(jobs))
	defer cancel()
	for _, j := range jobs {
		err := client.BatchV1().Jobs(j.Namespace).Delete(ctx, j.Name, metav1.DeleteOptions{
			PropagationPolicy: ptr.To(metav1.DeletePropagationForeground),
		})
		if err != nil {
			if stops.kill.Err() == nil {
				f.console.Note("warning: delete job/%s: %v; killing the pods", j.Name, err)
			}
			return
		}
	}
	for _, j := range f.jobs {
		j.ended = j.gone // now the others end by being gone
	}
	if f.Run(ctx) != nil && stops.kill.Err() == nil {
		f.console.Note("warning: the pods have not ended within %s; killing them", patience(jobs))
	}
}

// patience is how long the pods of the Jobs may take to end.
func patience(jobs []*batchv1.Job) time.Duration {
	var grace int64
	for _, j := range jobs {
		grace = max(grace, ptr.Deref(j.Spec.Template.Spec.TerminationGracePeriodSeconds, 30))
	}
	return time.Duration(grace)*time.Second + 10*time.Second
}

func (o *runOptions) report(res result, out *console) error {
	if o.output == "json" {
		return outputFormat("json").print(os.Stdout, res)
	}
	out.Note("")
	_, err := io.WriteString(out.notes, summary(res.Jobs))
	return err
}

// signals are what Ctrl-C asks for: to end, and, the second time, to kill. A
// reader of the output that goes away, as head does, asks to end, too. Ctrl-\ kills
// at once; the Go runtime would exit and leave the engine's directory behind.
type signals struct {
	end, kill context.Context
	release   func()
}

func catchSignals() *signals {
	end, doEnd := context.WithCancel(context.Background())
	kill, doKill := context.WithCancel(context.Background())
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE, unix.SIGQUIT)
	go func() {
		for sig := range ch {
			if end.Err() != nil && sig != unix.SIGPIPE || sig == unix.SIGQUIT { // SIGPIPE comes with every line
				doKill()
			}
			doEnd()
		}
	}()
	return &signals{end: end, kill: kill, release: func() {
		signal.Stop(ch)
		close(ch)
		doEnd()
		doKill()
	}}
}
