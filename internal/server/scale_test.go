package server

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// newSet creates the ReplicaSet web of three pods.
func (f *fixture) newSet(t *testing.T) *appsv1.ReplicaSet {
	t.Helper()
	labels := map[string]string{"app": "web"}
	set, err := f.client.AppsV1().ReplicaSets("default").Create(t.Context(), &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: ptr.To[int32](3), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}},
		},
	}, metav1.CreateOptions{FieldManager: "creator"})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// TestScale reads and writes a scale, and looks at what becomes of the object.
func TestScale(t *testing.T) {
	t.Parallel()
	f := setup(t)
	set := f.newSet(t)
	sets := f.client.AppsV1().ReplicaSets("default")
	s, err := sets.GetScale(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "web" || s.Namespace != "default" || s.UID != set.UID || s.ResourceVersion != set.ResourceVersion || s.Spec.Replicas != 3 || s.Status.Selector != "app=web" {
		t.Errorf("the scale is %+v", s)
	}
	// What is not the number has no effect.
	s.Spec.Replicas, s.Status.Replicas, s.Labels = 5, 77, map[string]string{"a": "b"}
	scaled, err := sets.UpdateScale(t.Context(), "web", s, metav1.UpdateOptions{FieldManager: "scaler"})
	if err != nil || scaled.Spec.Replicas != 5 || scaled.Status.Replicas != 0 {
		t.Fatalf("%+v, %v", scaled, err)
	}
	if set, err = sets.Get(t.Context(), "web", metav1.GetOptions{}); err != nil || *set.Spec.Replicas != 5 || set.Generation != 2 || set.Labels["a"] != "" || set.Status.Replicas != 0 {
		t.Errorf("the set is %+v, %v", set, err)
	}
	owner := ""
	for _, m := range set.ManagedFields {
		if strings.Contains(m.FieldsV1.GetRawString(), `"f:replicas"`) && m.Subresource != "status" {
			owner += m.Manager + "/" + m.Subresource + " "
		}
	}
	if owner != "scaler/scale " {
		t.Errorf("the number is managed by %q", owner)
	}
	if _, err := sets.UpdateScale(t.Context(), "web", s, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("an update of what is not the latest: %v", err)
	}
}

// TestScaleHostile: what a scale cannot be is said, by its field, and nothing changes.
func TestScaleHostile(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.newSet(t)
	const merge, json, apply = types.MergePatchType, types.JSONPatchType, types.ApplyPatchType
	for _, c := range []struct {
		name string
		kind types.PatchType
		body string
		want string
	}{
		{"negative", merge, `{"spec":{"replicas":-1}}`, "spec.replicas: Invalid value: -1: must be greater than or equal to 0"},
		{"too large", merge, `{"spec":{"replicas":3000000000}}`, "cannot unmarshal number 3000000000 into Go struct field ScaleSpec.spec.replicas"},
		{"a text", merge, `{"spec":{"replicas":"many"}}`, "cannot unmarshal string into Go struct field ScaleSpec.spec.replicas"},
		{"another's uid", merge, `{"metadata":{"uid":"x"},"spec":{"replicas":1}}`, `Operation cannot be fulfilled on replicasets/scale.apps "web": Precondition failed: UID in precondition: x`},
		{"another name", merge, `{"metadata":{"name":"x"},"spec":{"replicas":1}}`, "name"},
		{"an old revision", merge, `{"metadata":{"resourceVersion":"1"},"spec":{"replicas":1}}`, "the object has been modified"},
		{"no revision", merge, `{"metadata":{"resourceVersion":"x"},"spec":{"replicas":1}}`, "the object has been modified"},
		{"a negative one, by an operation", json, `[{"op":"replace","path":"/spec/replicas","value":-2}]`, "spec.replicas: Invalid value: -2"},
		{"without a manager", apply, `{"apiVersion":"autoscaling/v1","kind":"Scale","spec":{"replicas":1}}`, "fieldManager"},
		{"of another kind", apply, `{"apiVersion":"apps/v1","kind":"ReplicaSet","spec":{"replicas":1}}`, ""},
		{"no object", merge, `7`, ""},
	} {
		_, err := f.client.AppsV1().ReplicaSets("default").Patch(t.Context(), "web", c.kind, []byte(c.body), metav1.PatchOptions{}, "scale")
		if err == nil || !strings.Contains(err.Error(), c.want) || apierrors.IsInternalError(err) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := f.client.AppsV1().Deployments("default").GetScale(t.Context(), "nobody", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the scale of nobody: %v", err)
	}
	nobody := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "nobody", Namespace: "default"}}
	if _, err := f.client.AppsV1().StatefulSets("default").UpdateScale(t.Context(), "nobody", nobody, metav1.UpdateOptions{}); !apierrors.IsNotFound(err) || !strings.Contains(err.Error(), "statefulsets/scale.apps") {
		t.Errorf("an update of nobody's scale: %v", err)
	}
	if set, err := f.client.AppsV1().ReplicaSets("default").Get(t.Context(), "web", metav1.GetOptions{}); err != nil || *set.Spec.Replicas != 3 || set.Generation != 1 {
		t.Errorf("the set is %+v, %v", set, err)
	}
}

// TestScaleRace: patches without a revision all succeed, whoever else writes.
func TestScaleRace(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.newSet(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			body := fmt.Sprintf(`{"spec":{"replicas":%d}}`, 10+i)
			if _, err := f.client.AppsV1().ReplicaSets("default").Patch(t.Context(), "web", types.MergePatchType, []byte(body), metav1.PatchOptions{}, "scale"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if set, err := f.client.AppsV1().ReplicaSets("default").Get(t.Context(), "web", metav1.GetOptions{}); err != nil || *set.Spec.Replicas < 10 || set.Generation != 9 {
		t.Errorf("the set is %+v, %v", set, err)
	}
}
