// Package history is what the controllers have in common whose objects remember the
// templates that they had: a ControllerRevision for each, numbered in the order in which
// they were last in use, so that an update can be told from what was before, and undone.
//
// It is pure, and it decides nothing: which revisions are still needed is the business of
// the controller.
package history

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/json"
)

// Patch returns what a revision keeps of a template: the strategic merge patch that puts
// it in the place of another. Templates are the same if their patches are.
func Patch(template *corev1.PodTemplateSpec) []byte {
	var fields map[string]any
	text, err := json.Marshal(template)
	if err == nil {
		err = json.Unmarshal(text, &fields)
	}
	if err != nil {
		panic(fmt.Sprintf("history: a template as JSON: %v", err)) // that is how it was read
	}
	fields["$patch"] = "replace"
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": fields}})
	if err != nil {
		panic(fmt.Sprintf("history: a patch as JSON: %v", err))
	}
	return patch
}

// Template returns the template that a revision keeps. The error says that it keeps none:
// somebody else has written it.
func Template(r *appsv1.ControllerRevision) (*corev1.PodTemplateSpec, error) {
	var patch struct {
		Spec struct {
			Template *corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	err := json.Unmarshal(r.Data.Raw, &patch)
	if err == nil && patch.Spec.Template == nil {
		err = fmt.Errorf("it has no spec.template")
	}
	if err != nil {
		return nil, fmt.Errorf("controllerrevision %s/%s: %w", r.Namespace, r.Name, err)
	}
	return patch.Spec.Template, nil
}

// Keeps reports whether it is this patch that the revision keeps.
func Keeps(r *appsv1.ControllerRevision, patch []byte) bool { return bytes.Equal(r.Data.Raw, patch) }

// Sort sorts revisions by their number, then by age and name.
func Sort(revisions []*appsv1.ControllerRevision) {
	slices.SortFunc(revisions, func(a, b *appsv1.ControllerRevision) int {
		return cmp.Or(
			cmp.Compare(a.Revision, b.Revision),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			strings.Compare(a.Name, b.Name),
		)
	})
}

// Next is the number that comes after those of revisions.
func Next(revisions []*appsv1.ControllerRevision) int64 {
	last := int64(0)
	for _, r := range revisions {
		last = max(last, r.Revision)
	}
	return last + 1
}
