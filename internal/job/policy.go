package job

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// judgement is what podFailurePolicy makes of a failed pod.
type judgement struct {
	action  batchv1.PodFailurePolicyAction // "" when no rule matches
	rule    int                            // which one does
	message string                         // why the Job fails, for FailJob
}

// counted: it counts towards backoffLimit and status.failed.
func (f judgement) counted() bool { return f.action != batchv1.PodFailurePolicyActionIgnore }

// judge returns what the first rule that matches makes of a failed pod.
func judge(policy *batchv1.PodFailurePolicy, pod *corev1.Pod) judgement {
	if policy == nil {
		return judgement{}
	}
	for i := range policy.Rules {
		rule := &policy.Rules[i]
		var what string
		if rule.OnExitCodes != nil {
			c := containerWith(pod, rule.OnExitCodes)
			if c == nil {
				continue
			}
			what = fmt.Sprintf("Container %s for pod %s/%s failed with exit code %d", c.Name, pod.Namespace, pod.Name, c.State.Terminated.ExitCode)
		} else {
			c := conditionLike(pod, rule.OnPodConditions)
			if c == nil {
				continue
			}
			what = fmt.Sprintf("Pod %s/%s has condition %s", pod.Namespace, pod.Name, c.Type)
		}
		return judgement{rule.Action, i, fmt.Sprintf("%s matching %s rule at index %d", what, rule.Action, i)}
	}
	return judgement{}
}

// containerWith returns the first container, init containers last, that ended
// with an exit code that the rule asks for.
func containerWith(pod *corev1.Pod, want *batchv1.PodFailurePolicyOnExitCodesRequirement) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		for i := range list {
			t := list[i].State.Terminated
			if t == nil || t.ExitCode == 0 || want.ContainerName != nil && *want.ContainerName != list[i].Name {
				continue
			}
			in := slices.Contains(want.Values, t.ExitCode)
			if in && want.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn ||
				!in && want.Operator == batchv1.PodFailurePolicyOnExitCodesOpNotIn {
				return &list[i]
			}
		}
	}
	return nil
}

func conditionLike(pod *corev1.Pod, patterns []batchv1.PodFailurePolicyOnPodConditionsPattern) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		for _, p := range patterns {
			if c.Type == p.Type && c.Status == p.Status {
				return c
			}
		}
	}
	return nil
}

// successRule returns the first rule of successPolicy that the succeeded
// indexes meet.
func successRule(policy *batchv1.SuccessPolicy, succeeded Indexes, completions int32) (rule int, met bool) {
	if policy == nil || len(succeeded) == 0 {
		return 0, false
	}
	for i, rule := range policy.Rules {
		if rule.SucceededIndexes == nil {
			if rule.SucceededCount != nil && succeeded.Len() >= *rule.SucceededCount {
				return i, true
			}
			continue
		}
		asked := ParseIndexes(*rule.SucceededIndexes, completions)
		if len(asked) == 0 {
			continue
		}
		have := asked.overlap(succeeded)
		if have == asked.Len() || rule.SucceededCount != nil && have >= *rule.SucceededCount {
			return i, true
		}
	}
	return 0, false
}
