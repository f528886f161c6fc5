package kubediff

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/controller"

	"github.com/sampan-batch/sampan/internal/podset"
)

// TestHashOfTemplate: names and labels of ReplicaSets and revisions carry it, and who takes
// his objects to a cluster must not see all of his pods replaced.
func TestHashOfTemplate(t *testing.T) {
	t.Parallel()
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web", "tier": "front"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "web:1", Command: []string{"serve"}}}},
	}
	zero, many := int32(0), int32(1<<31-1)
	for _, collisions := range []*int32{nil, &zero, &many} {
		if got, want := podset.Hash(&template, collisions), controller.ComputeHash(&template, collisions); got != want {
			t.Errorf("the hash is %s, Kubernetes' is %s", got, want)
		}
	}
}
