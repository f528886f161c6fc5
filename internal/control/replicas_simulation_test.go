package control

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

const (
	replicaWorlds = 24
	setsPerWorld  = 5
)

// TestReplicaSimulation lets random Deployments, ReplicaSets and ReplicationControllers
// live in worlds where users edit and delete, pods fail, clocks jump, and engines are
// stopped and killed. When all that is over, everything must come to be as it is wanted;
// and rollouts in a quiet world must not have a pod more, or less, than they may, at any
// commit.
func TestReplicaSimulation(t *testing.T) {
	worlds := replicaWorlds
	if testing.Short() {
		worlds = 8
	}
	from, to := seeds(worlds)
	all := inWorlds(t, from, to, func(t *testing.T, seed uint64, dir string) *world {
		w := &replicaWorld{world: newWorld(t, seed, dir)}
		w.live()
		return w.world
	})
	if to-from < 7 {
		return
	}
	for _, what := range []string{"engine stopped", "engine killed", "template changed", "scaled", "paused or resumed", "pod failed", "pod deleted",
		"pod relabeled", "strategy changed", "replicaset edited", "deployment deleted, Orphan", "quiet rollout", "quiet recreation", "rests"} {
		if all.tally[what] == 0 {
			t.Errorf("in no world this happened: %s", what)
		}
	}
}

// replicaWorld is a world of sets of replicas.
type replicaWorld struct {
	*world
	born int
}

func (w *replicaWorld) live() {
	w.liveBy("ReplicaSimulation", 100, course{w.birth, w.user, w.calmDown, w.settle, func() {
		w.checkSets()
		w.rollQuietly()
	}})
}

// course is what happens in a world of sets.
type course struct {
	birth, user, calmDown func()
	settle                func() bool // whether it has come to rest
	atRest                func()
}

// liveBy lets so many rounds of births, users and upsets pass, has it come to rest, and says by
// which test what the audit has found can be seen again.
func (w *world) liveBy(test string, rounds int, c course) {
	defer func() {
		w.stop()
		if failure, _ := w.audit.verdict(); failure != "" {
			w.t.Errorf("go test ./internal/control -run %s -seed %d: %s", test, w.seed, failure)
		}
	}()
	for range rounds {
		w.act(c.birth)
		for range w.fate.IntN(3) {
			w.act(c.user)
		}
		w.tendFor(20*time.Second, true)
		w.upset()
		if w.failed() {
			return
		}
	}
	w.revive()
	w.act(c.calmDown)
	if c.settle() {
		c.atRest()
	}
}

// upset: now and then something big happens.
func (w *world) upset() {
	switch w.fate.IntN(20) {
	case 0:
		w.stop()
		w.down()
	case 1:
		w.kill()
		w.down()
	case 2:
		if w.doom.Load() == 0 {
			w.doom.Store(1 + w.fate.Int64N(20))
		}
	case 3:
		if w.seed%3 == 0 {
			w.jump(time.Duration(w.fate.IntN(7200)-3600) * time.Second)
		}
	}
	if w.fated(8) {
		w.rest()
	}
}

// tendFor lets some time pass, and the node work.
func (w *world) tendFor(most time.Duration, rough bool) {
	time.Sleep(time.Duration(1 + w.fate.Int64N(int64(most))))
	synctest.Wait()
	w.revive()
	for _, pod := range list[*corev1.Pod](w, kind.Pods) {
		if w.fated(2) {
			w.act(func() { w.tend(pod, rough) })
		}
	}
	synctest.Wait()
	w.revive()
}

// tend takes one step of the life of a pod: it becomes ready, and, in a rough world, may
// fail, or its probe.
func (w *world) tend(pod *corev1.Pod, rough bool) {
	obj, ok := w.store.View().Get(w.kindOf(pod).KeyOf(pod))
	if !ok || obj.(*corev1.Pod).Spec.NodeName == "" {
		return
	}
	pod = obj.(*corev1.Pod)
	ready := func(status corev1.ConditionStatus) func(*corev1.PodStatus) {
		return func(s *corev1.PodStatus) {
			s.Phase = corev1.PodRunning
			s.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: w.stamp()}}
		}
	}
	c := kind.PodCondition(pod, corev1.PodReady)
	isReady := c != nil && c.Status == corev1.ConditionTrue
	switch {
	case pod.DeletionTimestamp != nil:
		if rough && !kind.PodEnded(pod) && w.chance(2) {
			w.end(pod)
			return
		}
		if write, ok := w.kindOf(pod).Removal(pod, change.RevOf(pod), w.now(), ptr.To[int64](0)); ok {
			w.apply(change.Set{Writes: []change.Write{write}})
		}
	case kind.PodEnded(pod):
	case rough && w.chance(12):
		w.report(pod, func(s *corev1.PodStatus) { s.Phase, s.Conditions = corev1.PodFailed, nil })
		w.tally.add("pod failed")
	case rough && isReady && w.chance(6):
		w.report(pod, ready(corev1.ConditionFalse))
	case !isReady:
		w.report(pod, ready(corev1.ConditionTrue))
	}
}

// birth creates a set while there are few.
func (w *replicaWorld) birth() {
	n := len(list[*appsv1.Deployment](w.world, kind.Deployments)) + len(list[*corev1.ReplicationController](w.world, kind.ReplicationControllers))
	for _, s := range list[*appsv1.ReplicaSet](w.world, kind.ReplicaSets) {
		if metav1.GetControllerOfNoCopy(s) == nil {
			n++
		}
	}
	if n >= setsPerWorld {
		return
	}
	w.born++
	meta := metav1.ObjectMeta{Namespace: theNamespace, Name: fmt.Sprintf("s%d", w.born)}
	labels := map[string]string{"app": meta.Name}
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "a"}}},
	}
	size := ptr.To(w.rand.Int32N(5))
	var seconds int32
	if w.chance(3) {
		seconds = 5
	}
	switch w.rand.IntN(5) {
	case 0:
		w.create(&appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{
			Replicas: size, MinReadySeconds: seconds, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template}})
	case 1:
		w.create(&corev1.ReplicationController{ObjectMeta: meta, Spec: corev1.ReplicationControllerSpec{
			Replicas: size, MinReadySeconds: seconds, Selector: labels, Template: &template}})
	default:
		d := &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{
			Replicas: size, MinReadySeconds: seconds, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template,
			RevisionHistoryLimit: ptr.To(w.rand.Int32N(4)), Strategy: w.strategy()}}
		if w.chance(3) {
			d.Spec.ProgressDeadlineSeconds = ptr.To[int32](30)
		}
		w.create(d)
	}
}

func (w *replicaWorld) strategy() appsv1.DeploymentStrategy {
	if w.chance(4) {
		return appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	}
	values := []string{"0", "1", "2", "25%", "50%", "100%"}
	r := &appsv1.RollingUpdateDeployment{
		MaxSurge:       ptr.To(intstr.Parse(values[w.rand.IntN(len(values))])),
		MaxUnavailable: ptr.To(intstr.Parse(values[1+w.rand.IntN(len(values)-1)])),
	}
	return appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: r}
}

// user does something.
func (w *replicaWorld) user() {
	pods := list[*corev1.Pod](w.world, kind.Pods)
	sets := list[*appsv1.ReplicaSet](w.world, kind.ReplicaSets)
	deployments := list[*appsv1.Deployment](w.world, kind.Deployments)
	switch what := w.rand.IntN(10); {
	case what == 0 && len(pods) > 0:
		w.remove(pods[w.rand.IntN(len(pods))], metav1.DeletePropagationBackground, nil)
		w.tally.add("pod deleted")
	case what == 1 && len(pods) > 0:
		w.edit(pods[w.rand.IntN(len(pods))], "pod relabeled", func(obj change.Object) {
			if obj.GetLabels()["app"] == "nobody" {
				obj.SetLabels(map[string]string{"app": fmt.Sprintf("s%d", 1+w.rand.IntN(w.born))})
			} else {
				obj.SetLabels(map[string]string{"app": "nobody"})
			}
		})
	case what <= 3 && len(sets) > 0:
		w.touchSet(sets[w.rand.IntN(len(sets))])
	case what == 4:
		for _, c := range list[*corev1.ReplicationController](w.world, kind.ReplicationControllers) {
			w.edit(c, "scaled", func(obj change.Object) { obj.(*corev1.ReplicationController).Spec.Replicas = ptr.To(w.rand.Int32N(5)) })
		}
	case len(deployments) > 0:
		w.touchDeployment(deployments[w.rand.IntN(len(deployments))])
	}
}

func (w *replicaWorld) touchSet(s *appsv1.ReplicaSet) {
	if w.chance(4) {
		w.remove(s, w.propagation(), nil)
		return
	}
	w.edit(s, "replicaset edited", func(obj change.Object) {
		switch s := obj.(*appsv1.ReplicaSet); w.rand.IntN(4) {
		case 0:
			delete(s.Annotations, kind.DeploymentDesiredReplicas)
		case 1:
			s.OwnerReferences = nil
		default:
			s.Spec.Replicas = ptr.To(w.rand.Int32N(5))
		}
	})
}

func (w *replicaWorld) touchDeployment(d *appsv1.Deployment) {
	edit := func(what string, f func(*appsv1.DeploymentSpec)) {
		w.edit(d, what, func(obj change.Object) { f(&obj.(*appsv1.Deployment).Spec) })
	}
	switch w.rand.IntN(12) {
	case 0:
		w.remove(d, w.propagation(), nil)
	case 1:
		edit("strategy changed", func(s *appsv1.DeploymentSpec) { s.Strategy = w.strategy() })
	case 2, 3:
		edit("paused or resumed", func(s *appsv1.DeploymentSpec) { s.Paused = !s.Paused })
	case 4, 5, 6:
		edit("scaled", func(s *appsv1.DeploymentSpec) { s.Replicas = ptr.To(w.rand.Int32N(5)) })
	case 7:
		w.edit(d, "rolled back", func(obj change.Object) {
			metav1.SetMetaDataAnnotation(&obj.(*appsv1.Deployment).ObjectMeta, appsv1.DeprecatedRollbackTo, fmt.Sprint(w.rand.IntN(4)))
		})
	default:
		edit("template changed", func(s *appsv1.DeploymentSpec) {
			s.Template.Spec.Containers[0].Image = string(rune('a' + w.rand.IntN(4)))
		})
	}
}

// calmDown: what is paused goes on, and nothing is left that nobody controls.
func (w *replicaWorld) calmDown() {
	w.calm = true
	w.doom.Store(0)
	for _, d := range list[*appsv1.Deployment](w.world, kind.Deployments) {
		w.edit(d, "calmed", func(obj change.Object) { obj.(*appsv1.Deployment).Spec.Paused = false })
	}
	w.removeStrays()
}

// removeStrays deletes the pods that nobody controls.
func (w *world) removeStrays() {
	for _, pod := range list[*corev1.Pod](w, kind.Pods) {
		if metav1.GetControllerOfNoCopy(pod) == nil {
			w.remove(pod, metav1.DeletePropagationBackground, nil)
		}
	}
}

// settle lets time pass until all pods are ready and nothing is left to do.
func (w *replicaWorld) settle() bool {
	for range 300 {
		w.tendFor(10*time.Second, false)
		busy := false
		for _, pod := range list[*corev1.Pod](w.world, kind.Pods) {
			c := kind.PodCondition(pod, corev1.PodReady)
			isReady := c != nil && c.Status == corev1.ConditionTrue
			busy = busy || pod.DeletionTimestamp != nil || !kind.PodEnded(pod) && !isReady
		}
		if busy {
			continue
		}
		rev := w.store.View().Rev()
		time.Sleep(2 * time.Hour) // minReadySeconds, also by a clock that was set back, and what is tried again
		w.rest()
		if w.store.View().Rev() == rev {
			return true
		}
	}
	w.audit.fail("it does not come to rest")
	return false
}
