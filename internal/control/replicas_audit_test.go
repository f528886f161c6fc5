package control

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing/synctest"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// checkSets: at rest, in a world whose pods all work, everything is as it is wanted.
func (w *replicaWorld) checkSets() {
	pods := make(map[types.UID]int32)
	for _, pod := range list[*corev1.Pod](w.world, kind.Pods) {
		if ref := metav1.GetControllerOfNoCopy(pod); ref != nil && !kind.PodEnded(pod) {
			pods[ref.UID]++
		}
	}
	check := func(obj change.Object, want int32, st appsv1.ReplicaSetStatus) {
		if n := pods[obj.GetUID()]; n != want || st.Replicas != n || st.ReadyReplicas != n || st.AvailableReplicas != n ||
			st.ObservedGeneration != obj.GetGeneration() || ptr.Deref(st.TerminatingReplicas, 0) != 0 || len(st.Conditions) > 0 {
			w.audit.fail("%s wants %d pods, has %d, and says %+v; deleted %v, kept by %v", obj.GetName(), want, n, st, obj.GetDeletionTimestamp(), obj.GetFinalizers())
		}
	}
	owned := make(map[types.UID][]*appsv1.ReplicaSet)
	for _, s := range list[*appsv1.ReplicaSet](w.world, kind.ReplicaSets) {
		check(s, *s.Spec.Replicas, s.Status)
		if ref := metav1.GetControllerOfNoCopy(s); ref != nil {
			owned[ref.UID] = append(owned[ref.UID], s)
		}
	}
	for _, c := range list[*corev1.ReplicationController](w.world, kind.ReplicationControllers) {
		check(c, *c.Spec.Replicas, appsv1.ReplicaSetStatus{
			Replicas: c.Status.Replicas, ReadyReplicas: c.Status.ReadyReplicas, AvailableReplicas: c.Status.AvailableReplicas, ObservedGeneration: c.Status.ObservedGeneration,
		})
	}
	for _, d := range list[*appsv1.Deployment](w.world, kind.Deployments) {
		w.checkDeployment(d, owned[d.UID])
	}
}

// checkDeployment: one ReplicaSet has all pods, and the others are kept as they should be.
func (w *replicaWorld) checkDeployment(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) {
	want, st := *d.Spec.Replicas, d.Status
	if st.Replicas != want || st.UpdatedReplicas != want || st.ReadyReplicas != want || st.AvailableReplicas != want || st.UnavailableReplicas != 0 || st.ObservedGeneration != d.Generation {
		w.audit.fail("%s wants %d pods, and says %+v", d.Name, want, st)
	}
	for _, c := range st.Conditions {
		switch {
		case c.Type == appsv1.DeploymentAvailable && c.Status == corev1.ConditionTrue:
		case c.Type == appsv1.DeploymentProgressing && c.Reason == "NewReplicaSetAvailable":
		default:
			w.audit.fail("%s says %s %s %s", d.Name, c.Type, c.Status, c.Reason)
		}
	}
	number := func(obj change.Object) int {
		n, err := strconv.Atoi(obj.GetAnnotations()[kind.DeploymentRevision])
		if err != nil {
			w.audit.fail("%s is of no revision: %v", obj.GetName(), err)
		}
		return n
	}
	seen := make(map[int]bool)
	present := 0
	for _, s := range sets {
		n := number(s)
		if seen[n] {
			w.audit.fail("two of %s are of the revision %d", d.Name, n)
		}
		seen[n] = true
		switch isPresent := s.Spec.Template.Spec.Containers[0].Image == d.Spec.Template.Spec.Containers[0].Image; {
		case isPresent:
			present++
			if *s.Spec.Replicas != want || n != number(d) || s.Spec.MinReadySeconds != d.Spec.MinReadySeconds {
				w.audit.fail("%s, of revision %d, has %d pods; %s, of revision %d, wants %d", s.Name, n, *s.Spec.Replicas, d.Name, number(d), want)
			}
		case *s.Spec.Replicas != 0 || n >= number(d):
			w.audit.fail("%s, of an older template, has %d pods and the revision %d of %d", s.Name, *s.Spec.Replicas, n, number(d))
		}
	}
	if old := len(sets) - present; present != 1 || old > int(*d.Spec.RevisionHistoryLimit) {
		w.audit.fail("%s has %d ReplicaSets of its template, and %d others of at most %d", d.Name, present, old, *d.Spec.RevisionHistoryLimit)
	}
}

// rollQuietly rolls all Deployments out once more, while nobody disturbs them, and follows
// every commit.
func (w *replicaWorld) rollQuietly() {
	f := &rollouts{w: w, pods: make(map[change.Key]*corev1.Pod), limits: make(map[string]limits)}
	for _, pod := range list[*corev1.Pod](w.world, kind.Pods) {
		f.pods[w.kindOf(pod).KeyOf(pod)] = pod
	}
	deployments := list[*appsv1.Deployment](w.world, kind.Deployments)
	for _, d := range deployments {
		f.limits[d.Name] = limitsOf(d)
	}
	done := f.follow()
	for _, d := range deployments {
		w.tally.add(map[bool]string{true: "quiet recreation", false: "quiet rollout"}[d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType])
		w.act(func() {
			w.edit(d, "template changed", func(obj change.Object) { obj.(*appsv1.Deployment).Spec.Template.Spec.Containers[0].Image = "z" })
		})
	}
	if w.settle() {
		w.checkSets()
	}
	done()
	if f.failure != "" {
		w.audit.fail("%s", f.failure)
	}
}

// limits are what a Deployment allows during a rollout.
type limits struct {
	least, most int
	alone       bool // pods of two templates never run beside each other
}

func limitsOf(d *appsv1.Deployment) limits {
	want := int(*d.Spec.Replicas)
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return limits{most: want, alone: true}
	}
	surge, _ := intstr.GetScaledValueFromIntOrPercent(d.Spec.Strategy.RollingUpdate.MaxSurge, want, true)
	missing, _ := intstr.GetScaledValueFromIntOrPercent(d.Spec.Strategy.RollingUpdate.MaxUnavailable, want, false)
	if surge == 0 && missing == 0 {
		missing = 1
	}
	return limits{least: want - missing, most: want + surge}
}

// rollouts follows the pods of Deployments at every commit.
type rollouts struct {
	w       *replicaWorld
	limits  map[string]limits // by the label app
	pods    map[change.Key]*corev1.Pod
	failure string
}

// follow begins; the function that it returns ends it.
func (f *rollouts) follow() (done func()) {
	watch, err := f.w.store.Watch("", f.w.store.View().Rev())
	if err != nil {
		f.w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		for {
			events, _, err := watch.Next(ctx)
			if err != nil {
				return
			}
			for i, ev := range events {
				if pod, ok := ev.Object.(*corev1.Pod); ok {
					if f.pods[ev.Key] = pod; ev.Op == change.Delete {
						delete(f.pods, ev.Key)
					}
				}
				if i+1 == len(events) || events[i+1].Rev != ev.Rev {
					f.check()
				}
			}
		}
	})
	return func() {
		synctest.Wait()
		cancel()
		ended.Wait()
	}
}

func (f *rollouts) check() {
	for app, l := range f.limits {
		active, available := 0, 0
		templates := make(map[string]bool)
		for _, pod := range f.pods {
			if pod.Labels["app"] != app || metav1.GetControllerOfNoCopy(pod) == nil || kind.PodEnded(pod) {
				continue
			}
			templates[pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey]] = true
			if pod.DeletionTimestamp != nil {
				continue
			}
			active++
			if c := kind.PodCondition(pod, corev1.PodReady); c != nil && c.Status == corev1.ConditionTrue {
				available++
			}
		}
		if f.failure == "" && (active > l.most || available < l.least || l.alone && len(templates) > 1) {
			f.failure = fmt.Sprintf("during its rollout %s has %d pods, %d of them ready, of templates %v; allowed is %+v",
				app, active, available, slices.Sorted(maps.Keys(templates)), l)
		}
	}
}
