package server

import (
	"net/http"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The status of a policy says, of its newest generation, which expressions do not fit the types that it
// is about: ours, and those of definitions.
func TestPolicyTypesAreChecked(t *testing.T) {
	t.Parallel()
	f := setup(t)
	policies := f.client.AdmissionregistrationV1().ValidatingAdmissionPolicies()
	f.manifest(t, `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: fleets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: fleets, singular: fleet, kind: Fleet}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}}`)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		_, document := f.http(t, http.MethodGet, "/openapi/v3/apis/example.com/v1", "", nil)
		if strings.Contains(string(document), `"Fleet"`) && f.kinds.ByResource("fleets.example.com") != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not described: %s", document)
		}
	}
	f.manifest(t, `apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: p}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments, "*/scale", none]}
    - {apiGroups: [example.com], apiVersions: [v1], operations: [CREATE], resources: [fleets]}
  validations:
  - expression: "object.spec.replicas > 1"
  - expression: "object.metadata.name == 1"
    messageExpression: "string(object.spec.size)"`)
	status := func(generation int64) *admissionregistrationv1.ValidatingAdmissionPolicyStatus {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			p, err := policies.Get(t.Context(), "p", metav1.GetOptions{})
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("not checked: %v, %+v", err, p.Status)
			}
			if p.Status.ObservedGeneration == generation {
				if by := p.ManagedFields[0]; by.Manager != "validatingadmissionpolicy-status" || by.Operation != metav1.ManagedFieldsOperationApply || by.Subresource != "status" {
					t.Errorf("written by %s, %s, to %q", by.Manager, by.Operation, by.Subresource)
				}
				return &p.Status
			}
		}
	}
	warnings := status(1).TypeChecking.ExpressionWarnings
	for i, want := range [][]string{
		{"spec.validations[0].expression", "example.com/v1, Kind=Fleet: ERROR: <input>:1:12: undefined field 'replicas'"},
		{"spec.validations[1].expression", "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_==_' applied to '(string, int)'",
			"example.com/v1, Kind=Fleet: ERROR: <input>:1:22: found no matching overload"},
		{"spec.validations[1].messageExpression", "apps/v1, Kind=Deployment: ERROR: <input>:1:19: undefined field 'size'"},
	} {
		if len(warnings) != 3 {
			t.Fatalf("there are %d warnings: %+v", len(warnings), warnings)
		}
		for _, text := range want[1:] {
			if w := warnings[i]; w.FieldRef != want[0] || !strings.Contains(w.Warning, text) {
				t.Errorf("got %s: %s\nwant %s: %s", w.FieldRef, w.Warning, want[0], text)
			}
		}
	}
	mended := `{"spec":{"validations":[{"expression":"object.metadata.name != ''"}]}}`
	if _, err := policies.Patch(t.Context(), "p", types.MergePatchType, []byte(mended), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if s := status(2); s.TypeChecking != nil && len(s.TypeChecking.ExpressionWarnings) != 0 {
		t.Errorf("mended, it is said: %+v", s.TypeChecking)
	}
}
