package control

import (
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// This file plays the node and the users: what a world meets from outside.

// node takes one step of the life of a pod that is bound.
func (w *world) node(pod *corev1.Pod) {
	obj, ok := w.store.View().Get(w.kindOf(pod).KeyOf(pod))
	if !ok || obj.(*corev1.Pod).Spec.NodeName == "" {
		return
	}
	pod = obj.(*corev1.Pod)
	leaving := pod.DeletionTimestamp != nil
	switch {
	case leaving && (kind.PodEnded(pod) || w.chance(6)):
		if write, ok := w.kindOf(pod).Removal(pod, change.RevOf(pod), w.now(), ptr.To[int64](0)); ok {
			w.apply(change.Set{Writes: []change.Write{write}})
		}
	case kind.PodEnded(pod):
	case pod.Status.Phase == corev1.PodPending && !w.chance(4): // else it is over before it was seen to run
		w.report(pod, func(s *corev1.PodStatus) {
			s.Phase = corev1.PodRunning
			s.ContainerStatuses = []corev1.ContainerStatus{{Name: "c"}}
			s.Conditions = append(s.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: w.stamp()})
		})
	case pod.Spec.RestartPolicy == corev1.RestartPolicyOnFailure && len(pod.Status.ContainerStatuses) > 0 && w.chance(w.unlikely(4)):
		w.report(pod, func(s *corev1.PodStatus) { s.ContainerStatuses[0].RestartCount++ })
	case leaving || w.chance(2):
		w.end(pod)
	}
}

// unlikely is how seldom what is bad for a Job happens; hardly ever, when the
// world is calm.
func (w *world) unlikely(oneIn int) int {
	if w.calm {
		return 20 * oneIn
	}
	return oneIn
}

// end ends the containers of a pod.
func (w *world) end(pod *corev1.Pod) {
	w.report(pod, func(s *corev1.PodStatus) {
		s.Phase = corev1.PodSucceeded
		var code int32
		if w.chance(w.unlikely(4)) || pod.DeletionTimestamp != nil && w.chance(2) {
			s.Phase, code = corev1.PodFailed, int32(1+w.rand.IntN(4))
		}
		s.Conditions = slices.DeleteFunc(s.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady })
		s.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: w.stamp()},
		}}}
	})
}

// report writes a pod's status, as the node does.
func (w *world) report(pod *corev1.Pod, edit func(*corev1.PodStatus)) {
	next := pod.DeepCopy()
	edit(&next.Status)
	w.replace(pod, next)
}

func (w *world) stamp() metav1.Time { return metav1.NewTime(w.now().Truncate(time.Second)) }

// meddle is somebody acting on something that exists.
func (w *world) meddle() {
	if pods := list[*corev1.Pod](w, kind.Pods); len(pods) > 0 && w.chance(2) {
		w.node(pods[w.rand.IntN(len(pods))])
		return
	}
	w.user()
}

// user does something that users do to what is there.
func (w *world) user() {
	switch w.rand.IntN(10) {
	case 0, 1, 2:
		if all := list[*corev1.Pod](w, kind.Pods); len(all) > 0 {
			w.touchPod(all[w.rand.IntN(len(all))])
		}
	case 3, 4, 5, 6:
		if all := list[*batchv1.Job](w, kind.Jobs); len(all) > 0 {
			w.touchJob(all[w.rand.IntN(len(all))])
		}
	default:
		if all := list[*batchv1.CronJob](w, kind.CronJobs); len(all) > 0 {
			w.touchCronJob(all[w.rand.IntN(len(all))])
		}
	}
}

// propagation is what a DELETE asks for.
func (w *world) propagation() metav1.DeletionPropagation {
	return []metav1.DeletionPropagation{
		metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan,
	}[w.rand.IntN(3)]
}

func (w *world) touchPod(pod *corev1.Pod) {
	switch w.rand.IntN(5) {
	case 0:
		w.remove(pod, metav1.DeletePropagationBackground, nil)
	case 1:
		w.remove(pod, metav1.DeletePropagationBackground, ptr.To[int64](0))
	case 2: // an eviction says why, and deletes
		next := pod.DeepCopy()
		next.Status.Conditions = append(next.Status.Conditions, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI", LastTransitionTime: w.stamp(),
		})
		if w.replace(pod, next) {
			w.tally.add("pod evicted")
			w.remove(next, metav1.DeletePropagationBackground, nil)
		}
	case 3:
		w.edit(pod, "pod relabelled", func(obj change.Object) { obj.SetLabels(map[string]string{"app": "debug"}) })
	case 4: // one that looks like the pods of a Job, and belongs to nobody
		w.made++
		stray := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: theNamespace, Name: fmt.Sprint("stray-", w.made), Labels: pod.Labels, Annotations: pod.Annotations},
			Spec:       *newJob("stray").Spec.Template.Spec.DeepCopy(),
		}
		if w.create(stray) {
			w.tally.add("pod created by hand")
		}
	}
}

func (w *world) touchJob(j *batchv1.Job) {
	edit := func(what string, f func(*batchv1.JobSpec)) {
		w.edit(j, what, func(obj change.Object) { f(&obj.(*batchv1.Job).Spec) })
	}
	switch w.rand.IntN(8) {
	case 0, 1:
		edit("job suspended or resumed", func(s *batchv1.JobSpec) { s.Suspend = ptr.To(!*s.Suspend) })
	case 2:
		edit("job scaled", func(s *batchv1.JobSpec) { s.Parallelism = ptr.To(int32(w.rand.IntN(5))) })
	case 3:
		edit("job resized", func(s *batchv1.JobSpec) {
			s.Parallelism = ptr.To(int32(1 + w.rand.IntN(5)))
			s.Completions = s.Parallelism
		})
	case 4:
		edit("job's backoffLimit changed", func(s *batchv1.JobSpec) { s.BackoffLimit = ptr.To(int32(w.rand.IntN(6))) })
	case 5:
		edit("job's deadline changed", func(s *batchv1.JobSpec) { s.ActiveDeadlineSeconds = ptr.To(int64(60 + w.rand.IntN(600))) })
	case 6:
		edit("job's template changed", func(s *batchv1.JobSpec) {
			s.Template.Spec.NodeSelector = map[string]string{"disk": "fast"}
			s.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
		})
	case 7:
		if w.chance(2) {
			edit("job's ttl changed", func(s *batchv1.JobSpec) { s.TTLSecondsAfterFinished = ptr.To(int32(w.rand.IntN(60))) })
		} else {
			w.remove(j, w.propagation(), nil)
		}
	}
}

func (w *world) touchCronJob(c *batchv1.CronJob) {
	edit := func(what string, f func(*batchv1.CronJobSpec)) {
		w.edit(c, what, func(obj change.Object) { f(&obj.(*batchv1.CronJob).Spec) })
	}
	switch w.rand.IntN(9) {
	case 0, 1:
		edit("cronjob suspended or resumed", func(s *batchv1.CronJobSpec) { s.Suspend = ptr.To(!*s.Suspend) })
	case 2:
		edit("cronjob's schedule changed", func(s *batchv1.CronJobSpec) { s.Schedule = w.schedule() })
	case 3:
		edit("cronjob's time zone changed", func(s *batchv1.CronJobSpec) { s.TimeZone = w.zone() })
	case 4:
		edit("cronjob's policy changed", func(s *batchv1.CronJobSpec) { s.ConcurrencyPolicy = w.policy() })
	case 5:
		edit("cronjob's limits changed", func(s *batchv1.CronJobSpec) {
			s.SuccessfulJobsHistoryLimit, s.FailedJobsHistoryLimit = ptr.To(int32(w.rand.IntN(4))), ptr.To(int32(w.rand.IntN(3)))
			s.StartingDeadlineSeconds = w.startingDeadline()
		})
	case 6:
		edit("cronjob's template changed", func(s *batchv1.CronJobSpec) { s.JobTemplate.Spec.Parallelism = ptr.To(int32(1 + w.rand.IntN(2))) })
	case 7: // kubectl create job --from=cronjob/c
		w.made++
		j := jobNamed(fmt.Sprint(c.Name, "-manual-", w.made))
		j.Annotations = map[string]string{"cronjob.kubernetes.io/instantiate": "manual"}
		j.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(c, c.GroupVersionKind())}
		j.OwnerReferences[0].APIVersion, j.OwnerReferences[0].Kind, j.OwnerReferences[0].BlockOwnerDeletion = "batch/v1", "CronJob", nil
		c.Spec.JobTemplate.Spec.DeepCopyInto(&j.Spec)
		if w.create(j) {
			w.tally.add("job started by hand")
		}
	case 8:
		if w.chance(3) {
			w.remove(c, w.propagation(), nil)
			return
		}
		// A Job of somebody else, in the way of a slot.
		slot := w.now().Truncate(time.Minute).Add(time.Duration(w.rand.IntN(10)) * time.Minute)
		if w.create(jobNamed(fmt.Sprintf("%s-%d", c.Name, slot.Unix()/60))) {
			w.tally.add("job in the way")
		}
	}
}

// birth creates a random Job or CronJob. A spec that validation refuses is
// rolled again.
func (w *world) birth() (cron bool) {
	if w.chance(4) {
		for !w.create(w.randomCronJob()) {
		}
		return true
	}
	for !w.create(w.randomJob(fmt.Sprint("j", w.made))) {
	}
	return false
}

func jobNamed(name string, edit ...func(*batchv1.Job)) *batchv1.Job {
	j := newJob(name, edit...)
	j.Namespace = theNamespace
	return j
}

func (w *world) randomJob(name string) *batchv1.Job {
	return jobNamed(name, func(j *batchv1.Job) {
		s := &j.Spec
		s.Parallelism, s.Completions = ptr.To(int32(w.rand.IntN(4))), ptr.To(int32(w.rand.IntN(6)))
		s.BackoffLimit = ptr.To(int32(w.rand.IntN(5)))
		if w.chance(4) {
			s.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
		}
		if w.chance(5) {
			s.ActiveDeadlineSeconds = ptr.To(int64(20 + w.rand.IntN(400)))
		}
		if w.chance(5) {
			s.TTLSecondsAfterFinished = ptr.To(int32(w.rand.IntN(300)))
		}
		if w.chance(10) {
			s.Suspend = ptr.To(true)
		}
		if w.chance(4) {
			s.PodReplacementPolicy = ptr.To(batchv1.Failed)
		}
		if w.chance(5) {
			s.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}
		}
		if w.chance(40) {
			s.ManagedBy = ptr.To("example.com/somebody")
		}
		switch {
		case w.chance(6):
			s.Completions = nil
		case w.chance(2):
			s.CompletionMode = ptr.To(batchv1.IndexedCompletion)
			w.randomIndexRules(s)
		}
		if s.Template.Spec.RestartPolicy == corev1.RestartPolicyNever && w.chance(3) {
			w.randomFailurePolicy(s)
		}
	})
}

func (w *world) randomIndexRules(s *batchv1.JobSpec) {
	if w.chance(2) {
		s.BackoffLimitPerIndex = ptr.To(int32(w.rand.IntN(3)))
		if w.chance(2) {
			s.BackoffLimit = nil
		}
		if w.chance(2) {
			s.MaxFailedIndexes = ptr.To(int32(w.rand.IntN(3)))
		}
	}
	if w.chance(4) {
		rule := batchv1.SuccessPolicyRule{SucceededCount: ptr.To(int32(1 + w.rand.IntN(2)))}
		if w.chance(2) {
			rule.SucceededIndexes = ptr.To("0,2-4")
		}
		s.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{rule}}
	}
}

func (w *world) randomFailurePolicy(s *batchv1.JobSpec) {
	actions := []batchv1.PodFailurePolicyAction{"FailJob", "Ignore", "Count"}
	if s.BackoffLimitPerIndex != nil {
		actions = append(actions, "FailIndex")
	}
	s.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
		Action:          actions[1+w.rand.IntN(2)],
		OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}},
	}}}
	s.PodReplacementPolicy = nil
	for code := int32(3); code < 5; code++ {
		s.PodFailurePolicy.Rules = append(s.PodFailurePolicy.Rules, batchv1.PodFailurePolicyRule{
			Action:      actions[w.rand.IntN(len(actions))],
			OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: "In", Values: []int32{code}},
		})
	}
}

func (w *world) randomCronJob() *batchv1.CronJob {
	c := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: theNamespace, Name: fmt.Sprint("c", w.made)}}
	c.Spec = batchv1.CronJobSpec{
		Schedule: w.schedule(), TimeZone: w.zone(), ConcurrencyPolicy: w.policy(), StartingDeadlineSeconds: w.startingDeadline(),
		JobTemplate: batchv1.JobTemplateSpec{Spec: newJob("x", func(j *batchv1.Job) {
			j.Spec.BackoffLimit = ptr.To(int32(w.rand.IntN(2)))
			if w.chance(3) {
				j.Spec.ActiveDeadlineSeconds = ptr.To[int64](90)
			}
		}).Spec},
	}
	return c
}

// schedules are mostly of the kind that leaves time for other things.
var schedules = []string{"* * * * *", "*/2 * * * *", "*/5 * * * *", "*/10 * * * *", "*/15 * * * *", "0 * * * *", "30 2 * * *", "0 0 * * 1-5",
	"*/15 9-17 * * *", "@every 45s", "@every 7m", "@hourly", "15,45 1-3 * * *", "0 0 1 * *", "0 0 31 2 *"}

func (w *world) schedule() string { return schedules[w.rand.IntN(len(schedules))] }

func (w *world) zone() *string {
	return []*string{nil, nil, ptr.To("Asia/Seoul"), ptr.To("America/Los_Angeles")}[w.rand.IntN(4)]
}

func (w *world) policy() batchv1.ConcurrencyPolicy {
	return []batchv1.ConcurrencyPolicy{batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent}[w.rand.IntN(3)]
}

func (w *world) startingDeadline() *int64 {
	if w.chance(3) {
		return ptr.To(int64(w.rand.IntN(300)))
	}
	return nil
}

// leave is how users leave: nothing new is started, and what is there may end.
func (w *world) leave() {
	w.calm = true
	for _, c := range list[*batchv1.CronJob](w, kind.CronJobs) {
		w.edit(c, "calm", func(obj change.Object) { obj.(*batchv1.CronJob).Spec.Suspend = ptr.To(true) })
	}
	for _, j := range list[*batchv1.Job](w, kind.Jobs) {
		w.edit(j, "calm", func(obj change.Object) {
			s := &obj.(*batchv1.Job).Spec
			s.Suspend = ptr.To(false)
			if *s.Parallelism == 0 {
				s.Parallelism = ptr.To[int32](1)
			}
		})
	}
	for obj := range w.store.View().List(kind.Nodes, "") {
		w.setReady(obj.(*corev1.Node), corev1.ConditionTrue)
	}
}

// setReady says whether a node can be given pods.
func (w *world) setReady(node *corev1.Node, status corev1.ConditionStatus) {
	next := node.DeepCopy()
	next.Status.Conditions[0].Status = status
	w.replace(node, next)
	w.tally.add("node " + strings.ToLower(string(status)) + " ready")
}

// emptyNamespace deletes the namespace with all that is in it.
func (w *world) emptyNamespace() {
	k := w.kinds.ByResource(kind.Namespaces)
	obj, _ := w.store.View().Get(k.Key("", theNamespace))
	if write, ok := k.Removal(obj, change.RevOf(obj), w.now(), nil); ok {
		w.apply(change.Set{Writes: []change.Write{k.Settle(write)}})
	}
}
