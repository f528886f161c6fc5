package podspec

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// shouldRestart reports whether a container that ended with exitCode is to be
// started again: by the first of its rules that matches, else by its own
// policy, else by the pod's.
func shouldRestart(ctr *corev1.Container, pod corev1.RestartPolicy, exitCode int32) bool {
	if r := matchingRule(ctr, exitCode); r != nil && r.Action == corev1.ContainerRestartRuleActionRestart {
		return true
	}
	policy := pod
	if ctr.RestartPolicy != nil {
		policy = corev1.RestartPolicy(*ctr.RestartPolicy)
	}
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return exitCode != 0
	}
	return true
}

// matchingRule returns the first of a container's restart rules that exitCode
// fulfils, nil if there is none.
func matchingRule(ctr *corev1.Container, exitCode int32) *corev1.ContainerRestartRule {
	for i := range ctr.RestartPolicyRules {
		r := &ctr.RestartPolicyRules[i]
		if r.ExitCodes == nil {
			continue
		}
		in := slices.Contains(r.ExitCodes.Values, exitCode)
		switch r.ExitCodes.Operator {
		case corev1.ContainerRestartRuleOnExitCodesOpIn:
			if in {
				return r
			}
		case corev1.ContainerRestartRuleOnExitCodesOpNotIn:
			if !in {
				return r
			}
		}
	}
	return nil
}
