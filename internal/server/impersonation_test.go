package server

import (
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// grant lets a user do what rules say, everywhere.
func (f *fixture) grant(t testing.TB, user string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	name := metav1.ObjectMeta{Name: "of-" + user}
	f.put(t,
		&rbacv1.ClusterRole{ObjectMeta: name, Rules: rules},
		&rbacv1.ClusterRoleBinding{ObjectMeta: name, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name.Name},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}}})
}

func rule(group, resources, verbs string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resources}, Verbs: []string{verbs}, ResourceNames: names}
}

// Who is another has asked for each thing that he says of him, and the rights for it: names, groups, uids
// and each extra field, by value.
func TestImpersonation(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const authentication = "authentication.k8s.io"
	asks := rule(authentication, "selfsubjectreviews", "create")
	f.grant(t, "names", rule("", "users", "impersonate", "bob"), rule("", "serviceaccounts", "impersonate", "bot"))
	f.grant(t, "groups", rule("", "users", "impersonate"), rule("", "groups", "impersonate", "staff"))
	f.grant(t, "uids", rule("", "users", "impersonate"), rule(authentication, "uids", "impersonate", "42"))
	f.grant(t, "extras", rule("", "users", "impersonate"), rule(authentication, "userextras/scopes", "impersonate", "view", "sampan.dev/x"))
	f.grant(t, "bob", asks)
	f.grant(t, "system:serviceaccount:default:bot", asks)
	// Since 1.36 a right may be narrower: to do this, as him, and nothing else.
	f.grant(t, "narrow", rule(authentication, "users", "impersonate:user-info", "bob"), rule(authentication, "selfsubjectreviews", "impersonate-on:user-info:create"))

	const whoami = authentications + "selfsubjectreviews"
	body := `{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`
	is := func(config *rest.Config, code int, has string, header ...string) {
		t.Helper()
		headers := map[string]string{}
		for i := 0; i < len(header); i += 2 {
			headers[header[i]] = header[i+1]
		}
		resp, answer := f.httpAs(t, config, "POST", whoami, body, headers)
		(&probe{code: code, has: []string{has}}).check(t, resp, answer)
	}
	const user, group, uid, scopes = "Impersonate-User", "Impersonate-Group", "Impersonate-Uid", "Impersonate-Extra-Scopes"
	is(f.config, 201, `"userInfo":{"username":"bob","uid":"42","groups":["staff","system:authenticated"],"extra":{"scopes":["view"]}}`,
		user, "bob", group, "staff", uid, "42", scopes, "view")
	is(f.config, 201, `"extra":{"sampan.dev/x":["a"]}`, user, "bob", "Impersonate-Extra-Sampan.dev%2fx", "a")
	is(f.config, 403, `User \"system:anonymous\" cannot create resource \"selfsubjectreviews\"`, user, "system:anonymous")
	is(f.config, 400, `without impersonating a user name`, group, "staff")
	is(f.config, 400, `without impersonating a user name`, uid, "42")

	names := f.asUser(t, "names", true)
	is(names, 201, `"userInfo":{"username":"bob","groups":["system:authenticated"]}`, user, "bob")
	is(names, 201, `"groups":["system:serviceaccounts","system:serviceaccounts:default","system:authenticated"]`, user, "system:serviceaccount:default:bot")
	is(names, 403, `is forbidden: User \"names\" cannot impersonate`, user, "eve")
	is(names, 403, `is forbidden: User \"names\" cannot impersonate`, user, "bob", group, "staff")
	is(names, 403, `is forbidden: User \"names\" cannot impersonate`, user, "bob", uid, "42")
	is(names, 403, `is forbidden: User \"names\" cannot impersonate`, user, "bob", scopes, "view")
	is(names, 403, `is forbidden: User \"names\" cannot impersonate`, user, "system:serviceaccount:default:other")

	groups := f.asUser(t, "groups", true)
	is(groups, 201, `"groups":["staff","system:authenticated"]`, user, "bob", group, "staff")
	is(groups, 403, `User \"groups\" cannot impersonate`, user, "bob", group, "system:masters")
	is(f.asUser(t, "uids", true), 201, `"uid":"42"`, user, "bob", uid, "42")
	is(f.asUser(t, "uids", true), 403, `User \"uids\" cannot impersonate`, user, "bob", uid, "43")
	is(f.asUser(t, "extras", true), 201, `"extra":{"scopes":["view"]}`, user, "bob", scopes, "view")
	is(f.asUser(t, "extras", true), 403, `User \"extras\" cannot impersonate`, user, "bob", scopes, "write")
	is(f.asUser(t, "extras", true), 403, `User \"extras\" cannot impersonate`, user, "bob", "Impersonate-Extra-Other", "view")

	narrow := f.asUser(t, "narrow", true)
	is(narrow, 201, `"username":"bob"`, user, "bob")
	resp, answer := f.httpAs(t, narrow, "GET", pods, "", map[string]string{user: "bob"})
	(&probe{code: 403, has: []string{`User \"narrow\" cannot impersonate-on:user-info:list resource \"pods\"`}}).check(t, resp, answer)
}
