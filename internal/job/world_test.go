package job

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// world is a store as plain as can be, with one Job in it, and everybody who
// writes to it but the engine: users, nodes, clocks.
type world struct {
	*rand.Rand
	now     time.Time
	objects map[change.Key]change.Object
	rev     uint64
	made    int
	calm    bool // users have left; what is asked for is never too much
	jumps   bool // the clock is set now and then
	row     *kind.Kind
}

// theJob is the key of the one Job.
var theJob = change.Key{Resource: "jobs.batch", Namespace: "ns", Name: "pi"}

func newWorld(seed uint64) *world {
	r := rand.New(rand.NewPCG(seed, 0))
	w := &world{Rand: r, now: t0.Add(time.Duration(r.IntN(1000)) * time.Millisecond), objects: make(map[change.Key]change.Object), row: kind.Pod(), jumps: r.IntN(10) == 0}
	w.store(theJob, w.randomJob())
	return w
}

func (w *world) chance(oneIn int) bool { return w.IntN(oneIn) == 0 }

func (w *world) randomJob() *batchv1.Job {
	return newJob(func(j *batchv1.Job) {
		s := &j.Spec
		*s.Parallelism, *s.BackoffLimit = int32(w.IntN(5)), int32(w.IntN(5))
		*s.Completions = int32(w.IntN(7))
		if w.chance(3) {
			s.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
		}
		if w.chance(4) {
			s.ActiveDeadlineSeconds = ptr.To(int64(20 + w.IntN(300)))
		}
		if w.chance(8) {
			s.Suspend = ptr.To(true)
		}
		if w.chance(4) {
			s.PodReplacementPolicy = ptr.To(batchv1.Failed)
		}
		switch {
		case w.chance(4):
			s.Completions = nil
			return
		case w.chance(2):
			indexedJob(j)
			w.randomIndexRules(s)
		}
		if s.Template.Spec.RestartPolicy == corev1.RestartPolicyNever && w.chance(3) {
			w.randomPolicy(s)
		}
	})
}

func (w *world) randomIndexRules(s *batchv1.JobSpec) {
	if w.chance(2) {
		s.BackoffLimitPerIndex = ptr.To(int32(w.IntN(3)))
		if w.chance(2) {
			s.BackoffLimit = ptr.To[int32](1<<31 - 1)
		}
		if w.chance(2) {
			s.MaxFailedIndexes = ptr.To(int32(w.IntN(4)))
		}
	}
	if w.chance(4) {
		rule := batchv1.SuccessPolicyRule{SucceededCount: ptr.To(int32(1 + w.IntN(3)))}
		if w.chance(2) {
			rule.SucceededIndexes = ptr.To("0,2-4")
		}
		s.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{rule}}
	}
}

func (w *world) randomPolicy(s *batchv1.JobSpec) {
	s.PodReplacementPolicy = ptr.To(batchv1.Failed)
	s.PodFailurePolicy = &batchv1.PodFailurePolicy{}
	actions := []batchv1.PodFailurePolicyAction{"FailJob", "Ignore", "Count"}
	if s.BackoffLimitPerIndex != nil {
		actions = append(actions, "FailIndex")
	}
	for code := int32(2); code < 5; code++ {
		s.PodFailurePolicy.Rules = append(s.PodFailurePolicy.Rules, batchv1.PodFailurePolicyRule{
			Action:      actions[w.IntN(len(actions))],
			OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: "In", Values: []int32{code}},
		})
	}
}

// store writes obj as any client's write is: with the next revision.
func (w *world) store(key change.Key, obj change.Object) {
	w.rev++
	obj.SetResourceVersion(strconv.FormatUint(w.rev, 10))
	if obj.GetUID() == "" {
		obj.SetUID(types.UID(fmt.Sprint("uid-", w.rev)))
		obj.SetCreationTimestamp(metav1.NewTime(w.now.Truncate(time.Second)))
	}
	w.objects[key] = obj
}

// apply commits a set whole, or not at all.
func (w *world) apply(set change.Set) error {
	w.complete(&set)
	at := func(key change.Key) uint64 {
		if obj := w.objects[key]; obj != nil {
			return change.RevOf(obj)
		}
		return 0
	}
	seen := make(map[change.Key]bool)
	for _, x := range set.Writes {
		if at(x.Key) != x.Rev {
			return fmt.Errorf("%s is at %d, not %d", x.Key, at(x.Key), x.Rev)
		}
		if seen[x.Key] {
			panic(fmt.Sprint(x.Key, " is written twice"))
		}
		seen[x.Key] = true
	}
	for _, g := range set.Guards {
		if at(g.Key) != g.Rev {
			return fmt.Errorf("%s is at %d, not %d", g.Key, at(g.Key), g.Rev)
		}
	}
	for _, x := range set.Writes {
		if x.Op == change.Delete {
			w.rev++
			delete(w.objects, x.Key)
			continue
		}
		if settled := w.row.Settle(x); settled.Op != x.Op {
			panic(fmt.Sprint(x.Key, " should have been deleted"))
		}
		w.store(x.Key, x.Object)
	}
	return nil
}

// complete gives new pods what an API gives to those of a client.
func (w *world) complete(set *change.Set) {
	for i := range set.Writes {
		x := &set.Writes[i]
		if x.Op != change.Create || x.Key.Name != "" {
			continue
		}
		w.made++
		pod := x.Object.(*corev1.Pod)
		w.row.Default(pod)
		w.row.Create.Prepare(pod)
		pod.Name = fmt.Sprint(pod.GenerateName, w.made)
		x.Key.Name = pod.Name
	}
}

func (w *world) job() *batchv1.Job {
	j, _ := w.objects[theJob].(*batchv1.Job)
	return j
}

// pods returns all pods by name, so that a seed always means the same.
func (w *world) pods() []*corev1.Pod {
	var out []*corev1.Pod
	for key, obj := range w.objects {
		if key.Resource == "pods" {
			out = append(out, obj.(*corev1.Pod))
		}
	}
	slices.SortFunc(out, func(a, b *corev1.Pod) int { return int(int64(change.RevOf(a)) - int64(change.RevOf(b))) })
	return out
}

// state is what control would hand to Decide: a view of this moment.
func (w *world) state() State {
	var pods []*corev1.Pod
	for _, pod := range w.pods() {
		if inIndex(pod) || metav1.GetControllerOf(pod) == nil {
			pods = append(pods, pod)
		}
	}
	w.Shuffle(len(pods), func(i, j int) { pods[i], pods[j] = pods[j], pods[i] })
	return State{Job: w.job(), Pods: pods, PodKind: w.row}
}

// edit writes a changed copy of a pod, and drops it when nothing holds it.
func (w *world) edit(pod *corev1.Pod, f func(*corev1.Pod)) {
	key := kind.Pods.Key(pod.Namespace, pod.Name)
	next := pod.DeepCopy()
	f(next)
	if w.row.Settle(change.Write{Op: change.Update, Key: key, Object: next}).Op == change.Delete {
		w.rev++
		delete(w.objects, key)
		return
	}
	w.store(key, next)
}

// act lets time pass, and somebody do something.
func (w *world) act() {
	w.now = w.now.Add(time.Duration(w.IntN(4000)) * time.Millisecond)
	if w.jumps && w.chance(40) {
		w.now = w.now.Add(time.Duration(w.IntN(7200)-3600) * time.Second)
	}
	for _, pod := range w.pods() {
		if w.chance(3) {
			w.node(pod)
		}
	}
	if !w.calm && w.chance(6) {
		w.user()
	}
}

// node takes one step of a pod's life.
func (w *world) node(pod *corev1.Pod) {
	now := metav1.NewTime(w.now.Truncate(time.Second))
	switch p := pod.Status.Phase; {
	case kind.PodEnded(pod) && pod.DeletionTimestamp != nil && *pod.DeletionGracePeriodSeconds > 0:
		w.edit(pod, func(p *corev1.Pod) { p.DeletionGracePeriodSeconds = ptr.To[int64](0) })
	case kind.PodEnded(pod):
	case pod.Spec.NodeName == "":
		w.edit(pod, func(p *corev1.Pod) { p.Spec.NodeName = "node" })
	case p == corev1.PodPending:
		w.edit(pod, func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodRunning
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main"}}
			if w.chance(2) {
				isReady(p)
			}
		})
	case pod.Spec.RestartPolicy == corev1.RestartPolicyOnFailure && w.chance(3):
		w.edit(pod, func(p *corev1.Pod) { p.Status.ContainerStatuses[0].RestartCount++ })
	case pod.DeletionTimestamp != nil || w.chance(2):
		w.edit(pod, func(p *corev1.Pod) {
			p.Status.Phase, p.Status.Conditions = corev1.PodSucceeded, nil
			var code int32
			if pod.DeletionTimestamp != nil && w.chance(2) || !w.calm && w.chance(3) || w.chance(9) {
				p.Status.Phase, code = corev1.PodFailed, int32(1+w.IntN(4))
			}
			p.Status.ContainerStatuses[0].State.Terminated = &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: now}
		})
	}
}

// user does what users do to Jobs and pods.
func (w *world) user() {
	j := w.job().DeepCopy()
	pods := w.pods()
	switch w.IntN(8) {
	case 0, 1:
		if len(pods) > 0 {
			w.deletePod(pods[w.IntN(len(pods))])
		}
		return
	case 2:
		if len(pods) > 0 {
			w.edit(pods[w.IntN(len(pods))], func(p *corev1.Pod) { p.Labels = nil })
		}
		return
	case 3:
		w.made++
		p := newPod(fmt.Sprint("stray-", w.made), orphan, pending, func(p *corev1.Pod) { p.UID = "" })
		if w.chance(2) {
			withIndex(w.IntN(5))(p)
		}
		w.store(kind.Pods.Key("ns", p.Name), p)
		return
	case 4:
		j.Spec.Suspend = ptr.To(!suspended(j))
	case 5:
		if j.Spec.BackoffLimitPerIndex == nil {
			j.Spec.BackoffLimit = ptr.To(int32(w.IntN(5)))
		}
	case 6:
		if finished(j) {
			return
		}
		j.Spec.Parallelism = ptr.To(int32(w.IntN(5)))
		if indexed(j) && w.chance(2) {
			j.Spec.Completions = ptr.To(*j.Spec.Parallelism)
		}
	case 7:
		if w.chance(8) && j.DeletionTimestamp == nil {
			j.DeletionTimestamp, j.Finalizers = ptr.To(metav1.NewTime(w.now.Truncate(time.Second))), []string{"foregroundDeletion"}
		}
	}
	j.Generation++
	w.store(jobKey(j), j)
}

func (w *world) deletePod(pod *corev1.Pod) {
	x, ok := w.row.Removal(pod, change.RevOf(pod), w.now, nil)
	switch {
	case !ok:
	case x.Op == change.Delete:
		w.rev++
		delete(w.objects, x.Key)
	default:
		w.store(x.Key, x.Object.(*corev1.Pod))
	}
}
