package access

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac"
)

// world is a state of roles and bindings, for us and for Kubernetes' own authorizer.
type world struct {
	clusterRoles    []*rbacv1.ClusterRole
	roles           []*rbacv1.Role
	clusterBindings []*rbacv1.ClusterRoleBinding
	bindings        []*rbacv1.RoleBinding
}

func (w *world) ClusterRoleBindings() iter.Seq[*rbacv1.ClusterRoleBinding] {
	return slices.Values(w.clusterBindings)
}

func (w *world) RoleBindings(namespace string) iter.Seq[*rbacv1.RoleBinding] {
	all, _ := w.ListRoleBindings(context.Background(), namespace)
	return slices.Values(all)
}

func (w *world) ClusterRole(name string) (*rbacv1.ClusterRole, bool) {
	i := slices.IndexFunc(w.clusterRoles, func(r *rbacv1.ClusterRole) bool { return r.Name == name })
	if i < 0 {
		return nil, false
	}
	return w.clusterRoles[i], true
}

func (w *world) Role(namespace, name string) (*rbacv1.Role, bool) {
	i := slices.IndexFunc(w.roles, func(r *rbacv1.Role) bool { return r.Namespace == namespace && r.Name == name })
	if i < 0 {
		return nil, false
	}
	return w.roles[i], true
}

func (w *world) ListClusterRoleBindings(context.Context) ([]*rbacv1.ClusterRoleBinding, error) {
	return w.clusterBindings, nil
}

func (w *world) ListRoleBindings(_ context.Context, namespace string) (all []*rbacv1.RoleBinding, _ error) {
	for _, b := range w.bindings {
		if b.Namespace == namespace {
			all = append(all, b)
		}
	}
	return all, nil
}

func (w *world) GetClusterRole(_ context.Context, name string) (*rbacv1.ClusterRole, error) {
	if r, ok := w.ClusterRole(name); ok {
		return r, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: rbacv1.GroupName, Resource: "clusterrole"}, name)
}

func (w *world) GetRole(_ context.Context, namespace, name string) (*rbacv1.Role, error) {
	if r, ok := w.Role(namespace, name); ok {
		return r, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: rbacv1.GroupName, Resource: "role"}, name)
}

// dice makes worlds, users and requests out of a few words, so that they meet.
type dice struct{ *rand.Rand }

func (d dice) one(words string) string {
	all := strings.Split(words, " ")
	return all[d.IntN(len(all))]
}

func (d dice) some(words string) (picked []string) {
	for _, word := range strings.Split(words, " ") {
		if d.IntN(2) == 0 {
			picked = append(picked, word)
		}
	}
	return picked
}

func (d dice) rules() (rules []rbacv1.PolicyRule) {
	for range 1 + d.IntN(3) {
		rule := rbacv1.PolicyRule{Verbs: d.some("get list create * delete")}
		if d.IntN(4) == 0 {
			rule.NonResourceURLs = d.some("/healthz /healthz/* /api* * /metrics")
		} else {
			rule.APIGroups, rule.Resources = d.some(" batch *"), d.some("pods jobs pods/log */log * pods/* jobs/status")
			if d.IntN(3) == 0 {
				rule.ResourceNames = d.some("a b")
			}
		}
		rules = append(rules, rule)
	}
	return rules
}

func (d dice) subjects() (subjects []rbacv1.Subject) {
	for range d.IntN(3) {
		s := rbacv1.Subject{Kind: d.one("User Group ServiceAccount Nobody"), Name: d.one("ann bob staff system:authenticated")}
		if s.Kind == "ServiceAccount" {
			s.Namespace = d.one(" x y")
		}
		subjects = append(subjects, s)
	}
	return subjects
}

func (d dice) world() *world {
	w := &world{}
	for _, name := range d.some("r s t") {
		w.clusterRoles = append(w.clusterRoles, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: d.rules()})
	}
	for _, name := range d.some("r s t") {
		w.roles = append(w.roles, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: d.one("x y"), Name: name}, Rules: d.rules()})
	}
	for i := range d.IntN(4) {
		w.clusterBindings = append(w.clusterBindings, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("c", i)},
			RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: d.one("r s t")}, Subjects: d.subjects()})
	}
	for i := range d.IntN(4) {
		w.bindings = append(w.bindings, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: d.one("x y"), Name: fmt.Sprint("b", i)},
			RoleRef: rbacv1.RoleRef{Kind: d.one("ClusterRole Role"), Name: d.one("r s t")}, Subjects: d.subjects()})
	}
	return w
}

func (d dice) request() *Request {
	r := &Request{Verb: d.one("get list create delete watch"), User: User{
		Name: d.one("ann bob system:serviceaccount:x:ann system:serviceaccount:y:bob system:serviceaccount:x:an"), Groups: d.some("staff system:authenticated"),
	}}
	if d.IntN(4) == 0 {
		r.Path = d.one("/healthz /healthz/ping /api /apis /metrics /")
		return r
	}
	r.Resource = &Resource{Group: d.one(" batch apps"), Resource: d.one("pods jobs"), Subresource: d.one(" log status"), Namespace: d.one(" x y"), Name: d.one(" a b c")}
	return r
}

func (r *Request) attributes() authorizer.Attributes {
	a := authorizer.AttributesRecord{User: &user.DefaultInfo{Name: r.User.Name, Groups: r.User.Groups}, Verb: r.Verb, Path: r.Path}
	if o := r.Resource; o != nil {
		a.ResourceRequest, a.APIGroup, a.Resource, a.Subresource, a.Namespace, a.Name = true, o.Group, o.Resource, o.Subresource, o.Namespace, o.Name
	}
	return a
}

// TestRolesAsKubernetes: Kubernetes' own authorizer says the same of the same roles, in
// the same words.
func TestRolesAsKubernetes(t *testing.T) {
	t.Parallel()
	allowed, missing := 0, 0
	for seed := range uint64(20000) {
		d := dice{rand.New(rand.NewPCG(seed, 0))}
		w := d.world()
		theirs := rbac.New(w, w, w, w)
		for range 5 {
			r := d.request()
			decision, reason, _ := theirs.Authorize(t.Context(), r.attributes())
			want := Verdict{decision == authorizer.DecisionAllow, reason}
			if got := Decide(Roles(w), r); got != want {
				t.Fatalf("seed %d: %+v of %+v: got %+v, want %+v", seed, r, r.Resource, got, want)
			}
			switch {
			case want.Allowed:
				allowed++
			case reason != "":
				missing++
			}
		}
	}
	if allowed < 1000 || missing < 1000 {
		t.Errorf("only %d requests were allowed, and %d met a role that is missing", allowed, missing)
	}
}

func TestAggregate(t *testing.T) {
	t.Parallel()
	role := func(name string, labels map[string]string, verbs ...string) *rbacv1.ClusterRole {
		r := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
		for _, v := range verbs {
			r.Rules = append(r.Rules, on(v, "", "pods", ""))
		}
		return r
	}
	gathers := role("all", map[string]string{"to": "x"}, "old")
	gathers.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{
		{MatchLabels: map[string]string{"to": "y"}}, {MatchLabels: map[string]string{"to": "x"}}}}
	all := func() iter.Seq[*rbacv1.ClusterRole] {
		return slices.Values([]*rbacv1.ClusterRole{role("a", map[string]string{"to": "x"}, "get", "list"), gathers,
			role("b", map[string]string{"to": "y"}, "list", "watch"), role("c", nil, "delete")})
	}
	rules, ok := Aggregate(gathers, all)
	var verbs []string
	for _, r := range rules {
		verbs = append(verbs, r.Verbs...)
	}
	if want := []string{"list", "watch", "get"}; !ok || !slices.Equal(verbs, want) {
		t.Errorf("got %v, %v, want %v", verbs, ok, want)
	}
	if _, ok := Aggregate(role("plain", nil), all); ok {
		t.Error("a role without aggregationRule gathers")
	}
}
