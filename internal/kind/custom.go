package kind

import (
	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sampan-batch/sampan/internal/change"
)

// CustomResourceDefinition is the row of apiextensions.k8s.io/v1 customresourcedefinitions.
// Their rules, and those of the objects that they define, are apiextensions-apiserver's
// (server/custom): what the rows say is what the store and the controllers have to know.
func CustomResourceDefinition() *Kind {
	return elsewhere(Names{
		Resource: CustomResourceDefinitions, Singular: "customresourcedefinition", ShortNames: []string{"crd", "crds"},
		Categories: []string{"api-extensions"},
		GVK:        apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"),
	})
}

// Custom returns the row of the objects that a CustomResourceDefinition defines. It is nil
// when the definition, which is not validated, has no version that is stored, and when it
// is not served: another one has the names that it asks for. What has got its names is
// served a moment before it is established.
func Custom(definition Object) *Kind {
	u, ok := definition.(*unstructured.Unstructured)
	if !ok {
		return nil
	}
	var d apiextensionsv1.CustomResourceDefinition
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &d); err != nil {
		return nil
	}
	if !apihelpers.IsCRDConditionTrue(&d, apiextensionsv1.NamesAccepted) && !apihelpers.IsCRDConditionTrue(&d, apiextensionsv1.Established) {
		return nil
	}
	accepted := d.Status.AcceptedNames
	gk := schema.GroupKind{Group: d.Spec.Group, Kind: accepted.Kind}
	names := Names{
		Resource: change.Resource(accepted.Plural + "." + d.Spec.Group), Singular: accepted.Singular,
		ShortNames: accepted.ShortNames, Categories: accepted.Categories,
		Namespaced: d.Spec.Scope == apiextensionsv1.NamespaceScoped,
	}
	var others []Version
	for _, v := range d.Spec.Versions {
		if v.Storage {
			names.GVK = gk.WithVersion(v.Name)
		} else {
			others = append(others, Version{GroupVersion: schema.GroupVersion{Group: gk.Group, Version: v.Name}, AddToScheme: func(*runtime.Scheme) error { return nil }})
		}
	}
	k := elsewhere(names)
	k.Versions = others
	if k.Check() != nil {
		return nil
	}
	return k
}

// elsewhere returns a row of objects that are maps, and whose rules are not in the row.
func elsewhere(names Names) *Kind {
	version, kind := names.GVK.ToAPIVersionAndKind()
	return &Kind{
		Names:     names,
		Elsewhere: true,
		Types: Types{
			New: func() Object {
				return &unstructured.Unstructured{Object: map[string]any{"apiVersion": version, "kind": kind}}
			},
			NewList: func() runtime.Object {
				return &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": version, "kind": kind + "List"}}
			},
		},
		Create: Create{Validate: func(Object) field.ErrorList { return nil }},
		Update: Update{Validate: func(_, _ Object) field.ErrorList { return nil }},
	}
}
