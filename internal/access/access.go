// Package access is the core that says who may do what: rules in, verdict and reason
// out. It knows no request, no certificate and no store.
//
// A rule (rbac/v1 PolicyRule) is a list of verbs on resources or on paths that are no
// resources. A Policy says which rules apply to somebody, and who grants each. What no
// rule allows is not allowed; no rule forbids anything.
//
//	Policy ─Grants(user, namespace)─▶ rules ─▶ Decide(request) ─▶ verdict
//
// One policy answers both the requests themselves and those that ask what they might,
// so that the two cannot disagree: a Union of what is written out (Administrators,
// Everybody) and of what roles and bindings say (Roles).
package access

import (
	"iter"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
)

// User is somebody who has said who he is, and was believed.
type User struct {
	Name   string
	Groups []string
}

// Request is what a user wants to do: to a resource, or with a path that is none.
type Request struct {
	User     User
	Verb     string
	Resource *Resource
	Path     string // if there is no Resource
}

// Resource is what a request is about. Name is "" for those about all of them, and for
// most that create; Namespace is "" outside of any.
type Resource struct {
	Group, Resource, Subresource string
	Namespace, Name              string
}

// Grant is a rule that applies to a user.
type Grant struct {
	Rule *rbacv1.PolicyRule // not to be modified
	// By is who grants it, as the reason of a verdict; may be "".
	By string
}

// Policy says which rules apply to a user in a namespace, with those that apply
// everywhere; in no namespace it is only the latter. An error is a rule that could not
// be found, and does not keep the others from being yielded. It is asked for each
// request, by many at once, and must be quick.
type Policy interface {
	Grants(u User, namespace string) iter.Seq2[Grant, error]
}

// Verdict is the answer to a request.
type Verdict struct {
	Allowed bool
	// Reason says who allowed it, if he wants to be named, or what went wrong on the
	// way to nobody.
	Reason string
}

// Decide says whether a request is allowed: it is, if one rule allows it.
func Decide(p Policy, r *Request) Verdict {
	namespace := ""
	if r.Resource != nil {
		namespace = r.Resource.Namespace
	}
	var failed failures
	for grant, err := range p.Grants(r.User, namespace) {
		switch {
		case err != nil:
			failed = append(failed, err)
		case allows(grant.Rule, r):
			return Verdict{Allowed: true, Reason: grant.By}
		}
	}
	if len(failed) == 0 {
		return Verdict{}
	}
	return Verdict{Reason: "RBAC: " + failed.String()}
}

// Union is a Policy of several: what one of them grants, is granted. They are asked in
// their order.
type Union []Policy

// Grants implements Policy.
func (all Union) Grants(u User, namespace string) iter.Seq2[Grant, error] {
	return func(yield func(Grant, error) bool) {
		for _, p := range all {
			for grant, err := range p.Grants(u, namespace) {
				if !yield(grant, err) {
					return
				}
			}
		}
	}
}

// Binding gives rules to users and groups, in one namespace or, if that is "",
// everywhere.
type Binding struct {
	By        string // for Grant.By
	Users     []string
	Groups    []string
	Namespace string
	Rules     []rbacv1.PolicyRule
}

// Bindings is a Policy that is written out.
type Bindings []Binding

// Grants implements Policy.
func (all Bindings) Grants(u User, namespace string) iter.Seq2[Grant, error] {
	return func(yield func(Grant, error) bool) {
		for i := range all {
			b := &all[i]
			if b.Namespace != "" && b.Namespace != namespace || !b.binds(u) {
				continue
			}
			for n := range b.Rules {
				if !yield(Grant{Rule: &b.Rules[n], By: b.By}, nil) {
					return
				}
			}
		}
	}
}

func (b *Binding) binds(u User) bool {
	return slices.Contains(b.Users, u.Name) ||
		slices.ContainsFunc(b.Groups, func(group string) bool { return slices.Contains(u.Groups, group) })
}

// Groups that Kubernetes knows.
const (
	Masters         = "system:masters"
	Authenticated   = "system:authenticated"
	Unauthenticated = "system:unauthenticated"
)

// Administrators is the policy for the group of administrators: they may do everything.
// Kubernetes gives no reason for it either.
func Administrators() Bindings {
	return Bindings{{
		Groups: []string{Masters},
		Rules: []rbacv1.PolicyRule{
			{Verbs: every(), APIGroups: every(), Resources: every()},
			{Verbs: every(), NonResourceURLs: every()},
		},
	}}
}

// Everybody is the policy that lets anybody get paths, known or not.
func Everybody(paths []string) Bindings {
	return Bindings{{
		By:     "the path is public",
		Groups: []string{Authenticated, Unauthenticated},
		Rules:  []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: paths}},
	}}
}

func every() []string { return []string{"*"} }

// failures are why rules could not be found.
type failures []error

// String is how Kubernetes prints them.
func (all failures) String() string {
	if len(all) == 0 {
		return ""
	}
	return utilerrors.NewAggregate(all).Error()
}
