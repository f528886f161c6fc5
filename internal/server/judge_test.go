package server

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/sampan-batch/sampan/internal/kind"
)

// hook is a webhook that a test runs.
type hook struct {
	url string
	ca  []byte

	mu    sync.Mutex
	asked []admissionv1.AdmissionRequest
}

// newHook serves what answer says.
func newHook(t testing.TB, answer func(w http.ResponseWriter, r *http.Request, ask *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse) *hook {
	t.Helper()
	h := &hook{}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			t.Error(err)
			return
		}
		h.mu.Lock()
		h.asked = append(h.asked, *review.Request)
		h.mu.Unlock()
		resp := answer(w, r, review.Request)
		if resp == nil {
			return
		}
		resp.UID = review.Request.UID
		review.Request, review.Response = nil, resp
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(server.Close)
	h.url = server.URL
	h.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return h
}

// requests returns how often it was asked about what, since the last call.
func (h *hook) requests() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for _, r := range h.asked {
		what := strings.ToLower(string(r.Operation)) + " " + r.Resource.Resource
		if r.SubResource != "" {
			what += "/" + r.SubResource
		}
		if r.Name != "" {
			what += " " + r.Name
		}
		if ptr.Deref(r.DryRun, false) {
			what += " (dry)"
		}
		all = append(all, what)
	}
	h.asked = nil
	return strings.Join(all, ", ")
}

func allow(http.ResponseWriter, *http.Request, *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Allowed: true}
}

// about are the rules of everything in a group.
func about(group string, resources ...string) []admissionregistrationv1.RuleWithOperations {
	return []admissionregistrationv1.RuleWithOperations{{
		Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.OperationAll},
		Rule:       admissionregistrationv1.Rule{APIGroups: []string{group}, APIVersions: []string{"*"}, Resources: resources},
	}}
}

func (h *hook) validates(edit func(*admissionregistrationv1.ValidatingWebhook), resources ...string) *admissionregistrationv1.ValidatingWebhookConfiguration {
	w := admissionregistrationv1.ValidatingWebhook{
		Name: "check.example.com", Rules: about("*", resources...), SideEffects: ptr.To(admissionregistrationv1.SideEffectClassNone),
		AdmissionReviewVersions: []string{"v1"}, ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &h.url, CABundle: h.ca},
	}
	if edit != nil {
		edit(&w)
	}
	return &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "check"}, Webhooks: []admissionregistrationv1.ValidatingWebhook{w}}
}

func (h *hook) mutates(name string, edit func(*admissionregistrationv1.MutatingWebhook), resources ...string) *admissionregistrationv1.MutatingWebhookConfiguration {
	w := admissionregistrationv1.MutatingWebhook{
		Name: name + ".example.com", Rules: about("*", resources...), SideEffects: ptr.To(admissionregistrationv1.SideEffectClassNone),
		AdmissionReviewVersions: []string{"v1"}, ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &h.url, CABundle: h.ca},
	}
	if edit != nil {
		edit(&w)
	}
	return &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}, Webhooks: []admissionregistrationv1.MutatingWebhook{w}}
}

func (f *fixture) validatingWebhook(t testing.TB, c *admissionregistrationv1.ValidatingWebhookConfiguration) {
	t.Helper()
	if _, err := f.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(t.Context(), c, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) mutatingWebhook(t testing.TB, c *admissionregistrationv1.MutatingWebhookConfiguration) {
	t.Helper()
	if _, err := f.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(t.Context(), c, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// manifest creates the objects of a manifest.
func (f *fixture) manifest(t testing.TB, text string) {
	t.Helper()
	for _, doc := range strings.Split(text, "\n---\n") {
		var meta metav1.PartialObjectMetadata
		if err := yaml.Unmarshal([]byte(doc), &meta); err != nil {
			t.Fatal(err)
		}
		k := f.kinds.ByGVK(meta.GroupVersionKind())
		path := "/api/v1"
		if group := meta.GroupVersionKind().Group; group != "" {
			path = "/apis/" + meta.APIVersion
		}
		if k != nil && k.Namespaced {
			path += "/namespaces/default"
		}
		plural := strings.ToLower(meta.Kind) + "s"
		if k != nil {
			plural = k.Plural()
		}
		resp, answer := f.http(t, http.MethodPost, path+"/"+plural, doc, map[string]string{"Content-Type": "application/yaml"})
		if resp.StatusCode != http.StatusCreated {
			t.Fatalf("create %s: %s %s", meta.Kind, resp.Status, answer)
		}
	}
}

// configMap creates one, and returns what the API says.
func (f *fixture) configMap(t testing.TB, name string, data map[string]string, options metav1.CreateOptions) (*corev1.ConfigMap, error) {
	t.Helper()
	return f.client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}, options)
}

// Every way to write an object is judged, by the very next request after the configuration, and
// no more by the next one after that is gone.
func TestWebhookSeesEveryWrite(t *testing.T) {
	t.Parallel()
	f := setup(t)
	h := newHook(t, allow)
	ctx := t.Context()
	maps := f.client.CoreV1().ConfigMaps("default")
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	seen := func(want string) {
		t.Helper()
		if got := h.requests(); got != want {
			t.Errorf("the webhook was asked about\n%s\nwant\n%s", got, want)
		}
	}
	must(f.configMap(t, "before", nil, metav1.CreateOptions{}))
	f.validatingWebhook(t, h.validates(nil, "*/*"))
	seen("")
	must(f.configMap(t, "a", nil, metav1.CreateOptions{}))
	seen("create configmaps a")
	must(maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "g-"}}, metav1.CreateOptions{DryRun: []string{"All"}}))
	if got := h.requests(); !strings.HasPrefix(got, "create configmaps g-") || !strings.HasSuffix(got, " (dry)") {
		t.Errorf("asked about %s", got)
	}
	must(maps.Patch(ctx, "a", types.MergePatchType, []byte(`{"data":{"x":"1"}}`), metav1.PatchOptions{}))
	seen("update configmaps a")
	must(maps.Patch(ctx, "a", types.ApplyPatchType, []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"y":"1"}}`), metav1.PatchOptions{FieldManager: "me"}))
	seen("update configmaps a")
	must(maps.Patch(ctx, "b", types.ApplyPatchType, []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"}}`), metav1.PatchOptions{FieldManager: "me"}))
	seen("create configmaps b")
	must(nil, maps.Delete(ctx, "b", metav1.DeleteOptions{}))
	seen("delete configmaps b")
	must(nil, maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{FieldSelector: "metadata.name=before"}))
	seen("delete configmaps") // without a name, as in Kubernetes

	f.manifest(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: i}]}")
	seen("create pods p")
	must(f.client.CoreV1().Pods("default").Patch(ctx, "p", types.MergePatchType, []byte(`{"status":{"message":"x"}}`), metav1.PatchOptions{}, "status"))
	seen("update pods/status p")
	must(nil, f.client.CoreV1().Pods("default").Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n"}}, metav1.CreateOptions{}))
	seen("create pods/binding p")
	f.http(t, http.MethodPost, "/api/v1/namespaces/default/pods/p/exec?command=x&stdout=true", "", nil)
	seen("connect pods/exec p")
	f.manifest(t, "apiVersion: v1\nkind: ReplicationController\nmetadata: {name: r}\nspec: {replicas: 0, selector: {a: b}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}")
	seen("create replicationcontrollers r")
	must(f.client.CoreV1().ReplicationControllers("default").Patch(ctx, "r", types.MergePatchType, []byte(`{"spec":{"replicas":1}}`), metav1.PatchOptions{}, "scale"))
	seen("update replicationcontrollers/scale r")

	// Whoever has locked himself out can take it back.
	f.http(t, http.MethodPost, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", `{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{"nonResourceAttributes":{"path":"/","verb":"get"}}}`,
		map[string]string{"Content-Type": "application/json"})
	configurations := f.client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	must(configurations.Patch(ctx, "check", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{}))
	must(nil, configurations.Delete(ctx, "check", metav1.DeleteOptions{}))
	must(f.configMap(t, "after", nil, metav1.CreateOptions{}))
	seen("")
}

// A webhook's refusal, and its failures, in Kubernetes' words.
func TestWebhookRefuses(t *testing.T) {
	t.Parallel()
	f := setup(t)
	answers := map[string]func(w http.ResponseWriter, r *http.Request) *admissionv1.AdmissionResponse{
		"no": func(http.ResponseWriter, *http.Request) *admissionv1.AdmissionResponse {
			return &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: "not today", Code: 418}, Warnings: []string{"think again"}}
		},
		"failed": func(w http.ResponseWriter, _ *http.Request) *admissionv1.AdmissionResponse {
			http.Error(w, "broken", http.StatusInternalServerError)
			return nil
		},
		"slow": func(_ http.ResponseWriter, r *http.Request) *admissionv1.AdmissionResponse {
			<-r.Context().Done()
			return nil
		},
		"endless": func(w http.ResponseWriter, r *http.Request) *admissionv1.AdmissionResponse {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat(" ", 1<<16)); err != nil {
					return nil
				}
			}
			return nil
		},
	}
	h := newHook(t, func(w http.ResponseWriter, r *http.Request, ask *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		kind, _, _ := strings.Cut(ask.Name, "-")
		if answer := answers[kind]; answer != nil {
			return answer(w, r)
		}
		return &admissionv1.AdmissionResponse{Allowed: true}
	})
	c := h.validates(func(w *admissionregistrationv1.ValidatingWebhook) { w.TimeoutSeconds = ptr.To[int32](1) }, "configmaps")
	f.validatingWebhook(t, c)
	for name, want := range map[string]struct {
		code int32
		text string
	}{
		"no-1":      {418, `admission webhook "check.example.com" denied the request: not today`},
		"failed-1":  {500, `Internal error occurred: failed calling webhook "check.example.com": failed to call webhook: an error on the server ("broken") has prevented the request from succeeding`},
		"slow-1":    {500, `Internal error occurred: failed calling webhook "check.example.com": failed to call webhook: Post "` + h.url + `/?timeout=1s": context deadline exceeded`},
		"endless-1": {500, `failed to call webhook: Post "` + h.url + `/?timeout=1s": the answer is longer than 6291456 bytes`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := f.configMap(t, name, nil, metav1.CreateOptions{})
			status, ok := err.(apierrors.APIStatus)
			if !ok || status.Status().Code != want.code || !strings.Contains(err.Error(), want.text) {
				t.Errorf("got  %v\nwant %d %s", err, want.code, want.text)
			}
		})
	}
}

// With failurePolicy Ignore a webhook that is not there does not matter.
func TestWebhookIgnored(t *testing.T) {
	t.Parallel()
	f := setup(t)
	h := newHook(t, allow)
	h.url = "https://127.0.0.1:1/"
	c := h.validates(func(w *admissionregistrationv1.ValidatingWebhook) {
		w.FailurePolicy = ptr.To(admissionregistrationv1.Ignore)
		w.Rules = about("", "configmaps")
	})
	f.validatingWebhook(t, c)
	if _, err := f.configMap(t, "a", nil, metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := f.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Patch(t.Context(), "check", types.JSONPatchType,
		[]byte(`[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Fail"}]`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := f.configMap(t, "b", nil, metav1.CreateOptions{})
	if want := `Internal error occurred: failed calling webhook "check.example.com": failed to call webhook: Post "https://127.0.0.1:1/?timeout=10s": dial tcp 127.0.0.1:1: connect: connection refused`; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// dialing is a node all ports of whose pods are one.
type dialing struct {
	PodStreams
	to string
}

func (d dialing) Dial(ctx context.Context, _ *corev1.Pod, port uint16) (net.Conn, error) {
	if port != 8443 {
		return nil, fmt.Errorf("port %d", port)
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp", d.to)
}

// A Service leads to its endpoints; what it lacks is said.
func TestWebhookOfService(t *testing.T) {
	t.Parallel()
	h := newHook(t, allow)
	f := setup(t, func(o *Options) { o.Node = only("here", dialing{to: strings.TrimPrefix(h.url, "https://")}) })
	c := h.validates(func(w *admissionregistrationv1.ValidatingWebhook) {
		w.Rules = about("", "configmaps")
		w.ClientConfig = admissionregistrationv1.WebhookClientConfig{CABundle: h.ca, Service: &admissionregistrationv1.ServiceReference{Namespace: "default", Name: "hook", Path: ptr.To("/p")}}
	})
	f.validatingWebhook(t, c)
	refused := func(name, want string) {
		t.Helper()
		_, err := f.configMap(t, name, nil, metav1.CreateOptions{})
		want = `Internal error occurred: failed calling webhook "check.example.com": failed to call webhook: Post "https://hook.default.svc:443/p?timeout=10s": ` + want
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	refused("a", `service "hook" not found`)
	f.manifest(t, "apiVersion: v1\nkind: Service\nmetadata: {name: hook}\nspec: {ports: [{name: https, port: 444}]}")
	refused("b", `no service port 443 found for service "hook"`)
	if _, err := f.client.CoreV1().Services("default").Patch(t.Context(), "hook", types.JSONPatchType, []byte(`[{"op":"replace","path":"/spec/ports/0/port","value":443}]`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	service, err := f.client.CoreV1().Services("default").Get(t.Context(), "hook", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	refused("c", "dial tcp "+service.Spec.ClusterIP+":443: connect: connection refused")
	f.manifest(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: hook}\nspec: {nodeName: here, containers: [{name: c, image: i}]}")
	f.manifest(t, "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: hook-1, labels: {kubernetes.io/service-name: hook}}\naddressType: IPv4\n"+
		"ports: [{name: https, port: 8443}]\nendpoints: [{addresses: [10.1.2.3], targetRef: {kind: Pod, namespace: default, name: hook}}]")
	refused("d", `tls: failed to verify certificate: x509: certificate is valid for example.com, *.example.com, not hook.default.svc`)
}

func TestMutatingWebhooks(t *testing.T) {
	t.Parallel()
	f := setup(t)
	sets := func(key, value string) func(http.ResponseWriter, *http.Request, *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return func(_ http.ResponseWriter, _ *http.Request, ask *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
			var c corev1.ConfigMap
			if err := json.Unmarshal(ask.Object.Raw, &c); err != nil || c.Data[key] == value {
				return &admissionv1.AdmissionResponse{Allowed: true}
			}
			patch := fmt.Sprintf(`[{"op":"add","path":"/data/%s","value":%q}]`, key, value)
			return &admissionv1.AdmissionResponse{Allowed: true, Patch: []byte(patch), PatchType: ptr.To(admissionv1.PatchTypeJSONPatch)}
		}
	}
	first, second := newHook(t, sets("a", "1")), newHook(t, sets("b", "2"))
	again := admissionregistrationv1.IfNeededReinvocationPolicy
	f.mutatingWebhook(t, first.mutates("first", func(w *admissionregistrationv1.MutatingWebhook) {
		w.ReinvocationPolicy = &again
		w.MatchConditions = []admissionregistrationv1.MatchCondition{{Name: "data", Expression: "has(object.data) && 'x' in object.data"}}
	}, "configmaps"))
	f.mutatingWebhook(t, second.mutates("second", func(w *admissionregistrationv1.MutatingWebhook) {
		w.ObjectSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "leave", Operator: metav1.LabelSelectorOpDoesNotExist}}}
	}, "configmaps"))
	got, err := f.configMap(t, "c", map[string]string{"x": "0"}, metav1.CreateOptions{})
	if err != nil || fmt.Sprint(got.Data) != "map[a:1 b:2 x:0]" {
		t.Errorf("%v %v", got, err)
	}
	if one, two := first.requests(), second.requests(); one != "create configmaps, create configmaps" && one != "create configmaps c, create configmaps c" || strings.Count(two, "create") != 1 {
		t.Errorf("the first was asked about %s, the second about %s", one, two)
	}
	if _, err := f.configMap(t, "d", nil, metav1.CreateOptions{}); err == nil || !strings.Contains(err.Error(), "Internal error occurred: add operation does not apply: doc is missing path") {
		t.Errorf("a patch that does not apply: %v", err)
	}
	// What has side effects is not asked in a dry run, which fails.
	for _, effects := range []string{"NoneOnDryRun", "Some"} {
		_, err := f.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Patch(t.Context(), "second", types.JSONPatchType,
			[]byte(`[{"op":"replace","path":"/webhooks/0/sideEffects","value":"`+effects+`"}]`), metav1.PatchOptions{})
		if effects == "Some" {
			if want := `MutatingWebhookConfiguration.admissionregistration.k8s.io "second" is invalid: webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"`; err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.configMap(t, "e", map[string]string{"x": "0"}, metav1.CreateOptions{DryRun: []string{"All"}}); err != nil {
			t.Error(err)
		}
	}
}

// What a webhook answers is bounded, and so is what its patch makes.
func TestWebhookBomb(t *testing.T) {
	t.Parallel()
	f := setup(t)
	bombs := map[string]func() string{
		"members": func() string {
			return `[{"op":"add","path":"/data","value":{` + strings.TrimSuffix(strings.Repeat(`"a":"",`, 40000), ",") + `}}]`
		},
		"copies": func() string {
			ops := []string{`{"op":"add","path":"/metadata/finalizers","value":["a/a","b/b","c/c","d/d","e/e","f/f","g/g","h/h"]}`}
			for range 4000 {
				ops = append(ops, `{"op":"copy","from":"/metadata/finalizers","path":"/metadata/annotations/x"}`)
			}
			return "[" + strings.Join(ops, ",") + "]"
		},
	}
	h := newHook(t, func(_ http.ResponseWriter, _ *http.Request, ask *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		bomb := bombs[ask.Name]
		if bomb == nil {
			return &admissionv1.AdmissionResponse{Allowed: true}
		}
		return &admissionv1.AdmissionResponse{Allowed: true, Patch: []byte(bomb()), PatchType: ptr.To(admissionv1.PatchTypeJSONPatch)}
	})
	f.mutatingWebhook(t, h.mutates("bomb", func(w *admissionregistrationv1.MutatingWebhook) { w.Rules = about("", "configmaps") }))
	for name := range bombs {
		start := time.Now()
		_, err := f.client.CoreV1().ConfigMaps("default").Patch(t.Context(), name, types.ApplyPatchType,
			[]byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"`+name+`","annotations":{"a":"b"}}}`), metav1.PatchOptions{FieldManager: "me"})
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
		t.Logf("%s: %v", name, err)
	}
}

// BenchmarkSits is what a write costs more when there is nothing to judge by: it is asked some
// four times.
func BenchmarkSits(b *testing.B) {
	f := setup(b)
	b.ReportAllocs()
	for b.Loop() {
		if f.Admission().Sits() {
			b.Fatal("there is something")
		}
	}
}

// BenchmarkJudge is what a judgement costs: of one policy with one expression.
func BenchmarkJudge(b *testing.B) {
	f := setup(b)
	f.manifest(b, `apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: p}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]}
  validations: [{expression: "object.metadata.name != 'no'"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: p}
spec: {policyName: p, validationActions: [Deny]}`)
	k := f.kinds.ByResource(kind.ConfigMaps)
	obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c"}, Data: map[string]string{"a": "b"}}
	b.ReportAllocs()
	for b.Loop() {
		if err := f.Admission().Refuse(b.Context(), "job-controller", k, obj, func() error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
