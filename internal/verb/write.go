package verb

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// manager is the name under which Apply owns fields.
const manager = "sampan"

// Write says how Apply and Create write.
type Write struct {
	// DryRun has the API answer as if, and writes nothing.
	DryRun bool
	// Force lets Apply take fields that somebody else owns.
	Force bool
}

func (w Write) dryRun() (suffix string, options []string) {
	if w.DryRun {
		return " (server dry run)", []string{metav1.DryRunAll}
	}
	return "", nil
}

// Manifest is an object and its place.
type Manifest struct {
	*unstructured.Unstructured
	Where string // FILE:LINE
}

// Apply makes objects be as the manifests say, by server-side apply: the API merges, and
// keeps the fields of others.
func (a *API) Apply(ctx context.Context, out io.Writer, objects []Manifest, w Write) error {
	suffix, dryRun := w.dryRun()
	return a.write(ctx, objects, func(m Manifest, r ref, to dynamic.ResourceInterface) error {
		if r.name == "" {
			return ArgumentError("apply needs metadata.name; `sampan create` makes names of generateName")
		}
		before, err := to.Get(ctx, r.name, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		data, err := json.Marshal(m.Unstructured)
		if err != nil {
			return err
		}
		after, err := to.Patch(ctx, r.name, types.ApplyPatchType, data, metav1.PatchOptions{
			FieldManager: manager, Force: &w.Force, DryRun: dryRun, FieldValidation: metav1.FieldValidationStrict,
		})
		if apierrors.IsConflict(err) && !w.Force {
			return fmt.Errorf("%w\n--force-conflicts takes these fields over", err)
		}
		if err != nil {
			return err
		}
		done := "configured"
		switch {
		case before == nil:
			done = "created"
		case same(before, after):
			done = "unchanged"
		}
		_, err = fmt.Fprintf(out, "%s %s%s\n", r, done, suffix)
		return err
	})
}

// same: nothing but who owns what differs. (What would have been written has the
// resourceVersion of before.)
func same(before, after *unstructured.Unstructured) bool {
	if before.GetResourceVersion() != after.GetResourceVersion() {
		return false
	}
	before, after = before.DeepCopy(), after.DeepCopy()
	before.SetManagedFields(nil)
	after.SetManagedFields(nil)
	return equality.Semantic.DeepEqual(before, after)
}

// Create creates the objects of manifests.
func (a *API) Create(ctx context.Context, out io.Writer, objects []Manifest, w Write) error {
	suffix, dryRun := w.dryRun()
	return a.write(ctx, objects, func(m Manifest, r ref, to dynamic.ResourceInterface) error {
		made, err := to.Create(ctx, m.Unstructured, metav1.CreateOptions{FieldManager: manager, DryRun: dryRun, FieldValidation: metav1.FieldValidationStrict})
		if err != nil {
			return err
		}
		r.name = made.GetName()
		_, err = fmt.Fprintf(out, "%s created%s\n", r, suffix)
		return err
	})
}

// write calls do with each object of the manifests, in their order.
func (a *API) write(ctx context.Context, objects []Manifest, do func(Manifest, ref, dynamic.ResourceInterface) error) error {
	return forEach(ctx, objects, func(m Manifest) error {
		r, to, err := a.of(m)
		if err == nil {
			err = do(m, r, to)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.Where, err)
		}
		return nil
	})
}

// of returns what a manifest names, and where its kind is written.
func (a *API) of(m Manifest) (ref, dynamic.ResourceInterface, error) {
	gvk := m.GroupVersionKind()
	mapping, err := a.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if meta.IsNoMatchError(err) {
		return ref{}, nil, fmt.Errorf("the server does not have the kind %s of %s", gvk.Kind, gvk.GroupVersion())
	}
	if err != nil {
		return ref{}, nil, err
	}
	namespace := m.GetNamespace()
	if namespace == "" {
		namespace = a.namespace
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		m.SetNamespace(namespace)
	}
	return ref{mapping, m.GetName()}, a.resource(mapping, namespace), nil
}

// Delete says how Delete removes.
type Delete struct {
	Selection
	// All means all objects of a kind, when no name is given.
	All bool
	// Grace is the time in seconds that pods get; below 0: what they ask for.
	Grace int64
	// Cascade is what becomes of what an object owns.
	Cascade metav1.DeletionPropagation
	// IgnoreNotFound: what is not there was to be deleted.
	IgnoreNotFound bool
	// Wait returns when all is gone.
	Wait bool
}

func (d Delete) options() metav1.DeleteOptions {
	o := metav1.DeleteOptions{PropagationPolicy: &d.Cascade}
	if d.Grace >= 0 {
		o.GracePeriodSeconds = &d.Grace
	}
	return o
}

// deletion is one object that goes.
type deletion struct {
	ref
	from dynamic.ResourceInterface
	uid  types.UID
}

// DeleteManifests deletes what manifests name.
func (a *API) DeleteManifests(ctx context.Context, out io.Writer, objects []Manifest, d Delete) error {
	var going []deletion
	err := a.write(ctx, objects, func(_ Manifest, r ref, from dynamic.ResourceInterface) error {
		going = append(going, deletion{ref: r, from: from})
		return nil
	})
	if err != nil {
		return err
	}
	return a.delete(ctx, out, going, d)
}

// Delete deletes "KIND NAME...", "KIND/NAME..." or what is selected of a kind.
func (a *API) Delete(ctx context.Context, out io.Writer, args []string, d Delete) error {
	refs, err := a.refs(args)
	if err != nil {
		return err
	}
	var going []deletion
	for _, r := range refs {
		switch {
		case r.name != "" && (!d.empty() || d.All):
			return ArgumentError("names, or a selector, or --all: one of them says what is meant")
		case r.name != "":
			going = append(going, deletion{ref: r, from: a.resource(r.RESTMapping, a.namespace)})
			continue
		case !d.All && d.Labels == "" && d.Fields == "":
			return argumentErrorf("which %s? Give names, a selector, or --all", r.Resource.Resource)
		}
		found, err := a.read(ctx, r, d.Selection)
		if err != nil {
			return err
		}
		for i := range found {
			r.name = found[i].GetName()
			going = append(going, deletion{r, a.resource(r.RESTMapping, found[i].GetNamespace()), found[i].GetUID()})
		}
	}
	if len(going) == 0 {
		fmt.Fprintln(out, "No resources found")
	}
	return a.delete(ctx, out, going, d)
}

func (a *API) delete(ctx context.Context, out io.Writer, going []deletion, d Delete) error {
	var deleted []deletion
	err := forEach(ctx, going, func(g deletion) error {
		if d.Wait && g.uid == "" { // another of its name is not waited for
			obj, err := g.from.Get(ctx, g.name, metav1.GetOptions{})
			if err == nil {
				g.uid = obj.GetUID()
			}
		}
		err := g.from.Delete(ctx, g.name, d.options())
		if apierrors.IsNotFound(err) && d.IgnoreNotFound {
			return nil
		}
		if err != nil {
			return err
		}
		deleted = append(deleted, g)
		_, err = fmt.Fprintf(out, "%s %q deleted\n", g.kind(), g.name)
		return err
	})
	if err != nil || !d.Wait {
		return err
	}
	return forEach(ctx, deleted, func(g deletion) error { return g.gone(ctx) })
}

// gone waits until the object is no longer there.
func (g deletion) gone(ctx context.Context) error {
	only := fields.OneTermEqualSelector("metadata.name", g.name).String()
	for {
		list, err := g.from.List(ctx, metav1.ListOptions{FieldSelector: only})
		if err != nil {
			return err
		}
		if len(list.Items) == 0 || list.Items[0].GetUID() != g.uid {
			return nil
		}
		w, err := g.from.Watch(ctx, metav1.ListOptions{FieldSelector: only, ResourceVersion: list.GetResourceVersion()})
		if err != nil {
			return err
		}
		for event := range w.ResultChan() {
			if event.Type == watch.Deleted {
				break
			}
		}
		w.Stop()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}
