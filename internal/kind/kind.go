// Package kind is the table of API resources: one row per resource, with its
// names, defaults, validation, warnings, table columns, selectable fields and
// deletion rules. It is where Kubernetes' own rules for an object live; who
// stores, serves or reconciles an object is not its business.
//
// The versioned types of k8s.io/api are the hub types too: nothing is ever
// converted, except where one object is served in two API groups or versions
// (Events; CronJobs).
//
// Table lists the rows, each in a file of its own name; the rules of pods and
// their templates are in podspec. NewScheme is how k8s.io/apiserver sees the
// table, Codec how the store does, and package openapi how clients do.
//
// Field paths, messages and the order of errors are Kubernetes' own. Where it
// walks a map in random order, a row walks it sorted.
package kind

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sampan-batch/sampan/internal/change"
)

// Kind is one row: all that is known about one resource. Nil functions mean
// that there is nothing to do. Functions that receive an object to change
// (Prepare…) own it; all others must not modify what they are given.
type Kind struct {
	// Resource is the plural as it stands in a URL: "jobs".
	Resource   string
	Singular   string
	ShortNames []string
	Categories []string
	Namespaced bool
	// GVK is the version that is stored; Key's resource is Resource[.Group].
	GVK schema.GroupVersionKind
	// Served lists further group versions over the same objects, such as
	// events.k8s.io/v1 for Events. The scheme converts.
	Served []schema.GroupVersion

	New     func() Object
	NewList func() runtime.Object

	// Default fills in what a manifest leaves out. The scheme calls it when an
	// object of the stored version is decoded.
	Default func(obj Object)

	// PrepareCreate and PrepareUpdate are what Kubernetes' strategies do after
	// decoding and defaulting: drop what a client may not set (status), start
	// and advance metadata.generation, generate labels and selectors.
	PrepareCreate func(obj Object)
	PrepareUpdate func(obj, old Object)
	// PrepareStatus does the same for a write through /status; nil means that
	// the resource has no status subresource. It must carry spec and metadata
	// that /status may not change over from old.
	PrepareStatus func(obj, old Object)

	// Validate checks a new object, ValidateUpdate a changed one (metadata
	// included in both), ValidateStatus one written through /status.
	Validate       func(obj Object) field.ErrorList
	ValidateUpdate func(obj, old Object) field.ErrorList
	ValidateStatus func(obj, old Object) field.ErrorList

	// PrepareFinalize and ValidateFinalize are the rules of a write through
	// /finalize; nil means that there is no such subresource. (Namespaces)
	PrepareFinalize  func(obj, old Object)
	ValidateFinalize func(obj, old Object) field.ErrorList

	// Versions holds what is different for requests in one of the Served
	// versions.
	Versions map[schema.GroupVersion]Version

	// Warn returns the warnings that the API answers with; old is nil on create.
	Warn func(obj, old Object) []string

	// Columns and Cells print the server-side table, Kubernetes' own columns.
	// Wide-only columns have Priority 1. Cells returns one cell per column.
	Columns []metav1.TableColumnDefinition
	Cells   func(obj Object, now time.Time) []any

	// Fields returns the selectable fields beyond metadata.name and
	// metadata.namespace, under their Kubernetes names.
	Fields func(obj Object) fields.Set

	// Index returns the terms under which the store indexes the object.
	Index func(obj Object) []string

	// Grace returns the grace period in seconds of a deletion; nil: 0 always.
	// asked is what the client asked for, nil if nothing.
	Grace func(obj Object, asked *int64) int64
	// OrphanByDefault: a DELETE without propagationPolicy leaves the
	// dependents (batch/v1 Jobs).
	OrphanByDefault bool
	// AllowCreateOnUpdate lets PUT create (Leases, Events).
	AllowCreateOnUpdate bool
	// RequireRevision refuses a PUT without a resourceVersion (Leases).
	RequireRevision bool
}

// Version holds the rules that differ when a request comes in another served
// version than the stored one.
type Version struct {
	// Validate, if set, is called instead of the row's Validate (old is nil) and
	// ValidateUpdate. The objects are of the stored version.
	Validate func(obj, old Object) field.ErrorList
	// OrphanByDefault takes the place of the row's.
	OrphanByDefault bool
}

// GR is the group and resource, as the API's errors name it.
func (k *Kind) GR() schema.GroupResource {
	return schema.GroupResource{Group: k.GVK.Group, Resource: k.Resource}
}

// GVKs returns every group, version and kind under which the resource is
// served: the stored one first.
func (k *Kind) GVKs() []schema.GroupVersionKind {
	gvks := []schema.GroupVersionKind{k.GVK}
	for _, gv := range k.Served {
		gvks = append(gvks, gv.WithKind(k.GVK.Kind))
	}
	return gvks
}

// Key returns the key of the named object of this kind.
func (k *Kind) Key(namespace, name string) change.Key {
	return change.Key{Resource: k.GR().String(), Namespace: namespace, Name: name}
}

// KeyOf returns the key of obj.
func (k *Kind) KeyOf(obj metav1.Object) change.Key {
	return k.Key(obj.GetNamespace(), obj.GetName())
}
