package server

import (
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// as makes requests as ann, who is of the staff.
var as = map[string]string{"Impersonate-User": "ann", "Impersonate-Group": "staff"}

// TestRoles: what roles and bindings say is what users may do, at once, and nothing else.
func TestRoles(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const api = "/apis/rbac.authorization.k8s.io/v1"
	const roles, bindings = api + "/namespaces/default/roles", api + "/namespaces/default/rolebindings"
	role := func(kind, name, rules string) string {
		return `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"` + kind + `","metadata":{"name":"` + name + `"},"rules":[` + rules + `]}`
	}
	binding := func(kind, name, role, subject string) string {
		of, roleName, _ := strings.Cut(role, "/")
		sort, subjectName, _ := strings.Cut(subject, "/")
		return `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"` + kind + `","metadata":{"name":"` + name + `"},"roleRef":{"kind":"` + of + `","name":"` + roleName +
			`"},"subjects":[{"kind":"` + sort + `","name":"` + subjectName + `"}]}`
	}
	const get, write = `{"verbs":["get","list"],"apiGroups":[""],"resources":["configmaps"]}`, `{"verbs":["create","update","patch","get"],"apiGroups":["rbac.authorization.k8s.io"],"resources":["roles","rolebindings","clusterroles"]}`
	notHeld := `user "ann" (groups=["staff" "system:authenticated"]) is attempting to grant RBAC permissions not currently held:` + "\n" + `{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}`
	f.run(t, []probe{
		{name: "nothing yet", path: cms, header: as, code: 403,
			message: `configmaps is forbidden: User "ann" cannot list resource "configmaps" in API group "" in the namespace "default"`},
		{name: "a role", method: "POST", path: roles, body: role("Role", "reads", get), code: 201},
		{name: "is not enough", path: cms, header: as, code: 403},
		{name: "a binding", method: "POST", path: bindings, body: binding("RoleBinding", "b", "Role/reads", "Group/staff"), code: 201,
			has: []string{`"apiGroup":"rbac.authorization.k8s.io"`}},
		{name: "may", path: cms, header: as, code: 200},
		{name: "not elsewhere", path: "/api/v1/configmaps", header: as, code: 403, has: []string{"at the cluster scope"}},
		{name: "nothing else", method: "POST", path: cms, body: cmBody("x", "1"), header: as, code: 403},
		{name: "a role that is not there", method: "POST", path: bindings, body: binding("RoleBinding", "lost", "Role/lost", "User/ann"), code: 201},
		{name: "is said", method: "POST", path: cms, body: cmBody("x", "1"), header: as, code: 403, has: []string{`RBAC: role.rbac.authorization.k8s.io \"lost\" not found`}},
		{name: "is forgotten", method: "DELETE", path: bindings + "/lost", code: 200},

		// Nobody gives what he does not have.
		{name: "may write roles", method: "POST", path: api + "/clusterroles", body: role("ClusterRole", "writes", write), code: 201},
		{name: "everywhere", method: "POST", path: api + "/clusterrolebindings", body: binding("ClusterRoleBinding", "writers", "ClusterRole/writes", "User/ann"), code: 201},
		{name: "gives what she has", method: "POST", path: roles, body: role("Role", "mine", get), header: as, code: 201},
		{name: "and no more", method: "POST", path: roles, body: role("Role", "more", `{"verbs":["get"],"apiGroups":[""],"resources":["secrets"]}`), header: as, code: 403,
			message: `roles.rbac.authorization.k8s.io "more" is forbidden: ` + notHeld},
		{name: "not by a PUT", method: "PUT", path: roles + "/more", body: role("Role", "more", `{"verbs":["get"],"apiGroups":[""],"resources":["secrets"]}`), header: as, code: 403},
		{name: "not by a change", method: "PATCH", path: roles + "/mine", header: map[string]string{"Impersonate-User": "ann", "Impersonate-Group": "staff", "Content-Type": "application/json-patch+json"},
			body: `[{"op":"add","path":"/rules/-","value":{"verbs":["get"],"apiGroups":[""],"resources":["secrets"]}}]`, code: 403, message: `roles.rbac.authorization.k8s.io "mine" is forbidden: ` + notHeld},
		{name: "somebody else's role", method: "POST", path: roles, body: role("Role", "secret", `{"verbs":["get"],"apiGroups":[""],"resources":["secrets"]}`), code: 201},
		{name: "not by a binding", method: "POST", path: bindings, body: binding("RoleBinding", "up", "Role/secret", "User/ann"), header: as, code: 403,
			message: `rolebindings.rbac.authorization.k8s.io "up" is forbidden: ` + notHeld},
		{name: "nor by what gathers", method: "POST", path: api + "/clusterroles", header: as, code: 403,
			body:    strings.Replace(role("ClusterRole", "all", ""), `"rules":[]`, `"rules":[],"aggregationRule":{"clusterRoleSelectors":[{}]}`, 1),
			message: `clusterroles.rbac.authorization.k8s.io "all" is forbidden: must have cluster-admin privileges to use the aggregationRule`},
		{name: "what gathers", method: "POST", path: api + "/clusterroles", code: 201,
			body: strings.Replace(role("ClusterRole", "gathers", ""), `"rules":[]`, `"rules":[],"aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"a":"b"}}]}`, 1)},
		{name: "does not stop by her", method: "PATCH", path: api + "/clusterroles/gathers", body: `{"aggregationRule":null}`, code: 403,
			header:  map[string]string{"Impersonate-User": "ann", "Impersonate-Group": "staff", "Content-Type": "application/merge-patch+json"},
			message: `clusterroles.rbac.authorization.k8s.io "gathers" is forbidden: must have cluster-admin privileges to use the aggregationRule`},
		{name: "may bind", method: "POST", path: roles, body: role("Role", "binds", `{"verbs":["bind"],"apiGroups":["rbac.authorization.k8s.io"],"resources":["roles"],"resourceNames":["secret"]}`), code: 201},
		{name: "that one", method: "POST", path: bindings, body: binding("RoleBinding", "binder", "Role/binds", "User/ann"), code: 201},
		{name: "by a binding", method: "POST", path: bindings, body: binding("RoleBinding", "up", "Role/secret", "User/ann"), header: as, code: 201},
		{name: "has it", path: "/api/v1/namespaces/default/secrets/none", header: as, code: 404},

		// What they say is checked.
		{name: "no verbs", method: "POST", path: roles, body: role("Role", "x", `{"apiGroups":[""],"resources":["pods"]}`), code: 422,
			has: []string{"rules[0].verbs: Required value"}},
		{name: "another role", method: "PUT", path: bindings + "/b", body: binding("RoleBinding", "b", "Role/secret", "Group/staff"), code: 422,
			has: []string{"roleRef: Invalid value", "field is immutable"}},
	})
	if err := f.client.RbacV1().RoleBindings("default").Delete(t.Context(), "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	f.run(t, []probe{{name: "taken away", path: cms, header: as, code: 403}})
	// An object that goes may lose its finalizers by whom it gives too much.
	keeps := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "goes", Finalizers: []string{"a/b"}}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}}}
	if _, err := f.client.RbacV1().Roles("default").Create(t.Context(), keeps, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	f.run(t, []probe{{name: "lets it go", method: "PATCH", path: roles + "/goes", body: `{"metadata":{"finalizers":null}}`, code: 200,
		header: map[string]string{"Impersonate-User": "ann", "Content-Type": "application/merge-patch+json"}}})
}
