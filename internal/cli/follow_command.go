package cli

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/sampan-batch/sampan/internal/engine"
	"github.com/sampan-batch/sampan/internal/kind"
)

type followOptions struct {
	cluster cluster
	timeout time.Duration
	display
}

func newFollow() *cobra.Command {
	var o followOptions
	cmd := &cobra.Command{
		Use:   "follow job/NAME...",
		Short: "Follow Jobs to their end",
		Long: `Follow shows how far Jobs are that exist, on this machine's engine or on any Kubernetes
cluster, as "sampan run" does: what their pods write, what fails and why, and a table at
the end. It changes nothing. Of a Job that has ended it shows the same, as far as its pods
are still there.

It exits with
    0  when all Jobs are Complete
    1  when one Failed or was deleted, or could not be followed
    2  when the input is wrong
  124  when --timeout passed, and
  130  on Ctrl-C, SIGTERM and SIGHUP; the Jobs go on.`,
		Example: `  sampan follow job/import
  sampan follow jobs nightly weekly --logs=failed --timeout=1h
  sampan follow job/train -n ml --kubeconfig ~/.kube/config -o json > result.json`,
		Args: wantArgs(cobra.MinimumNArgs(1), "which Jobs? Give job/NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), args)
		},
		ValidArgsFunction: o.cluster.completeTargets(kindJob),
	}
	cmd.Flags().DurationVar(&o.timeout, "timeout", 0, "follow no longer than this, and exit with 124; the Jobs go on (0: to the end)")
	o.display.addFlags(cmd)
	o.cluster.addFlags(cmd, cmd.Flags(), "n")
	return cmd
}

func (o *followOptions) run(ctx context.Context, args []string) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.timeout < 0 {
		return usage(errors.New("--timeout: must not be negative"))
	}
	targets, all, err := readTargets(args, kindJob)
	if err == nil && all {
		err = errors.New("which Jobs? Give job/NAME")
	}
	if err != nil {
		return usage(err)
	}
	o.cluster.bulk = true
	client, namespace, err := o.cluster.connect()
	if err != nil {
		return err
	}
	var jobs []*batchv1.Job
	for _, t := range targets {
		job, err := client.BatchV1().Jobs(namespace).Get(ctx, t.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		jobs = append(jobs, job)
	}
	return o.follow(ctx, client, o.timeout, jobs...)
}

// follow shows Jobs of one namespace to their end, or until the timeout, unless that is 0.
// They go on without those who watch them.
func (d *display) follow(ctx context.Context, client kubernetes.Interface, timeout time.Duration, jobs ...*batchv1.Job) error {
	engine.RouteLibraryLogs(slog.New(slog.DiscardHandler)) // the follower says itself what goes wrong
	stops := catchSignals(ctx)
	defer stops.release()
	ctx = context.WithoutCancel(ctx)
	out := d.console()
	defer out.Close()
	f := newFollower(client, newLogReaders(stops.end, out, d.logOutput(out)), false)
	defer f.Close()
	f.namespace = jobs[0].Namespace
	for _, job := range jobs {
		f.addExisting(job)
	}
	ctx, release := stops.limit(ctx, timeout)
	defer release()
	res, err := f.result(f.Run(ctx))
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		out.Note("%s: job/%s goes on; `sampan explain job/%[2]s -n %s` says how far it is", context.Cause(ctx), jobs[0].Name, jobs[0].Namespace)
		return cmp.Or(tellMachines(res, d.output), error(&exitError{code: res.ExitCode}))
	}
	return conclude(res, d.output, out)
}

// addExisting follows a Job that may have begun before, or ended.
func (f *follower) addExisting(job *batchv1.Job) {
	at := job.CreationTimestamp.Time
	if s := job.Status.StartTime; s != nil {
		at = s.Time
	}
	// What was created just now is measured to the millisecond.
	if now := time.Now(); now.Sub(at) < 2*time.Second || at.IsZero() {
		at = now
	}
	f.add(started{job, at})
	if end := kind.JobEnd(job); end != nil {
		f.board.Job(end.LastTransitionTime.Time, job, false)
	}
}

// addPod follows a pod that may have begun before, or ended. One of a Job that is followed
// ends with it.
func (f *follower) addPod(pod *corev1.Pod) {
	if _, followed := f.workOf(pod); followed {
		return
	}
	f.missing[pod.UID] = pod
	f.add(started{pod, pod.CreationTimestamp.Time})
}
