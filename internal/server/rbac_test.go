package server

import "testing"

// What is wrong with a role or a binding is said in Kubernetes' words, each thing once.
func TestRolesAreValidated(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const group = "/apis/rbac.authorization.k8s.io/v1/"
	body := func(kind, rest string) string {
		return `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"` + kind + `","metadata":{"name":"a"},` + rest + `}`
	}
	const roles, clusterRoles = group + "namespaces/default/roles", group + "clusterroles"
	const bindings, clusterBindings = group + "namespaces/default/rolebindings", group + "clusterrolebindings"
	const view = `"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"view"}`
	f.run(t, []probe{
		{name: "no verbs", method: "POST", path: roles, body: body("Role", `"rules":[{"apiGroups":[""],"resources":["pods"]}]`), code: 422,
			causes: []string{"rules[0].verbs: Required value"}},
		{name: "a path in a namespace", method: "POST", path: roles, body: body("Role", `"rules":[{"verbs":["get"],"nonResourceURLs":["/x"]}]`), code: 422,
			causes: []string{`rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs`}},
		{name: "of no group", method: "POST", path: roles, body: body("Role", `"rules":[{"verbs":["get"],"resources":["pods"]}]`), code: 422,
			causes: []string{"rules[0].apiGroups: Required value: resource rules must supply at least one api group"}},
		{name: "a path and a resource", method: "POST", path: clusterRoles, body: body("ClusterRole", `"rules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods"],"nonResourceURLs":["/x"]}]`), code: 422,
			causes: []string{`rules[0].nonResourceURLs: Invalid value: ["/x"]: rules cannot apply to both regular resources and non-resource URLs`}},
		{name: "gathers by nothing", method: "POST", path: clusterRoles, body: body("ClusterRole", `"aggregationRule":{}`), code: 422,
			causes: []string{"aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil"}},
		{name: "of no role", method: "POST", path: bindings, body: body("RoleBinding", `"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":""}`), code: 422,
			causes: []string{"roleRef.name: Required value"}},
		{name: "of a Job", method: "POST", path: clusterBindings, body: body("ClusterRoleBinding", `"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Job","name":"a"}`), code: 422,
			causes: []string{`roleRef.kind: Unsupported value: "Job": supported values: "ClusterRole"`}},
		{name: "an account of nowhere", method: "POST", path: clusterBindings, body: body("ClusterRoleBinding", view+`,"subjects":[{"kind":"ServiceAccount","name":"a"}]`), code: 422,
			causes: []string{"subjects[0].namespace: Required value"}},
		{name: "a binding", method: "POST", path: bindings, body: body("RoleBinding", view+`,"subjects":[{"kind":"User","name":"jane"}]`), code: 201,
			has: []string{`"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"jane"}]`}},
		{name: "of another role", method: "PUT", path: bindings + "/a", body: body("RoleBinding", `"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"edit"}`), code: 422,
			causes: []string{`roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"ClusterRole","Name":"edit"}: field is immutable`}},
		{name: "made by a PUT", method: "PUT", path: clusterRoles + "/a", body: body("ClusterRole", `"rules":[]`), code: 201},
	})
}
