package kind

import (
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/kubernetes/pkg/registry/policy/poddisruptionbudget"
)

// PodDisruptionBudget is the row of policy/v1 poddisruptionbudgets.
func PodDisruptionBudget() *Kind {
	return podDisruptionBudgetTable(kubernetes[policyv1.PodDisruptionBudget, policyv1.PodDisruptionBudgetList](Names{
		Resource: PodDisruptionBudgets, Singular: "poddisruptionbudget", ShortNames: []string{"pdb"},
		GVK: policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"),
	}, poddisruptionbudget.Strategy, poddisruptionbudget.StatusStrategy))
}
