package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// probe is one plain HTTP request and what must come back.
type probe struct {
	name   string
	method string // "" is GET
	path   string
	body   string
	header map[string]string // Content-Type is JSON unless said

	code    int
	message string   // Status.message, exactly
	reason  string   // Status.reason
	causes  []string // "field: message" of Status.details.causes, exactly
	has     []string // parts of the body
	not     []string // parts that the body has not
	warning string   // a part of the Warning header
}

// http sends one request as the administrator.
func (f *fixture) http(t testing.TB, method, path, body string, header map[string]string) (*http.Response, []byte) {
	t.Helper()
	return f.httpAs(t, f.config, method, path, body, header)
}

func (f *fixture) httpAs(t testing.TB, config *rest.Config, method, path, body string, header map[string]string) (*http.Response, []byte) {
	t.Helper()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	if method == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, config.Host+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	req.Host = header["Host"] // "": the server's
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, data
}

// run sends the probes one after the other, in one server.
func (f *fixture) run(t *testing.T, probes []probe) {
	for _, p := range probes {
		t.Run(p.name, func(t *testing.T) {
			resp, body := f.http(t, p.method, p.path, p.body, p.header)
			p.check(t, resp, body)
		})
	}
}

func (p *probe) check(t *testing.T, resp *http.Response, body []byte) {
	t.Helper()
	if resp.StatusCode != p.code {
		t.Errorf("status %d, want %d: %.600s", resp.StatusCode, p.code, body)
	}
	var status metav1.Status
	if p.message+p.reason != "" || p.causes != nil {
		if err := json.Unmarshal(body, &status); err != nil || status.Kind != "Status" {
			t.Fatalf("no Status: %v: %.600s", err, body)
		}
	}
	if p.message != "" && status.Message != p.message {
		t.Errorf("message %q\nwant    %q", status.Message, p.message)
	}
	if p.reason != "" && string(status.Reason) != p.reason {
		t.Errorf("reason %q, want %q", status.Reason, p.reason)
	}
	if p.causes != nil {
		var got []string
		for _, c := range status.Details.Causes {
			got = append(got, c.Field+": "+c.Message)
		}
		if strings.Join(got, "\n") != strings.Join(p.causes, "\n") {
			t.Errorf("causes %q\nwant   %q", got, p.causes)
		}
	}
	for _, part := range p.has {
		if !bytes.Contains(body, []byte(part)) {
			t.Errorf("no %q in %.1500s", part, body)
		}
	}
	for _, part := range p.not {
		if bytes.Contains(body, []byte(part)) {
			t.Errorf("%q in %.1500s", part, body)
		}
	}
	if all := strings.Join(resp.Header.Values("Warning"), "\n"); !strings.Contains(all, p.warning) || (p.warning == "") != (all == "") {
		t.Errorf("warning %q, want %q", all, p.warning)
	}
}

const (
	cms  = "/api/v1/namespaces/default/configmaps"
	jobs = "/apis/batch/v1/namespaces/default/jobs"
	pods = "/api/v1/namespaces/default/pods"
)

const (
	podSpec = `{"restartPolicy":"Never","containers":[{"name":"main","image":"busybox"}]}`
	podBody = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":` + podSpec + `}`
	jobBody = `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"pi"},"spec":{"template":{"spec":` + podSpec + `}}}`
)

func cmBody(name, data string) string {
	return `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"` + name + `"},"data":{"k":"` + data + `"}}`
}

func TestWrites(t *testing.T) {
	t.Parallel()
	setup(t).run(t, []probe{
		{name: "create", method: "POST", path: cms, body: cmBody("a", "1"), code: 201,
			has: []string{`"kind":"ConfigMap"`, `"apiVersion":"v1"`, `"resourceVersion":"2"`, `"managedFields":[`, `"operation":"Update"`}},
		{name: "create again", method: "POST", path: cms, body: cmBody("a", "1"), code: 409,
			message: `configmaps "a" already exists`, reason: "AlreadyExists"},
		{name: "create in no namespace", method: "POST", path: "/api/v1/namespaces/none/configmaps", body: cmBody("a", "1"), code: 404,
			message: `namespaces "none" not found`, reason: "NotFound"},
		{name: "create for another namespace", method: "POST", path: cms, code: 400,
			body:    `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","namespace":"y"}}`,
			message: `the namespace of the provided object does not match the namespace sent on the request`},
		{name: "create without name", method: "POST", path: cms, code: 422, reason: "Invalid",
			body:   `{"apiVersion":"v1","kind":"ConfigMap","metadata":{}}`,
			causes: []string{"metadata.name: Required value: name or generateName is required"}},
		{name: "generate a name", method: "POST", path: cms, code: 201,
			body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"generateName":"gen-"}}`, has: []string{`"name":"gen-`}},
		{name: "another kind", method: "POST", path: cms, body: podBody, code: 400,
			has: []string{`Pod in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Pod) to`}},
		{name: "another version", method: "POST", path: jobs, code: 400,
			body: strings.Replace(jobBody, "batch/v1", "batch/v7", 1), has: []string{"no kind", "batch/v7"}},
		{name: "a wrong name", method: "POST", path: cms, body: cmBody("A_B", "1"), code: 422, reason: "Invalid",
			has: []string{`ConfigMap \"A_B\" is invalid: metadata.name: Invalid value: \"A_B\": a lowercase RFC 1123 subdomain`}},
		{name: "an unknown field, strictly", method: "POST", path: cms + "?fieldValidation=Strict", code: 400,
			body:    `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"s"},"dta":{}}`,
			message: `ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "dta"`},
		{name: "a duplicate field, strictly", method: "POST", path: cms + "?fieldValidation=Strict", code: 400,
			body:    `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"s"},"data":{"a":"1"},"data":{}}`,
			message: `ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: duplicate field "data"`},
		{name: "an unknown field, with a warning", method: "POST", path: cms + "?fieldValidation=Warn", code: 201,
			body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"w"},"dta":{}}`, warning: `unknown field \"dta\"`},
		{name: "an unknown field, ignored", method: "POST", path: cms + "?fieldValidation=Ignore", code: 201,
			body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"i"},"dta":{}}`, not: []string{"dta"}},
		{name: "a wrong fieldValidation", method: "POST", path: cms + "?fieldValidation=No", code: 422, body: cmBody("x", "1"), reason: "Invalid"},
		{name: "dry run of a create", method: "POST", path: cms + "?dryRun=All", code: 201, body: cmBody("dry", "1"),
			has: []string{`"uid":"`, `"name":"dry"`}, not: []string{"resourceVersion"}},
		{name: "nothing was stored", path: cms + "/dry", code: 404, message: `configmaps "dry" not found`, reason: "NotFound"},
		{name: "dry run finds the other", method: "POST", path: cms + "?dryRun=All", code: 409, body: cmBody("a", "1"), reason: "AlreadyExists"},
		{name: "a wrong dryRun", method: "POST", path: cms + "?dryRun=Some", code: 422, body: cmBody("x", "1"), reason: "Invalid"},
		{name: "put without revision", method: "PUT", path: cms + "/a", code: 200, body: cmBody("a", "2"), has: []string{`"k":"2"`}},
		{name: "put of the same", method: "PUT", path: cms + "/a", code: 200, body: cmBody("a", "2"), has: []string{`"k":"2"`}},
		{name: "put of an old revision", method: "PUT", path: cms + "/a", code: 409, reason: "Conflict",
			body:    `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","resourceVersion":"2"}}`,
			message: `Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again`},
		{name: "put for another uid", method: "PUT", path: cms + "/a", code: 409, reason: "Conflict",
			body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","uid":"x"}}`, has: []string{
				"Key: /registry/configmaps/default/a,", "Precondition failed: UID in precondition: x, UID in object meta: "}},
		{name: "put under another name", method: "PUT", path: cms + "/a", code: 400, body: cmBody("b", "2"),
			message: `the name of the object (b) does not match the name on the URL (a)`},
		{name: "put of what is not there", method: "PUT", path: cms + "/none", code: 404, body: cmBody("none", "2"), message: `configmaps "none" not found`},
		{name: "dry run of a put", method: "PUT", path: cms + "/a?dryRun=All", code: 200, body: cmBody("a", "3"), has: []string{`"k":"3"`}},
		{name: "nothing was changed", path: cms + "/a", code: 200, has: []string{`"k":"2"`}},
		{name: "an unknown path", path: "/nosuch", code: 404, has: []string{"404 page not found"}},
		{name: "an unknown resource", path: "/api/v1/namespaces/default/widgets", code: 404, has: []string{"the server could not find the requested resource"}},
		{name: "a method that is not", method: "POST", path: cms + "/a", body: cmBody("a", "1"), code: 405},
		{name: "nothing acceptable", path: cms + "/a", header: map[string]string{"Accept": "image/png"}, code: 406, reason: "NotAcceptable"},
		{name: "nothing understood", method: "POST", path: cms, body: "x", header: map[string]string{"Content-Type": "text/csv"}, code: 415, reason: "UnsupportedMediaType"},
		{name: "YAML in", method: "POST", path: cms, body: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: yaml}\n",
			header: map[string]string{"Content-Type": "application/yaml"}, code: 201},
		{name: "YAML out", path: cms + "/yaml", header: map[string]string{"Accept": "application/yaml"}, code: 200, has: []string{"apiVersion: v1\n", "name: yaml\n"}},
		{name: "protobuf out", path: cms + "/yaml", header: map[string]string{"Accept": "application/vnd.kubernetes.protobuf"}, code: 200, has: []string{"k8s\x00"}},
	})
}

func TestJobWrites(t *testing.T) {
	t.Parallel()
	setup(t).run(t, []probe{
		{name: "create", method: "POST", path: jobs, body: jobBody, code: 201,
			has: []string{`"backoffLimit":6`, `"completionMode":"NonIndexed"`, `"generation":1`, `"batch.kubernetes.io/job-name":"pi"`, `"status":{}`}},
		{name: "causes", method: "POST", path: jobs, code: 422, reason: "Invalid",
			body: `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"x"},"spec":{"parallelism":-1,"template":{"spec":{"restartPolicy":"Always","containers":[{"name":"m"}]}}}}`,
			causes: []string{
				"spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
				"spec.template.spec.containers[0].image: Required value",
				`spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"`,
			}},
		{name: "equal causes, once", method: "POST", path: jobs, code: 422, reason: "Invalid",
			body:   strings.Replace(jobBody, `"name":"pi"`, `"name":"`+strings.Repeat("a", 64)+`"`, 1),
			causes: []string{`spec.template.labels: Invalid value: "` + strings.Repeat("a", 64) + `": must be no more than 63 bytes`}},
		{name: "the template is immutable", method: "PATCH", path: jobs + "/pi", code: 422, reason: "Invalid",
			header: map[string]string{"Content-Type": "application/strategic-merge-patch+json"},
			body:   `{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"other"}]}}}}`,
			has:    []string{`Job.batch \"pi\" is invalid: spec.template: Invalid value: `, "field is immutable"}, warning: "spec.template.spec.containers[0].image cannot be changed"},
		{name: "status is not the resource's", method: "PATCH", path: jobs + "/pi", code: 200,
			header: map[string]string{"Content-Type": "application/merge-patch+json"}, body: `{"status":{"active":7}}`, has: []string{`"status":{}`}},
		{name: "spec is not the status'", method: "PATCH", path: jobs + "/pi/status", code: 200,
			header: map[string]string{"Content-Type": "application/merge-patch+json"},
			body:   `{"spec":{"parallelism":5},"status":{"active":1,"startTime":"2026-01-02T03:04:05Z"}}`,
			has:    []string{`"parallelism":1`, `"active":1`, `"generation":1`}},
		{name: "get of the status", path: jobs + "/pi/status", code: 200, has: []string{`"active":1`, `"kind":"Job"`}},
		{name: "a spec change advances the generation", method: "PATCH", path: jobs + "/pi", code: 200,
			header: map[string]string{"Content-Type": "application/merge-patch+json"}, body: `{"spec":{"parallelism":2}}`,
			has: []string{`"generation":2`, `"active":1`}},
		{name: "a name that is no label", method: "POST", path: jobs, code: 201, body: strings.Replace(jobBody, `"pi"`, `"a.b"`, 1),
			warning: "metadata.name: this is used in Pod names and hostnames"},
		{name: "the scale of no such thing", path: jobs + "/pi/scale", code: 404},
	})
}
