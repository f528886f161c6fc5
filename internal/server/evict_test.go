package server

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestEvictionsMeetBudgets: of many that evict at once, as many succeed as the budget allows; the
// others are told by Kubernetes' words why not.
func TestEvictionsMeetBudgets(t *testing.T) {
	t.Parallel()
	const there, allowed = 12, 3
	f := setup(t)
	for i := range there {
		f.put(t, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i), Namespace: "default", Labels: map[string]string{"app": "a"}},
			Spec:       corev1.PodSpec{NodeName: "n", TerminationGracePeriodSeconds: new(int64(30)), Containers: []corev1.Container{{Name: "m", Image: "i"}}},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
		})
	}
	budget := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "b", Namespace: "default"},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}},
		Status:     policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: allowed, CurrentHealthy: there, DesiredHealthy: there - allowed},
	}
	f.put(t, budget)
	evict := func(name string, dry ...string) error {
		return f.client.PolicyV1().Evictions("default").Evict(t.Context(), &policyv1.Eviction{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, DeleteOptions: &metav1.DeleteOptions{DryRun: dry},
		})
	}
	if err := evict("p0", metav1.DryRunAll); err != nil {
		t.Error(err)
	}
	var gone atomic.Int32
	var all sync.WaitGroup
	for i := range there {
		all.Go(func() {
			err := evict(fmt.Sprint("p", i))
			switch {
			case err == nil:
				gone.Add(1)
			case !apierrors.IsTooManyRequests(err) || !strings.HasPrefix(err.Error(), "Cannot evict pod as it would violate the pod's disruption budget."):
				t.Errorf("p%d: %v", i, err)
			}
		})
	}
	all.Wait()
	stored, err := f.client.PolicyV1().PodDisruptionBudgets("default").Get(t.Context(), "b", metav1.GetOptions{})
	if err != nil || gone.Load() != allowed || len(stored.Status.DisruptedPods) != allowed || stored.Status.DisruptionsAllowed != 0 {
		t.Errorf("%d were evicted, %+v, %v", gone.Load(), stored.Status, err)
	}
	list, err := f.client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		pod := &list.Items[i]
		if _, listed := stored.Status.DisruptedPods[pod.Name]; listed != (pod.DeletionTimestamp != nil) {
			t.Errorf("%s goes: %v, and is listed: %v", pod.Name, pod.DeletionTimestamp != nil, listed)
		}
	}
	for name := range stored.Status.DisruptedPods { // it goes already: nothing more is disrupted
		if err := evict(name); err != nil {
			t.Errorf("%s once more: %v", name, err)
		}
	}
	second := budget.DeepCopy()
	second.Name = "c"
	f.put(t, second)
	for i := range there {
		name := fmt.Sprint("p", i)
		if _, listed := stored.Status.DisruptedPods[name]; listed {
			continue
		}
		if err := evict(name); err == nil || !strings.Contains(err.Error(), "This pod has more than one PodDisruptionBudget") {
			t.Errorf("with two budgets: %v", err)
		}
		return
	}
}
