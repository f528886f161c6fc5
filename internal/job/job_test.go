package job

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
)

// want is what a decision is expected to do, in the words of summary.
type want struct {
	pods       string // summary, space separated
	notes      string // reasons, space separated
	conditions string
	counts     string // active/ready/terminating succeeded/failed
	wake       time.Duration
	indexes    string // completedIndexes;failedIndexes
}

type decideCase struct {
	name string
	job  *batchv1.Job
	pods []*corev1.Pod
	now  time.Duration
	want want
}

func runCases(t *testing.T, cases []decideCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := state(c.job, c.pods...)
			set := Decide(t0.Add(c.now), s)
			j := nextJob(t, s, set)
			st := &j.Status
			got := want{
				pods: strings.Join(summary(set), " "), notes: strings.Join(reasons(set), " "),
				conditions: strings.Join(conditions(j), " "),
				counts: fmt.Sprintf("%d/%d/%d %d/%d", st.Active, ptr.Deref(st.Ready, -1), ptr.Deref(st.Terminating, -1),
					st.Succeeded, st.Failed),
			}
			if !set.WakeAt.IsZero() {
				got.wake = set.WakeAt.Sub(t0)
			}
			if indexed(c.job) {
				got.indexes = st.CompletedIndexes
				if st.FailedIndexes != nil {
					got.indexes += ";" + *st.FailedIndexes
				}
			}
			if got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestFixedCompletions(t *testing.T) {
	t.Parallel()
	onFailure := func(j *batchv1.Job) { j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }
	backoffLimit := func(n int32) func(*batchv1.Job) { return func(j *batchv1.Job) { j.Spec.BackoffLimit = &n } }
	deadline := func(j *batchv1.Job) { j.Spec.ActiveDeadlineSeconds = ptr.To[int64](60) }
	failedSoFar := func(n int32, last time.Duration) func(*batchv1.Job) {
		return func(j *batchv1.Job) {
			j.Status.Failed = n
			j.Annotations = map[string]string{BackoffAnnotation: streak{n, t0.Add(last), true}.String()}
		}
	}
	restarted := func(n int32) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: n}} }
	}
	one := func(edits ...func(*corev1.Pod)) []*corev1.Pod { return []*corev1.Pod{newPod("a", edits...)} }
	runCases(t, []decideCase{
		{"new", newJob(), nil, 0,
			want{pods: "+pi-", notes: "SuccessfulCreate", counts: "1/0/0 0/0"}},
		{"new, parallel", newJob(pods(3, 5)), nil, 0,
			want{pods: "+pi- +pi- +pi-", notes: "SuccessfulCreate SuccessfulCreate SuccessfulCreate", counts: "3/0/0 0/0"}},
		{"no completions asked for", newJob(pods(1, 0)), nil, 0,
			want{notes: "Completed", conditions: "SuccessCriteriaMet(CompletionsReached) Complete(CompletionsReached)", counts: "0/0/0 0/0"}},
		{"no parallelism", newJob(pods(0, 1)), nil, 0, want{counts: "0/0/0 0/0"}},
		{"running", newJob(started(1)), one(), time.Second, want{counts: "1/0/0 0/0"}},
		{"running and ready", newJob(started(1)), one(isReady), time.Second, want{counts: "1/1/0 0/0"}},
		{"one of two succeeded", newJob(pods(1, 2), started(1)), one(exited(time.Second, 0)), 2 * time.Second,
			want{pods: "+pi- !a", notes: "SuccessfulCreate", counts: "1/0/0 1/0"}},
		{"succeeded", newJob(started(1)), one(exited(time.Second, 0)), 2 * time.Second,
			want{pods: "!a", notes: "Completed", counts: "0/0/0 1/0",
				conditions: "SuccessCriteriaMet(CompletionsReached) Complete(CompletionsReached)"}},
		{"counted pods are not counted again", newJob(pods(1, 2), started(1), func(j *batchv1.Job) { j.Status.Succeeded = 1 }),
			[]*corev1.Pod{newPod("a", exited(0, 0), untracked), newPod("b")}, time.Second, want{counts: "1/0/0 1/0"}},
		{"failed", newJob(started(1)), one(exited(time.Second, 1)), time.Second,
			want{pods: "!a", notes: "BackOff", counts: "0/0/0 0/1", wake: 11 * time.Second}},
		{"failed, waiting", newJob(started(0), failedSoFar(1, time.Second)), nil, 10 * time.Second,
			want{counts: "0/0/0 0/1", wake: 11 * time.Second}},
		{"failed, waited", newJob(started(0), failedSoFar(1, time.Second)), nil, 11 * time.Second,
			want{pods: "+pi-", notes: "SuccessfulCreate", counts: "1/0/0 0/1"}},
		{"failed three times", newJob(started(1), failedSoFar(2, time.Second)), one(exited(time.Minute, 1)), time.Minute,
			want{pods: "!a", notes: "BackOff", counts: "0/0/0 0/3", wake: 100 * time.Second}},
		{"a success ends the row of failures", newJob(pods(1, 2), started(1), failedSoFar(2, time.Second)),
			one(exited(30*time.Second, 0)), 31 * time.Second,
			want{pods: "+pi- !a", notes: "SuccessfulCreate", counts: "1/0/0 1/2"}},
		{"deleted by a user", newJob(started(1)), one(deleted(time.Second)), time.Second,
			want{pods: "-a…", notes: "BackOff", counts: "0/0/1 0/1", wake: 11 * time.Second}},
		{"past the backoff limit", newJob(pods(2, 2), started(2), failedSoFar(1, time.Second), backoffLimit(1)),
			[]*corev1.Pod{newPod("a", exited(time.Minute, 1)), newPod("b")}, time.Minute,
			want{pods: "-b… !a", notes: "SuccessfulDelete", conditions: "FailureTarget(BackoffLimitExceeded)", counts: "0/0/1 0/3"}},
		{"past the backoff limit, nothing left", newJob(started(1), failedSoFar(1, time.Second), backoffLimit(1)),
			one(exited(time.Minute, 1)), time.Minute,
			want{pods: "!a", notes: "BackoffLimitExceeded", counts: "0/0/0 0/2",
				conditions: "FailureTarget(BackoffLimitExceeded) Failed(BackoffLimitExceeded)"}},
		{"restarts below the limit", newJob(onFailure, started(1), backoffLimit(2)), one(restarted(1)), time.Minute,
			want{counts: "1/0/0 0/0"}},
		{"restarts at the limit", newJob(onFailure, started(1), backoffLimit(2)), one(restarted(2)), time.Minute,
			want{pods: "-a…", notes: "SuccessfulDelete", conditions: "FailureTarget(BackoffLimitExceeded)", counts: "0/0/1 0/1"}},
		{"no restart, limit 0", newJob(onFailure, started(1), backoffLimit(0)), one(restarted(0)), time.Minute,
			want{counts: "1/0/0 0/0"}},
		{"one restart, limit 0", newJob(onFailure, started(1), backoffLimit(0)), one(restarted(1), pending), time.Minute,
			want{pods: "-a", notes: "SuccessfulDelete BackoffLimitExceeded", counts: "0/0/0 0/1",
				conditions: "FailureTarget(BackoffLimitExceeded) Failed(BackoffLimitExceeded)"}},
		{"restarts do not count with Never", newJob(started(1), backoffLimit(1)), one(restarted(5)), time.Minute,
			want{counts: "1/0/0 0/0"}},
		{"before the deadline", newJob(deadline, started(1)), one(), 59 * time.Second, want{counts: "1/0/0 0/0", wake: time.Minute}},
		{"a deadline of centuries", newJob(func(j *batchv1.Job) { j.Spec.ActiveDeadlineSeconds = ptr.To[int64](math.MaxInt64) }, started(1)), one(), time.Minute,
			want{counts: "1/0/0 0/0", wake: 9_223_372_036 * time.Second}},
		{"at the deadline", newJob(deadline, started(1)), one(), time.Minute,
			want{pods: "-a…", notes: "SuccessfulDelete", conditions: "FailureTarget(DeadlineExceeded)", counts: "0/0/1 0/1"}},
		{"a pod that was given up before is ended, and not counted", newJob(deadline, started(1)), one(untracked), time.Minute,
			want{pods: "-a…", notes: "SuccessfulDelete", conditions: "FailureTarget(DeadlineExceeded)", counts: "0/0/1 0/0"}},
		{"the last pod terminates after failure", newJob(deadline, started(0), func(j *batchv1.Job) {
			j.Status.Failed, j.Status.Terminating = 1, ptr.To[int32](1)
			j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailureTarget, Status: "True", Reason: "DeadlineExceeded"}}
		}), one(deleted(time.Minute), untracked), 62 * time.Second,
			want{conditions: "FailureTarget(DeadlineExceeded)", counts: "0/0/1 0/1"}},
		{"the last pod has terminated", newJob(deadline, started(0), func(j *batchv1.Job) {
			j.Status.Failed, j.Status.Terminating = 1, ptr.To[int32](1)
			j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailureTarget, Status: "True", Reason: "DeadlineExceeded"}}
		}), nil, 90 * time.Second,
			want{notes: "DeadlineExceeded", conditions: "FailureTarget(DeadlineExceeded) Failed(DeadlineExceeded)", counts: "0/0/0 0/1"}},
		{"success and failure at once: the success stands", newJob(started(2), backoffLimit(0), pods(2, 1)),
			[]*corev1.Pod{newPod("a", exited(0, 0)), newPod("b")}, time.Second,
			want{pods: "-b… !a", notes: "SuccessfulDelete", conditions: "SuccessCriteriaMet(CompletionsReached)", counts: "0/0/1 1/0"}},
		{"too many succeeded", newJob(started(2), pods(2, 1)), []*corev1.Pod{newPod("a", exited(0, 0)), newPod("b", exited(0, 0))}, time.Second,
			want{pods: "!a !b", notes: "TooManySucceededPods Completed", counts: "0/0/0 2/0",
				conditions: "SuccessCriteriaMet(CompletionsReached) Complete(CompletionsReached)"}},
		{"more pods than one set takes", newJob(pods(2000, 2000)), nil, 0,
			want{pods: strings.TrimSpace(strings.Repeat("+pi- ", 500)), notes: strings.TrimSpace(strings.Repeat("SuccessfulCreate ", 500)), counts: "500/0/0 0/0"}},
	})
}

func TestNewPod(t *testing.T) {
	t.Parallel()
	j := newJob(func(j *batchv1.Job) { j.Spec.Template.Annotations = map[string]string{"a": "b"} })
	set := Decide(t0.Add(1500*time.Millisecond), state(j))
	if len(set.Writes) != 2 {
		t.Fatalf("got %d writes", len(set.Writes))
	}
	pod := set.Writes[0].Object.(*corev1.Pod)
	if pod.Name != "" || pod.GenerateName != "pi-" || pod.Namespace != "ns" || set.Writes[0].Key != kind.Pods.Key("ns", "") {
		t.Errorf("it is named %+v", pod.ObjectMeta)
	}
	if !slices.Equal(pod.Finalizers, []string{"batch.kubernetes.io/job-tracking"}) || pod.Annotations["a"] != "b" ||
		pod.Labels["batch.kubernetes.io/job-name"] != "pi" {
		t.Errorf("got %+v", pod)
	}
	if owner := metav1.GetControllerOf(pod); owner == nil || owner.Kind != "Job" || owner.UID != j.UID || !*owner.BlockOwnerDeletion {
		t.Errorf("it is owned by %+v", pod.OwnerReferences)
	}
	if note := set.Notes[0]; note.Message != "Created pod: " || note.NameOf != metav1.Object(pod) || note.Component != "job-controller" || note.Regarding.UID != j.UID {
		t.Errorf("the note is %+v", note)
	}
	next := set.Writes[1].Object.(*batchv1.Job)
	if got := next.Status.StartTime; !got.Time.Equal(t0.Add(time.Second)) {
		t.Errorf("startTime is %v, want whole seconds", got)
	}
	if j.Status.StartTime != nil || j.Status.Active != 0 {
		t.Error("the Job that was read was modified")
	}
}

// What the API gives to every pod is not the core's to give.
func TestNewPodIsBare(t *testing.T) {
	t.Parallel()
	j := newJob()
	pod := Decide(t0, state(j)).Writes[0].Object.(*corev1.Pod)
	if pod.UID != "" || !pod.CreationTimestamp.IsZero() || pod.Generation != 0 || !reflect.DeepEqual(pod.Spec, j.Spec.Template.Spec) ||
		!reflect.DeepEqual(pod.Status, corev1.PodStatus{}) {
		t.Errorf("got %+v", pod)
	}
}

func TestRefusedPods(t *testing.T) {
	t.Parallel()
	refused := errors.New(`pods "pi-" is forbidden: no PriorityClass with name urgent was found`)
	s := state(newJob(pods(2, 2)))
	s.Refused = refused
	set := Decide(t0, s)
	if got := summary(set); len(got) > 0 {
		t.Errorf("it writes %v", got)
	}
	want := `Error creating: pods "pi-" is forbidden: no PriorityClass with name urgent was found`
	if len(set.Notes) != 1 || set.Notes[0].Reason != "FailedCreate" || set.Notes[0].Message != want {
		t.Errorf("got  %+v\nwant %s", set.Notes, want)
	}
	if !set.WakeAt.Equal(t0.Add(createRetry)) {
		t.Errorf("it wakes at %s", set.WakeAt)
	}
	// What there is room for is made all the same.
	s.Room = 1
	if set = Decide(t0, s); len(set.Notes) != 2 || len(summary(set)) != 1 || set.WakeAt.IsZero() {
		t.Errorf("with room for one it writes %v, says %v, and wakes at %v", summary(set), reasons(set), set.WakeAt)
	}
	// The pod of an index whose next one is refused stays uncounted: that one
	// inherits from it.
	s = state(newJob(perIndexLimit(1), pods(1, 1), started(0), done("", "")), indexPod(0, exited(0, 1), failedBefore(0)))
	s.Refused = refused
	if got := summary(Decide(t0.Add(time.Minute), s)); len(got) > 0 {
		t.Errorf("it writes %v", got)
	}
	// Nothing is refused when nothing would be created.
	s = state(newJob(started(1)), newPod("a"))
	s.Refused = refused
	if set := Decide(t0, s); !set.Empty() {
		t.Errorf("it decides %v %v", summary(set), reasons(set))
	}
}

func TestIndexPrefix(t *testing.T) {
	t.Parallel()
	if got := indexPrefix(strings.Repeat("x", 63), "12345"); got != strings.Repeat("x", 51)+"-12345-" {
		t.Errorf("got %s", got)
	}
}
