package server

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/util"
	"k8s.io/kube-openapi/pkg/validation/spec"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/sampan-batch/sampan/internal/kind/openapi"
)

// definitions are the generated models, and a plain one for each type of a row that
// none was generated for. The library has no answer for anybody, as long as one type
// has no model; with a plain one, clients learn of the kind that it has metadata, and
// server-side apply takes each list in it for one value. (That the table's own kinds
// have models is held by a test of package openapi.)
func (o *openAPI) definitions(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	all := openapi.Definitions(ref)
	for _, k := range o.rows {
		for _, gvk := range k.GVKs() {
			object := o.modelName(gvk)
			if _, ok := all[object]; !ok {
				all[object] = plainObject(ref)
			}
			list := o.modelName(gvk.GroupVersion().WithKind(gvk.Kind + "List"))
			if _, ok := all[list]; !ok {
				all[list] = plainList(ref, object)
			}
		}
	}
	for _, kind := range []string{"NodeMetrics", "PodMetrics"} { // of no row: nobody writes one
		object := o.modelName(metricsv1beta1.SchemeGroupVersion.WithKind(kind))
		all[object] = plainObject(ref)
		all[o.modelName(metricsv1beta1.SchemeGroupVersion.WithKind(kind+"List"))] = plainList(ref, object)
	}
	return all
}

// modelName is how the definitions name the model of a type of the scheme.
func (o *openAPI) modelName(gvk schema.GroupVersionKind) string {
	obj, err := o.scheme.New(gvk)
	if err != nil {
		return "" // not of the scheme: nothing refers to it
	}
	return util.GetCanonicalTypeName(obj)
}

// resolve returns the model of a type, with those that it refers to in their places.
func (o *openAPI) resolve(gvk schema.GroupVersionKind) (*spec.Schema, error) {
	all := o.definitions(spec.MustCreateRef)
	return resolver.PopulateRefs(func(name string) (*spec.Schema, bool) {
		definition, known := all[name]
		return &definition.Schema, known
	}, o.modelName(gvk))
}

func plainObject(ref common.ReferenceCallback) common.OpenAPIDefinition {
	def := plain(ref, util.GetCanonicalTypeName(&metav1.ObjectMeta{}))
	def.Schema.AddExtension("x-kubernetes-preserve-unknown-fields", true)
	return def
}

func plainList(ref common.ReferenceCallback, object string) common.OpenAPIDefinition {
	def := plain(ref, util.GetCanonicalTypeName(&metav1.ListMeta{}))
	items := spec.ArrayProperty(&spec.Schema{SchemaProps: spec.SchemaProps{Ref: ref(object)}})
	def.Schema.Properties["items"] = *items
	def.Schema.Required = []string{"items"}
	def.Dependencies = append(def.Dependencies, object)
	return def
}

// plain is what all objects and lists have; meta names the model of their metadata.
func plain(ref common.ReferenceCallback, meta string) common.OpenAPIDefinition {
	metadata := spec.Schema{SchemaProps: spec.SchemaProps{Ref: ref(meta), Default: map[string]any{}}}
	return common.OpenAPIDefinition{
		Schema: spec.Schema{SchemaProps: spec.SchemaProps{
			Type: []string{"object"},
			Properties: map[string]spec.Schema{
				"apiVersion": *spec.StringProperty(), "kind": *spec.StringProperty(), "metadata": metadata,
			},
		}},
		Dependencies: []string{meta},
	}
}
