package server

import (
	"maps"
	"testing"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
)

// Devices that others use are seen by whoever has admin access: that may be asked for in
// namespaces that say so, and only there. What was allocated may be said by whoever may bind
// claims, what a device's state is by whoever may speak for its driver.
func TestClaimsAskWho(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const api, rbac = "/apis/resource.k8s.io/v1", "/apis/rbac.authorization.k8s.io/v1"
	spec := func(request string) string {
		return `{"devices":{"requests":[{"name":"r","exactly":{"deviceClassName":"gpu.example.com"` + request + `}}]}}`
	}
	claim := func(name, request string) string {
		return `{"apiVersion":"resource.k8s.io/v1","kind":"ResourceClaim","metadata":{"name":"` + name + `"},"spec":` + spec(request) + `}`
	}
	template := `{"apiVersion":"resource.k8s.io/v1","kind":"ResourceClaimTemplate","metadata":{"name":"t"},"spec":{"spec":` + spec(`,"adminAccess":true`) + `}}`
	role := func(name, resource, verbs string) string {
		return `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"` + name + `"},"rules":[{"apiGroups":["resource.k8s.io"],"resources":["` + resource + `"],"verbs":[` + verbs + `]}]}`
	}
	give := func(name string) string {
		return `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"` + name + `"},"roleRef":{"kind":"ClusterRole","name":"` + name + `"},"subjects":[{"kind":"User","name":"ann"}]}`
	}
	merge := func(header map[string]string) map[string]string {
		h := map[string]string{"Content-Type": "application/merge-patch+json"}
		maps.Copy(h, header)
		return h
	}
	const claims, admins = api + "/namespaces/default/resourceclaims", api + "/namespaces/admins/resourceclaims"
	result := func(admin string) string {
		return `{"status":{"allocation":{"devices":{"results":[{"request":"r","driver":"gpu.example.com","pool":"p","device":"d"` + admin + `}]}}}}`
	}
	const device = `{"status":{"devices":[{"driver":"gpu.example.com","pool":"p","device":"d","data":{"a":1}}]}}`
	const noDevices = "has no effect here: no devices are given to pods"
	const label = "admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace"
	f.run(t, []probe{
		{name: "a namespace for administrators", method: "POST", path: "/api/v1/namespaces", code: 201,
			body: `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"admins","labels":{"resource.kubernetes.io/admin-access":"true"}}}`},
		{name: "not elsewhere", method: "POST", path: claims, body: claim("a", `,"adminAccess":true`), code: 422, causes: []string{"spec.devices.requests[0].adminAccess: Forbidden: " + label}},
		{name: "nor by a template", method: "POST", path: api + "/namespaces/default/resourceclaimtemplates", body: template, code: 422,
			causes: []string{"spec.devices.requests[0].adminAccess: Forbidden: " + label}},
		{name: "there", method: "POST", path: admins, body: claim("a", `,"adminAccess":true`), code: 201, has: []string{`"adminAccess":true`}, warning: noDevices},
		{name: "by a template, too", method: "POST", path: api + "/namespaces/admins/resourceclaimtemplates", body: template, code: 201, warning: noDevices},
		{name: "without admin access", method: "POST", path: claims, body: claim("a", ""), code: 201, warning: noDevices},

		{name: "may write statuses", method: "POST", path: rbac + "/clusterroles", body: role("statuses", "resourceclaims/status", `"patch","update"`), code: 201},
		{name: "ann", method: "POST", path: rbac + "/clusterrolebindings", body: give("statuses"), code: 201},
		{name: "is not enough to bind", method: "PATCH", path: claims + "/a/status", body: result(""), header: merge(as), code: 422, causes: []string{
			`status.allocation: Forbidden: changing status.allocation or status.reservedFor requires resource="resourceclaims/binding", verb="patch" permission: ` +
				`resourceclaims.resource.k8s.io is forbidden: User "ann" cannot patch resource "resourceclaims/binding" in API group "resource.k8s.io" at the cluster scope`}},
		{name: "may bind", method: "POST", path: rbac + "/clusterroles", body: role("binds", "resourceclaims/binding", `"patch"`), code: 201},
		{name: "ann binds", method: "POST", path: rbac + "/clusterrolebindings", body: give("binds"), code: 201},
		{name: "without admin access by status", method: "PATCH", path: claims + "/a/status", body: result(`,"adminAccess":true`), header: merge(as), code: 422,
			has: []string{"status.allocation.devices.results[0].adminAccess: Forbidden: " + label}},
		{name: "bound", method: "PATCH", path: claims + "/a/status", body: result(""), header: merge(as), code: 200, has: []string{`"device":"d"`}},
		{name: "is not enough for a driver", method: "PATCH", path: claims + "/a/status", body: device, header: merge(as), code: 422, causes: []string{
			`status.devices: Forbidden: changing status.devices requires resource="resourceclaims/driver", verb="[arbitrary-node:patch]" permission: ` +
				`resourceclaims.resource.k8s.io "gpu.example.com" is forbidden: User "ann" cannot arbitrary-node:patch resource "resourceclaims/driver" in API group "resource.k8s.io" in the namespace "default"`}},
		{name: "may speak for drivers", method: "POST", path: rbac + "/clusterroles", body: role("drives", "resourceclaims/driver", `"arbitrary-node:patch"`), code: 201},
		{name: "ann drives", method: "POST", path: rbac + "/clusterrolebindings", body: give("drives"), code: 201},
		{name: "the driver's word", method: "PATCH", path: claims + "/a/status", body: device, header: merge(as), code: 200, has: []string{`"data":{"a":1}`}},
		{name: "an administrator", method: "PATCH", path: admins + "/a/status", body: result(`,"adminAccess":true`), header: merge(nil), code: 200, has: []string{`"adminAccess":true`}},
		{name: "may deallocate", method: "PATCH", path: claims + "/a/status", body: `{"status":null}`, header: merge(nil), code: 200, not: []string{`"device":"d"`}},
	})
}

// What is checked without a request, a file say, is in a namespace of which nothing is known.
func TestClaimsThatNobodyAsksFor(t *testing.T) {
	t.Parallel()
	row := kind.ResourceClaim()
	admin := resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{{
		Name: "r", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu.example.com", AdminAccess: ptr.To(true)}}}}
	claim := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "default"}, Spec: resourcev1.ResourceClaimSpec{Devices: admin}}
	row.Default(claim)
	row.Create.Prepare(claim)
	if errs := row.Create.Check(claim); len(errs) > 0 {
		t.Error(errs)
	}
	claim.ResourceVersion = "1"
	bound := claim.DeepCopy()
	bound.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{
		{Request: "r", Driver: "gpu.example.com", Pool: "p", Device: "d", AdminAccess: ptr.To(true)}}}}
	bound.Status.Devices = []resourcev1.AllocatedDeviceStatus{{Driver: "gpu.example.com", Pool: "p", Device: "d"}}
	if errs := row.Status.Validate(bound, claim); len(errs) > 0 {
		t.Error(errs)
	}
}
