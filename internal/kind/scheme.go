package kind

import (
	"fmt"
	"reflect"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// NewScheme returns the server's scheme of rows: their types, defaults, conversions
// and field labels. The error names what a row lacks.
//
// k8s.io/apiserver insists on converting every request to an internal "hub"
// version of its group. A stored type is therefore registered twice: as group/v1 and
// as group/__internal. The conversion between the two is the identity, and the scheme
// knows to skip it. Only the types that are not the stored ones (events.k8s.io Events,
// v1beta1 CronJobs) are converted, and both ways lead over the stored type.
func NewScheme(rows []*Kind) (*runtime.Scheme, error) {
	s, err := NewVersionedScheme(rows)
	if err != nil {
		return nil, err
	}
	addHubs(s, Ours(rows))
	return s, nil
}

// NewVersionedScheme returns the same scheme without the hubs: each type has
// the group, version and kind that clients know, and no other. It is what
// names the models of the OpenAPI documents.
func NewVersionedScheme(rows []*Kind) (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	rows = Ours(rows)
	for _, k := range rows {
		if err := addRow(s, k); err != nil {
			return nil, fmt.Errorf("kind: add the row of %s to the scheme: %w", k.title(), err)
		}
	}
	for _, versions := range priorities(rows) {
		if err := s.SetVersionPriority(versions...); err != nil {
			return nil, fmt.Errorf("kind: %w", err)
		}
	}
	return s, nil
}

// addRow registers what the row k knows about its types.
func addRow(s *runtime.Scheme, k *Kind) error {
	addVersion(s, k.GVK.GroupVersion())
	s.AddKnownTypeWithName(k.GVK, k.New())
	s.AddKnownTypeWithName(listOf(k.GVK), k.NewList())
	if k.Default != nil {
		s.AddTypeDefaultingFunc(k.New(), func(obj any) { k.Default(obj.(Object)) })
	}
	if k.Select.Fields != nil { // metadata.name and metadata.namespace work without
		if err := s.AddFieldLabelConversionFunc(k.GVK, fieldLabels(k)); err != nil {
			return err
		}
	}
	if k.AddToScheme != nil {
		if err := k.AddToScheme(s); err != nil {
			return err
		}
	}
	for _, v := range k.Versions {
		if err := v.AddToScheme(s); err != nil {
			return err
		}
	}
	for _, gvk := range k.GVKs() {
		if !s.Recognizes(gvk) || !s.Recognizes(listOf(gvk)) {
			return fmt.Errorf("the AddToScheme of %s adds no %s and %[2]sList", gvk.GroupVersion(), gvk.Kind)
		}
	}
	return nil
}

func listOf(gvk schema.GroupVersionKind) schema.GroupVersionKind {
	return gvk.GroupVersion().WithKind(gvk.Kind + "List")
}

// priorities returns the versions of each group, the preferred one first: those that
// are stored before those that are only served, each in table order.
func priorities(rows []*Kind) map[string][]schema.GroupVersion {
	of := map[string][]schema.GroupVersion{}
	add := func(gv schema.GroupVersion) {
		for _, known := range of[gv.Group] {
			if known == gv {
				return
			}
		}
		of[gv.Group] = append(of[gv.Group], gv)
	}
	for _, k := range rows {
		add(k.GVK.GroupVersion())
	}
	for _, k := range rows {
		for _, v := range k.Versions {
			add(v.GroupVersion)
		}
	}
	return of
}

// addHubs makes every type that is not converted the internal version of its group,
// and of the groups that convert to it.
func addHubs(s *runtime.Scheme, rows []*Kind) {
	converted := map[schema.GroupVersionKind]bool{}
	for _, k := range rows {
		for _, v := range k.Versions {
			gvk := v.GroupVersion.WithKind(k.GVK.Kind)
			converted[gvk], converted[listOf(gvk)] = true, true
			hub := internalVersion(v.GroupVersion.Group).WithKind(k.GVK.Kind)
			s.AddKnownTypeWithName(hub, k.New())
			s.AddKnownTypeWithName(listOf(hub), k.NewList())
		}
	}
	for gvk, t := range s.AllKnownTypes() {
		// The meta types (ListOptions, WatchEvent, …) have no hub.
		if gvk.Version == runtime.APIVersionInternal || converted[gvk] || strings.HasPrefix(t.PkgPath(), "k8s.io/apimachinery/") {
			continue
		}
		// What a subresource takes in an older version, too, is converted to the preferred one.
		if first := s.PrioritizedVersionsForGroup(gvk.Group)[0]; gvk.Version != first.Version && s.Recognizes(first.WithKind(gvk.Kind)) {
			continue
		}
		s.AddKnownTypeWithName(internalVersion(gvk.Group).WithKind(gvk.Kind), reflect.New(t).Interface().(runtime.Object))
	}
}

func internalVersion(group string) schema.GroupVersion {
	return schema.GroupVersion{Group: group, Version: runtime.APIVersionInternal}
}

// fieldLabels accepts the field labels that the objects of k can be selected
// by.
func fieldLabels(k *Kind) runtime.FieldLabelConversionFunc {
	labels := k.Select.Fields(k.New())
	return func(label, value string) (string, string, error) {
		if name, ok := k.Select.Aliases[label]; ok {
			label = name
		}
		switch {
		case label == "metadata.name", label == "metadata.namespace" && k.Namespaced, labels.Has(label):
			return label, value, nil
		case k.GVK.Group == "":
			return "", "", fmt.Errorf("field label not supported: %s", label)
		default:
			return "", "", fmt.Errorf("field label %q not supported for %s", label, k.GVK.Kind)
		}
	}
}

// addVersion registers types of a version, with the common types that belong to
// every version.
func addVersion(s *runtime.Scheme, gv schema.GroupVersion, types ...runtime.Object) {
	if !s.IsVersionRegistered(gv) {
		metav1.AddToGroupVersion(s, gv)
	}
	s.AddKnownTypes(gv, types...)
}
