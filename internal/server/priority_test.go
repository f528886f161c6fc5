package server

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// A pod has the priority of its class, or of the default one, and cannot say another.
func TestPriorityClasses(t *testing.T) {
	t.Parallel()
	f := setup(t)
	classes, pods := f.client.SchedulingV1().PriorityClasses(), f.client.CoreV1().Pods("default")
	class := func(name string, value int32, isDefault bool) error {
		_, err := classes.Create(t.Context(), &schedulingv1.PriorityClass{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value, GlobalDefault: isDefault, PreemptionPolicy: ptr.To(corev1.PreemptNever),
		}, metav1.CreateOptions{})
		return err
	}
	pod := func(name, class string, priority *int32) (*corev1.Pod, error) {
		p := podOf(name, nil)
		p.Spec.PriorityClassName, p.Spec.Priority = class, priority
		return pods.Create(t.Context(), p, metav1.CreateOptions{})
	}
	says := func(what string, err error, want string) {
		t.Helper()
		if err == nil || err.Error() != want {
			t.Errorf("%s: got  %v\nwant %s", what, err, want)
		}
	}
	plain, err := pod("plain", "", nil)
	if err != nil || *plain.Spec.Priority != 0 || plain.Spec.PriorityClassName != "" || *plain.Spec.PreemptionPolicy != corev1.PreemptLowerPriority {
		t.Errorf("without a class: %+v, %v", plain, err)
	}
	for _, err := range []error{class("high", 1000, false), class("usual", 10, true)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	says("a second default", class("other", 5, true),
		`priorityclasses.scheduling.k8s.io "other" is forbidden: PriorityClass usual is already marked as default. Only one default can exist`)
	high, err := pod("high", "high", nil)
	if err != nil || *high.Spec.Priority != 1000 || *high.Spec.PreemptionPolicy != corev1.PreemptNever {
		t.Errorf("of a class: %+v, %v", high, err)
	}
	usual, err := pod("usual", "", nil)
	if err != nil || *usual.Spec.Priority != 10 || usual.Spec.PriorityClassName != "usual" {
		t.Errorf("of the default class: %+v, %v", usual, err)
	}
	critical, err := pod("critical", "system-node-critical", nil)
	if err != nil || *critical.Spec.Priority != 2000001000 {
		t.Errorf("of a system class: %+v, %v", critical, err)
	}
	_, err = pod("lost", "nowhere", nil)
	says("no such class", err, `pods "lost" is forbidden: no PriorityClass with name nowhere was found`)
	_, err = pod("liar", "high", ptr.To[int32](7))
	says("another number", err, `pods "liar" is forbidden: the integer value of priority (7) must not be provided in pod spec; priority admission controller computed 1000 from the given PriorityClass name`)
}
