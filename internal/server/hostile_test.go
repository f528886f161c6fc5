package server

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// Bodies that no friend sends are refused, and the server lives.
func TestHostileBodies(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.run(t, []probe{{name: "create", method: "POST", path: cms, body: cmBody("a", "1"), code: 201}})
	deep := func(open, shut string, n int) string { return strings.Repeat(open, n) + strings.Repeat(shut, n) }
	bodies := map[string]string{
		"empty":             " ",
		"garbage":           "\x00\xff\xfe garbage",
		"a string":          `"x"`,
		"a number":          `1e999`,
		"a list":            `[]`,
		"null":              `null`,
		"cut off":           cmBody("b", "1")[:40],
		"deep list":         `{"apiVersion":"v1","kind":"ConfigMap","metadata":` + deep("[", "]", 100000) + `}`,
		"deep object":       `{"apiVersion":"v1","kind":"ConfigMap","metadata":` + strings.Repeat(`{"a":`, 100000) + "1" + strings.Repeat("}", 100000) + `}`,
		"wrong types":       `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":{"a":1}},"data":[1,2]}`,
		"wrong apiVersion":  `{"apiVersion":5,"kind":[]}`,
		"a foreign kind":    `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"x"}}`,
		"huge":              `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"},"data":{"k":"` + strings.Repeat("x", 4<<20) + `"}}`,
		"too much data":     cmBody("b", strings.Repeat("x", 2<<20)),
		"many labels":       `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b","labels":{"` + strings.Repeat("x", 1<<20) + `":"1"}}}`,
		"a list of objects": `{"apiVersion":"v1","kind":"ConfigMapList","items":[]}`,
		"status":            `{"apiVersion":"v1","kind":"Status"}`,
		"options":           `{"apiVersion":"v1","kind":"DeleteOptions"}`,
		"protobuf":          "k8s\x00\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\xff\xff\xff\xff\x7f",
	}
	requests := []struct{ method, path, contentType string }{
		{"POST", cms, "application/json"},
		{"POST", cms, "application/yaml"},
		{"POST", cms, "application/vnd.kubernetes.protobuf"},
		{"POST", jobs, "application/json"},
		{"POST", pods, "application/json"},
		{"POST", pods + "/p/binding", "application/json"},
		{"POST", pods + "/p/eviction", "application/json"},
		{"PUT", cms + "/a", "application/json"},
		{"PATCH", cms + "/a", "application/json-patch+json"},
		{"PATCH", cms + "/a", "application/merge-patch+json"},
		{"PATCH", cms + "/a", "application/strategic-merge-patch+json"},
		{"PATCH", cms + "/a?fieldManager=m", "application/apply-patch+yaml"},
		{"POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "application/json"},
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			for _, r := range requests {
				resp, answer := f.http(t, r.method, r.path, body, map[string]string{"Content-Type": r.contentType})
				if resp.StatusCode < 400 || resp.StatusCode >= 500 {
					// Some patches of nothing are well-formed. Kubernetes answers 500 to an
					// apply with wrong types, and so does its library here.
					nothing := resp.StatusCode == 200 && r.method == "PATCH"
					apply := bytes.Contains(answer, []byte("failed to create typed patch object"))
					if !nothing && !apply {
						t.Errorf("%s %s as %s: %d %.300s", r.method, r.path, r.contentType, resp.StatusCode, answer)
					}
				}
			}
			// A delete's options are optional, and may be empty.
			if resp, answer := f.http(t, "DELETE", cms+"/none", body, nil); resp.StatusCode < 400 || resp.StatusCode >= 500 {
				t.Errorf("DELETE: %d %.300s", resp.StatusCode, answer)
			}
		})
	}
	f.run(t, []probe{{name: "it lives", path: cms + "/a", code: 200}})
}

// Whatever is in the URL, the answer is the client's fault at most.
func TestHostilePaths(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, path := range []string{
		"//", "/api/v1/namespaces//pods", "/api/v1/namespaces/%00/pods/%ff", "/api/v1/namespaces/default/pods/..%2f..%2fx",
		"/api/v1/namespaces/default/pods/%2e%2e", "/api/v1/namespaces/default/configmaps/a%2fb",
		"/apis/batch/v1/namespaces/default/jobs?limit=99999999999999999999", cms + "?labelSelector=" + strings.Repeat("a,", 10000),
		cms + "?fieldSelector=%3D%3D%3D", cms + "?timeoutSeconds=-1", cms + "?watch=maybe&timeoutSeconds=1", cms + "?continue=" + strings.Repeat("A", 5000),
		cms + "?resourceVersion=-1", cms + "?resourceVersion=18446744073709551616", "/api/v1/watch/namespaces/default/configmaps?resourceVersion=x",
		"/openapi/v3/../../x", "/apis/" + strings.Repeat("a/", 500),
	} {
		resp, body := f.http(t, "", path, "", nil)
		if resp.StatusCode >= 500 {
			t.Errorf("%.80s: %d %.200s", path, resp.StatusCode, body)
		}
	}
}

// FuzzCreate sends anything as a Job.
func FuzzCreate(f *testing.F) {
	f.Add([]byte(jobBody))
	f.Add([]byte(podBody))
	f.Add([]byte(`{"kind":"Job","apiVersion":"batch/v1","metadata":{"generateName":"a-"},"spec":{"completionMode":"Indexed","completions":3}}`))
	server := setup(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, mediaType := range []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"} {
			resp, answer := server.http(t, "POST", jobs+"?dryRun=All", string(body), map[string]string{"Content-Type": mediaType})
			if resp.StatusCode >= 500 {
				t.Errorf("%d %s", resp.StatusCode, answer)
			}
		}
	})
}

// A thousand watches on one connection's worth of clients see every create.
func TestManyWatches(t *testing.T) {
	t.Parallel()
	const watchers, creates = 1000, 50
	f := setup(t)
	watches := make([]watch.Interface, watchers)
	for i := range watches {
		w, err := f.client.CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		watches[i] = w
	}
	numbers := rand.Perm(creates)
	go inParallel(t.Context(), numbers, 16, func(_ context.Context, i int) error {
		resp, body := f.http(t, http.MethodPost, cms, cmBody(fmt.Sprint("n", i), "1"), nil)
		if resp.StatusCode != 201 {
			t.Errorf("%d %s", resp.StatusCode, body)
		}
		return nil
	})
	for _, w := range watches {
		for range creates {
			if e, ok := <-w.ResultChan(); !ok || e.Type != watch.Added {
				t.Fatalf("got %v, %v", e, ok)
			}
		}
	}
}
