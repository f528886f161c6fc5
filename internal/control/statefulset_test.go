package control

import (
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// setOf is a StatefulSet of one pod, whose claims go when it is scaled down.
func setOf(name string, templates ...string) *appsv1.StatefulSet {
	labels := map[string]string{"app": name}
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: appsv1.StatefulSetSpec{
		Replicas: ptr.To[int32](1), ServiceName: "x", Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "a"}}},
		},
		PersistentVolumeClaimRetentionPolicy: &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
			WhenDeleted: appsv1.RetainPersistentVolumeClaimRetentionPolicyType, WhenScaled: appsv1.DeletePersistentVolumeClaimRetentionPolicyType,
		},
	}}
	for _, t := range templates {
		set.Spec.VolumeClaimTemplates = append(set.Spec.VolumeClaimTemplates, corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Name: t},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
			},
		})
	}
	return set
}

// A set that is scaled down and up again waits for the claim that goes with its old pod. When
// that has gone nothing else is written any more that would tell.
func TestSetWaitsForItsClaim(t *testing.T) {
	bubble(t, func(b *bundle) {
		t := b.t
		b.claims()
		b.create(setOf("db", "data"))
		b.settle()
		first := at[*corev1.Pod](b.store.View(), kind.Pods, "default", "db-0")
		claim := kind.PersistentVolumeClaims.Key("default", "data-db-0")
		if first == nil || b.claim("data-db-0") == nil {
			t.Fatalf("it has the pod %v and the claim %v", first, b.claim("data-db-0"))
		}
		const holds = "example.com/backup"
		b.update(claim, func(obj change.Object) { obj.SetFinalizers(append(obj.GetFinalizers(), holds)) })
		scale := func(n int32) {
			b.update(kind.StatefulSets.Key("default", "db"), func(obj change.Object) { obj.(*appsv1.StatefulSet).Spec.Replicas = &n })
			b.settle()
		}
		scale(0)
		scale(1)
		b.end("default", corev1.PodSucceeded)
		b.settle()
		if c := b.claim("data-db-0"); c == nil || c.DeletionTimestamp == nil || !slices.Equal(c.Finalizers, []string{holds}) || len(b.pods("default")) > 0 {
			t.Fatalf("the claim is %+v, and there are %d pods", c, len(b.pods("default")))
		}
		time.Sleep(time.Hour)
		b.update(claim, func(obj change.Object) { obj.SetFinalizers(nil) })
		b.settle()
		if pods := b.pods("default"); len(pods) != 1 || pods[0].UID == first.UID || b.claim("data-db-0") == nil {
			t.Errorf("when the old claim is gone there are %d pods, and the claim %+v", len(pods), b.claim("data-db-0"))
		}
	})
}

// A claim wakes the sets that have it, whatever dashes there are in its name.
func TestClaimsWakeTheirSets(t *testing.T) {
	bubble(t, func(b *bundle) {
		b.claims()
		for _, set := range []*appsv1.StatefulSet{setOf("db", "data", "old-data"), setOf("data-db", "old"), setOf("0", "data"), setOf("none")} {
			b.create(set)
		}
		b.settle()
		owned := func(c *corev1.PersistentVolumeClaim) { c.OwnerReferences = []metav1.OwnerReference{{Name: "x"}} }
		goes := func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = ptr.To(metav1.Now()) }
		bound := func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = corev1.ClaimBound }
		c := statefulSetController(b.kinds)
		for name, test := range map[string]struct {
			op    change.Op
			claim string
			edit  func(*corev1.PersistentVolumeClaim)
			want  []string
		}{
			"it comes":                      {change.Create, "data-db-0", nil, []string{"db"}},
			"it is gone":                    {change.Delete, "data-db-17", nil, []string{"db"}},
			"it is somebody's":              {change.Update, "data-db-0", owned, []string{"db"}},
			"it begins to go":               {change.Update, "data-db-0", goes, []string{"db"}},
			"it is bound":                   {change.Update, "data-db-0", bound, nil},
			"it may be either's":            {change.Delete, "old-data-db-0", nil, []string{"data-db", "db"}},
			"of a set that is a number":     {change.Delete, "data-0-0", nil, []string{"0"}},
			"of no template":                {change.Delete, "logs-db-0", nil, nil},
			"of a set without any":          {change.Delete, "data-none-0", nil, nil},
			"of nobody":                     {change.Delete, "claim", nil, nil},
			"of a name that is only dashes": {change.Delete, "---", nil, nil},
		} {
			before := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: test.claim}}
			ev := change.Event{Op: test.op, Key: kind.PersistentVolumeClaims.Key("default", test.claim), Object: before}
			if test.edit != nil {
				after := before.DeepCopy()
				test.edit(after)
				ev.Prev, ev.Object = before, after
			}
			var got []string
			c.Dirties(b.store.View(), ev, func(key change.Key) { got = append(got, key.Name) })
			if slices.Sort(got); !slices.Equal(got, test.want) {
				b.t.Errorf("%s: %s wakes %q, want %q", name, test.claim, got, test.want)
			}
		}
	})
}
