package access

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
)

// allows tells whether a rule allows a request, as Kubernetes reads rules.
func allows(rule *rbacv1.PolicyRule, r *Request) bool {
	if !has(rule.Verbs, r.Verb) {
		return false
	}
	if r.Resource == nil {
		return slices.ContainsFunc(rule.NonResourceURLs, func(url string) bool { return urlMatches(url, r.Path) })
	}
	return has(rule.APIGroups, r.Resource.Group) && resourceMatches(rule.Resources, r.Resource) &&
		(len(rule.ResourceNames) == 0 || slices.Contains(rule.ResourceNames, r.Resource.Name))
}

// has tells whether a list names something, or everything.
func has(list []string, name string) bool {
	return slices.Contains(list, "*") || slices.Contains(list, name)
}

// resourceMatches: "pods" is not its subresources, "pods/log" is one, "*/log" that of
// whatever resource, and "*" all of these.
func resourceMatches(list []string, r *Resource) bool {
	return slices.ContainsFunc(list, func(s string) bool {
		if r.Subresource == "" {
			return s == "*" || s == r.Resource
		}
		resource, sub, _ := strings.Cut(s, "/")
		return s == "*" || sub == r.Subresource && (resource == "*" || resource == r.Resource)
	})
}

// urlMatches: a star stands for the rest of a path, and nowhere but at its end.
func urlMatches(url, path string) bool {
	if prefix, ok := strings.CutSuffix(url, "*"); ok {
		return strings.HasPrefix(path, strings.TrimRight(prefix, "*"))
	}
	return url == path
}
