package control

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// TestRevisionsOfOthers: a revision that somebody makes for a set is not taken for a second one of the same
// template the moment that it comes, before he has done with it; it is with the next look at the set.
func TestRevisionsOfOthers(t *testing.T) {
	bubble(t, func(b *bundle) {
		b.namespace("default")
		b.node("n")
		labels := map[string]string{"app": "log"}
		template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
		b.create(&appsv1.DaemonSet{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "log"},
			Spec:       appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template},
		})
		b.settle()
		revisions := func() (list []*appsv1.ControllerRevision) {
			for obj := range b.store.View().List(kind.ControllerRevisions, "default") {
				list = append(list, obj.(*appsv1.ControllerRevision))
			}
			return list
		}
		all := revisions()
		if len(all) != 1 {
			b.t.Fatalf("a new set has %d revisions", len(all))
		}
		mine := all[0].DeepCopy()
		mine.ObjectMeta = metav1.ObjectMeta{Namespace: "default", Name: "mine", Labels: mine.Labels, OwnerReferences: mine.OwnerReferences}
		mine.Revision++
		b.put(kind.ControllerRevisions, mine)
		b.settle()
		if all = revisions(); len(all) != 2 {
			b.t.Errorf("%d revisions are left", len(all))
		}
		b.update(kind.DaemonSets.Key("default", "log"), func(obj change.Object) { obj.SetAnnotations(map[string]string{"note": "x"}) })
		b.settle()
		if all = revisions(); len(all) != 1 || all[0].Name != "mine" {
			b.t.Errorf("then %d revisions are left", len(all))
		}
	})
}
