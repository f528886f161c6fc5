package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/sampan-batch/sampan/internal/kind"
)

type logsOptions struct {
	cluster    cluster
	selection  logSelection
	follow     bool
	timestamps bool
	since      time.Duration
	tail       int64
}

func newLogs() *cobra.Command {
	var o logsOptions
	cmd := &cobra.Command{
		Use:   "logs job/NAME... | cronjob/NAME... | pod/NAME...",
		Short: "Print what the pods of Jobs have written",
		Long: `Logs prints the logs of all pods of a Job that are still there, one after the other: in the
order of their indexes, tries of one index in the order in which they began, and of a pod
first its init containers. Of a CronJob it takes the Job that was started last. Behind the pod's name, unless there is but one log. What a
container wrote before it was started again is in --previous.

It works with this machine's engine, which has all of a log that it keeps, and with any
Kubernetes cluster, of which a node gives out the newest file of a log that was rotated.

It exits with 0 when all logs are printed, 1 when one could not be read, 2 when the input
is wrong, and 130 on Ctrl-C.`,
		Example: `  sampan logs job/import
  sampan logs job/import --failed --tail=20
  sampan logs cronjob/nightly                      # of its last run
  sampan logs job/render --index 7,100-199 --timestamps
  sampan logs job/import -f                        # goes on to the end of the Job
  sampan logs pod/import-7-x2k4f -f -c main        # or of the pod, also where nothing has started yet
  sampan logs job/import -p -c main                # before it was started again`,
		Args: wantArgs(cobra.MinimumNArgs(1), "of what? Give job/NAME, cronjob/NAME or pod/NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(context.WithoutCancel(cmd.Context()), args)
		},
		ValidArgsFunction: o.cluster.completeTargets(kindJob, kindCronJob, kindPod),
	}
	f := cmd.Flags()
	f.BoolVar(&o.selection.failed, "failed", false, "only of containers that failed")
	f.StringVar(&o.selection.indexes, "index", "", "only of these indexes: 7 or 1,3-5")
	f.StringVarP(&o.selection.container, "container", "c", "", "only of this container")
	f.BoolVarP(&o.selection.previous, "previous", "p", false, "what a container wrote before it was started again")
	f.BoolVarP(&o.follow, "follow", "f", false, "go on with what is written until the Jobs and Pods end")
	f.BoolVar(&o.timestamps, "timestamps", false, "print the time in front of each line")
	f.DurationVar(&o.since, "since", 0, "only what was written so long ago at most, as 90s or 2h")
	f.Int64Var(&o.tail, "tail", -1, "only so many lines at the end of each log")
	o.cluster.addFlags(cmd, f, "n")
	return cmd
}

// logSelection says which logs are meant.
type logSelection struct {
	failed, previous   bool
	indexes, container string
	spans              [][2]int // what indexes say: first and last
}

// check reads the indexes, in any order.
func (s *logSelection) check() error {
	if s.indexes == "" {
		return nil
	}
	for item := range strings.SplitSeq(s.indexes, ",") {
		from, to, isRange := strings.Cut(item, "-")
		first, err := strconv.Atoi(from)
		last := first
		if err == nil && isRange {
			last, err = strconv.Atoi(to)
		}
		if err != nil || first < 0 || last < first {
			return usage(fmt.Errorf("--index: %q is not of the form 1,3-5", s.indexes))
		}
		s.spans = append(s.spans, [2]int{first, last})
	}
	return nil
}

func (o *logsOptions) check() error {
	switch {
	case o.since < 0 || o.since > 0 && o.since < time.Second:
		return usage(errors.New("--since: give a second or more"))
	case o.follow && o.selection.previous:
		return usage(errors.New("--previous and --follow: what was written before has an end"))
	}
	return o.selection.check()
}

func (o *logsOptions) run(ctx context.Context, args []string) error {
	targets, all, err := readTargets(args, kindJob, kindCronJob, kindPod)
	if err == nil && all {
		err = errors.New("of what? Give job/NAME, cronjob/NAME or pod/NAME")
	}
	if err != nil {
		return usage(err)
	}
	if err := o.check(); err != nil {
		return err
	}
	o.cluster.bulk = true
	client, namespace, err := o.cluster.connect()
	if err != nil {
		return err
	}
	stops := catchSignals(ctx)
	defer stops.release()
	ctx, release := stops.limit(ctx, 0)
	defer release()
	out := newConsole(os.Stdout, os.Stderr)
	if inWorkflow() {
		out = newWorkflowConsole(os.Stdout)
	}
	defer out.Close()
	r := &logReport{logsOptions: o, client: client, console: out, shown: map[string]bool{}}
	if err = latestJobs(ctx, client, namespace, targets); err == nil {
		err = r.print(ctx, namespace, targets)
	}
	if cause := context.Cause(ctx); cause != nil {
		return &exitError{code: exitOf(cause)}
	}
	return cmp.Or(err, out.err())
}

// latestJobs has the Job that a CronJob started last take the place of each CronJob.
func latestJobs(ctx context.Context, client kubernetes.Interface, namespace string, targets []target) error {
	for i, t := range targets {
		if t.kind != kindCronJob {
			continue
		}
		c, err := client.BatchV1().CronJobs(namespace).Get(ctx, t.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		jobs, err := client.BatchV1().Jobs(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		own := slices.DeleteFunc(jobs.Items, func(j batchv1.Job) bool { return !metav1.IsControlledBy(&j, c) })
		if len(own) == 0 {
			return fmt.Errorf("cronjob/%s has no Job (any more): sampan explain cronjob/%s says when it starts one", t.name, t.name)
		}
		latest := slices.MaxFunc(own, func(a, b batchv1.Job) int {
			return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
		})
		targets[i] = target{kind: kindJob, namespace: t.namespace, name: latest.Name}
	}
	return nil
}

// podsOf returns the pods that are meant by a target, in the order of their indexes, and
// the Job that they belong to, if they do.
func podsOf(ctx context.Context, client kubernetes.Interface, namespace string, t target) ([]*corev1.Pod, *batchv1.Job, error) {
	if t.kind == kindPod {
		pod, err := client.CoreV1().Pods(namespace).Get(ctx, t.name, metav1.GetOptions{})
		return []*corev1.Pod{pod}, nil, err
	}
	job, err := client.BatchV1().Jobs(namespace).Get(ctx, t.name, metav1.GetOptions{})
	if err != nil || job.Spec.Selector == nil {
		return nil, job, err
	}
	list, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(job.Spec.Selector)})
	if err != nil {
		return nil, job, err
	}
	var pods []*corev1.Pod
	for i := range list.Items {
		if metav1.IsControlledBy(&list.Items[i], job) {
			pods = append(pods, &list.Items[i])
		}
	}
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(indexOf(a), indexOf(b)), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return pods, job, nil
}

// indexOf is the index of a pod, -1 if it has none.
func indexOf(pod *corev1.Pod) int {
	if i, indexed := kind.CompletionIndex(pod); indexed {
		return i
	}
	return -1
}

// of returns the logs that are meant of the pods that there are.
func (s *logSelection) of(pods []*corev1.Pod) []podLog {
	var logs []podLog
	for _, pod := range pods {
		if !s.pod(pod) {
			continue
		}
		for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			if id := s.life(pod, &status); id != "" {
				logs = append(logs, podLog{pod: pod, container: status.Name, id: id, running: status.State.Running != nil})
			}
		}
	}
	return logs
}

func (s *logSelection) pod(pod *corev1.Pod) bool {
	i := indexOf(pod)
	return s.spans == nil || slices.ContainsFunc(s.spans, func(span [2]int) bool { return span[0] <= i && i <= span[1] })
}

func (s *logSelection) named(container string) bool {
	return s.container == "" || s.container == container
}

// there refuses a container that no pod has.
func (s *logSelection) there(t target, work kind.Object) error {
	names := containersOf(work)
	if s.container == "" || slices.Contains(names, s.container) {
		return nil
	}
	return usage(fmt.Errorf("--container: %s/%s has no container %q; it has %s", t.kind, t.name, s.container, strings.Join(names, ", ")))
}

// single: there is but one log that can be meant, that of the only container of a pod.
func (s *logSelection) single(works []kind.Object) bool {
	if len(works) != 1 {
		return false
	}
	_, alone := works[0].(*corev1.Pod)
	return alone && (s.container != "" || len(containersOf(works[0])) == 1)
}

// containersOf names the containers of a pod, or of the pods of a Job.
func containersOf(work kind.Object) (names []string) {
	_, spec := kind.PodOf(work)
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		names = append(names, c.Name)
	}
	for _, c := range spec.EphemeralContainers {
		names = append(names, c.Name)
	}
	return names
}

// life returns the ID of the container whose log is meant, "" if none is.
func (s *logSelection) life(pod *corev1.Pod, status *corev1.ContainerStatus) string {
	now, last := status.State.Terminated, status.LastTerminationState.Terminated
	id := status.ContainerID
	if s.previous || id == "" || status.State.Waiting != nil {
		now = last // as it is while a container waits to be started again
		id = ""
		if last != nil {
			id = last.ContainerID
		}
	}
	switch {
	case !s.named(status.Name):
		return ""
	case s.failed && (now == nil || now.ExitCode == 0 || kind.Sidecar(pod, status.Name) && pod.Status.Phase == corev1.PodSucceeded):
		return ""
	}
	return id
}
