package kind

import (
	"iter"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
)

// objects are those that a Getter finds.
type objects map[change.Key]Object

func (o objects) Get(key change.Key) (Object, bool) {
	obj, ok := o[key]
	return obj, ok
}

func (o objects) List(resource change.Resource, namespace string) iter.Seq[Object] {
	return func(yield func(Object) bool) {
		for key, obj := range o {
			if key.Resource == resource && (namespace == "" || key.Namespace == namespace) && !yield(obj) {
				return
			}
		}
	}
}

func TestAdmitPod(t *testing.T) {
	t.Parallel()
	account := &corev1.ServiceAccount{ImagePullSecrets: []corev1.LocalObjectReference{{Name: "registry"}}}
	for _, test := range []struct {
		name    string
		spec    corev1.PodSpec
		account *corev1.ServiceAccount
		want    func(s *corev1.PodSpec) bool
		err     string
	}{
		{name: "defaults", want: func(s *corev1.PodSpec) bool {
			return s.ServiceAccountName == "default" && s.DeprecatedServiceAccount == "default" && *s.Priority == 0 &&
				*s.PreemptionPolicy == corev1.PreemptLowerPriority && len(s.Tolerations) == 2 && *s.Tolerations[0].TolerationSeconds == 300
		}},
		{name: "an account", spec: corev1.PodSpec{ServiceAccountName: "a"}, account: account, want: func(s *corev1.PodSpec) bool {
			return s.ServiceAccountName == "a" && s.ImagePullSecrets[0].Name == "registry"
		}},
		{name: "own secrets", account: account, spec: corev1.PodSpec{ImagePullSecrets: []corev1.LocalObjectReference{{Name: "own"}}},
			want: func(s *corev1.PodSpec) bool {
				return len(s.ImagePullSecrets) == 1 && s.ImagePullSecrets[0].Name == "own"
			}},
		{name: "no account", spec: corev1.PodSpec{ServiceAccountName: "a"},
			err: `error looking up service account ns/a: serviceaccount "a" not found`},
		{name: "a system class", spec: corev1.PodSpec{PriorityClassName: "system-node-critical"},
			want: func(s *corev1.PodSpec) bool { return *s.Priority == 2000001000 }},
		{name: "no class", spec: corev1.PodSpec{PriorityClassName: "high"}, err: "no PriorityClass with name high was found"},
		{name: "another priority", spec: corev1.PodSpec{Priority: ptr.To[int32](5)},
			err: "the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 0 from the given PriorityClass name"},
		{name: "an overhead", spec: corev1.PodSpec{Overhead: corev1.ResourceList{}},
			err: "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"},
		{name: "no runtime class", spec: corev1.PodSpec{RuntimeClassName: ptr.To("kata"), Overhead: corev1.ResourceList{}},
			err: `pod rejected: RuntimeClass "kata" not found`},
		{name: "a runtime class", spec: corev1.PodSpec{RuntimeClassName: ptr.To("host")},
			want: func(s *corev1.PodSpec) bool { return *s.RuntimeClassName == "host" }},
		{name: "own tolerations", spec: corev1.PodSpec{Tolerations: []corev1.Toleration{
			{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute}, {Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoSchedule}}},
			want: func(s *corev1.PodSpec) bool {
				return len(s.Tolerations) == 3 && s.Tolerations[2].Key == corev1.TaintNodeUnreachable
			}},
		{name: "tolerates all", spec: corev1.PodSpec{Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}},
			want: func(s *corev1.PodSpec) bool { return len(s.Tolerations) == 1 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pod := &corev1.Pod{Spec: test.spec}
			pod.Namespace = "ns"
			others := objects{}
			if test.account != nil {
				others[AccountKey(pod)] = test.account
			}
			err := Pod().Create.Admit(pod, others)
			switch {
			case test.err != "":
				if err == nil || err.Error() != test.err {
					t.Errorf("got %v", err)
				}
			case err != nil || !test.want(&pod.Spec):
				t.Errorf("got %+v, %v", pod.Spec, err)
			}
		})
	}
}
