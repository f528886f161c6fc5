package server

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/sampan-batch/sampan/internal/server/identity"
)

const (
	authorizations  = "/apis/authorization.k8s.io/v1/"
	authentications = "/apis/authentication.k8s.io/v1/"
)

// asked is the body of a review.
func asked(kind, metadata, spec string) string {
	group := "authorization.k8s.io"
	if kind == "TokenReview" {
		group = "authentication.k8s.io"
	}
	return `{"apiVersion":"` + group + `/v1","kind":"` + kind + `","metadata":{` + metadata + `},"spec":{` + spec + `}}`
}

// What is answered, and what is refused, is to the letter what Kubernetes' storages say.
func TestReviews(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put(t,
		&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "reads"}, Rules: []rbacv1.PolicyRule{
			{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}, ResourceNames: []string{"a"}}}},
		&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "reads"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "reads"},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: "readers"}}})
	const (
		list    = `"resourceAttributes":{"verb":"list","resource":"pods","namespace":"default"}`
		read    = `"resourceAttributes":{"verb":"get","resource":"pods","namespace":"default","name":"a"}`
		path    = `"nonResourceAttributes":{"verb":"get","path":"/metrics"}`
		subject = authorizations + "subjectaccessreviews"
		self    = authorizations + "selfsubjectaccessreviews"
		local   = authorizations + "namespaces/default/localsubjectaccessreviews"
	)
	f.run(t, []probe{
		{name: "may he", method: "POST", path: subject, body: asked("SubjectAccessReview", "", `"user":"jane","groups":["readers"],`+read), code: 201,
			has: []string{`"allowed":true,"reason":"RBAC: allowed by RoleBinding \"reads/default\" of Role \"reads\" to Group \"readers\""`}},
		{name: "he may not", method: "POST", path: subject, body: asked("SubjectAccessReview", "", `"user":"jane",`+list), code: 201, has: []string{`"status":{"allowed":false}`}},
		{name: "by his group alone", method: "POST", path: subject, body: asked("SubjectAccessReview", "", `"groups":["system:masters"],`+path), code: 201, has: []string{`"status":{"allowed":true}`}},
		{name: "who", method: "POST", path: subject, body: asked("SubjectAccessReview", "", list), code: 422,
			causes: []string{`spec.user: Invalid value: "": at least one of user or group must be specified`}},
		{name: "what", method: "POST", path: subject, body: asked("SubjectAccessReview", "", `"user":"jane"`), code: 422,
			message: `.authorization.k8s.io "" is invalid: spec: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified`},
		{name: "named", method: "POST", path: subject, body: asked("SubjectAccessReview", `"name":"x"`, `"user":"jane",`+list), code: 422,
			has: []string{`"field":"metadata"`, `: must be empty"`}},
		{name: "a selector that is none", method: "POST", path: subject, code: 201, has: []string{`"evaluationError":"spec.resourceAttributes.labelSelector ignored due to parse error"`},
			body: asked("SubjectAccessReview", "", `"user":"jane","resourceAttributes":{"verb":"list","resource":"pods","labelSelector":{"rawSelector":"a in ("}}`)},
		{name: "two selectors", method: "POST", path: subject, code: 422,
			causes: []string{`spec.resourceAttributes.fieldSelector.rawSelector: Invalid value: "a=b": may not specified at the same time as requirements`},
			body:   asked("SubjectAccessReview", "", `"user":"jane","resourceAttributes":{"verb":"list","resource":"pods","fieldSelector":{"rawSelector":"a=b","requirements":[{"key":"a","operator":"In","values":["b"]}]}}`)},

		{name: "in a namespace", method: "POST", path: local, body: asked("LocalSubjectAccessReview", `"namespace":"default"`, `"groups":["readers"],`+read), code: 201, has: []string{`"allowed":true`}},
		{name: "of another namespace", method: "POST", path: local, code: 422,
			body:   asked("LocalSubjectAccessReview", `"namespace":"default"`, `"user":"jane","resourceAttributes":{"verb":"get","resource":"pods","namespace":"other"}`),
			causes: []string{`spec.resourceAttributes.namespace: Invalid value: "other": must match metadata.namespace`}},
		{name: "of a path", method: "POST", path: local, body: asked("LocalSubjectAccessReview", `"namespace":"default"`, `"user":"jane",`+path), code: 422,
			has: []string{`disallowed on this kind of request`}},

		{name: "may I", method: "POST", path: self, body: asked("SelfSubjectAccessReview", "", path), code: 201, has: []string{`"allowed":true`}},
		{name: "may I what", method: "POST", path: self, body: asked("SelfSubjectAccessReview", "", ""), code: 422},
		{name: "both", method: "POST", path: self, body: asked("SelfSubjectAccessReview", "", list+","+path), code: 422,
			has: []string{`exactly one of nonResourceAttributes or resourceAttributes must be specified`}},
		{name: "all that I may, nowhere", method: "POST", path: authorizations + "selfsubjectrulesreviews", body: asked("SelfSubjectRulesReview", "", ""), code: 400,
			message: "no namespace on request"},
		{name: "a token of nothing", method: "POST", path: authentications + "tokenreviews", body: asked("TokenReview", "", ""), code: 400,
			message: "token is required for TokenReview in authentication"},
		{name: "nothing is kept", path: subject, code: 405},
		{name: "discovery", path: authorizations, code: 200, has: []string{
			`{"name":"localsubjectaccessreviews","singularName":"localsubjectaccessreview","namespaced":true,"kind":"LocalSubjectAccessReview","verbs":["create"]}`,
			`{"name":"selfsubjectrulesreviews","singularName":"selfsubjectrulesreview","namespaced":false,"kind":"SelfSubjectRulesReview","verbs":["create"]}`}},
		{name: "of identities", path: authentications, code: 200, has: []string{
			`{"name":"tokenreviews","singularName":"tokenreview","namespaced":false,"kind":"TokenReview","verbs":["create"]}`}},
		{name: "who am I", method: "POST", path: authentications + "selfsubjectreviews", body: `{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`, code: 201,
			has: []string{`"username":"kubernetes-admin","groups":["system:masters","system:authenticated"],"extra":{"authentication.kubernetes.io/credential-id":["X509SHA256=`}},
	})
}

// All that a user may do is what roles say; one that is missing is told of.
func TestRulesReview(t *testing.T) {
	t.Parallel()
	f := setup(t)
	everybody := []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: "system:authenticated"}}
	f.put(t,
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "asks"}, Rules: []rbacv1.PolicyRule{
			{Verbs: []string{"create"}, APIGroups: []string{"authorization.k8s.io"}, Resources: []string{"selfsubjectrulesreviews"}},
			{Verbs: []string{"get"}, NonResourceURLs: []string{"/api"}}}},
		&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "asks"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "asks"}, Subjects: everybody},
		&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "lost"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "lost"}, Subjects: everybody})
	const rules = authorizations + "selfsubjectrulesreviews"
	resp, body := f.httpAs(t, f.asUser(t, "jane", true), "POST", rules, asked("SelfSubjectRulesReview", "", `"namespace":"default"`), nil)
	(&probe{code: 201, has: []string{
		`"resourceRules":[{"verbs":["create"],"apiGroups":["authorization.k8s.io"],"resources":["selfsubjectrulesreviews"]}]`,
		`"nonResourceRules":[{"verbs":["get"],"nonResourceURLs":["/api"]}]`,
		`"incomplete":false,"evaluationError":"role.rbac.authorization.k8s.io \"lost\" not found"`}}).check(t, resp, body)
}

// reviewed asks whose a token is.
func (f *fixture) reviewed(t testing.TB, token string, audiences ...string) authenticationv1.TokenReviewStatus {
	t.Helper()
	out, err := f.client.AuthenticationV1().TokenReviews().Create(t.Context(), &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return out.Status
}

// Users of a file are known by their tokens, beside those of accounts; its errors keep the server from
// starting.
func TestTokenFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte("s3cret,jane,42,\"staff,dev\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var options Options
	f := setupAccounts(t, func(o *Options) { o.TokenFile = path }, func(o *Options) { options = *o })
	who, err := f.whoami(t, "s3cret")
	if err != nil || who.Username != "jane" || who.UID != "42" || strings.Join(who.Groups, " ") != "staff dev system:authenticated" {
		t.Errorf("got %+v, %v", who, err)
	}
	f.newAccount(t, "bot")
	if who, err := f.whoami(t, f.newToken(t, "bot", authenticationv1.TokenRequestSpec{})); err != nil || who.Username != "system:serviceaccount:default:bot" {
		t.Errorf("got %+v, %v", who, err)
	}
	if who, err := f.whoami(t, "guess"); err == nil {
		t.Errorf("a guess is %+v", who)
	}
	if got := f.reviewed(t, "s3cret"); !got.Authenticated || got.User.Username != "jane" || strings.Join(got.Audiences, " ") != identity.IssuerURL {
		t.Errorf("reviewed %+v", got)
	}
	if got := f.reviewed(t, "s3cret", "vault"); got.Authenticated {
		t.Errorf("for another: %+v", got)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if s, err := New(options); err == nil || !strings.Contains(err.Error(), "others may read or write it (mode 0644)") {
		if err == nil {
			s.Close()
		}
		t.Errorf("with a file that others can read: %v", err)
	}
}

func TestTokenReviews(t *testing.T) {
	t.Parallel()
	f := setupAccounts(t)
	sa := f.newAccount(t, "bot")
	const api = "https://kubernetes.default.svc.cluster.local"
	pod := f.podOf(t, "p", "bot", "")
	token := f.newToken(t, "bot", authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "p"}})

	got := f.reviewed(t, token)
	if !got.Authenticated || got.Error != "" || strings.Join(got.Audiences, " ") != api || got.User.UID != string(sa.UID) ||
		strings.Join(got.User.Groups, " ") != "system:serviceaccounts system:serviceaccounts:default system:authenticated" ||
		strings.Join(got.User.Extra["authentication.kubernetes.io/pod-uid"], " ") != string(pod.UID) {
		t.Errorf("got %+v", got)
	}
	vault := f.newToken(t, "bot", authenticationv1.TokenRequestSpec{Audiences: []string{"vault", "bank"}})
	for _, test := range []struct {
		name, token string
		asked       []string
		audiences   string // of whom it is good for; "": it is not
		err         string
	}{
		{"for another", vault, []string{"bank", "post", "vault"}, "bank vault", ""},
		{"for the API", vault, nil, "", `[invalid bearer token, token audiences ["vault" "bank"] is invalid for the target audiences ["` + api + `"]]`},
		{"for whom it is not", token, []string{"vault"}, "", `[invalid bearer token, token audiences ["` + api + `"] is invalid for the target audiences ["vault"]]`},
		{"a guess", "guess", nil, "", "invalid bearer token"},
		{"a blank before it", " " + token, nil, "", ""},
		{"lines", "a\r\nImpersonate-User: b", nil, "", "invalid bearer token"},
		{"huge", token + strings.Repeat("A", 200<<10), nil, "", "invalid bearer token"},
		{"that of the server itself", f.token, nil, "", "invalid bearer token"},
	} {
		got := f.reviewed(t, test.token, test.asked...)
		if got.Authenticated != (test.audiences != "") || strings.Join(got.Audiences, " ") != test.audiences || got.Error != test.err {
			t.Errorf("%s: got %+v", test.name, got)
		}
		if !got.Authenticated && got.User.Username != "" {
			t.Errorf("%s is %+v", test.name, got.User)
		}
	}
	if err := f.client.CoreV1().Pods("default").Delete(t.Context(), "p", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err)
	}
	if got := f.reviewed(t, token); got.Authenticated || !strings.Contains(got.Error, "service account token has been invalidated") {
		t.Errorf("after its pod: %+v", got)
	}
	// Whoever may not ask, does not learn it.
	if resp, _ := f.httpAs(t, f.bearer(vault), "POST", authentications+"tokenreviews", asked("TokenReview", "", `"token":"x"`), nil); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("%d", resp.StatusCode)
	}
}

// A review says of a request what happens to the request: both go through one gate.
func TestReviewsSayWhatHappens(t *testing.T) {
	t.Parallel()
	f := setup(t)
	pod := authorizationv1.ResourceAttributes{Verb: "list", Resource: "pods", Namespace: "default"}
	for _, user := range []struct {
		name   string
		groups []string
		config *rest.Config
	}{
		{"kubernetes-admin", []string{"system:masters", "system:authenticated"}, f.config},
		{"jane", []string{"system:authenticated"}, f.asUser(t, "jane", true)},
	} {
		for _, asked := range []struct {
			path     string
			resource *authorizationv1.ResourceAttributes
		}{{pods, &pod}, {"/healthz", nil}, {"/version", nil}, {"/metrics", nil}, {"/api", nil}} {
			review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: user.name, Groups: user.groups, ResourceAttributes: asked.resource}}
			if asked.resource == nil {
				review.Spec.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Verb: "get", Path: asked.path}
			}
			said, err := f.client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			resp, body := f.httpAs(t, user.config, "GET", asked.path, "", nil)
			if want := map[bool]int{true: 200, false: 403}[said.Status.Allowed]; resp.StatusCode != want {
				t.Errorf("%s, %s: %d, but the review says %+v: %.200s", user.name, asked.path, resp.StatusCode, said.Status, body)
			}
		}
	}
}
