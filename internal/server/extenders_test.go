package server

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	apiServices = "/apis/apiregistration.k8s.io/v1/apiservices"
)

// define defines a kind of the group, and returns when it is served.
func (f *fixture) define(t testing.TB, group, plural, kind, annotations string) {
	t.Helper()
	body := fmt.Sprintf(`{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"%[2]s.%[1]s","annotations":{%[4]s}},
		"spec":{"group":"%[1]s","scope":"Namespaced","names":{"plural":"%[2]s","kind":"%[3]s"},"versions":[{"name":"v1","served":true,"storage":true,
		"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`, group, plural, kind, annotations)
	if resp, answer := f.http(t, "POST", definitions, body, nil); resp.StatusCode != http.StatusCreated {
		t.Fatalf("define: %s %s", resp.Status, answer)
	}
	f.awaits(t, fmt.Sprintf("%s/%s.%s", definitions, plural, group), `"reason":"InitialNamesAccepted"`, true)
}

// awaits waits until what is at a path has a text, or has it no more.
func (f *fixture) awaits(t testing.TB, path, text string, has bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, answer := f.http(t, "GET", path, "", nil)
		if strings.Contains(string(answer), text) == has {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %s (%q: %v)", path, answer, text, !has)
		}
	}
}

// A webhook that answers with a redirect has nobody else asked, whatever the machine has for itself there.
func TestHostileWebhooks(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var asked atomic.Int32
	secret := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer secret.Close()
	h := newHook(t, func(w http.ResponseWriter, r *http.Request, ask *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		http.Redirect(w, r, secret.URL, map[string]int{"found": http.StatusFound, "again": http.StatusTemporaryRedirect}[ask.Name])
		return nil
	})
	f.validatingWebhook(t, h.validates(func(*admissionregistrationv1.ValidatingWebhook) {}, "configmaps"))
	for _, name := range []string{"found", "again"} {
		_, err := f.configMap(t, name, nil, metav1.CreateOptions{})
		if want := fmt.Sprintf(`it redirects to %q, and is not followed`, secret.URL); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("what the webhook named was asked %d times", n)
	}
}

// An APIService for APIServices could not be taken back by anybody.
func TestRegistrationIsNobodyElses(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const name = "v1.apiregistration.k8s.io"
	body := `{"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{"name":"` + name + `"},"spec":{"group":"apiregistration.k8s.io","version":"v1",
		"groupPriorityMinimum":20000,"versionPriority":100,"insecureSkipTLSVerify":true,"service":{"namespace":"default","name":"evil"}}}`
	if resp, answer := f.http(t, "POST", apiServices, body, nil); resp.StatusCode != http.StatusCreated {
		t.Fatalf("%s %s", resp.Status, answer)
	}
	f.awaits(t, apiServices, `"name":"`+name+`"`, true)
	f.awaits(t, "/apis/apiregistration.k8s.io", `"preferredVersion":{"groupVersion":"apiregistration.k8s.io/v1","version":"v1"}`, true)
	if resp, answer := f.http(t, "DELETE", apiServices+"/"+name, "", nil); resp.StatusCode != http.StatusOK {
		t.Errorf("%s %s", resp.Status, answer)
	}
}

// A definition of a kind in a group of ours changes nothing of what is told of that group, neither while it
// is there nor when it goes.
func TestDefinitionInOurGroup(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const ours = `{"name":"networking.k8s.io","versions":[{"groupVersion":"networking.k8s.io/v1","version":"v1"}`
	f.awaits(t, "/apis", ours, true)
	f.define(t, "networking.k8s.io", "evils", "Evil", `"api-approved.kubernetes.io":"unapproved, for a test"`)
	f.define(t, "example.com", "boats", "Boat", "") // whose group is told after that of the other was
	f.awaits(t, "/apis", `"name":"example.com"`, true)
	f.awaits(t, "/apis", ours, true)
	f.awaits(t, "/apis/networking.k8s.io/v1", `"name":"networkpolicies"`, true)
	for _, name := range []string{"/evils.networking.k8s.io", "/boats.example.com"} {
		f.http(t, "DELETE", definitions+name, "", nil)
	}
	f.awaits(t, "/apis", `"name":"example.com"`, false)
	f.awaits(t, "/apis", ours, true)
}

// TestColumnsThatMultiply: a column whose path finds the same place by every way to it is refused,
// and keeps nobody from changing what is defined with it already.
func TestColumnsThatMultiply(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for i, tc := range []struct {
		path   string
		status int
	}{
		{".spec.a", http.StatusCreated},
		{".spec..a", http.StatusCreated},
		{`.status.conditions[?(@.type==\"Ready\")].status`, http.StatusCreated},
		{".spec.list[0,1,2]", http.StatusCreated},
		{".spec..a..a", http.StatusUnprocessableEntity},
		{".spec..a}{..b", http.StatusUnprocessableEntity},
		{".spec[?(@..a)]..b", http.StatusUnprocessableEntity},
		{".spec[0,0,0,0][0,0,0,0]", http.StatusUnprocessableEntity},
	} {
		name := fmt.Sprintf("columns%d", i)
		body := fmt.Sprintf(`{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"%[1]ss.example.com"},"spec":{"group":"example.com",
			"scope":"Namespaced","names":{"plural":"%[1]ss","singular":"%[1]s","kind":"Column%[2]d"},"versions":[{"name":"v1","served":true,"storage":true,
			"schema":{"openAPIV3Schema":{"type":"object"}},"additionalPrinterColumns":[{"name":"A","type":"string","jsonPath":"%[3]s"}]}]}}`, name, i, tc.path)
		resp, answer := f.http(t, "POST", definitions, body, nil)
		if resp.StatusCode != tc.status {
			t.Errorf("%s: %s %s", tc.path, resp.Status, answer)
		}
		if tc.status == http.StatusCreated {
			resp, answer = f.http(t, "PATCH", definitions+"/"+name+"s.example.com", `{"spec":{"versions":[{"name":"v1","served":true,"storage":true,
				"schema":{"openAPIV3Schema":{"type":"object"}},"additionalPrinterColumns":[{"name":"A","type":"string","jsonPath":".x..a..a"}]}]}}`,
				map[string]string{"Content-Type": "application/merge-patch+json"})
		}
		if resp.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(string(answer), "spec.versions[0].additionalPrinterColumns[0].jsonPath") {
			t.Errorf("%s, changed: %s %s", tc.path, resp.Status, answer)
		}
		if tc.status == http.StatusCreated { // the library is done with it
			f.awaits(t, "/apis/example.com/v1", `"name":"`+name+`s"`, true)
			f.http(t, "DELETE", definitions+"/"+name+"s.example.com", "", nil)
		}
	}
	f.awaits(t, "/apis", `"name":"example.com"`, false)
}

// What a custom object may have in it is what any object may.
func TestCustomBulk(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.define(t, "example.com", "boats", "Boat", "")
	const boats = "/apis/example.com/v1/namespaces/default/boats"
	f.awaits(t, boats, `"kind":"BoatList"`, true)
	var fields strings.Builder
	for i := range mostMembers {
		fmt.Fprintf(&fields, ",\"f%d\":1", i)
	}
	object := func(name, more string) string {
		return `{"apiVersion":"example.com/v1","kind":"Boat","metadata":{"name":"` + name + `"}` + more + `}`
	}
	if resp, answer := f.http(t, "POST", boats, object("a", ""), nil); resp.StatusCode != http.StatusCreated {
		t.Fatalf("%s %s", resp.Status, answer)
	}
	for kind, header := range map[string]map[string]string{
		"JSON": {}, "YAML": {"Content-Type": "application/yaml"}, "no type": {"Content-Type": ""},
	} {
		for _, request := range []struct{ method, path, name string }{{"POST", boats, "b"}, {"PUT", boats + "/a", "a"}} {
			resp, answer := f.http(t, request.method, request.path, object(request.name, fields.String()), header)
			if resp.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(string(answer), "more than 32768 fields and list elements") {
				t.Errorf("%s of %s: %s %.200s", request.method, kind, resp.Status, answer)
			}
		}
	}
}
