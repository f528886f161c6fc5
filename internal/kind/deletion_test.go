package kind

import (
	"math"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
)

func TestRemoval(t *testing.T) {
	t.Parallel()
	graceful := ConfigMap()
	graceful.Deletion.Grace = func(_ Object, asked *int64) int64 { return ptr.Deref(asked, 30) }
	now := testTime.Time
	deleted := func(grace int64, finalizers ...string) *corev1.ConfigMap {
		at := metav1.NewTime(now.Add(time.Duration(grace) * time.Second))
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c", Generation: 4, Finalizers: finalizers,
			DeletionTimestamp: &at, DeletionGracePeriodSeconds: &grace}}
	}
	for _, test := range []struct {
		name  string
		k     *Kind
		obj   Object
		asked *int64
		op    change.Op // 0: nothing to do
		grace int64
	}{
		{"nothing holds it", ConfigMap(), &corev1.ConfigMap{}, nil, change.Delete, 0},
		{"a finalizer holds it", ConfigMap(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Finalizers: []string{"a/b"}}}, nil, change.Update, 0},
		{"grace", graceful, &corev1.ConfigMap{}, nil, change.Update, 30},
		{"grace for longer than can be counted", graceful, &corev1.ConfigMap{}, ptr.To[int64](math.MaxInt64), change.Update, math.MaxInt64},
		{"no grace", graceful, &corev1.ConfigMap{}, ptr.To[int64](0), change.Delete, 0},
		{"grace again", graceful, deleted(30), nil, 0, 0},
		{"longer grace", graceful, deleted(30), ptr.To[int64](60), 0, 0},
		{"shorter grace", graceful, deleted(30), ptr.To[int64](5), change.Update, 5},
		{"grace cut off", graceful, deleted(30), ptr.To[int64](0), change.Delete, 0},
		{"held, and asked again", ConfigMap(), deleted(0, "a/b"), nil, 0, 0},
		{"a namespace with content", Namespace(), &corev1.Namespace{Spec: corev1.NamespaceSpec{
			Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}}}, nil, change.Update, 0},
		{"an empty namespace", Namespace(), &corev1.Namespace{}, nil, change.Delete, 0},
	} {
		before := test.obj.DeepCopyObject().(Object)
		w, ok := test.k.Removal(test.obj, 7, now, test.asked)
		if ok != (test.op != 0) || w.Op != test.op {
			t.Errorf("%s: op %d, %v", test.name, w.Op, ok)
			continue
		}
		if test.op == 0 {
			continue
		}
		if w.Rev != 7 || w.Key != test.k.KeyOf(test.obj) {
			t.Errorf("%s: %+v", test.name, w)
		}
		if test.op != change.Update {
			continue
		}
		if test.obj.GetDeletionTimestamp().IsZero() != before.GetDeletionTimestamp().IsZero() {
			t.Errorf("%s: the old object was changed", test.name)
		}
		at := w.Object.GetDeletionTimestamp()
		if *w.Object.GetDeletionGracePeriodSeconds() != test.grace || !at.Equal(later(Seconds(test.grace))) {
			t.Errorf("%s: grace %d until %v", test.name, *w.Object.GetDeletionGracePeriodSeconds(), at)
		}
		if ns, ok := w.Object.(*corev1.Namespace); ok && ns.Status.Phase != corev1.NamespaceTerminating {
			t.Errorf("%s: phase %s", test.name, ns.Status.Phase)
		}
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	gone := metav1.ObjectMeta{DeletionTimestamp: &testTime, DeletionGracePeriodSeconds: ptr.To[int64](0)}
	held, graced := gone, gone
	held.Finalizers, graced.DeletionGracePeriodSeconds = []string{"a/b"}, ptr.To[int64](5)
	for name, test := range map[string]struct {
		obj  Object
		want change.Op
	}{
		"alive":                {&corev1.ConfigMap{}, change.Update},
		"let go":               {&corev1.ConfigMap{ObjectMeta: gone}, change.Delete},
		"still held":           {&corev1.ConfigMap{ObjectMeta: held}, change.Update},
		"in its grace period":  {&corev1.ConfigMap{ObjectMeta: graced}, change.Update},
		"an emptied namespace": {&corev1.Namespace{ObjectMeta: gone}, change.Delete},
		"a namespace": {&corev1.Namespace{ObjectMeta: gone, Spec: corev1.NamespaceSpec{
			Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}}}, change.Update},
	} {
		k := ConfigMap()
		if _, ok := test.obj.(*corev1.Namespace); ok {
			k = Namespace()
		}
		if got := k.Settle(change.Write{Op: change.Update, Rev: 3, Object: test.obj}); got.Op != test.want || got.Rev != 3 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
