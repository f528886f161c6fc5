package kind

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// TestSpend: who may be evicted, and what the API says else.
func TestSpend(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	pod := func(ready bool) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
		if ready {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}
		return p
	}
	status := func(allowed, healthy, desired int32) policyv1.PodDisruptionBudgetStatus {
		return policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: allowed, CurrentHealthy: healthy, DesiredHealthy: desired, ObservedGeneration: 2}
	}
	const violates = "Cannot evict pod as it would violate the pod's disruption budget."
	failed := status(0, 1, 1)
	failed.Conditions = []metav1.Condition{{Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.SyncFailedReason, Message: "why"}}
	for _, tc := range []struct {
		name   string
		ready  bool
		policy policyv1.UnhealthyPodEvictionPolicyType
		status policyv1.PodDisruptionBudgetStatus
		code   int32 // 0: it may go
		says   string
		free   bool // it costs the budget nothing
	}{
		{"there is room", true, "", status(2, 3, 1), 0, "", false},
		{"the last one", true, "", status(1, 3, 2), 0, "", false},
		{"there is none", true, "", status(0, 2, 2), 429, "The disruption budget b needs 2 healthy pods and has 2 currently", false},
		{"none, and nobody knows why", true, "", status(0, 3, 2), 429, "The disruption budget b does not allow evicting pods currently", false},
		{"it is not reckoned yet", true, "", policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: 5}, 429, "The disruption budget b is still being processed by the server.", false},
		{"it cannot be reckoned", true, "", failed, 429, "because it failed sync: why", false},
		{"nonsense", true, "", status(-1, 0, 0), 403, "pdb disruptions allowed is negative", false},
		{"it is unhealthy, the others are enough", false, "", status(0, 2, 2), 0, "", true},
		{"it is unhealthy, as others", false, "", status(0, 1, 2), 429, "needs 2 healthy pods and has 1 currently", false},
		{"it is unhealthy, and none is needed", false, "", status(0, 0, 0), 429, "needs 0 healthy pods and has 0 currently", false},
		{"it is unhealthy, which is always a reason", false, policyv1.AlwaysAllow, status(0, 1, 2), 0, "", true},
		{"it is unhealthy, which is a reason while others are enough", false, policyv1.IfHealthyBudget, status(0, 1, 2), 429, "needs 2", false},
	} {
		b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "b", Generation: 2}, Status: tc.status}
		if tc.policy != "" {
			b.Spec.UnhealthyPodEvictionPolicy = ptr.To(tc.policy)
		}
		before := b.DeepCopy()
		next, err := Spend(b, pod(tc.ready), now)
		switch {
		case tc.code != 0:
			var answer *apierrors.StatusError
			if s, ok := err.(*apierrors.StatusError); ok {
				answer = s
			}
			if answer == nil || answer.ErrStatus.Code != tc.code || !strings.Contains(answer.ErrStatus.Details.Causes[0].Message, tc.says) ||
				tc.code == 429 && answer.ErrStatus.Message != violates {
				t.Errorf("%s: %+v", tc.name, err)
			}
		case err != nil || (next == nil) != tc.free:
			t.Errorf("%s: %+v, %v", tc.name, next, err)
		case next != nil && (next.Status.DisruptionsAllowed != tc.status.DisruptionsAllowed-1 || len(next.Status.DisruptedPods) != 1):
			t.Errorf("%s: %+v", tc.name, next.Status)
		}
		if b.Status.DisruptionsAllowed != before.Status.DisruptionsAllowed || len(b.Status.DisruptedPods) > 0 {
			t.Errorf("%s: the budget was changed in place", tc.name)
		}
	}
}
