package server

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/util/retry"

	"github.com/sampan-batch/sampan/internal/change"
)

func TestPatches(t *testing.T) {
	t.Parallel()
	typed := func(subtype string) map[string]string {
		return map[string]string{"Content-Type": "application/" + subtype + "-patch+json"}
	}
	apply := map[string]string{"Content-Type": "application/apply-patch+yaml"}
	pod := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"main","image":"busybox","env":[{"name":"A","value":"1"}]}]}}`
	setup(t).run(t, []probe{
		{name: "create", method: "POST", path: cms, body: cmBody("a", "1"), code: 201},
		{name: "json", method: "PATCH", path: cms + "/a", header: typed("json"), code: 200,
			body: `[{"op":"add","path":"/data/j","value":"2"},{"op":"remove","path":"/data/k"}]`, has: []string{`"data":{"j":"2"}`}},
		{name: "json test fails", method: "PATCH", path: cms + "/a", header: typed("json"), code: 422,
			body: `[{"op":"test","path":"/data/j","value":"3"}]`, reason: "Invalid"},
		{name: "json that is none", method: "PATCH", path: cms + "/a", header: typed("json"), code: 400, body: `{"op":"add"}`, reason: "BadRequest"},
		{name: "merge", method: "PATCH", path: cms + "/a", header: typed("merge"), code: 200,
			body: `{"data":{"j":null,"m":"3"}}`, has: []string{`"data":{"m":"3"}`}},
		{name: "merge of an old revision", method: "PATCH", path: cms + "/a", header: typed("merge"), code: 409,
			body: `{"metadata":{"resourceVersion":"1"}}`, reason: "Conflict"},
		{name: "merge of an unknown field, strictly", method: "PATCH", path: cms + "/a?fieldValidation=Strict", header: typed("merge"), code: 422,
			body: `{"dta":{}}`, has: []string{`unknown field \"dta\"`}},
		{name: "strategic", method: "POST", path: pods, body: pod, code: 201},
		{name: "strategic merges lists by key", method: "PATCH", path: pods + "/p", header: typed("strategic-merge"), code: 200,
			body: `{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"main","image":"other"}]}}`,
			has:  []string{`"image":"other"`, `"name":"A"`, `"a":"b"`}},
		{name: "no such patch", method: "PATCH", path: cms + "/a", header: map[string]string{"Content-Type": "application/json"}, body: `{}`, code: 415},
		{name: "nothing to patch", method: "PATCH", path: cms + "/none", header: typed("merge"), body: `{}`, code: 404},
		{name: "dry run", method: "PATCH", path: cms + "/a?dryRun=All", header: typed("merge"), body: `{"data":{"dry":"1"}}`, code: 200, has: []string{`"dry":"1"`}},
		{name: "of which nothing stays", path: cms + "/a", code: 200, not: []string{`"dry"`}},
		{name: "apply without manager", method: "PATCH", path: cms + "/s", header: apply, body: cmBody("s", "1"), code: 422, reason: "Invalid",
			has: []string{"fieldManager", "is required for apply patch"}},
		{name: "apply creates", method: "PATCH", path: cms + "/s?fieldManager=one", header: apply, body: cmBody("s", "1"), code: 201,
			has: []string{`"operation":"Apply"`, `"manager":"one"`}},
		{name: "apply again", method: "PATCH", path: cms + "/s?fieldManager=one", header: apply, body: cmBody("s", "1"), code: 200},
		{name: "apply of another's field", method: "PATCH", path: cms + "/s?fieldManager=two", header: apply, body: cmBody("s", "2"), code: 409, reason: "Conflict",
			message: `Apply failed with 1 conflict: conflict with "one": .data.k`},
		{name: "apply by force", method: "PATCH", path: cms + "/s?fieldManager=two&force=true", header: apply, body: cmBody("s", "2"), code: 200,
			has: []string{`"k":"2"`, `"manager":"two"`}, not: []string{`"manager":"one"`}},
		{name: "apply of less removes", method: "PATCH", path: cms + "/s?fieldManager=two", header: apply, code: 200,
			body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"s"}}`, not: []string{`"k":"2"`}},
		{name: "dry run of an apply", method: "PATCH", path: cms + "/t?fieldManager=two&dryRun=All", header: apply, code: 201, body: cmBody("t", "1")},
		{name: "of which nothing stays either", path: cms + "/t", code: 404},
		{name: "apply of a Job", method: "PATCH", path: jobs + "/pi?fieldManager=one", header: apply, code: 201, body: jobBody},
		{name: "apply of its status", method: "PATCH", path: jobs + "/pi/status?fieldManager=two", header: apply, code: 200,
			body: `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"pi"},"status":{"active":1,"startTime":"2026-01-02T03:04:05Z"}}`,
			has:  []string{`"active":1`, `"subresource":"status"`}},
	})
}

func TestNoOpWritesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	cms := f.client.CoreV1().ConfigMaps("default")
	cm, err := cms.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Data: map[string]string{"k": "v"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rev := f.store.View().Rev()
	if got, err := cms.Update(t.Context(), cm.DeepCopy(), metav1.UpdateOptions{}); err != nil || got.ResourceVersion != cm.ResourceVersion {
		t.Errorf("update: %v, %v", got, err)
	}
	if got, err := cms.Patch(t.Context(), "a", types.MergePatchType, []byte(`{"data":{"k":"v"}}`), metav1.PatchOptions{}); err != nil || got.ResourceVersion != cm.ResourceVersion {
		t.Errorf("patch: %v, %v", got, err)
	}
	apply := corev1ac.ConfigMap("b", "default").WithData(map[string]string{"k": "v"})
	first, err := cms.Apply(t.Context(), apply, metav1.ApplyOptions{FieldManager: "m"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := cms.Apply(t.Context(), apply, metav1.ApplyOptions{FieldManager: "m"}); err != nil || got.ResourceVersion != first.ResourceVersion {
		t.Errorf("apply: %v, %v", got, err)
	}
	if got := f.store.View().Rev(); got != rev+1 {
		t.Errorf("%d writes instead of 1", got-rev)
	}
}

// What our own parts create has no managedFields, until somebody applies it.
func TestApplyToUnmanaged(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "own", Namespace: "default", UID: "u"}, Data: map[string]string{"k": "v", "l": "w"}})
	cms := f.client.CoreV1().ConfigMaps("default")
	got, err := cms.Get(t.Context(), "own", metav1.GetOptions{})
	if err != nil || len(got.ManagedFields) != 0 {
		t.Fatalf("got %+v, %v", got, err)
	}
	_, err = cms.Apply(t.Context(), corev1ac.ConfigMap("own", "default").WithData(map[string]string{"k": "x"}), metav1.ApplyOptions{FieldManager: "m"})
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "before-first-apply"`) {
		t.Errorf("got %v", err)
	}
	got, err = cms.Apply(t.Context(), corev1ac.ConfigMap("own", "default").WithData(map[string]string{"k": "x"}), metav1.ApplyOptions{FieldManager: "m", Force: true})
	if err != nil || got.Data["k"] != "x" || got.Data["l"] != "w" || len(got.ManagedFields) != 2 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// Objects of the store are shared: nothing that a client asks for changes one.
func TestStoredObjectsAreNotTouched(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.run(t, []probe{{name: "create", method: "POST", path: pods, body: podBody, code: 201}})
	key := change.Key{Resource: "pods", Namespace: "default", Name: "p"}
	obj, _ := f.store.View().Get(key)
	before, _ := json.Marshal(obj)
	patch := map[string]string{"Content-Type": "application/merge-patch+json"}
	f.run(t, []probe{
		{name: "get", path: pods + "/p", code: 200},
		{name: "list", path: pods, code: 200},
		{name: "table", path: pods, code: 200, header: map[string]string{"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}},
		{name: "metadata", path: pods, code: 200, header: map[string]string{"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}},
		{name: "protobuf", path: pods + "/p", code: 200, header: map[string]string{"Accept": "application/vnd.kubernetes.protobuf"}},
		{name: "patch", method: "PATCH", path: pods + "/p?dryRun=All", code: 200, header: patch, body: `{"metadata":{"labels":{"a":"b"}}}`},
		{name: "refused patch", method: "PATCH", path: pods + "/p", code: 422, header: patch, body: `{"spec":{"nodeName":"n"}}`},
		{name: "refused put", method: "PUT", path: pods + "/p?dryRun=All", code: 422, body: podBody}, // it has no service account
		{name: "delete", method: "DELETE", path: pods + "/p?dryRun=All&propagationPolicy=Foreground", code: 200},
		{name: "delete collection", method: "DELETE", path: pods + "?dryRun=All", code: 200},
		{name: "patch for good", method: "PATCH", path: pods + "/p", code: 200, header: patch, body: `{"metadata":{"labels":{"a":"b"}}}`},
	})
	if after, _ := json.Marshal(obj); string(after) != string(before) {
		t.Errorf("the stored object was changed:\n%s\n%s", before, after)
	}
}

// Many writers of one object: every change is kept.
func TestConcurrentPatches(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.run(t, []probe{{name: "create", method: "POST", path: cms, body: cmBody("a", "1"), code: 201}})
	const writers = 20
	numbers := make([]int, writers)
	for i := range numbers {
		numbers[i] = i
	}
	err := inParallel(t.Context(), numbers, writers, func(ctx context.Context, i int) error {
		data, _ := json.Marshal(map[string]any{"data": map[string]string{string(rune('a' + i)): "x"}})
		// The library gives up after five conflicts in a row, as in Kubernetes.
		return retry.OnError(retry.DefaultBackoff, apierrors.IsConflict, func() error {
			_, err := f.client.CoreV1().ConfigMaps("default").Patch(ctx, "a", types.MergePatchType, data, metav1.PatchOptions{})
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.client.CoreV1().ConfigMaps("default").Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil || len(got.Data) != writers { // "k" is one of them
		t.Errorf("got %v, %v", got.Data, err)
	}
}
