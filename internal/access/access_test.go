package access

import (
	"errors"
	"iter"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
)

// ask is a request in one line: "get batch/jobs/status ns/name",
// "list core/pods ns" or "get /healthz".
func ask(t testing.TB, u User, line string) *Request {
	t.Helper()
	verb, what, _ := strings.Cut(line, " ")
	r := &Request{User: u, Verb: verb}
	if strings.HasPrefix(what, "/") || what == "" {
		r.Path = what
		return r
	}
	what, where, _ := strings.Cut(what, " ")
	group, rest, ok := strings.Cut(what, "/")
	if !ok {
		t.Fatalf("%q has no group", line)
	}
	if group == "core" {
		group = ""
	}
	r.Resource = &Resource{Group: group}
	r.Resource.Resource, r.Resource.Subresource, _ = strings.Cut(rest, "/")
	r.Resource.Namespace, r.Resource.Name, _ = strings.Cut(where, "/")
	return r
}

func list(words string) []string { return strings.Fields(words) }

func on(verbs, groups, resources, names string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: list(verbs), APIGroups: strings.Split(groups, " "), Resources: list(resources), ResourceNames: list(names)}
}

func at(verbs, urls string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: list(verbs), NonResourceURLs: list(urls)}
}

// TestRules reads single rules as Kubernetes does.
func TestRules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule      rbacv1.PolicyRule
		yes, noes string // requests, one a line
	}{
		{on("*", "*", "*", ""), "get core/pods ns/a\ndelete batch/jobs/status ns/a\ndeletecollection x.y/anything\nget core/pods/log ns/a", "get /healthz\nget /"},
		{on("get list", "", "pods", ""), "get core/pods ns/a\nlist core/pods ns\nlist core/pods", "watch core/pods ns\nGET core/pods ns/a\nget core/pods/log ns/a\nget batch/pods ns/a\nget core/podsx ns/a\nget core/nodes /a"},
		{on("get", "", "pods/log", ""), "get core/pods/log ns/a", "get core/pods ns/a\nget core/pods/exec ns/a\nget core/pods/log/x ns/a\nget core/nodes/log /a\nget core/pods/lo ns/a"},
		{on("get", "batch ", "*/status", ""), "get batch/jobs/status ns/a\nget core/pods/status ns/a", "get batch/jobs ns/a\nget batch/jobs/scale ns/a\nget apps/x/status ns/a\nget batch/jobs/xstatus ns/a"},
		{on("get", "batch", "jobs", "a b"), "get batch/jobs ns/a\nget batch/jobs ns/b", "get batch/jobs ns/c\nget batch/jobs ns\nget batch/jobs/status ns/a"},
		{on("create", "", "pods", "a"), "create core/pods ns/a", "create core/pods ns"},
		{on("get", "", "*/*", ""), "", "get core/pods ns/a\nget core/pods/log ns/a"},
		{on("get", "", "pods/*", ""), "", "get core/pods ns/a\nget core/pods/log ns/a"},
		{on("ge*", "*", "*", ""), "ge* core/pods ns/a", "get core/pods ns/a"},
		{on("get", "", "", ""), "", "get core/pods ns/a\nget core/ ns"},
		{on("", "", "pods", ""), "", "get core/pods ns/a"},
		{on("*", "", "*", ""), "proxy core/pods/log ns/a", "get batch/jobs ns/a"},
		{at("get", "/healthz /livez/*"), "get /healthz\nget /livez/\nget /livez/ping", "head /healthz\nget /healthz/\nget /healthz/ping\nget /livez\nget core/pods ns/a"},
		{at("*", "*"), "get /\ndelete /debug/pprof", "get core/pods ns/a"},
		{at("get", "/a*b /c**"), "get /a*b\nget /cd", "get /axb"},
		{at("get", ""), "", "get \nget /"},
		{rbacv1.PolicyRule{}, "", "get /\nget core/pods ns/a"},
	} {
		for _, expected := range []struct {
			lines   string
			allowed bool
		}{{c.yes, true}, {c.noes, false}} {
			for line := range strings.SplitSeq(expected.lines, "\n") {
				if line == "" {
					continue
				}
				if got := allows(&c.rule, ask(t, User{}, line)); got != expected.allowed {
					t.Errorf("%+v: %q is allowed: %v, want %v", c.rule, line, got, expected.allowed)
				}
			}
		}
	}
}

// TestBindings gives rules to some, somewhere.
func TestBindings(t *testing.T) {
	t.Parallel()
	p := Bindings{
		{By: "readers", Groups: list("dev ops"), Rules: []rbacv1.PolicyRule{on("get", "", "pods", ""), at("get", "/metrics")}},
		{By: "jane's", Users: list("jane"), Namespace: "a", Rules: []rbacv1.PolicyRule{on("get delete", "", "pods nodes", "")}},
	}
	jane, joe, dev := User{Name: "jane"}, User{Name: "joe", Groups: list("sales")}, User{Name: "joe", Groups: list("sales dev")}
	for _, c := range []struct {
		user User
		line string
		want Verdict
	}{
		{dev, "get core/pods a/x", Verdict{true, "readers"}},
		{dev, "get core/pods ", Verdict{true, "readers"}},
		{dev, "get /metrics", Verdict{true, "readers"}},
		{dev, "delete core/pods a/x", Verdict{}},
		{jane, "delete core/pods a/x", Verdict{true, "jane's"}},
		{jane, "delete core/pods b/x", Verdict{}},
		{jane, "get core/pods ", Verdict{}},                                             // of all namespaces
		{jane, "get core/nodes /n", Verdict{}},                                          // which is in none
		{jane, "get /metrics", Verdict{}},                                               // which is in none
		{joe, "get core/pods a/x", Verdict{}},                                           // of no such group
		{User{}, "get core/pods a/x", Verdict{}},                                        // nobody
		{User{Name: "dev"}, "get core/pods a/x", Verdict{}},                             // a group's name is no user's
		{User{Groups: list("jane")}, "delete core/pods a/x", Verdict{}},                 // nor the other way round
		{User{Groups: list("dev jane")}, "get core/pods a/x", Verdict{true, "readers"}}, // without a name
	} {
		if got := Decide(p, ask(t, c.user, c.line)); got != c.want {
			t.Errorf("%+v: %q: got %+v, want %+v", c.user, c.line, got, c.want)
		}
	}
}

// TestAdministrators is today's rule set, all or nothing.
func TestAdministrators(t *testing.T) {
	t.Parallel()
	p := Union{Administrators(), Everybody([]string{"/healthz", "/version"})}
	admin := User{Name: "kubernetes-admin", Groups: list("system:masters system:authenticated")}
	jane, nobody := User{Name: "jane", Groups: list("system:authenticated")}, User{Name: "system:anonymous", Groups: list("system:unauthenticated")}
	public := Verdict{true, "the path is public"}
	for _, c := range []struct {
		line                string
		admin, jane, nobody Verdict
	}{
		{"get /healthz", Verdict{true, ""}, public, public},
		{"get /version", Verdict{true, ""}, public, public},
		{"head /healthz", Verdict{true, ""}, Verdict{}, Verdict{}},
		{"post /healthz", Verdict{true, ""}, Verdict{}, Verdict{}},
		{"get /healthz/", Verdict{true, ""}, Verdict{}, Verdict{}},
		{"get /healthzx", Verdict{true, ""}, Verdict{}, Verdict{}},
		{"get /metrics", Verdict{true, ""}, Verdict{}, Verdict{}},
		{"get /", Verdict{true, ""}, Verdict{}, Verdict{}},
		{"list core/pods default", Verdict{true, ""}, Verdict{}, Verdict{}},
		{"get core/pods/log default/x", Verdict{true, ""}, Verdict{}, Verdict{}},
		{"impersonate core/users /bob", Verdict{true, ""}, Verdict{}, Verdict{}},
		{"create batch/jobs default", Verdict{true, ""}, Verdict{}, Verdict{}},
		{"get healthz/healthz", Verdict{true, ""}, Verdict{}, Verdict{}},
	} {
		for _, x := range []struct {
			user User
			want Verdict
		}{{admin, c.admin}, {jane, c.jane}, {nobody, c.nobody}} {
			if got := Decide(p, ask(t, x.user, c.line)); got != x.want {
				t.Errorf("%s: %q: got %+v, want %+v", x.user.Name, c.line, got, x.want)
			}
		}
	}
}

// script is a policy as roles make one: each name is a rule, or one that is missing.
type script []any

func (all script) Grants(User, string) iter.Seq2[Grant, error] {
	return func(yield func(Grant, error) bool) {
		for _, x := range all {
			var more bool
			switch x := x.(type) {
			case error:
				more = yield(Grant{}, x)
			case rbacv1.PolicyRule:
				more = yield(Grant{Rule: &x, By: "a role"}, nil)
			}
			if !more {
				return
			}
		}
	}
}

// TestMissingRoles: a role that is missing takes nothing from the others, and is told
// of where no other allows what is asked.
func TestMissingRoles(t *testing.T) {
	t.Parallel()
	gone, lost := errors.New(`clusterroles "gone" not found`), errors.New(`roles "lost" not found`)
	p := script{gone, on("get", "", "pods", "a b"), lost}
	if got, want := Decide(p, ask(t, User{}, "get core/pods ns/a")), (Verdict{true, "a role"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	both := "[" + gone.Error() + ", " + lost.Error() + "]"
	if got, want := Decide(p, ask(t, User{}, "get core/pods ns/c")), (Verdict{false, "RBAC: " + both}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	// What is allowed is not asked about any further.
	for range (script{on("get", "", "pods", ""), gone}).Grants(User{}, "") {
		break
	}
}

// BenchmarkDecide is what every request of the administrator pays.
func BenchmarkDecide(b *testing.B) {
	p := Union{Administrators(), Everybody([]string{"/healthz", "/livez", "/readyz", "/version"})}
	r := ask(b, User{Name: "kubernetes-admin", Groups: list("system:masters system:authenticated")}, "create batch/jobs default")
	b.ReportAllocs()
	for b.Loop() {
		if !Decide(p, r).Allowed {
			b.Fatal("denied")
		}
	}
}
