package access

import (
	authorizationv1 "k8s.io/api/authorization/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
)

// Review lists all that a user may do in a namespace.
func Review(p Policy, u User, namespace string) authorizationv1.SubjectRulesReviewStatus {
	status := authorizationv1.SubjectRulesReviewStatus{
		ResourceRules:    []authorizationv1.ResourceRule{},
		NonResourceRules: []authorizationv1.NonResourceRule{},
	}
	var failed failures
	for grant, err := range p.Grants(u, namespace) {
		if err != nil {
			failed = append(failed, err)
			continue
		}
		rule := grant.Rule
		if len(rule.Resources) > 0 {
			status.ResourceRules = append(status.ResourceRules, authorizationv1.ResourceRule{
				Verbs: rule.Verbs, APIGroups: rule.APIGroups, Resources: rule.Resources, ResourceNames: rule.ResourceNames})
		}
		if len(rule.NonResourceURLs) > 0 {
			status.NonResourceRules = append(status.NonResourceRules, authorizationv1.NonResourceRule{
				Verbs: rule.Verbs, NonResourceURLs: rule.NonResourceURLs})
		}
	}
	status.Incomplete, status.EvaluationError = len(failed) > 0, failed.String()
	return status
}

// failures are why rules could not be found.
type failures []error

// String is how Kubernetes prints them.
func (all failures) String() string {
	if len(all) == 0 {
		return ""
	}
	return utilerrors.NewAggregate(all).Error()
}
