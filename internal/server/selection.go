package server

import (
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// selector tells which objects of a row a list or watch is about.
type selector struct {
	kind   *kind.Kind
	labels labels.Selector // nil: all
	fields fields.Requirements
	// namespace and name, where the request or a field requirement fixes them.
	namespace, name string
}

// newSelector reads the request's selectors; namespace is the request's.
func newSelector(k *kind.Kind, namespace string, o *internalversion.ListOptions) *selector {
	s := &selector{kind: k, namespace: namespace}
	if o == nil {
		return s
	}
	if o.LabelSelector != nil && !o.LabelSelector.Empty() {
		s.labels = o.LabelSelector
	}
	if o.FieldSelector != nil {
		s.fields = o.FieldSelector.Requirements()
	}
	for _, f := range s.fields {
		if f.Operator == selection.NotEquals {
			continue
		}
		switch {
		case f.Field == "metadata.name":
			s.name = f.Value
		case f.Field == "metadata.namespace" && k.Namespaced && s.namespace == "":
			s.namespace = f.Value
		}
	}
	return s
}

// all reports whether nothing but a namespace narrows the selection.
func (s *selector) all() bool { return s.labels == nil && len(s.fields) == 0 }

// matches reports whether obj, of the selector's row, is selected.
func (s *selector) matches(obj change.Object) bool {
	if s.namespace != "" && obj.GetNamespace() != s.namespace {
		return false
	}
	if s.name != "" && obj.GetName() != s.name {
		return false
	}
	if s.labels != nil && !s.labels.Matches(labels.Set(obj.GetLabels())) {
		return false
	}
	var own fields.Set // of the row, made when first asked for
	for _, f := range s.fields {
		var value string
		switch f.Field {
		case "metadata.name":
			value = obj.GetName()
		case "metadata.namespace":
			value = obj.GetNamespace()
		default:
			if own == nil && s.kind.Select.Fields != nil {
				own = s.kind.Select.Fields(obj)
			}
			value = own[f.Field]
		}
		if (value == f.Value) == (f.Operator == selection.NotEquals) {
			return false
		}
	}
	return true
}
