package statefulset

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// t0 is when everything happens.
var t0 = time.Date(2026, 1, 31, 7, 0, 0, 0, time.UTC)

// newSet returns the StatefulSet db of three pods as the API would store it, then as edits
// make it.
func newSet(edits ...func(*appsv1.StatefulSet)) *appsv1.StatefulSet {
	labels := map[string]string{"app": "db"}
	set := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db", UID: "set-uid", ResourceVersion: "10", Generation: 1},
		Spec: appsv1.StatefulSetSpec{
			Replicas: ptr.To[int32](3), ServiceName: "db", RevisionHistoryLimit: ptr.To[int32](10),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "db:1"}}},
			},
			PodManagementPolicy: appsv1.OrderedReadyPodManagement,
			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: ptr.To[int32](0)}},
		},
	}
	for _, edit := range edits {
		edit(set)
	}
	return set
}

func parallel(set *appsv1.StatefulSet) {
	set.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
}
func replicas(n int32) func(*appsv1.StatefulSet) {
	return func(set *appsv1.StatefulSet) { set.Spec.Replicas = &n }
}
func image(name string) func(*appsv1.StatefulSet) {
	return func(set *appsv1.StatefulSet) { set.Spec.Template.Spec.Containers[0].Image = name }
}
func withClaims(set *appsv1.StatefulSet) {
	set.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}}
}
func retains(deleted, scaled appsv1.PersistentVolumeClaimRetentionPolicyType) func(*appsv1.StatefulSet) {
	return func(set *appsv1.StatefulSet) {
		withClaims(set)
		set.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: deleted, WhenScaled: scaled}
	}
}

// world is the objects of a namespace, on which decisions are carried out one after the
// other, and a node that does what it is told to.
type world struct {
	t       *testing.T
	now     time.Time
	set     *appsv1.StatefulSet
	objects map[change.Key]change.Object
	events  []string
	rev     int
}

func newWorld(t *testing.T, set *appsv1.StatefulSet) *world {
	return &world{t: t, now: t0, set: set, objects: map[change.Key]change.Object{}, rev: 100}
}

func (w *world) pods() (all []*corev1.Pod) {
	for _, obj := range w.objects {
		if pod, ok := obj.(*corev1.Pod); ok {
			all = append(all, pod)
		}
	}
	return all
}

func (w *world) state() State {
	s := State{Set: w.set, Pods: w.pods(), SetKind: kind.StatefulSet(), PodKind: kind.Pod(), RevisionKind: kind.ControllerRevision()}
	for _, obj := range w.objects {
		if r, ok := obj.(*appsv1.ControllerRevision); ok {
			s.Revisions = append(s.Revisions, r)
		}
	}
	s.Pod = func(name string) *corev1.Pod { return find[*corev1.Pod](w, kind.Pods, name) }
	s.Claim = func(name string) *corev1.PersistentVolumeClaim {
		return find[*corev1.PersistentVolumeClaim](w, kind.PersistentVolumeClaims, name)
	}
	s.Revision = func(name string) *appsv1.ControllerRevision {
		return find[*appsv1.ControllerRevision](w, kind.ControllerRevisions, name)
	}
	return s
}

func find[T change.Object](w *world, resource change.Resource, name string) (found T) {
	if obj, ok := w.objects[resource.Key("ns", name)]; ok {
		found = obj.(T)
	}
	return found
}

// decide takes one decision and carries it out; it returns what that was: "+db-0" created,
// "-db-0" deleted, "~db-0" written otherwise, "+claim".
func (w *world) decide() string {
	w.t.Helper()
	set := Decide(w.now, w.state())
	var did []string
	for _, write := range set.Writes {
		w.rev++
		sign := map[change.Op]string{change.Create: "+", change.Update: "~", change.Delete: "-"}[write.Op]
		if old, there := w.objects[write.Key]; there == (write.Op == change.Create) && write.Key.Resource != kind.StatefulSets {
			w.t.Fatalf("%s of %s, of which there is %v", sign, write.Key, old)
		}
		if write.Op == change.Delete {
			delete(w.objects, write.Key)
		} else {
			write.Object.SetResourceVersion(fmt.Sprint(w.rev))
			if write.Op == change.Create {
				write.Object.SetUID(types.UID(fmt.Sprintf("uid-%d", w.rev)))
			}
		}
		switch obj := write.Object.(type) {
		case *appsv1.StatefulSet:
			w.set = obj
			continue
		case *corev1.Pod:
			if write.Op == change.Create {
				obj.Status.Phase = corev1.PodPending
				obj.Spec.TerminationGracePeriodSeconds = ptr.To[int64](30)
			}
			if obj.DeletionTimestamp != nil {
				sign = "-"
			}
		}
		if write.Op != change.Delete {
			w.objects[write.Key] = write.Object
		}
		if write.Key.Resource != kind.ControllerRevisions {
			did = append(did, sign+write.Key.Name)
		}
	}
	for _, n := range set.Notes {
		w.events = append(w.events, n.Reason+": "+n.Message)
	}
	w.checkOrdinals()
	return strings.Join(did, " ")
}

// checkOrdinals: an ordinal has one pod, which is why it has its name.
func (w *world) checkOrdinals() {
	w.t.Helper()
	for _, pod := range w.pods() {
		if pod.Labels[appsv1.StatefulSetPodNameLabel] != pod.Name || pod.Spec.Hostname != pod.Name {
			w.t.Fatalf("pod %s is not what its name says", pod.Name)
		}
	}
}

// ready lets the node start a pod.
func (w *world) ready(names ...string) {
	for _, name := range names {
		w.edit(name, func(pod *corev1.Pod) {
			pod.Spec.NodeName, pod.Status.Phase = "node", corev1.PodRunning
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(w.now)}}
		})
	}
}

// unready lets a pod fail its probe.
func (w *world) unready(name string) {
	w.edit(name, func(pod *corev1.Pod) { pod.Status.Conditions = nil })
}

func (w *world) edit(name string, edit func(*corev1.Pod)) {
	w.t.Helper()
	pod := find[*corev1.Pod](w, kind.Pods, name)
	if pod == nil {
		w.t.Fatalf("there is no pod %s", name)
	}
	pod = pod.DeepCopy()
	edit(pod)
	w.objects[kind.Pods.Key("ns", name)] = pod
}

// gone lets the node end a pod that is being deleted.
func (w *world) gone(names ...string) {
	w.t.Helper()
	for _, name := range names {
		if pod := find[*corev1.Pod](w, kind.Pods, name); pod == nil || pod.DeletionTimestamp == nil {
			w.t.Fatalf("pod %s is not being deleted", name)
		}
		delete(w.objects, kind.Pods.Key("ns", name))
	}
}

// change edits the set as a client does.
func (w *world) change(edits ...func(*appsv1.StatefulSet)) {
	w.set = w.set.DeepCopy()
	for _, edit := range edits {
		edit(w.set)
	}
	w.set.Generation++
}

// expect takes decisions and compares them.
func (w *world) expect(want ...string) {
	w.t.Helper()
	for _, want := range want {
		if got := w.decide(); got != want {
			w.t.Fatalf("it did %q, want %q; %s", got, want, w)
		}
	}
}

// String is the status.
func (w *world) String() string {
	st := w.set.Status
	return fmt.Sprintf("%d pods, %d ready, %d available, %d current, %d updated", st.Replicas, st.ReadyReplicas, st.AvailableReplicas, st.CurrentReplicas, st.UpdatedReplicas)
}

// started is a world in which all pods of the set run.
func started(t *testing.T, set *appsv1.StatefulSet) *world {
	t.Helper()
	w := newWorld(t, set)
	for range 2 * count(set) {
		w.decide()
		for _, pod := range w.pods() {
			w.ready(pod.Name)
		}
	}
	w.expect("")
	return w
}
