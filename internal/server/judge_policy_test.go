package server

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
)

// A policy's words, reasons and parameters are Kubernetes', and the newest count.
func TestValidatingAdmissionPolicy(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.manifest(t, `apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: few}
spec:
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}]
    objectSelector: {matchExpressions: [{key: free, operator: DoesNotExist}]}
  matchConditions: [{name: named, expression: "object.metadata.name != 'nobody'"}]
  variables: [{name: keys, expression: "has(object.data) ? object.data.size() : 0"}]
  validations:
  - expression: "variables.keys <= int(params.data.most)"
    messageExpression: "'at most ' + params.data.most + ' keys, not ' + string(variables.keys)"
    reason: RequestEntityTooLarge
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: few-here}
spec:
  policyName: few
  validationActions: [Deny]
  paramRef: {name: limits, parameterNotFoundAction: Deny}
  matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}}`)
	is := func(err error, code int32, want string) {
		t.Helper()
		status, ok := err.(apierrors.APIStatus)
		if !ok || status.Status().Code != code || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	three := map[string]string{"a": "", "b": "", "c": ""}
	_, err := f.configMap(t, "x", three, metav1.CreateOptions{})
	is(err, 422, "configmaps \"x\" is forbidden: ValidatingAdmissionPolicy 'few' with binding 'few-here' denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction")
	f.manifest(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: limits, labels: {free: ''}}\ndata: {most: '2'}")
	_, err = f.configMap(t, "x", three, metav1.CreateOptions{})
	is(err, 413, `configmaps "x" is forbidden: ValidatingAdmissionPolicy 'few' with binding 'few-here' denied request: at most 2 keys, not 3`)
	f.namespace(t, "elsewhere")
	if _, err := f.client.CoreV1().ConfigMaps("elsewhere").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Data: three}, metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := f.client.CoreV1().ConfigMaps("default").Patch(t.Context(), "limits", types.MergePatchType, []byte(`{"data":{"most":"3"}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err = f.configMap(t, "x", three, metav1.CreateOptions{DryRun: []string{"All"}}); err != nil {
		t.Error(err)
	}
	// Warn tells, and lets pass.
	if _, err := f.client.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Patch(t.Context(), "few-here", types.MergePatchType, []byte(`{"spec":{"validationActions":["Warn"]}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	resp, answer := f.http(t, http.MethodPost, "/api/v1/namespaces/default/configmaps", `{"metadata":{"name":"y"},"data":{"a":"","b":"","c":"","d":""}}`, map[string]string{"Content-Type": "application/json"})
	if want := `299 - "Validation failed for ValidatingAdmissionPolicy 'few' with binding 'few-here': at most 3 keys, not 4"`; resp.StatusCode != 201 || resp.Header.Get("Warning") != want {
		t.Errorf("%s, Warning %s\nwant %s\n%s", resp.Status, resp.Header.Get("Warning"), want, answer)
	}
}

// A policy that does not compile is refused, with Kubernetes' words; so is one whose parameters
// its author may not read.
func TestPolicyRefused(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const policy = `{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicy","metadata":{"name":"p"},"spec":{"paramKind":{"apiVersion":"v1","kind":"Secret"},` +
		`"matchConstraints":{"resourceRules":[{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE"],"resources":["configmaps"]}]},"validations":[{"expression":"EXPRESSION"}]}}`
	const path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
	post := func(header map[string]string, expression string) (int, string) {
		resp, answer := f.http(t, http.MethodPost, path, strings.Replace(policy, "EXPRESSION", expression, 1), header)
		return resp.StatusCode, string(answer)
	}
	asAdmin := map[string]string{"Content-Type": "application/json"}
	if code, answer := post(asAdmin, "object.x +"); code != 422 || !strings.Contains(answer, "spec.validations[0].expression: Invalid value: \\\"object.x +\\\": compilation failed: ERROR: \\u003cinput\\u003e:1:11: Syntax error") {
		t.Errorf("%d %s", code, answer)
	}
	f.manifest(t, `apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: judge}
rules: [{apiGroups: [admissionregistration.k8s.io], resources: ["*"], verbs: ["*"]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: judge}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: judge}
subjects: [{kind: User, name: jane, apiGroup: rbac.authorization.k8s.io}]`)
	asJane := map[string]string{"Content-Type": "application/json", "Impersonate-User": "jane"}
	if code, answer := post(asJane, "true"); code != 422 || !strings.Contains(answer, `spec.paramKind: Forbidden: user`) || !strings.Contains(answer, `must have \"get\" permission on all objects of the referenced paramKind (kind=Secret, apiVersion=v1)`) {
		t.Errorf("%d %s", code, answer)
	}
	if code, answer := post(asAdmin, "true"); code != 201 {
		t.Errorf("%d %s", code, answer)
	}
	const binding = `{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicyBinding","metadata":{"name":"b"},"spec":{"policyName":"p","validationActions":["Deny"],"paramRef":{"name":"s","namespace":"kube-system","parameterNotFoundAction":"Deny"}}}`
	resp, answer := f.http(t, http.MethodPost, strings.Replace(path, "policies", "policybindings", 1), binding, asJane)
	if resp.StatusCode != 422 || !strings.Contains(string(answer), `does not have \"get\" permission on the object referenced by paramRef`) {
		t.Errorf("%s %s", resp.Status, answer)
	}
}

const label = `apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: label}
spec:
  reinvocationPolicy: IfNeeded
  matchConstraints: {resourceRules: [{apiGroups: ["", "example.com"], apiVersions: ["*"], operations: [CREATE], resources: [configmaps, pods, widgets]}]}
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration: {expression: "Object{metadata: Object.metadata{labels: {'by': 'apply'}}}"}
  - patchType: JSONPatch
    jsonPatch: {expression: "[JSONPatch{op: 'add', path: '/metadata/labels/patch', value: 'yes'}]"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: label}
spec: {policyName: label}`

func TestMutatingAdmissionPolicy(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.manifest(t, label)
	got, err := f.configMap(t, "x", nil, metav1.CreateOptions{})
	if err != nil || got.Labels["by"] != "apply" || got.Labels["patch"] != "yes" {
		t.Errorf("%v %v", got, err)
	}
	// What it changes is defaulted, and validated.
	f.manifest(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: i}]}")
	pod, err := f.client.CoreV1().Pods("default").Get(t.Context(), "p", metav1.GetOptions{})
	if err != nil || pod.Labels["by"] != "apply" || pod.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		t.Errorf("%v %v", pod, err)
	}
}

// Objects that a client has defined are judged as ours, and can be parameters.
func TestCustomObjectsAreJudged(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.manifest(t, label)
	f.manifest(t, `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}}
  - {name: v2, served: true, storage: false, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}}`)
	widgets := f.dynamic.Resource(schema.GroupVersionResource{Group: "example.com", Version: "v2", Resource: "widgets"}).Namespace("default")
	widget := func(name string, size int64) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "example.com/v2", "kind": "Widget", "metadata": map[string]any{"name": name}, "spec": map[string]any{"size": size}}}
	}
	definitions := f.dynamic.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (done bool, err error) {
		d, err := definitions.Get(ctx, "widgets.example.com", metav1.GetOptions{})
		return err == nil && strings.Contains(fmt.Sprint(d.Object["status"]), "status:True type:Established"), err
	})
	if err != nil {
		t.Fatal(err)
	}
	var got *unstructured.Unstructured
	// Kubernetes says Service Unavailable until it has the documents of what was just defined.
	err = wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (done bool, err error) {
		got, err = widgets.Create(ctx, widget("most", 5), metav1.CreateOptions{})
		if apierrors.IsNotFound(err) || apierrors.IsServiceUnavailable(err) {
			return false, nil
		}
		return true, err
	})
	if err != nil || got.GetLabels()["by"] != "apply" || got.GetLabels()["patch"] != "yes" {
		t.Fatalf("%v %v", got, err)
	}
	f.manifest(t, `apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: small}
spec:
  paramKind: {apiVersion: example.com/v2, kind: Widget}
  matchConstraints: {resourceRules: [{apiGroups: [example.com], apiVersions: [v1], operations: ["*"], resources: [widgets]}]}
  validations: [{expression: "request.operation == 'DELETE' ? oldObject.spec.size != 4 : object.spec.size < params.spec.size", message: "too large"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: small}
spec: {policyName: small, validationActions: [Deny], paramRef: {name: most, parameterNotFoundAction: Deny}}`)
	if _, err := widgets.Create(t.Context(), widget("a", 4), metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
	refused := func(err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "ValidatingAdmissionPolicy 'small' with binding 'small' denied request: too large") {
			t.Error(err)
		}
	}
	_, err = widgets.Create(t.Context(), widget("b", 6), metav1.CreateOptions{})
	refused(err)
	_, err = widgets.Patch(t.Context(), "a", types.MergePatchType, []byte(`{"spec":{"size":7}}`), metav1.PatchOptions{})
	refused(err)
	refused(widgets.Delete(t.Context(), "a", metav1.DeleteOptions{}))
	refused(widgets.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
}
