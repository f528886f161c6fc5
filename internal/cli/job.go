package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/sampan-batch/sampan/internal/plan"
)

func newJob() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "job",
		Short: "Run Jobs now, and again",
		Long: `Commands that start Jobs through the API, on this machine's engine or any Kubernetes cluster.
"sampan explain job/NAME" says what became of one.`,
		Example: `  sampan job run cronjob/nightly --logs
  sampan job rerun job/render --failed-indexes`,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newJobRun(), newJobRerun())
	return cmd
}

// exitsOfJobs is the part of the help about exit statuses.
const exitsOfJobs = `It exits with 0 when the Job was created or, with --wait or --logs, is Complete; 1 when it
Failed, was deleted before its end, or could not be created; 2 when the input is wrong;
124 when --timeout passed and 130 on Ctrl-C, after which the Job goes on.`

// jobOptions are what `job run` and `job rerun` have in common.
type jobOptions struct {
	cluster    cluster
	name       string
	wait, logs bool
	timeout    time.Duration
}

func (o *jobOptions) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "", "name of the new Job")
	f.BoolVar(&o.wait, "wait", false, "follow the Job to its end; the exit status says how that was")
	f.BoolVar(&o.logs, "logs", false, "print what its pods write, and wait for its end")
	f.DurationVar(&o.timeout, "timeout", 0, "with --wait or --logs: wait no longer than this; the Job goes on (0: wait for ever)")
	o.cluster.addFlags(cmd, f, "n")
}

func newJobRun() *cobra.Command {
	var o jobOptions
	var change overrides
	cmd := &cobra.Command{
		Use:   "run cronjob/NAME",
		Short: "Start the Job of a CronJob now",
		Long: `Run creates a Job from the template of a CronJob, now, as "kubectl create job --from" does: it
belongs to the CronJob, is deleted with it and counts towards its history limits, but
the schedule takes no notice of it. A suspended CronJob can be run, too.

--env, --arg and --image change this one run only.

` + exitsOfJobs,
		Example: `  sampan job run cronjob/nightly
  sampan job run cronjob/report --env DAY=2026-03-01 --logs
  sampan job run cronjob/import --image registry/import:next --arg --dry-run --wait`,
		Args: wantArgs(cobra.ExactArgs(1), "of which CronJob? Give cronjob/NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := oneTarget(args[0], kindCronJob)
			if err != nil {
				return err
			}
			overrides, err := change.read(os.LookupEnv)
			if err != nil {
				return err
			}
			return o.start(cmd, func(ctx context.Context, client kubernetes.Interface, namespace string) (*batchv1.Job, error) {
				return runCronJob(ctx, client, namespace, at.name, o.name, overrides)
			})
		},
		ValidArgsFunction: o.cluster.completeTargets(kindCronJob),
	}
	change.addFlags(cmd)
	o.addFlags(cmd)
	return cmd
}

func newJobRerun() *cobra.Command {
	var o jobOptions
	var onlyFailed bool
	cmd := &cobra.Command{
		Use:   "rerun job/NAME",
		Short: "Run a finished Job once more",
		Long: `Rerun creates a new Job, NAME-rerun-1 and so on, with the spec of a finished one.

With --failed-indexes, of an Indexed Job that failed, only the indexes run that have not
succeeded: those that failed, and those whose turn never came. Every pod gets the index,
the host name suffix and the JOB_COMPLETION_INDEX that it had before. To that end the new
Job is created suspended, is told by its status (completedIndexes, succeeded) what the
first one has done already, and is then resumed; it is Complete when all indexes are.
The annotation sampan.dev/carried-indexes names those that were taken over. This needs
permission to patch jobs/status, and works on every Kubernetes with Indexed Jobs.

` + exitsOfJobs,
		Example: `  sampan job rerun job/import
  sampan job rerun job/render --failed-indexes --logs`,
		Args: wantArgs(cobra.ExactArgs(1), "which Job? Give job/NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := oneTarget(args[0], kindJob)
			if err != nil {
				return err
			}
			return o.start(cmd, func(ctx context.Context, client kubernetes.Interface, namespace string) (*batchv1.Job, error) {
				return rerunJob(ctx, client, namespace, at.name, o.name, onlyFailed)
			})
		},
		ValidArgsFunction: o.cluster.completeTargets(kindJob),
	}
	cmd.Flags().BoolVar(&onlyFailed, "failed-indexes", false, "run only the indexes that have not succeeded")
	o.addFlags(cmd)
	return cmd
}

// start creates a Job and, if that is asked for, follows it.
func (o *jobOptions) start(cmd *cobra.Command, create func(context.Context, kubernetes.Interface, string) (*batchv1.Job, error)) error {
	switch {
	case o.timeout < 0:
		return usage(errors.New("--timeout: must not be negative"))
	case o.timeout > 0 && !o.wait && !o.logs:
		return usage(errors.New("--timeout: of what? Give --wait or --logs with it"))
	}
	client, namespace, err := o.cluster.connect()
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	job, err := create(ctx, client, namespace)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "job.batch/%s created\n", plain(job.Name))
	if !o.wait && !o.logs {
		return nil
	}
	d := &display{logs: logsNone}
	if o.logs {
		d.logs = logsAll
	}
	return d.follow(ctx, client, o.timeout, job)
}

// runCronJob creates a Job from the template of a CronJob.
func runCronJob(ctx context.Context, client kubernetes.Interface, namespace, cronJob, name string, change plan.Overrides) (*batchv1.Job, error) {
	c, err := client.BatchV1().CronJobs(namespace).Get(ctx, cronJob, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	job := fromCronJob(c, name)
	if err := change.Apply(&job.Spec.Template.Spec); err != nil {
		return nil, usage(err)
	}
	return client.BatchV1().Jobs(namespace).Create(ctx, job, strict)
}

// strict is how commands create what a user asked for.
var strict = metav1.CreateOptions{FieldManager: fieldManager, FieldValidation: metav1.FieldValidationStrict}
