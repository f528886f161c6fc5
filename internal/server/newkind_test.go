package server

import (
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	schedulingv1 "k8s.io/api/scheduling/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// priorityClass is what a contributor writes who adds a kind of a group that there is
// not yet, with rules of his own: this, and a line in kind.Table. (There is another row
// of the kind in the table; here it is not.)
func priorityClass() *kind.Kind {
	validate := func(obj kind.Object) field.ErrorList {
		pc := obj.(*schedulingv1.PriorityClass)
		errs := apivalidation.ValidateObjectMeta(&pc.ObjectMeta, false, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
		if pc.Value > 1000000000 {
			errs = append(errs, field.Forbidden(field.NewPath("value"), "maximum allowed value of a user defined priority is 1000000000"))
		}
		return errs
	}
	return &kind.Kind{
		Names: kind.Names{
			Resource:   "priorityclasses.scheduling.k8s.io",
			Singular:   "priorityclass",
			ShortNames: []string{"pc"},
			GVK:        schedulingv1.SchemeGroupVersion.WithKind("PriorityClass"),
		},
		Types: kind.Types{
			New:     func() kind.Object { return &schedulingv1.PriorityClass{} },
			NewList: func() runtime.Object { return &schedulingv1.PriorityClassList{} },
		},
		Create: kind.Create{Validate: validate},
		Update: kind.Update{Validate: func(obj, _ kind.Object) field.ErrorList { return validate(obj) }},
	}
}

// withKinds replaces the kinds, and the store by one that knows them.
func withKinds(t *testing.T, rows ...*kind.Kind) func(*Options) {
	return func(o *Options) {
		others := slices.DeleteFunc(kind.Table(), func(k *kind.Kind) bool {
			return slices.ContainsFunc(rows, func(row *kind.Kind) bool { return row.Resource == k.Resource })
		})
		kinds, err := kind.NewKinds(append(others, rows...)...)
		if err != nil {
			t.Fatal(err)
		}
		st, err := store.Open(store.Options{Path: filepath.Join(t.TempDir(), "store.db"), Codec: kind.NewCodec(kinds), Index: kinds.Index})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		o.Store, o.Kinds = st, kinds
	}
}

// A kind of a group that there is not yet is a row and nothing else: it is served in
// all verbs, and nothing of what there was is harmed.
func TestKindOfANewGroup(t *testing.T) {
	t.Parallel()
	f := setup(t, withKinds(t, priorityClass()))
	classes := f.client.SchedulingV1().PriorityClasses()
	w, err := classes.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()

	high := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: 7}
	if _, err := classes.Create(t.Context(), high, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	apply := func(path, body string) (code int, answer string) {
		resp, data := f.http(t, http.MethodPatch, path+"?fieldManager=me&force=true", body,
			map[string]string{"Content-Type": string(types.ApplyPatchType)})
		return resp.StatusCode, string(data)
	}
	const collection = "/apis/scheduling.k8s.io/v1/priorityclasses"
	for name, want := range map[string]int{"high": http.StatusOK, "low": http.StatusCreated} {
		code, answer := apply(collection+"/"+name, `{"apiVersion":"scheduling.k8s.io/v1","kind":"PriorityClass","metadata":{"name":"`+name+`"},"value":8,"description":"applied"}`)
		if code != want || !strings.Contains(answer, `"f:description"`) {
			t.Errorf("apply %s: %d %s", name, code, answer)
		}
	}
	f.run(t, []probe{
		{name: "get", path: collection + "/high", code: 200, has: []string{`"value":8`, `"description":"applied"`}},
		{name: "list", path: collection, code: 200, has: []string{`"kind":"PriorityClassList"`, `"name":"high"`, `"name":"low"`}},
		{name: "select", path: collection + "?fieldSelector=metadata.name%3Dlow", code: 200, has: []string{`"name":"low"`}, not: []string{`"name":"high"`}},
		{name: "merge", method: "PATCH", path: collection + "/high", body: `{"value":9}`, code: 200,
			header: map[string]string{"Content-Type": string(types.MergePatchType)}, has: []string{`"value":9`}},
		{name: "invalid", method: "PATCH", path: collection + "/high", body: `{"value":2000000000}`, code: 422,
			header: map[string]string{"Content-Type": string(types.MergePatchType)}, reason: "Invalid"},
		{name: "table", path: collection + "/high", code: 200, header: map[string]string{"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"},
			has: []string{`"cells":["high","`}},
		{name: "group", path: "/apis/scheduling.k8s.io", code: 200, has: []string{`"preferredVersion":{"groupVersion":"scheduling.k8s.io/v1"`}},
		{name: "discovery", path: "/apis/scheduling.k8s.io/v1", code: 200,
			has: []string{`"name":"priorityclasses"`, `"singularName":"priorityclass"`, `"shortNames":["pc"]`, `"deletecollection"`, `"watch"`}},
		{name: "aggregated discovery", path: "/apis", code: 200,
			header: map[string]string{"Accept": "application/json;v=v2;g=apidiscovery.k8s.io;as=APIGroupDiscoveryList"}, has: []string{`"resource":"priorityclasses"`}},
		{name: "a document of its own", path: "/openapi/v3/apis/scheduling.k8s.io/v1", code: 200,
			has: []string{`"io.k8s.api.scheduling.v1.PriorityClass":`, `"io.k8s.api.scheduling.v1.PriorityClassList":`}},
		{name: "the documents of others", path: "/openapi/v3/apis/batch/v1", code: 200, has: []string{`"io.k8s.api.batch.v1.JobSpec":`}},
		{name: "the document of all", path: "/openapi/v2", code: 200, has: []string{`"io.k8s.api.scheduling.v1.PriorityClass":`, `"io.k8s.api.batch.v1.JobSpec":`}},
	})
	if code, answer := apply("/api/v1/namespaces/default/configmaps/c", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"a":"1"}}`); code != http.StatusCreated {
		t.Errorf("apply of another kind: %d %s", code, answer)
	}
	if err := classes.Delete(t.Context(), "high", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	var seen []string
	for range 5 {
		ev := <-w.ResultChan()
		seen = append(seen, string(ev.Type)+" "+ev.Object.(*schedulingv1.PriorityClass).Name)
	}
	got := strings.Join(seen, ", ")
	if !strings.HasPrefix(got, "ADDED high, ") || !strings.Contains(got, "ADDED low") || !strings.HasSuffix(got, "MODIFIED high, DELETED high") {
		t.Errorf("the watch saw %s", got)
	}
}

// A row that the server cannot serve is named, with what to do about it.
func TestRowWithoutAServer(t *testing.T) {
	t.Parallel()
	row := priorityClass()
	row.Subresources = []kind.Subresource{"scale"}
	o := Options{Listen: "127.0.0.1:0", CertDir: t.TempDir()}
	withKinds(t, row)(&o)
	_, err := New(o)
	const want = `server: priorityclasses.scheduling.k8s.io has the subresource "scale", which nothing here serves: give it a line in subresources()`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
