package kind

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// TestAdmitRuntimeClass: what a RuntimeClass says is in its pods, in the words of Kubernetes' admission.
func TestAdmitRuntimeClass(t *testing.T) {
	t.Parallel()
	cpu := func(q string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(q)}
	}
	key := RuntimeClasses.Key("", "kata")
	class := &nodev1.RuntimeClass{
		ObjectMeta: metav1.ObjectMeta{Name: "kata"}, Handler: "kata", Overhead: &nodev1.Overhead{PodFixed: cpu("250m")},
		Scheduling: &nodev1.Scheduling{
			NodeSelector: map[string]string{"kata": "yes", "disk": "ssd"},
			Tolerations:  []corev1.Toleration{{Key: "kata", Operator: corev1.TolerationOpExists}, {Key: "mine", Operator: corev1.TolerationOpExists}},
		},
	}
	for name, c := range map[string]struct {
		spec   corev1.PodSpec
		others objects
		want   string
	}{
		"nothing asked": {corev1.PodSpec{}, objects{key: class}, "map[] map[] []"},
		"given": {corev1.PodSpec{
			NodeSelector: map[string]string{"disk": "ssd"},
			Tolerations:  []corev1.Toleration{{Key: "mine", Operator: corev1.TolerationOpEqual, Value: "x"}, {Key: "other", Operator: corev1.TolerationOpExists}},
		}, objects{key: class}, "map[cpu:250m] map[disk:ssd kata:yes] [other kata mine]"},
		"the same overhead":  {corev1.PodSpec{Overhead: cpu("0.25")}, objects{key: class}, "map[cpu:250m] map[disk:ssd kata:yes] [kata mine]"},
		"another overhead":   {corev1.PodSpec{Overhead: cpu("1")}, objects{key: class}, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"},
		"another selector":   {corev1.PodSpec{NodeSelector: map[string]string{"disk": "tape"}}, objects{key: class}, "conflict: runtimeClass.scheduling.nodeSelector[disk] = ssd; pod.spec.nodeSelector[disk] = tape"},
		"a class with less":  {corev1.PodSpec{}, objects{key: &nodev1.RuntimeClass{Handler: "x"}}, "map[] map[] []"},
		"overhead of nobody": {corev1.PodSpec{Overhead: cpu("1")}, objects{key: &nodev1.RuntimeClass{Handler: "x"}}, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"},
		"no class":           {corev1.PodSpec{}, objects{}, `pod rejected: RuntimeClass "kata" not found`},
	} {
		spec := c.spec
		if name != "nothing asked" {
			spec.RuntimeClassName = ptr.To("kata")
		}
		got := ""
		if err := admitRuntimeClass(&spec, c.others); err != nil {
			got = err.Error()
		} else {
			overhead := map[corev1.ResourceName]string{}
			for name, q := range spec.Overhead {
				overhead[name] = q.String()
			}
			var keys []string
			for _, t := range spec.Tolerations {
				keys = append(keys, t.Key)
			}
			got = fmt.Sprint(overhead, " ", spec.NodeSelector, " ", keys)
		}
		if got != c.want {
			t.Errorf("%s: got %s\nwant %s", name, got, c.want)
		}
	}
	if class.Scheduling.NodeSelector["disk"] != "ssd" || len(class.Scheduling.NodeSelector) != 2 || !class.Overhead.PodFixed.Cpu().Equal(resource.MustParse("250m")) {
		t.Errorf("the class has become %+v", class)
	}
}
