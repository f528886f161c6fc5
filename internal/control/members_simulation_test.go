package control

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

const memberWorlds = 16

// TestMemberSimulation lets random StatefulSets, with claims or without, and DaemonSets live
// in worlds where users edit and delete, nodes change, pods fail, clocks jump, and engines are
// stopped and killed. At every commit the order of a StatefulSet's pods, the one pod that a
// DaemonSet has on a node, and what belongs to a claim are checked. When all that is over,
// everything must come to be as it is wanted, an update must keep to its limits, and of a
// namespace that is deleted nothing may be left, nor of its volumes.
func TestMemberSimulation(t *testing.T) {
	worlds := memberWorlds
	if testing.Short() {
		worlds = 8
	}
	from, to := seeds(worlds)
	all := inWorlds(t, from, to, func(t *testing.T, seed uint64, dir string) *world {
		w := newMemberWorld(t, seed, dir)
		w.live()
		return w.world
	})
	if to-from < 7 {
		return
	}
	for _, what := range []string{"engine stopped", "engine killed", "somebody meddled", "template changed", "scaled", "strategy changed", "partition moved",
		"pod failed", "pod deleted", "claim deleted", "node changed", "retention changed", "pod of a set created", "pod of a daemon created",
		"claim bound", "claim gone", "quiet update of a set", "quiet update of a daemon", "rests"} {
		if all.tally[what] == 0 {
			t.Errorf("in no world this happened: %s", what)
		}
	}
}

// memberWorld is a world of pods that have a place of their own: an ordinal, or a node.
type memberWorld struct {
	*world
	books *books
	born  int
}

func newMemberWorld(t *testing.T, seed uint64, dir string) *memberWorld {
	w := &memberWorld{world: newWorld(t, seed, dir)}
	w.books = newBooks(w)
	// The engine that has begun knows no volumes: the one that follows it does.
	w.shut()
	w.volumes = &directories{has: make(map[string]bool)}
	w.meddler = w.user
	w.start()
	synctest.Wait()
	for n := range 4 {
		w.make(&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("host-", n), Labels: map[string]string{"disk": "fast"}},
			Status: corev1.NodeStatus{
				Allocatable: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("60"), corev1.ResourceCPU: resource.MustParse("8")},
				Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			},
		})
	}
	for obj := range w.store.View().List(kind.Nodes, "") {
		w.act(func() {
			w.edit(obj, "named", func(obj change.Object) {
				obj.SetLabels(map[string]string{"disk": "fast", corev1.LabelHostname: obj.GetName()})
			})
		})
	}
	w.make(&storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: "standard", Annotations: map[string]string{kind.DefaultClassAnnotation: "true"}},
		Provisioner: kind.LocalPath, VolumeBindingMode: ptr.To(storagev1.VolumeBindingWaitForFirstConsumer),
	})
	return w
}

func (w *memberWorld) live() {
	w.liveBy("MemberSimulation", 80, course{w.birth, w.user, w.calmDown, w.settle, func() {
		w.checkMembers()
		w.updateQuietly()
		w.end()
	}})
}

// birth creates a set while there are few.
func (w *memberWorld) birth() {
	if len(list[*appsv1.StatefulSet](w.world, kind.StatefulSets))+len(list[*appsv1.DaemonSet](w.world, kind.DaemonSets)) >= setsPerWorld {
		return
	}
	w.born++
	meta := metav1.ObjectMeta{Namespace: theNamespace, Name: fmt.Sprintf("s%d", w.born)}
	labels := map[string]string{"app": meta.Name}
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "a"}}},
	}
	if w.chance(2) {
		if w.chance(2) {
			template.Spec.NodeSelector = map[string]string{"disk": "fast"}
		}
		w.create(&appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template, UpdateStrategy: w.daemonStrategy()}})
		return
	}
	set := &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{
		Replicas: ptr.To(w.rand.Int32N(5)), ServiceName: "x", Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template,
		PersistentVolumeClaimRetentionPolicy: w.retention()}}
	if w.chance(3) {
		set.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
	}
	if w.chance(4) {
		set.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: w.rand.Int32N(3)}
	}
	if !w.chance(3) {
		set.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{
			ObjectMeta: metav1.ObjectMeta{Name: "data"},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
			},
		}}
	}
	w.create(set)
}

func (w *memberWorld) retention() *appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy {
	one := func() appsv1.PersistentVolumeClaimRetentionPolicyType {
		if w.chance(2) {
			return appsv1.DeletePersistentVolumeClaimRetentionPolicyType
		}
		return appsv1.RetainPersistentVolumeClaimRetentionPolicyType
	}
	return &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: one(), WhenScaled: one()}
}

func (w *memberWorld) daemonStrategy() appsv1.DaemonSetUpdateStrategy {
	values := []string{"1", "2", "50%"}
	value := ptr.To(intstr.Parse(values[w.rand.IntN(len(values))]))
	rolling := &appsv1.RollingUpdateDaemonSet{MaxUnavailable: value}
	if w.chance(3) {
		rolling = &appsv1.RollingUpdateDaemonSet{MaxUnavailable: ptr.To(intstr.FromInt32(0)), MaxSurge: value}
	}
	return appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: rolling}
}

// user does something.
func (w *memberWorld) user() {
	pods := list[*corev1.Pod](w.world, kind.Pods)
	claims := list[*corev1.PersistentVolumeClaim](w.world, kind.PersistentVolumeClaims)
	sets := list[*appsv1.StatefulSet](w.world, kind.StatefulSets)
	daemons := list[*appsv1.DaemonSet](w.world, kind.DaemonSets)
	switch what := w.rand.IntN(12); {
	case what <= 1 && len(pods) > 0:
		w.remove(pods[w.rand.IntN(len(pods))], metav1.DeletePropagationBackground, nil)
		w.tally.add("pod deleted")
	case what == 2 && len(claims) > 0:
		c := claims[w.rand.IntN(len(claims))]
		w.books.give(c)
		w.remove(c, metav1.DeletePropagationBackground, nil)
		w.tally.add("claim deleted")
	case what == 3:
		for obj := range w.store.View().List(kind.Nodes, "") {
			if w.chance(4) {
				w.changeNode(obj)
			}
		}
	case what <= 7 && len(sets) > 0:
		w.touchSet(sets[w.rand.IntN(len(sets))])
	case len(daemons) > 0:
		w.touchDaemon(daemons[w.rand.IntN(len(daemons))])
	}
}

func (w *memberWorld) changeNode(obj change.Object) {
	w.edit(obj, "node changed", func(obj change.Object) {
		switch node := obj.(*corev1.Node); {
		case w.chance(2) && node.Labels["disk"] == "fast":
			node.Labels["disk"] = "slow"
		case w.chance(2):
			node.Labels["disk"] = "fast"
		case len(node.Spec.Taints) == 0:
			node.Spec.Taints = []corev1.Taint{{Key: "k", Effect: []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute}[w.rand.IntN(2)]}}
		default:
			node.Spec.Taints = nil
		}
	})
}

func (w *memberWorld) touchSet(set *appsv1.StatefulSet) {
	edit := func(what string, f func(*appsv1.StatefulSetSpec)) {
		w.edit(set, what, func(obj change.Object) { f(&obj.(*appsv1.StatefulSet).Spec) })
	}
	switch w.rand.IntN(10) {
	case 0:
		w.remove(set, w.propagation(), nil)
	case 1, 2, 3, 4:
		edit("scaled", func(s *appsv1.StatefulSetSpec) { s.Replicas = ptr.To(w.rand.Int32N(5)) })
	case 5:
		edit("retention changed", func(s *appsv1.StatefulSetSpec) { s.PersistentVolumeClaimRetentionPolicy = w.retention() })
	case 6:
		edit("partition moved", func(s *appsv1.StatefulSetSpec) {
			s.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{Partition: ptr.To(w.rand.Int32N(4))}
		})
	default:
		edit("template changed", func(s *appsv1.StatefulSetSpec) {
			s.Template.Spec.Containers[0].Image = string(rune('a' + w.rand.IntN(4)))
		})
	}
}

func (w *memberWorld) touchDaemon(d *appsv1.DaemonSet) {
	edit := func(what string, f func(*appsv1.DaemonSetSpec)) {
		w.edit(d, what, func(obj change.Object) { f(&obj.(*appsv1.DaemonSet).Spec) })
	}
	switch w.rand.IntN(8) {
	case 0:
		w.remove(d, w.propagation(), nil)
	case 1, 2:
		edit("strategy changed", func(s *appsv1.DaemonSetSpec) { s.UpdateStrategy = w.daemonStrategy() })
	case 3:
		edit("template changed", func(s *appsv1.DaemonSetSpec) { s.Template.Spec.NodeSelector = map[string]string{"disk": "fast"} })
	default:
		edit("template changed", func(s *appsv1.DaemonSetSpec) {
			s.Template.Spec.Containers[0].Image = string(rune('a' + w.rand.IntN(4)))
		})
	}
}

// calmDown: nodes are as they were, and nothing is left that nobody controls.
func (w *memberWorld) calmDown() {
	w.calm = true
	w.doom.Store(0)
	for obj := range w.store.View().List(kind.Nodes, "") {
		w.edit(obj, "calmed", func(obj change.Object) {
			obj.(*corev1.Node).Spec.Taints = nil
			obj.GetLabels()["disk"] = "fast"
		})
	}
	w.removeStrays()
}

// settle lets time pass until all pods are ready and nothing is left to do.
func (w *memberWorld) settle() bool {
	for range 300 {
		w.tendFor(10*time.Second, false)
		if w.failed() {
			return false
		}
		busy := false
		for _, pod := range list[*corev1.Pod](w.world, kind.Pods) {
			busy = busy || pod.DeletionTimestamp != nil || !isReadyPod(pod)
		}
		if busy {
			continue
		}
		rev := w.store.View().Rev()
		time.Sleep(2 * time.Hour)
		w.rest()
		if w.store.View().Rev() == rev {
			return true
		}
	}
	w.audit.fail("it does not come to rest: %s%s", w.undecided(), w.restless())
	return false
}

// restless tells of the pods that are not ready, and why not.
func (w *memberWorld) restless() (text string) {
	for _, pod := range list[*corev1.Pod](w.world, kind.Pods) {
		if pod.DeletionTimestamp == nil && isReadyPod(pod) {
			continue
		}
		text += fmt.Sprintf("; pod %s on %q is %s", pod.Name, pod.Spec.NodeName, pod.Status.Phase)
		if pod.DeletionTimestamp != nil {
			text += fmt.Sprintf(", and goes, held by %q", pod.Finalizers)
		}
		for _, c := range pod.Status.Conditions {
			text += fmt.Sprintf(", %s %s %s", c.Type, c.Status, c.Message)
		}
	}
	return text
}

func isReadyPod(pod *corev1.Pod) bool {
	c := kind.PodCondition(pod, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue && pod.Status.Phase == corev1.PodRunning
}

// end deletes the namespace, of which nothing may be left.
func (w *memberWorld) end() {
	if w.failed() {
		return
	}
	w.act(w.books.giveAll)
	w.act(w.emptyNamespace)
	for range 200 {
		w.tendFor(10*time.Second, false)
		if w.leftOvers() == "" {
			w.checkDirectories()
			return
		}
	}
	w.audit.fail("of the namespace remains %s", w.leftOvers())
}

// leftOvers names something that the namespace has left behind.
func (w *memberWorld) leftOvers() string {
	view := w.store.View()
	for _, k := range w.kinds.All() {
		if k.Namespaced && k.Resource != kind.Events {
			for obj := range view.List(k.Resource, theNamespace) {
				return fmt.Sprint(k.KeyOf(obj))
			}
		}
	}
	for obj := range view.List(kind.PersistentVolumes, "") {
		return "the volume " + obj.GetName()
	}
	return ""
}
