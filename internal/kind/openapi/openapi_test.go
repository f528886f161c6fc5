package openapi_test

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	apiopenapi "k8s.io/apiserver/pkg/endpoints/openapi"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/kind/openapi"
	"github.com/sampan-batch/sampan/internal/kind/openapi/models"
)

func definitions(t *testing.T) (defs map[string]common.OpenAPIDefinition, refs map[string]bool) {
	t.Helper()
	refs = make(map[string]bool)
	defs = openapi.Definitions(func(name string) spec.Ref {
		refs[name] = true
		return spec.MustCreateRef("#/definitions/" + name)
	})
	return defs, refs
}

// TestPacked has the data say what the code that it was made from says.
func TestPacked(t *testing.T) {
	t.Parallel()
	ref := func(name string) spec.Ref { return spec.MustCreateRef("#/definitions/" + name) }
	got, want := openapi.Definitions(ref), models.GetOpenAPIDefinitions(ref)
	if len(got) != len(want) {
		t.Errorf("%d definitions, want %d", len(got), len(want))
	}
	for name := range want {
		for field, property := range want[name].Schema.Properties {
			if v := reflect.ValueOf(property.Default); v.Kind() == reflect.String { // of a type of its own
				property.Default = v.String()
				want[name].Schema.Properties[field] = property
			}
		}
		if !reflect.DeepEqual(got[name], want[name]) {
			g, _ := json.Marshal(got[name])
			w, _ := json.Marshal(want[name])
			t.Fatalf("%s is not what was generated: run `go generate ./internal/kind/openapi`\n%s\n%s", name, g, w)
		}
	}
}

func TestEveryReferenceIsDefined(t *testing.T) {
	t.Parallel()
	defs, refs := definitions(t)
	if len(defs) == 0 || len(refs) == 0 {
		t.Fatal("nothing was generated")
	}
	for ref := range refs {
		if _, ok := defs[ref]; !ok {
			t.Errorf("%s is referred to, but not defined", ref)
		}
	}
	for name, def := range defs {
		for _, dependency := range def.Dependencies {
			if _, ok := defs[dependency]; !ok {
				t.Errorf("%s depends on %s, which is not defined", name, dependency)
			}
		}
	}
}

// Every kind in every version has a model that says which kind it is, and
// names no version that clients do not know.
func TestEveryKindHasAModel(t *testing.T) {
	t.Parallel()
	defs, _ := definitions(t)
	scheme, err := kind.NewVersionedScheme(kind.Table())
	if err != nil {
		t.Fatal(err)
	}
	namer := apiopenapi.NewDefinitionNamer(scheme)
	for _, k := range kind.Ours(kind.Table()) {
		for _, gvk := range k.GVKs() {
			name, err := scheme.ToOpenAPIDefinitionName(gvk)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := defs[name]; !ok {
				t.Errorf("%v: no model %s: run `go generate ./internal/kind/openapi`", gvk, name)
				continue
			}
			_, extensions := namer.GetDefinitionName(name)
			kinds, ok := extensions["x-kubernetes-group-version-kind"].([]any)
			if !ok || len(kinds) != 1 {
				t.Errorf("%v: group, version and kind of the model are %v", gvk, extensions)
				continue
			}
			got := kinds[0].(map[string]any)
			if got["group"] != gvk.Group || got["version"] != gvk.Version || got["kind"] != gvk.Kind {
				t.Errorf("%v: the model says %v", gvk, got)
			}
		}
	}
}

// Strategic merge patch and server-side apply live on these.
func TestMergeKeys(t *testing.T) {
	t.Parallel()
	defs, _ := definitions(t)
	for _, test := range []struct {
		model, field string
		patchKey     string
		listType     string
		listKeys     []any
	}{
		{"io.k8s.api.core.v1.PodSpec", "containers", "name", "map", []any{"name"}},
		{"io.k8s.api.core.v1.PodSpec", "tolerations", "", "atomic", nil},
		{"io.k8s.api.core.v1.Container", "ports", "containerPort", "map", []any{"containerPort", "protocol"}},
		{"io.k8s.api.core.v1.Container", "env", "name", "map", []any{"name"}},
		{"io.k8s.api.batch.v1.JobStatus", "conditions", "type", "atomic", nil},
		{"io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "ownerReferences", "uid", "map", []any{"uid"}},
		{"io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "finalizers", "", "set", nil},
	} {
		property := defs[test.model].Schema.Properties[test.field]
		extensions := property.Extensions
		key, _ := extensions.GetString("x-kubernetes-patch-merge-key")
		list, _ := extensions.GetString("x-kubernetes-list-type")
		keys, _ := extensions["x-kubernetes-list-map-keys"].([]any)
		if key != test.patchKey || list != test.listType || !slices.Equal(keys, test.listKeys) {
			t.Errorf("%s.%s: patch key %q, list %q, keys %v", test.model, test.field, key, list, keys)
		}
	}
}

// The generator reads the same version of the markers as the server.
func TestGeneratorVersion(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("openapi.go")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("../../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`openapi-gen@(\S+)`).FindSubmatch(source)
	if version == nil || !strings.Contains(string(mod), "k8s.io/kube-openapi "+string(version[1])) {
		t.Errorf("openapi-gen %s is not the k8s.io/kube-openapi of go.mod", version)
	}
}

func BenchmarkDefinitions(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		openapi.Definitions(func(name string) spec.Ref { return spec.MustCreateRef("#/definitions/" + name) })
	}
}
