package podset

import (
	"reflect"
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var t0 = time.Date(2026, 1, 31, 7, 0, 0, 0, time.UTC)

func at(seconds int) metav1.Time { return metav1.NewTime(t0.Add(time.Duration(seconds) * time.Second)) }

// newOwner returns an owner of pods with the label app=pi.
func newOwner() Owner {
	labels := map[string]string{"app": "pi"}
	return Owner{
		Object:   &metav1.ObjectMeta{Namespace: "ns", Name: "pi", UID: "pi-uid"},
		Kind:     batchv1.SchemeGroupVersion.WithKind("Job"),
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: &corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: map[string]string{"a": "b"}, Finalizers: []string{"theirs"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main"}}},
		},
		Finalizer: "ours",
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	own := func(edits ...func(*corev1.Pod)) *corev1.Pod {
		pod := newOwner().Make()
		for _, edit := range edits {
			edit(pod)
		}
		return pod
	}
	orphan := func(p *corev1.Pod) { p.OwnerReferences = nil }
	others := func(p *corev1.Pod) { p.OwnerReferences[0].UID = "another" }
	strange := func(p *corev1.Pod) { p.Labels = map[string]string{"app": "e"} }
	deleted := func(p *corev1.Pod) { now := at(0); p.DeletionTimestamp = &now }
	expressions := func(o *Owner) {
		o.Selector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "In", Values: []string{"pi"}}}}
	}
	leaving := func(o *Owner) { now := at(0); o.Object.SetDeletionTimestamp(&now) }
	for _, c := range []struct {
		name  string
		owner func(*Owner)
		pod   *corev1.Pod
		want  Claim
	}{
		{"its own", nil, own(), Mine},
		{"its own, being deleted", nil, own(deleted), Mine},
		{"its own, with other labels", nil, own(strange), Unmatched},
		{"another's", nil, own(others), Foreign},
		{"nobody's", nil, own(orphan), Adoptable},
		{"nobody's, with other labels", nil, own(orphan, strange), Foreign},
		{"nobody's, being deleted", nil, own(orphan, deleted), Foreign},
		{"named, but not as the controller", nil, own(func(p *corev1.Pod) { p.OwnerReferences[0].Controller = nil }), Adoptable},
		{"the owner is being deleted", leaving, own(), Mine},
		{"the owner is being deleted: nobody's", leaving, own(orphan), Foreign},
		{"by expressions", expressions, own(orphan), Adoptable},
		{"by expressions, with other labels", expressions, own(strange), Unmatched},
		{"no selector", func(o *Owner) { o.Selector = nil }, own(orphan), Foreign},
		{"a selector that cannot be read", func(o *Owner) {
			o.Selector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "?"}}}
		}, own(orphan), Foreign},
	} {
		o := newOwner()
		if c.owner != nil {
			c.owner(&o)
		}
		if got := o.Claims()(c.pod); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

func TestAdoptAndRelease(t *testing.T) {
	t.Parallel()
	o := newOwner()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: "a", Labels: map[string]string{"app": "pi"}, Finalizers: []string{"theirs"},
		OwnerReferences: []metav1.OwnerReference{{Kind: "Foo", Name: "foo", UID: "foo-uid"}, {Kind: "Job", Name: "pi", UID: "pi-uid"}},
	}}
	before := pod.DeepCopy()
	adopted := o.Adopt(pod)
	if !metav1.IsControlledBy(adopted, o.Object) || len(adopted.OwnerReferences) != 2 || !slices.Equal(adopted.Finalizers, []string{"theirs", "ours"}) {
		t.Errorf("adopted: %+v", adopted.ObjectMeta)
	}
	if again := o.Adopt(adopted); !reflect.DeepEqual(again, adopted) {
		t.Errorf("adopted twice: %+v", again.ObjectMeta)
	}
	released := o.Release(adopted)
	if len(released.OwnerReferences) != 1 || released.OwnerReferences[0].UID != "foo-uid" || !slices.Equal(released.Finalizers, []string{"theirs"}) {
		t.Errorf("released: %+v", released.ObjectMeta)
	}
	if !reflect.DeepEqual(pod, before) || !o.Tracks(adopted) {
		t.Error("a pod that was read was modified")
	}
}

func TestMake(t *testing.T) {
	t.Parallel()
	o := newOwner()
	pod := o.Make()
	if pod.Namespace != "ns" || pod.GenerateName != "pi-" || pod.Name != "" || pod.UID != "" || pod.Annotations["a"] != "b" ||
		pod.Labels["app"] != "pi" || !slices.Equal(pod.Finalizers, []string{"theirs", "ours"}) || !*pod.OwnerReferences[0].BlockOwnerDeletion {
		t.Errorf("made %+v", pod.ObjectMeta)
	}
	pod.Labels["app"], pod.Annotations["a"], pod.Finalizers[0], pod.Spec.Containers[0].Name = "x", "x", "x", "x"
	if want := newOwner(); !reflect.DeepEqual(o.Template, want.Template) {
		t.Error("the template was modified")
	}
}

func TestRanked(t *testing.T) {
	t.Parallel()
	newPod := func(name string, edits ...func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: at(0)},
			Spec:       corev1.PodSpec{NodeName: "node"},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning},
		}
		for _, edit := range edits {
			edit(p)
		}
		return p
	}
	pending := func(p *corev1.Pod) { p.Status.Phase, p.Spec.NodeName = corev1.PodPending, "" }
	readySince := func(seconds int) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: at(seconds)}}
		}
	}
	restarted := func(n int32) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: n}} }
	}
	created := func(seconds int) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.CreationTimestamp = at(seconds) }
	}
	pods := []*corev1.Pod{
		newPod("1-without-node", pending),
		newPod("2-pending", pending, func(p *corev1.Pod) { p.Spec.NodeName = "n" }),
		newPod("3-restarted", restarted(2)),
		newPod("4-young", created(2)),
		newPod("5-old", created(1)),
		newPod("6-ready-now", readySince(2)),
		newPod("7-ready-long", readySince(1)),
	}
	mixed := slices.Clone(pods)
	slices.Reverse(mixed)
	for i, got := range Ranked(mixed) {
		if got != pods[i] {
			t.Errorf("at %d is %s, want %s", i, got.Name, pods[i].Name)
		}
	}
	if mixed[0] != pods[6] {
		t.Error("the pods that were given were sorted in place")
	}
}

// TestSpread: the order is that of Kubernetes' ActivePodsWithRanks.
func TestSpread(t *testing.T) {
	t.Parallel()
	now := at(100).Time
	newPod := func(name, node string, edits ...func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), CreationTimestamp: at(0)},
			Spec:       corev1.PodSpec{NodeName: node},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning},
		}
		for _, edit := range edits {
			edit(p)
		}
		return p
	}
	cost := func(text string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.PodDeletionCost: text} }
	}
	ready := func(seconds int) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: at(seconds)}}
		}
	}
	restarted := func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 2}} }
	pods := []*corev1.Pod{
		newPod("1-without-a-node-whatever-it-costs", "", cost("100")),
		newPod("2-cheap", "b", cost("-5")),
		newPod("3-in-company", "a"),
		newPod("4-restarted", "b", restarted),
		newPod("5-alone", "b"),
		newPod("6-dear", "a", cost("7")),
		newPod("7-ready-short", "c", ready(90)),
		newPod("8-ready-twice-as-long", "c", ready(60)),
		newPod("9-ready-a-bit-longer", "c", ready(59)),
	}
	related := append(slices.Clone(pods), newPod("other", "a"), newPod("other", "a"))
	for range 3 {
		related = append(related, newPod("gone", "b", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }))
	}
	mixed := slices.Clone(pods)
	slices.Reverse(mixed)
	for i, got := range Spread(mixed, related, now) {
		if got != pods[i] {
			t.Errorf("at %d is %s, want %s", i, got.Name, pods[i].Name)
		}
	}
	young, old := newPod("z", "a", func(p *corev1.Pod) { p.CreationTimestamp = at(99) }), newPod("a", "a")
	if got := Spread([]*corev1.Pod{old, young}, nil, now); got[0] != young {
		t.Error("the older pod goes first")
	}
}

// TestOwnerWithoutFinalizer: one that does not count its pods leaves their finalizers alone.
func TestOwnerWithoutFinalizer(t *testing.T) {
	t.Parallel()
	o := newOwner()
	o.Finalizer = ""
	pod := o.Make()
	if !slices.Equal(pod.Finalizers, []string{"theirs"}) || !slices.Equal(o.Adopt(pod).Finalizers, pod.Finalizers) || !slices.Equal(o.Release(pod).Finalizers, pod.Finalizers) {
		t.Errorf("made with %q", pod.Finalizers)
	}
}
