package server

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
)

func configMaps(namespace string, names ...string) []change.Object {
	var out []change.Object
	for _, name := range names {
		out = append(out, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: namespace, UID: "u", Labels: map[string]string{"name": name}}})
	}
	return out
}

func listed(list *corev1.ConfigMapList) string {
	var out []string
	for _, cm := range list.Items {
		out = append(out, cm.Namespace+"/"+cm.Name)
	}
	return strings.Join(out, " ")
}

func TestPaging(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put(t, configMaps("a", "1", "2", "3")...)
	f.put(t, configMaps("b", "1", "2")...)
	all := f.client.CoreV1().ConfigMaps("")

	first, err := all.List(t.Context(), metav1.ListOptions{Limit: 2})
	if err != nil || listed(first) != "a/1 a/2" || *first.RemainingItemCount != 3 || first.Continue == "" {
		t.Fatalf("got %v, %v", first, err)
	}
	// What happens meanwhile is not seen by the pages to come.
	f.put(t, configMaps("a", "2.5", "4")...)
	key := change.Key{Resource: "configmaps", Namespace: "b", Name: "1"}
	gone, _ := f.store.View().Get(key)
	if _, err := f.store.Apply(t.Context(), change.Set{Writes: []change.Write{{Op: change.Delete, Key: key, Rev: revision(gone)}}}); err != nil {
		t.Fatal(err)
	}
	second, err := all.List(t.Context(), metav1.ListOptions{Limit: 2, Continue: first.Continue})
	if err != nil || listed(second) != "a/3 b/1" || *second.RemainingItemCount != 1 || second.ResourceVersion != first.ResourceVersion {
		t.Fatalf("got %v, %v", second, err)
	}
	third, err := all.List(t.Context(), metav1.ListOptions{Limit: 2, Continue: second.Continue})
	if err != nil || listed(third) != "b/2" || third.Continue != "" || third.RemainingItemCount != nil {
		t.Fatalf("got %v, %v", third, err)
	}
	// The exact state can be asked for too, while it is kept.
	exact, err := all.List(t.Context(), metav1.ListOptions{ResourceVersion: first.ResourceVersion, ResourceVersionMatch: "Exact"})
	if err != nil || listed(exact) != "a/1 a/2 a/3 b/1 b/2" {
		t.Errorf("got %v, %v", exact, err)
	}
	selected, err := all.List(t.Context(), metav1.ListOptions{Limit: 1, LabelSelector: "name in (1,3)"})
	if err != nil || listed(selected) != "a/1" || selected.RemainingItemCount != nil || selected.Continue == "" {
		t.Errorf("got %v, %v", selected, err)
	}
}

func TestExpiredContinue(t *testing.T) {
	t.Parallel()
	var clock fakeClock
	f := setup(t, func(o *Options) { o.Now = clock.now })
	f.put(t, configMaps("a", "1", "2", "3")...)
	all := f.client.CoreV1().ConfigMaps("")
	first, err := all.List(t.Context(), metav1.ListOptions{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	f.put(t, configMaps("a", "2.5")...)
	clock.add(pinFor + time.Second)
	_, err = all.List(t.Context(), metav1.ListOptions{Limit: 1, Continue: first.Continue})
	if !apierrors.IsResourceExpired(err) || !strings.HasPrefix(err.Error(), "The provided continue parameter is too old to display a consistent list result.") {
		t.Fatalf("got %v", err)
	}
	// The error tells how to go on without consistency.
	rest := err.(*apierrors.StatusError).ErrStatus.ListMeta.Continue
	got, err := all.List(t.Context(), metav1.ListOptions{Limit: 2, Continue: rest})
	if err != nil || listed(got) != "a/2 a/2.5" || got.Continue == "" {
		t.Fatalf("got %v, %v", got, err)
	}
	got, err = all.List(t.Context(), metav1.ListOptions{Limit: 2, Continue: got.Continue})
	if err != nil || listed(got) != "a/3" {
		t.Errorf("got %v, %v", got, err)
	}
}

// A state is not kept for longer because somebody asks for it again and again.
func TestContinueAgain(t *testing.T) {
	t.Parallel()
	var clock fakeClock
	f := setup(t, func(o *Options) { o.Now = clock.now })
	f.put(t, configMaps("a", "1", "2", "3")...)
	all := f.client.CoreV1().ConfigMaps("")
	page := func(token string) (*corev1.ConfigMapList, error) {
		return all.List(t.Context(), metav1.ListOptions{Limit: 1, Continue: token})
	}
	if _, err := page(""); err != nil {
		t.Fatal(err)
	}
	clock.add(pinFor / 2)
	first, err := page("") // of the same state, which is the latest still
	if err != nil {
		t.Fatal(err)
	}
	clock.add(pinFor * 3 / 4)
	f.put(t, configMaps("b", "1")...)
	if got, err := page(first.Continue); err != nil || listed(got) != "a/2" {
		t.Fatalf("got %v, %v", got, err)
	}
	clock.add(pinFor / 2)
	if _, err := page(first.Continue); !apierrors.IsResourceExpired(err) {
		t.Errorf("got %v", err)
	}
}

func TestReads(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put(t, configMaps("default", "a", "b")...)
	f.put(t, configMaps("other", "a")...)
	table := map[string]string{"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
	select_ := func(q string) string { return "?" + url.PathEscape(q) }
	f.run(t, []probe{
		{name: "list", path: cms, code: 200, has: []string{`"kind":"ConfigMapList"`, `"apiVersion":"v1"`, `"name":"a"`, `"name":"b"`}, not: []string{"other"}},
		{name: "an empty list", path: "/api/v1/namespaces/none/configmaps", code: 200, has: []string{`"items":[]`}},
		{name: "label selector", path: cms + select_("labelSelector=name=b"), code: 200, has: []string{`"name":"b"`}, not: []string{`"name":"a"`}},
		{name: "label selector that is none", path: cms + select_("labelSelector=a b"), code: 400, reason: "BadRequest"},
		{name: "field selector", path: "/api/v1/configmaps" + select_("fieldSelector=metadata.namespace=other"), code: 200, has: []string{`"other"`}, not: []string{`"default"`}},
		{name: "negative field selector", path: cms + select_("fieldSelector=metadata.name!=a"), code: 200, has: []string{`"name":"b"`}, not: []string{`"name":"a"`}},
		{name: "field selector of one", path: cms + select_("fieldSelector=metadata.name=a,metadata.namespace=default"), code: 200, has: []string{`"name":"a"`}, not: []string{`"name":"b"`}},
		{name: "no such field", path: cms + select_("fieldSelector=data.k=1"), code: 400, has: []string{`\"data.k\" is not a known field selector`}},
		{name: "not older than", path: cms + "?resourceVersion=2&resourceVersionMatch=NotOlderThan", code: 200},
		{name: "any", path: cms + "?resourceVersion=0", code: 200},
		{name: "exactly now", path: cms + "?resourceVersion=5&resourceVersionMatch=Exact", code: 200},
		{name: "exactly then", path: cms + "?resourceVersion=2&resourceVersionMatch=Exact", code: 410, reason: "Expired",
			message: "The resourceVersion for the provided list is too old."},
		{name: "in the future", path: cms + "?resourceVersion=999&resourceVersionMatch=NotOlderThan", code: 504, reason: "Timeout", has: []string{"Too large resource version: 999, current: 5"}},
		{name: "get in the future", path: cms + "/a?resourceVersion=999", code: 504, reason: "Timeout"},
		{name: "a version that is none", path: cms + "?resourceVersion=x", code: 400, has: []string{"invalid resource version"}},
		{name: "match without version", path: cms + "?resourceVersionMatch=Exact", code: 422, reason: "Invalid"},
		{name: "continue that is none", path: cms + "?limit=1&continue=x", code: 400, has: []string{"invalid continue token"}},
		{name: "a wrong limit", path: cms + "?limit=-1", code: 200},
		{name: "table", path: cms, header: table, code: 200, has: []string{
			`"kind":"Table"`, `"name":"Data"`, `"cells":["a",0,"`, `"kind":"PartialObjectMetadata"`}},
		{name: "table with objects", path: cms + "?includeObject=Object", header: table, code: 200, has: []string{`"object":{"kind":"ConfigMap"`}},
		{name: "table of one", path: cms + "/a", header: table, code: 200, has: []string{`"cells":["a",0,"`}},
		{name: "table without columns", path: cms + "?includeObject=None", header: table, code: 200, has: []string{`"object":null`}},
		{name: "metadata only", path: cms + "/a", header: map[string]string{"Accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"}, code: 200,
			has: []string{`"kind":"PartialObjectMetadata"`, `"name":"a"`}},
	})
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.run(t, []probe{
		{name: "legacy versions", path: "/api", code: 200, has: []string{`"kind":"APIVersions"`, `"v1"`}},
		{name: "groups", path: "/apis", code: 200, has: []string{`"batch/v1"`, `"events.k8s.io/v1"`, `"coordination.k8s.io/v1"`}},
		{name: "group", path: "/apis/batch", code: 200, has: []string{`"preferredVersion":{"groupVersion":"batch/v1"`}},
		{name: "resources", path: "/api/v1", code: 200, has: []string{`"name":"pods/log"`, `"name":"pods/eviction"`, `"shortNames":["po"]`, `"categories":["all"]`}},
		{name: "aggregated", path: "/apis", code: 200, header: map[string]string{"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"},
			has: []string{`"kind":"APIGroupDiscoveryList"`, `"resource":"jobs"`, `"subresource":"status"`}},
		{name: "aggregated legacy", path: "/api", code: 200, header: map[string]string{"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"},
			has: []string{`"resource":"pods"`}},
		{name: "version", path: "/version", code: 200, has: []string{`"gitVersion": "v1.37.2+sampan.0.0.1"`, `"minor": "37"`}},
		{name: "metrics", path: "/metrics", code: 200, has: []string{"apiserver_request_total"}},
		{name: "index", path: "/", code: 200, has: []string{"/apis/batch/v1", "/openapi/v3"}},
		{name: "nowhere", path: "/nowhere", code: 404},
		{name: "all namespaces at once", method: "DELETE", path: "/api/v1/namespaces", code: 405},
	})
	if _, err := f.client.Discovery().ServerPreferredResources(); err != nil {
		t.Error(err)
	}
}

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var index struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}
	_, body := f.http(t, "", "/openapi/v3", "", nil)
	if err := json.Unmarshal(body, &index); err != nil || len(index.Paths) < 6 {
		t.Fatalf("%v: %s", err, body)
	}
	for path, doc := range index.Paths {
		resp, body := f.http(t, "", doc.ServerRelativeURL, "", nil)
		var parsed struct {
			OpenAPI    string
			Paths      map[string]any
			Components struct{ Schemas map[string]map[string]any }
		}
		if err := json.Unmarshal(body, &parsed); err != nil || resp.StatusCode != 200 || len(parsed.Paths) == 0 {
			t.Fatalf("%s: %d %v", path, resp.StatusCode, err)
		}
		if changes := strings.HasPrefix(path, "apis/apiextensions."); !changes && resp.Header.Get("Cache-Control") != "public, immutable" {
			t.Errorf("%s is not for keeps: %q", path, resp.Header.Get("Cache-Control"))
		}
		for name, schema := range parsed.Components.Schemas {
			if strings.Contains(fmt.Sprint(schema["x-kubernetes-group-version-kind"]), "__internal") {
				t.Errorf("%s: %s names internal versions", path, name)
			}
		}
		if path == "apis/batch/v1" {
			gvk := fmt.Sprint(parsed.Components.Schemas["io.k8s.api.batch.v1.Job"]["x-kubernetes-group-version-kind"])
			if gvk != "[map[group:batch kind:Job version:v1]]" {
				t.Errorf("Job is %s", gvk)
			}
		}
	}
	f.run(t, []probe{
		{name: "v2", path: "/openapi/v2", code: 200, has: []string{`"swagger":"2.0"`, `"io.k8s.api.batch.v1.Job"`}},
		{name: "v3 in protobuf", path: "/openapi/v3/apis/batch/v1", code: 200, header: map[string]string{"Accept": "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"}},
		{name: "no such document", path: "/openapi/v3/apis/none/v1", code: 404},
	})
}
