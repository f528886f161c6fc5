package deployment

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// t0 is when everything begins.
var t0 = time.Date(2026, 1, 31, 7, 0, 0, 0, time.UTC)

// newDeployment returns the Deployment web of four pods as the API would store it, then as
// edits make it.
func newDeployment(edits ...func(*appsv1.Deployment)) *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "web-uid", ResourceVersion: "10", Generation: 1},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To[int32](4), RevisionHistoryLimit: ptr.To[int32](10), ProgressDeadlineSeconds: ptr.To[int32](600),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "web:1"}}},
			},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
				MaxSurge: ptr.To(intstr.FromString("25%")), MaxUnavailable: ptr.To(intstr.FromString("25%"))}},
		},
	}
	for _, edit := range edits {
		edit(d)
	}
	return d
}

func replicas(n int32) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Spec.Replicas = &n }
}
func image(tag string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "web:" + tag }
}
func rolling(surge, unavailable string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		d.Spec.Strategy.RollingUpdate.MaxSurge, d.Spec.Strategy.RollingUpdate.MaxUnavailable = ptr.To(intstr.Parse(surge)), ptr.To(intstr.Parse(unavailable))
	}
}
func recreates(d *appsv1.Deployment) {
	d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
}
func paused(is bool) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Spec.Paused = is }
}
func annotated(key, value string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { metav1.SetMetaDataAnnotation(&d.ObjectMeta, key, value) }
}

// world is a Deployment and the ReplicaSets of its namespace, on which decisions are
// carried out one after the other. Which of a set's pods work is told to it.
type world struct {
	t       *testing.T
	now     time.Time
	d       *appsv1.Deployment
	sets    map[string]*appsv1.ReplicaSet
	pods    map[types.UID][]*corev1.Pod
	refused error
	events  []string
	wakeAt  time.Time
	rev     int
}

func newWorld(t *testing.T, d *appsv1.Deployment) *world {
	return &world{t: t, now: t0, d: d, sets: map[string]*appsv1.ReplicaSet{}, pods: map[types.UID][]*corev1.Pod{}, rev: 100}
}

func (w *world) state() State {
	s := State{Deployment: w.d, SetKind: kind.ReplicaSet(), Refused: w.refused}
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(w.sets))) {
		s.Sets = append(s.Sets, w.sets[name])
	}
	s.Set = func(name string) *appsv1.ReplicaSet { return w.sets[name] }
	s.Pods = func(set types.UID) []*corev1.Pod { return w.pods[set] }
	return s
}

// decide takes one decision and carries it out. It returns what becomes of the sets, by the
// tag of their image: "+1:4" created for four pods, "1:4>3" made smaller, "1:4" written
// otherwise, "-1" deleted. The name of a set must be of its hash.
func (w *world) decide() string {
	w.t.Helper()
	before := w.state()
	set := Decide(w.now, before)
	w.wakeAt = set.WakeAt
	var did []string
	guarded := len(set.Guards) == 1 && set.Guards[0] == change.Guard{Key: keyOf(w.d), Rev: change.RevOf(w.d)}
	for _, write := range set.Writes {
		w.rev++
		if write.Op != change.Delete {
			write.Object.SetResourceVersion(fmt.Sprint(w.rev))
		}
		old := w.sets[write.Key.Name]
		switch obj := write.Object.(type) {
		case nil:
			did = append(did, "-"+tag(old))
			delete(w.sets, write.Key.Name)
		case *appsv1.Deployment:
			guarded = write.Rev == change.RevOf(w.d)
			w.d = obj
		case *appsv1.ReplicaSet:
			switch {
			case write.Op == change.Create:
				obj.SetUID(types.UID("uid-" + obj.Name))
				obj.CreationTimestamp, obj.Generation = metav1.NewTime(w.now.Add(time.Duration(w.rev)*time.Second)), 1
				if obj.Name != "web-"+obj.Labels[hashLabel] || obj.Spec.Selector.MatchLabels[hashLabel] != obj.Spec.Template.Labels[hashLabel] {
					w.t.Errorf("a set of the hash %s is called %s", obj.Labels[hashLabel], obj.Name)
				}
				did = append(did, fmt.Sprintf("+%s:%d", tag(obj), *obj.Spec.Replicas))
			case *obj.Spec.Replicas != *old.Spec.Replicas:
				if obj.Generation != old.Generation+1 {
					w.t.Errorf("a set of another size is of generation %d after %d", obj.Generation, old.Generation)
				}
				did = append(did, fmt.Sprintf("%s:%d>%d", tag(obj), *old.Spec.Replicas, *obj.Spec.Replicas))
			default:
				did = append(did, fmt.Sprintf("%s:%d", tag(obj), *obj.Spec.Replicas))
			}
			w.sets[obj.Name] = obj
		}
	}
	if len(set.Writes) > 0 && !guarded {
		w.t.Error("what is written does not depend on the Deployment")
	}
	for _, n := range set.Notes {
		w.events = append(w.events, n.Reason+": "+n.Message)
	}
	slices.Sort(did)
	return strings.Join(did, " ")
}

func tag(s *appsv1.ReplicaSet) string {
	return strings.TrimPrefix(s.Spec.Template.Spec.Containers[0].Image, "web:")
}

// set returns the set of an image.
func (w *world) set(of string) *appsv1.ReplicaSet {
	w.t.Helper()
	for _, s := range w.sets {
		if tag(s) == of {
			return s
		}
	}
	w.t.Fatalf("there is no set of web:%s", of)
	return nil
}

// follow lets the sets make their pods; of those of an image so many are available, by
// default all. Nothing is left of those that go.
func (w *world) follow(available map[string]int32) {
	for name, s := range w.sets {
		next := s.DeepCopy()
		n := *s.Spec.Replicas
		works, told := available[tag(s)]
		if !told || works > n {
			works = n
		}
		next.Status = appsv1.ReplicaSetStatus{
			Replicas: n, FullyLabeledReplicas: n, ReadyReplicas: works, AvailableReplicas: works, TerminatingReplicas: ptr.To[int32](0),
			ObservedGeneration: s.Generation, Conditions: s.Status.Conditions,
		}
		w.sets[name] = next
	}
}

// run decides until nothing is left to do, and returns the steps; the sets follow each.
func (w *world) run(available map[string]int32) (steps []string) {
	w.t.Helper()
	idle := 0
	for range 200 {
		rev := w.d.ResourceVersion
		did := w.decide()
		w.check()
		if did != "" {
			steps = append(steps, did)
		}
		w.follow(available)
		if did != "" || w.d.ResourceVersion != rev {
			idle = 0
		} else if idle++; idle > 1 {
			return steps
		}
	}
	w.t.Fatalf("it does not come to rest: %q", steps[max(0, len(steps)-10):])
	return nil
}

// check: never more pods than may be, whatever happens.
func (w *world) check() {
	w.t.Helper()
	d := &decision{State: w.state(), next: w.d}
	sum := int32(0)
	for _, s := range w.sets {
		if metav1.IsControlledBy(s, w.d) {
			sum += *s.Spec.Replicas
		}
	}
	if most := max(d.want()+d.surge(), w.d.Status.Replicas); sum > most {
		w.t.Errorf("the sets are to have %d pods, of at most %d", sum, most)
	}
}

// change edits the Deployment as a client does.
func (w *world) change(edits ...func(*appsv1.Deployment)) {
	w.d = w.d.DeepCopy()
	for _, edit := range edits {
		edit(w.d)
	}
	w.d.Generation++
	w.rev++
	w.d.ResourceVersion = fmt.Sprint(w.rev)
}

// expect runs, and compares the steps.
func (w *world) expect(available map[string]int32, want ...string) {
	w.t.Helper()
	if got := w.run(available); !slices.Equal(got, want) {
		w.t.Fatalf("the steps are %q, want %q", got, want)
	}
}

// said are the conditions, in their order.
func (w *world) said() string {
	var all []string
	for _, c := range w.d.Status.Conditions {
		all = append(all, fmt.Sprintf("%s %s %s", c.Type, c.Status, c.Reason))
	}
	return strings.Join(all, ", ")
}

func (w *world) status() string {
	st := w.d.Status
	return fmt.Sprintf("%d pods, %d updated, %d ready, %d available, %d missing, generation %d",
		st.Replicas, st.UpdatedReplicas, st.ReadyReplicas, st.AvailableReplicas, st.UnavailableReplicas, st.ObservedGeneration)
}

// revisions are those of the sets by their images, with what they had before.
func (w *world) revisions() string {
	var all []string
	for _, s := range w.sets {
		text := tag(s) + " is " + s.Annotations[kind.DeploymentRevision]
		if had := s.Annotations[kind.DeploymentRevisionHistory]; had != "" {
			text += " after " + had
		}
		all = append(all, text)
	}
	slices.Sort(all)
	return strings.Join(all, ", ") + "; now " + w.d.Annotations[kind.DeploymentRevision]
}

// rolled is a world in which the images were rolled out one after the other.
func rolled(t *testing.T, d *appsv1.Deployment, tags ...string) *world {
	t.Helper()
	w := newWorld(t, d)
	w.run(nil)
	for _, tag := range tags {
		w.now = w.now.Add(time.Minute)
		w.change(image(tag))
		w.run(nil)
	}
	w.events = nil
	return w
}
