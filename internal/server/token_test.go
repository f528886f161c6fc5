package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/sampan-batch/sampan/internal/server/identity"
)

// setupAccounts is setup where everybody may ask who he is, as everywhere.
func setupAccounts(t testing.TB, options ...func(*Options)) *fixture {
	t.Helper()
	f := setup(t, options...)
	f.put(t,
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "asks"}, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"selfsubjectreviews"}, Verbs: []string{"create"}}}},
		&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "asks"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "asks"},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: "system:authenticated"}}})
	return f
}

// newAccount creates a ServiceAccount in the namespace "default".
func (f *fixture) newAccount(t testing.TB, name string) *corev1.ServiceAccount {
	t.Helper()
	sa, err := f.client.CoreV1().ServiceAccounts("default").Create(t.Context(),
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return sa
}

// newToken asks for a token of an account.
func (f *fixture) newToken(t testing.TB, account string, spec authenticationv1.TokenRequestSpec) string {
	t.Helper()
	out, err := f.client.CoreV1().ServiceAccounts("default").CreateToken(t.Context(), account, &authenticationv1.TokenRequest{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return out.Status.Token
}

// bearer is the configuration of a client that has nothing but a token.
func (f *fixture) bearer(token string) *rest.Config {
	config := rest.CopyConfig(f.config)
	config.CertData, config.KeyData, config.BearerToken = nil, nil, token
	return config
}

// whoami returns whom the server takes a token for, or the error that it answers.
func (f *fixture) whoami(t testing.TB, token string) (authenticationv1.UserInfo, error) {
	t.Helper()
	client := kubernetes.NewForConfigOrDie(f.bearer(token))
	review, err := client.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return authenticationv1.UserInfo{}, err
	}
	return review.Status.UserInfo, nil
}

// podOf stores a pod of an account, which is bound to a node.
func (f *fixture) podOf(t testing.TB, name, account, node string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{
		ServiceAccountName: account, NodeName: node, Containers: []corev1.Container{{Name: "a", Image: "a"}}}}
	stored, err := f.client.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// claimsOf reads what a token says.
func claimsOf(t testing.TB, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("a token of %d parts", len(parts))
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(text, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestTokenRequests(t *testing.T) {
	t.Parallel()
	f := setup(t)
	sa := f.newAccount(t, "bot")
	f.newAccount(t, "other")
	pod := f.podOf(t, "p", "bot", "gone")
	const path = "/api/v1/namespaces/default/serviceaccounts/bot/token"
	request := func(spec string) string {
		return `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{` + spec + `}}`
	}
	bind := func(what string) string { return request(`"boundObjectRef":{` + what + `}`) }
	f.run(t, []probe{
		{name: "an hour", method: "POST", path: path, body: request(""), code: 201,
			has: []string{`"audiences":["https://kubernetes.default.svc.cluster.local"]`, `"expirationSeconds":3600`, `"name":"bot"`, `"token":"ey`, string(sa.UID)}},
		{name: "nine minutes", method: "POST", path: path, body: request(`"expirationSeconds":540`), code: 422,
			message: `TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 540: may not specify a duration less than 10 minutes`},
		{name: "two hundred years", method: "POST", path: path, body: request(`"expirationSeconds":4294967297`), code: 422,
			message: `TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds`},
		{name: "of whom there is not", method: "POST", path: "/api/v1/namespaces/default/serviceaccounts/nobody/token", body: request(""), code: 404,
			message: `serviceaccounts "nobody" not found`},
		{name: "with another name", method: "POST", path: path, code: 422,
			body:    `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","metadata":{"name":"other"}}`,
			message: `TokenRequest.authentication.k8s.io "bot" is invalid: metadata.name: Invalid value: "other": must match the service account name if specified`},
		{name: "with another uid", method: "POST", path: path, code: 409,
			body: `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","metadata":{"uid":"x"}}`,
			message: `Operation cannot be fulfilled on TokenRequest.authentication.k8s.io "bot": the UID in the token request (x) does not match the UID of the service account (` +
				string(sa.UID) + `)`},
		{name: "bound to a pod", method: "POST", path: path, body: bind(`"apiVersion":"v1","kind":"Pod","name":"p","uid":"` + string(pod.UID) + `"`), code: 201},
		{name: "to a pod of before", method: "POST", path: path, body: bind(`"apiVersion":"v1","kind":"Pod","name":"p","uid":"x"`), code: 409, reason: "Conflict",
			message: `Operation cannot be fulfilled on Pod "p": the UID in the bound object reference (x) does not match the UID in record. The object might have been deleted and then recreated`},
		{name: "to no pod", method: "POST", path: path, body: bind(`"apiVersion":"v1","kind":"Pod","name":"q"`), code: 404, message: `pods "q" not found`},
		{name: "to another's pod", method: "POST", path: "/api/v1/namespaces/default/serviceaccounts/other/token",
			body: bind(`"apiVersion":"v1","kind":"Pod","name":"p"`), code: 400,
			message: `cannot bind token for serviceaccount "other" to pod running with different serviceaccount name.`},
		{name: "to no secret", method: "POST", path: path, body: bind(`"apiVersion":"v1","kind":"Secret","name":"q"`), code: 404, message: `secrets "q" not found`},
		{name: "to no node", method: "POST", path: path, body: bind(`"apiVersion":"v1","kind":"Node","name":"q"`), code: 404, message: `nodes "q" not found`},
		{name: "to a Job", method: "POST", path: path, body: bind(`"apiVersion":"batch/v1","kind":"Job","name":"q"`), code: 400,
			message: `cannot bind token to object of type batch/v1, Kind=Job`},
		{name: "attested", method: "POST", path: path, body: request(`"attestations":{"admissionReviewAPIGroups":["*"]}`), code: 422},
		{name: "discovery", path: "/api/v1", code: 200, has: []string{`{"name":"serviceaccounts/token","singularName":"","namespaced":true,"group":"authentication.k8s.io","version":"v1","kind":"TokenRequest","verbs":["create"]}`}},
		{name: "not to be read", path: path, code: 405},
	})
	if _, body := f.httpAs(t, f.asUser(t, "jane", true), "POST", path, request(""), nil); !strings.Contains(string(body),
		`serviceaccounts \"bot\" is forbidden: User \"jane\" cannot create resource \"serviceaccounts/token\" in API group \"\" in the namespace \"default\"`) {
		t.Errorf("who has no right: %s", body)
	}
}

// A token is its account, with what it is bound to.
func TestTokens(t *testing.T) {
	t.Parallel()
	f := setupAccounts(t)
	sa := f.newAccount(t, "bot")
	f.put(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "here", UID: "node-uid"}})
	pod := f.podOf(t, "p", "bot", "here")

	who, err := f.whoami(t, f.newToken(t, "bot", authenticationv1.TokenRequestSpec{
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "p"}}))
	if err != nil {
		t.Fatal(err)
	}
	id := who.Extra["authentication.kubernetes.io/credential-id"]
	if len(id) != 1 || !strings.HasPrefix(id[0], "JTI=") {
		t.Errorf("credential-id: %q", id)
	}
	delete(who.Extra, "authentication.kubernetes.io/credential-id")
	want := authenticationv1.UserInfo{
		Username: "system:serviceaccount:default:bot", UID: string(sa.UID),
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"},
		Extra: map[string]authenticationv1.ExtraValue{
			"authentication.kubernetes.io/pod-name": {"p"}, "authentication.kubernetes.io/pod-uid": {string(pod.UID)},
			"authentication.kubernetes.io/node-name": {"here"}, "authentication.kubernetes.io/node-uid": {"node-uid"},
		},
	}
	if fmt.Sprint(who) != fmt.Sprint(want) {
		t.Errorf("got  %+v\nwant %+v", who, want)
	}

	// It may nothing by itself, and what RBAC says.
	token := f.newToken(t, "bot", authenticationv1.TokenRequestSpec{})
	if resp, body := f.httpAs(t, f.bearer(token), "", pods, "", nil); resp.StatusCode != 403 ||
		!strings.Contains(string(body), `User \"system:serviceaccount:default:bot\" cannot list resource \"pods\"`) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}

	// What admission asks for lives for a year, and says when it should have been renewed.
	life := func(spec authenticationv1.TokenRequestSpec) (seconds float64, warn bool) {
		claims := claimsOf(t, f.newToken(t, "bot", spec))
		_, warn = claims["kubernetes.io"].(map[string]any)["warnafter"]
		return claims["exp"].(float64) - claims["iat"].(float64), warn
	}
	admitted := int64(3607)
	toPod := &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "p"}
	for _, test := range []struct {
		spec    authenticationv1.TokenRequestSpec
		seconds float64
		warn    bool
	}{
		{authenticationv1.TokenRequestSpec{ExpirationSeconds: &admitted, BoundObjectRef: toPod}, 365 * 24 * 3600, true},
		{authenticationv1.TokenRequestSpec{ExpirationSeconds: &admitted, BoundObjectRef: toPod, Audiences: []string{"vault"}}, 3607, false},
		{authenticationv1.TokenRequestSpec{ExpirationSeconds: &admitted}, 3607, false},
		{authenticationv1.TokenRequestSpec{BoundObjectRef: toPod}, 3600, false},
	} {
		if seconds, warn := life(test.spec); seconds != test.seconds || warn != test.warn {
			t.Errorf("%+v lives for %v s, warns: %v", test.spec, seconds, warn)
		}
	}
}

// A token ends with its account, and with what it is bound to: at once, and for ever.
func TestTokensEnd(t *testing.T) {
	t.Parallel()
	f := setupAccounts(t)
	ctx, core := t.Context(), f.client.CoreV1()
	atOnce := metav1.DeleteOptions{GracePeriodSeconds: new(int64)}
	bound := func(kind string) authenticationv1.TokenRequestSpec {
		return authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: kind, Name: "it"}}
	}
	for kind, object := range map[string]struct {
		create func()
		delete func() error
	}{
		"ServiceAccount": {func() {}, func() error { return core.ServiceAccounts("default").Delete(ctx, "bot", atOnce) }},
		"Pod":            {func() { f.podOf(t, "it", "bot", "") }, func() error { return core.Pods("default").Delete(ctx, "it", atOnce) }},
		"Secret": {func() {
			_, err := core.Secrets("default").Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "it"}}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
		}, func() error { return core.Secrets("default").Delete(ctx, "it", atOnce) }},
		"Node": {func() {
			_, err := core.Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "it"}}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
		}, func() error { return core.Nodes().Delete(ctx, "it", atOnce) }},
	} {
		f.newAccount(t, "bot")
		object.create()
		spec := authenticationv1.TokenRequestSpec{}
		if kind != "ServiceAccount" {
			spec = bound(kind)
		}
		token := f.newToken(t, "bot", spec)
		if _, err := f.whoami(t, token); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if err := object.delete(); err != nil {
			t.Fatal(err)
		}
		if who, err := f.whoami(t, token); err == nil {
			t.Errorf("%s: after it was deleted its token is %+v", kind, who)
		}
		// Another of the same name is another.
		if kind == "ServiceAccount" {
			f.newAccount(t, "bot")
		}
		object.create()
		if who, err := f.whoami(t, token); err == nil {
			t.Errorf("%s: the token of one before is %+v", kind, who)
		}
		if err := object.delete(); err != nil {
			t.Fatal(err)
		}
		if kind != "ServiceAccount" {
			if err := core.ServiceAccounts("default").Delete(ctx, "bot", atOnce); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// forge makes a token out of a real one: with another header, other claims, another
// signature.
func forge(t testing.TB, real string, header map[string]any, change func(claims map[string]any), sign func(signed string) []byte) string {
	t.Helper()
	claims := claimsOf(t, real)
	if change != nil {
		change(claims)
	}
	encode := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	signed := encode(header) + "." + encode(claims)
	return signed + "." + base64.RawURLEncoding.EncodeToString(sign(signed))
}

// TestForgedTokens tries what is known to have opened other servers.
func TestForgedTokens(t *testing.T) {
	t.Parallel()
	f := setupAccounts(t)
	f.newAccount(t, "bot")
	real := f.newToken(t, "bot", authenticationv1.TokenRequestSpec{})
	head, _, _ := strings.Cut(real, ".")
	text, _ := base64.RawURLEncoding.DecodeString(head)
	var header map[string]any
	if err := json.Unmarshal(text, &header); err != nil {
		t.Fatal(err)
	}
	with := func(k string, v any) map[string]any {
		h := maps.Clone(header)
		h[k] = v
		return h
	}
	own, err := identity.LoadKey(filepath.Join(f.dir, "pki", "sa.key"))
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	by := func(key *ecdsa.PrivateKey) func(string) []byte {
		return func(signed string) []byte { return es256(t, key, signed) }
	}
	none := func(string) []byte { return nil }
	same := func(map[string]any) {}
	set := func(k string, v any) func(map[string]any) { return func(c map[string]any) { c[k] = v } }
	attempts := map[string]string{
		"alg none":            forge(t, real, map[string]any{"alg": "none"}, same, none),
		"alg None":            forge(t, real, with("alg", "None"), same, none),
		"no alg":              forge(t, real, map[string]any{}, same, none),
		"no signature":        real[:strings.LastIndex(real, ".")+1],
		"another key":         forge(t, real, header, same, by(foreign)),
		"another key, no kid": forge(t, real, map[string]any{"alg": "ES256"}, same, by(foreign)),
		"unknown kid":         forge(t, real, with("kid", "x"), same, by(own)),
		"kid that is a path":  forge(t, real, with("kid", "../../../../dev/null"), same, by(foreign)),
		"key in the header":   forge(t, real, with("jwk", jwk(foreign)), same, by(foreign)),
		"key elsewhere":       forge(t, real, with("jku", "http://127.0.0.1:1/"), same, by(foreign)),
		"critical extension":  forge(t, real, with("crit", []string{"exp"}), same, by(own)),
		"zeros for signature": forge(t, real, header, same, func(string) []byte { return make([]byte, 64) }),
		"half a signature":    forge(t, real, header, same, func(s string) []byte { return by(own)(s)[:32] }),
		"another issuer":      forge(t, real, header, set("iss", "https://elsewhere"), by(own)),
		"no issuer":           forge(t, real, header, func(c map[string]any) { delete(c, "iss") }, by(own)),
		"another audience":    forge(t, real, header, set("aud", []string{"vault"}), by(own)),
		"expired":             forge(t, real, header, set("exp", time.Now().Add(-2*time.Minute).Unix()), by(own)),
		"of tomorrow":         forge(t, real, header, set("nbf", time.Now().Add(24*time.Hour).Unix()), by(own)),
		"of one before it": forge(t, real, header, func(c map[string]any) {
			c["kubernetes.io"].(map[string]any)["serviceaccount"].(map[string]any)["uid"] = "x"
		}, by(own)),
		"payload of another":   strings.Split(real, ".")[0] + "." + strings.Split(forge(t, real, header, set("sub", "x"), none), ".")[1] + "." + strings.Split(real, ".")[2],
		"four parts":           real + ".x",
		"huge":                 real + strings.Repeat("A", 200<<10),
		"deep":                 head + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"`+identity.IssuerURL+`","x":`+strings.Repeat("[", 30000))) + ".",
		"not JSON":             "x.y.z",
		"JSON serialization":   `{"payload":"","signatures":[]}`,
		"the server's own one": strings.Repeat("0", 64),
	}
	for _, alg := range []string{"HS256", "HS384", "HS512", "RS256", "PS256", "ES384", "EdDSA"} {
		for name, secret := range publicForms(t, &own.PublicKey) {
			attempts[alg+" with "+name] = forge(t, real, with("alg", alg), same, func(s string) []byte { return hmacOf(alg, secret, s) })
		}
	}
	if _, err := f.whoami(t, forge(t, real, header, same, by(own))); err != nil {
		t.Fatalf("the forger cannot even sign: %v", err)
	}
	for _, name := range slices.Sorted(maps.Keys(attempts)) {
		resp, body := f.httpAs(t, f.bearer(""), "", pods, "", map[string]string{"Authorization": "Bearer " + attempts[name]})
		if resp.StatusCode != 401 || strings.Contains(string(body), "bot") {
			t.Errorf("%s: %d %.300s", name, resp.StatusCode, body)
		}
	}
}

// es256 signs as JWS wants it: two numbers of 32 bytes.
func es256(t testing.TB, key *ecdsa.PrivateKey, signed string) []byte {
	t.Helper()
	r, s, err := ecdsa.Sign(rand.Reader, key, hashOf(signed))
	if err != nil {
		t.Fatal(err)
	}
	both := make([]byte, 64)
	r.FillBytes(both[:32])
	s.FillBytes(both[32:])
	return both
}

func jwk(key *ecdsa.PrivateKey) map[string]any {
	number := func(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.FillBytes(make([]byte, 32))) }
	return map[string]any{"kty": "EC", "crv": "P-256", "x": number(key.X), "y": number(key.Y)}
}

// The key of tokens is the engine's alone, is kept, and is replaced when it is damaged.
func TestTokenKey(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sa.key")
	first, err := identity.LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if again, err := identity.LoadKey(path); err != nil || !again.Equal(first) {
		t.Errorf("the key was not kept: %v", err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for what, data := range map[string][]byte{"nothing": nil, "noise": []byte("noise"), "another curve": pemOf(t, other)} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if identity.CheckKey(path) == nil {
			t.Errorf("%s is no complaint", what)
		}
		if fresh, err := identity.LoadKey(path); err != nil || fresh.Equal(first) || identity.CheckKey(path) != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Whoever may know, learns by which key tokens are verified; nobody else does.
func TestTokenDiscovery(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.newAccount(t, "bot")
	const configuration, keys = "/.well-known/openid-configuration", "/openid/v1/jwks"
	f.run(t, []probe{
		{name: "configuration", path: configuration, code: 200, has: []string{
			`"issuer":"https://kubernetes.default.svc.cluster.local"`, `"jwks_uri":"https://` + f.Addr() + keys + `"`, `"id_token_signing_alg_values_supported":["ES256"]`}},
		{name: "keys", path: keys, code: 200, has: []string{`"kty":"EC"`, `"alg":"ES256"`, `"use":"sig"`}, not: []string{`"d":`}},
	})
	// Pods, which do not reach that address, are sent to where they do.
	for _, name := range []string{"kubernetes.default.svc.cluster.local", "kubernetes.default.svc", "kubernetes", "10.96.0.1:443"} {
		if _, body := f.http(t, "GET", configuration, "", map[string]string{"Host": name}); !strings.Contains(string(body), `"jwks_uri":"https://kubernetes.default.svc.cluster.local/openid/v1/jwks"`) {
			t.Errorf("%s: %s", name, body)
		}
	}
	if _, body := f.http(t, "GET", configuration, "", map[string]string{"Host": "kubernetes.default.svc.cluster.local.evil"}); !strings.Contains(string(body), f.Addr()) {
		t.Errorf("a stranger's name: %s", body)
	}
	for _, path := range []string{configuration, keys} {
		if resp, _ := f.httpAs(t, f.bearer(""), "", path, "", nil); resp.StatusCode != 401 {
			t.Errorf("a stranger gets %s: %d", path, resp.StatusCode)
		}
		if resp, _ := f.httpAs(t, f.asUser(t, "jane", true), "", path, "", nil); resp.StatusCode != 403 {
			t.Errorf("who has no right gets %s: %d", path, resp.StatusCode)
		}
	}
}
