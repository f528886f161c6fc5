package job

import (
	"fmt"
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
)

const (
	completed = "SuccessCriteriaMet(CompletionsReached) Complete(CompletionsReached)"
	second    = time.Second
)

func TestWorkQueue(t *testing.T) {
	t.Parallel()
	succeededOnce := func(j *batchv1.Job) { j.Status.Succeeded = 1 }
	runCases(t, []decideCase{
		{"new", newJob(workQueue(2)), nil, 0, want{pods: "+pi- +pi-", notes: "SuccessfulCreate SuccessfulCreate", counts: "2/0/0 0/0"}},
		{"the first success stops new pods", newJob(workQueue(2), started(2)), []*corev1.Pod{newPod("a", exited(0, 0)), newPod("b")}, second,
			want{pods: "!a", counts: "1/0/0 1/0"}},
		{"a later failure is not replaced", newJob(workQueue(2), started(1), succeededOnce),
			[]*corev1.Pod{newPod("b", exited(0, 1)), newPod("c")}, second,
			want{pods: "!b", notes: "NotReplaced", counts: "1/0/0 1/1"}},
		{"all have ended", newJob(workQueue(2), started(1), succeededOnce), []*corev1.Pod{newPod("b", exited(0, 0))}, second,
			want{pods: "!b", notes: "Completed", counts: "0/0/0 2/0", conditions: completed}},
		{"the last one fails after a success", newJob(workQueue(2), started(1), succeededOnce), []*corev1.Pod{newPod("b", exited(0, 1))}, second,
			want{pods: "!b", notes: "NotReplaced Completed", counts: "0/0/0 1/1", conditions: completed}},
		{"all have failed", newJob(workQueue(1), started(1)), []*corev1.Pod{newPod("b", exited(0, 1))}, second,
			want{pods: "!b", notes: "BackOff", counts: "0/0/0 0/1", wake: 10 * second}},
	})
}

func TestParallelismChanges(t *testing.T) {
	t.Parallel()
	three := []*corev1.Pod{newPod("ready", isReady), newPod("running"), newPod("waiting", pending)}
	runCases(t, []decideCase{
		{"raised", newJob(pods(5, 9), started(3)), three, second,
			want{pods: "+pi- +pi-", notes: "SuccessfulCreate SuccessfulCreate", counts: "5/1/0 0/0"}},
		{"lowered to 2", newJob(pods(2, 9), started(3)), three, second,
			want{pods: "-waiting", notes: "SuccessfulDelete", counts: "2/1/0 0/0"}},
		{"lowered to 1", newJob(pods(1, 9), started(3)), three, second,
			want{pods: "-waiting -running…", notes: "SuccessfulDelete SuccessfulDelete", counts: "1/1/1 0/0"}},
		{"lowered to 0", newJob(pods(0, 9), started(3)), three, second,
			want{pods: "-waiting -running… -ready…", notes: "SuccessfulDelete SuccessfulDelete SuccessfulDelete", counts: "0/0/2 0/0"}},
		{"a pod that was let go is not a failure", newJob(pods(1, 9), started(1)),
			[]*corev1.Pod{newPod("a"), newPod("b", deleted(0), untracked)}, second, want{counts: "1/0/1 0/0"}},
	})
}

func TestSuspend(t *testing.T) {
	t.Parallel()
	suspend := func(j *batchv1.Job) { j.Spec.Suspend = ptr.To(true) }
	was := func(status corev1.ConditionStatus, reason, message string) func(*batchv1.Job) {
		return func(j *batchv1.Job) {
			j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobSuspended, Status: status, Reason: reason, Message: message}}
		}
	}
	deadline := func(j *batchv1.Job) { j.Spec.ActiveDeadlineSeconds = ptr.To[int64](60) }
	noStart := func(j *batchv1.Job) { j.Status.StartTime = nil }
	done := func(j *batchv1.Job) {
		j.Status.Succeeded = 1
		j.Status.Conditions = append(j.Status.Conditions, batchv1.JobCondition{
			Type: batchv1.JobSuccessCriteriaMet, Status: "True", Reason: "CompletionsReached", Message: "Reached expected number of succeeded pods"})
	}
	cases := []decideCase{
		{"created suspended", newJob(suspend), nil, 0, want{notes: "Suspended", conditions: "Suspended(JobSuspended)", counts: "0/0/0 0/0"}},
		{"suspended while running", newJob(suspend, pods(2, 2), started(2)), []*corev1.Pod{newPod("a"), newPod("b", pending)}, second,
			want{pods: "-a… -b", notes: "SuccessfulDelete SuccessfulDelete Suspended", conditions: "Suspended(JobSuspended)", counts: "0/0/1 0/0"}},
		{"suspended, past the deadline", newJob(suspend, deadline, started(0), was("True", "JobSuspended", "Job suspended")), nil, time.Hour,
			want{conditions: "Suspended(JobSuspended)", counts: "0/0/0 0/0"}},
		{"suspended, but done", newJob(suspend, started(1)), []*corev1.Pod{newPod("a", exited(0, 0))}, second,
			want{pods: "!a", notes: "Completed", conditions: completed, counts: "0/0/0 1/0"}},
		{"resumed", newJob(started(0), noStart, was("True", "JobSuspended", "Job suspended")), nil, second,
			want{pods: "+pi-", notes: "SuccessfulCreate Resumed", conditions: "Suspended=False(JobResumed)", counts: "1/0/0 0/0"}},
		{"resumed with a deadline", newJob(started(0), deadline, noStart, was("True", "JobSuspended", "Job suspended")), nil, time.Hour,
			want{pods: "+pi-", notes: "SuccessfulCreate Resumed", conditions: "Suspended=False(JobResumed)", counts: "1/0/0 0/0", wake: time.Hour + time.Minute}},
		{"done, but suspended before it started", newJob(suspend, started(0), noStart, was("True", "JobSuspended", "Job suspended"), done), nil, second,
			want{conditions: "Suspended(JobSuspended) SuccessCriteriaMet(CompletionsReached)", counts: "0/0/0 1/0"}},
		{"done, and resumed", newJob(started(0), noStart, was("True", "JobSuspended", "Job suspended"), done), nil, second,
			want{notes: "Completed", conditions: "Suspended(JobSuspended) " + completed, counts: "0/0/0 1/0"}},
		{"suspended, and nothing to do", newJob(suspend, pods(1, 0)), nil, 0, want{notes: "Completed", conditions: completed, counts: "0/0/0 0/0"}},
	}
	runCases(t, cases)
	for _, c := range []struct {
		decideCase
		start *metav1.Time
	}{{cases[1], nil}, {cases[4], at(second)}} {
		s := state(c.job, c.pods...)
		if got := nextJob(t, s, Decide(t0.Add(c.now), s)).Status.StartTime; !got.Equal(c.start) {
			t.Errorf("%s: startTime is %v, want %v", c.name, got, c.start)
		}
	}
}

func TestPodFailurePolicy(t *testing.T) {
	t.Parallel()
	exit := func(action batchv1.PodFailurePolicyAction, op batchv1.PodFailurePolicyOnExitCodesOperator, codes ...int32) batchv1.PodFailurePolicyRule {
		return batchv1.PodFailurePolicyRule{Action: action, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: op, Values: codes}}
	}
	disrupted := batchv1.PodFailurePolicyRule{Action: "Ignore", OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{
		{Type: corev1.DisruptionTarget, Status: "True"}}}
	rules := func(r ...batchv1.PodFailurePolicyRule) func(*batchv1.Job) {
		return func(j *batchv1.Job) {
			j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: r}
			j.Spec.PodReplacementPolicy = ptr.To(batchv1.Failed)
		}
	}
	evicted := func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: "True"}}
	}
	failJob := rules(disrupted, exit("FailJob", "In", 42))
	limit0 := func(j *batchv1.Job) { j.Spec.BackoffLimit = ptr.To[int32](0) }
	cases := []decideCase{
		{"FailJob", newJob(pods(2, 2), started(2), failJob), []*corev1.Pod{newPod("a", exited(0, 42)), newPod("b")}, second,
			want{pods: "-b… !a", notes: "SuccessfulDelete", conditions: "FailureTarget(PodFailurePolicy)", counts: "0/0/1 0/2"}},
		{"FailJob, other code", newJob(started(1), failJob), []*corev1.Pod{newPod("a", exited(0, 41))}, second,
			want{pods: "!a", notes: "BackOff", counts: "0/0/0 0/1", wake: 10 * second}},
		{"Ignore", newJob(started(1), limit0, failJob), []*corev1.Pod{newPod("a", exited(0, 42), evicted)}, second,
			want{pods: "!a", notes: "BackOff PodFailureIgnored", counts: "0/0/0 0/0", wake: 10 * second}},
		{"Count comes first", newJob(started(1), rules(exit("Count", "In", 42), exit("FailJob", "NotIn", 1))), []*corev1.Pod{newPod("a", exited(0, 42))}, second,
			want{pods: "!a", notes: "BackOff", counts: "0/0/0 0/1", wake: 10 * second}},
		{"NotIn", newJob(started(1), rules(exit("FailJob", "NotIn", 1, 2))), []*corev1.Pod{newPod("a", exited(0, 3))}, second,
			want{pods: "!a", notes: "PodFailurePolicy", conditions: "FailureTarget(PodFailurePolicy) Failed(PodFailurePolicy)", counts: "0/0/0 0/1"}},
		{"a terminating pod is not replaced before it has ended", newJob(started(1), failJob), []*corev1.Pod{newPod("a", deleted(0))}, second,
			want{notes: "WaitingForTermination", counts: "0/0/1 0/0"}},
		{"a terminating pod that has ended", newJob(started(0), failJob, func(j *batchv1.Job) { j.Status.Terminating = ptr.To[int32](1) }),
			[]*corev1.Pod{newPod("a", deleted(0), exited(5*second, 143))}, 5 * second,
			want{pods: "-a…", notes: "BackOff", counts: "0/0/0 0/1", wake: 15 * second}},
		{"a terminating pod of a failed Job", newJob(pods(2, 2), started(2), failJob),
			[]*corev1.Pod{newPod("a", exited(0, 42)), newPod("b", deleted(0))}, second,
			want{pods: "!a -b…", conditions: "FailureTarget(PodFailurePolicy)", counts: "0/0/1 0/2"}},
	}
	runCases(t, cases)
	s := state(cases[0].job, cases[0].pods...)
	got := nextJob(t, s, Decide(t0, s)).Status.Conditions[0].Message
	if want := "Container main for pod ns/a failed with exit code 42 matching FailJob rule at index 1"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	byCondition := &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{Action: "FailJob", OnPodConditions: disrupted.OnPodConditions}}}
	if got, want := judge(byCondition, newPod("a", evicted)).message, "Pod ns/a has condition DisruptionTarget matching FailJob rule at index 0"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestOwnership(t *testing.T) {
	t.Parallel()
	strange := func(p *corev1.Pod) { p.Labels = map[string]string{"app": "other"} }
	foreign := func(p *corev1.Pod) { p.OwnerReferences[0].UID = "another" }
	leaving := func(j *batchv1.Job) { j.DeletionTimestamp = at(0) }
	managed := func(j *batchv1.Job) { j.Spec.ManagedBy = ptr.To("kueue.x-k8s.io/multikueue") }
	over := func(j *batchv1.Job) {
		j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: "True"}}
	}
	runCases(t, []decideCase{
		{"adopted", newJob(), []*corev1.Pod{newPod("a", orphan)}, 0, want{pods: "~a", notes: "PodAdopted", counts: "1/0/0 0/0"}},
		{"adopted and counted at once", newJob(), []*corev1.Pod{newPod("a", orphan, exited(0, 0))}, 0,
			want{pods: "!a", notes: "PodAdopted Completed", conditions: completed, counts: "0/0/0 1/0"}},
		{"not adopted: labels", newJob(), []*corev1.Pod{newPod("a", orphan, strange)}, 0, want{pods: "+pi-", notes: "SuccessfulCreate", counts: "1/0/0 0/0"}},
		{"not adopted: being deleted", newJob(), []*corev1.Pod{newPod("a", orphan, deleted(0))}, 0,
			want{pods: "+pi-", notes: "SuccessfulCreate", counts: "1/0/0 0/0"}},
		{"not adopted: another's", newJob(), []*corev1.Pod{newPod("a", foreign)}, 0, want{pods: "+pi-", notes: "SuccessfulCreate", counts: "1/0/0 0/0"}},
		{"too many adopted", newJob(), []*corev1.Pod{newPod("a", orphan), newPod("b", orphan, pending)}, 0,
			want{pods: "-b ~a", notes: "PodAdopted SuccessfulDelete PodAdopted", counts: "1/0/0 0/0"}},
		{"let go", newJob(started(1)), []*corev1.Pod{newPod("a", strange)}, 0, want{pods: "!a +pi-", notes: "PodReleased SuccessfulCreate", counts: "1/0/0 0/0"}},
		{"of no index", newJob(indexedJob, started(1)), []*corev1.Pod{newPod("a", withIndex(0)), newPod("b", withIndex(7), exited(0, 1))}, 0,
			want{pods: "!b", notes: "PodNotCounted", counts: "1/0/0 0/0"}},
		{"let go: counted before", newJob(pods(1, 2), started(1), func(j *batchv1.Job) { j.Status.Succeeded = 1 }),
			[]*corev1.Pod{newPod("a", exited(0, 0), untracked, strange), newPod("b")}, second, want{pods: "!a", notes: "PodReleased", counts: "1/0/0 1/0"}},
		{"being deleted: pods are released, none is created", newJob(pods(3, 3), leaving, started(1)),
			[]*corev1.Pod{newPod("a"), newPod("b", exited(0, 0)), newPod("c", exited(0, 1)), newPod("d", orphan)}, second,
			want{pods: "!b !c !a", counts: "1/0/0 1/1"}},
		{"managed by somebody else", newJob(managed), []*corev1.Pod{newPod("a", exited(0, 0))}, 0, want{notes: "ManagedBy", counts: "0/-1/-1 0/0"}},
		{"managed by somebody else, under way", newJob(managed, started(1)), []*corev1.Pod{newPod("a", exited(0, 0))}, 0, want{counts: "1/0/0 0/0"}},
		{"over: leftovers are released", newJob(over), []*corev1.Pod{newPod("a"), newPod("b", orphan), newPod("c", untracked)}, 0,
			want{pods: "!a", conditions: "Complete()", counts: "0/-1/-1 0/0"}},
	})
	runCases(t, []decideCase{
		{"uncounted pods that are gone are counted", newJob(pods(1, 3), started(1), uncounted("x", "y")), []*corev1.Pod{newPod("a")}, second,
			want{counts: "1/0/0 1/1"}},
		{"uncounted pods that are still there are released", newJob(pods(1, 3), started(1), uncounted("uid-a", "uid-b")),
			[]*corev1.Pod{newPod("a", exited(0, 0)), newPod("b", exited(0, 1)), newPod("c")}, second,
			want{pods: "!a !b", counts: "1/0/0 1/1"}},
		{"an uncounted pod completes its index", newJob(indexedJob, pods(2, 2), started(2), uncounted("uid-pi-0-x", "y")),
			[]*corev1.Pod{indexPod(0, exited(0, 0)), indexPod(1)}, second, want{pods: "!pi-0-x", counts: "1/0/0 1/1", indexes: "0"}},
		{"an uncounted pod was one too many", newJob(pods(2, 2), started(1), uncounted("x", "y"), func(j *batchv1.Job) { j.Spec.BackoffLimit = ptr.To[int32](0) }),
			nil, second, want{notes: "BackoffLimitExceeded", counts: "0/0/0 1/1",
				conditions: "FailureTarget(BackoffLimitExceeded) Failed(BackoffLimitExceeded)"}},
	})
	set := Decide(t0, state(newJob(started(1)), newPod("a", strange)))
	if got := set.Writes[0].Object.(*corev1.Pod); len(got.OwnerReferences) != 0 {
		t.Errorf("a pod that was let go is owned by %v", got.OwnerReferences)
	}
	set = Decide(t0, state(newJob(started(0)), newPod("a", func(p *corev1.Pod) { p.OwnerReferences[0].Controller = nil })))
	if got := set.Writes[0].Object.(*corev1.Pod); len(got.OwnerReferences) != 1 || !metav1.IsControlledBy(got, newJob()) {
		t.Errorf("an adopted pod that named the Job before is owned by %v", got.OwnerReferences)
	}
	set = Decide(t0, state(newJob(over), newPod("a")))
	if want := (change.Guard{Key: jobKey(newJob()), Rev: 10}); !slices.Contains(set.Guards, want) {
		t.Errorf("the set is guarded by %v, want %v", set.Guards, want)
	}
}

// Pods that are let go are, like all else, so many at a time.
func TestLettingManyPodsGo(t *testing.T) {
	t.Parallel()
	var many []*corev1.Pod
	for i := range batch + 100 {
		many = append(many, newPod(fmt.Sprintf("p%03d", i), func(p *corev1.Pod) { p.Labels = nil }))
	}
	set := Decide(t0, state(newJob(pods(0, 1), started(batch+100)), many...))
	let := 0
	for _, w := range set.Writes {
		if pod, ok := w.Object.(*corev1.Pod); ok && metav1.GetControllerOf(pod) == nil {
			let++
		}
	}
	if let != batch || !set.WakeAt.Equal(t0) {
		t.Errorf("%d pods are let go, and the next look is at %v", let, set.WakeAt)
	}
}
