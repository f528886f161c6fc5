// Package verb is what kubectl's get, describe, apply, create and delete do, for machines
// that have no kubectl, and export, which kubectl does not have. It works with any Kubernetes API and any kind that this serves:
// what it knows of kinds it asks the API (discovery, tables, OpenAPI's strict validation).
//
// Errors are the API's own, or say what to write instead.
package verb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// ArgumentError is what is wrong with how a verb was called; nothing was done.
type ArgumentError string

func (e ArgumentError) Error() string { return string(e) }

func argumentErrorf(format string, args ...any) error {
	return ArgumentError(fmt.Sprintf(format, args...))
}

// API is what the verbs work with.
type API struct {
	config    *rest.Config
	namespace string
	objects   dynamic.Interface
	kinds     discovery.CachedDiscoveryInterface
	mapper    meta.RESTMapper
}

// Open returns the API that config leads to; what names no namespace is in namespace.
// warn is told what the API warns of. Nothing is asked yet.
func Open(config *rest.Config, namespace string, warn func(string)) (*API, error) {
	config = rest.CopyConfig(config)
	config.WarningHandler = warnings(warn)
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	asked, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	kinds := memory.NewMemCacheClient(asked)
	mapper := restmapper.NewShortcutExpander(restmapper.NewDeferredDiscoveryRESTMapper(kinds), kinds, warn)
	return &API{config: config, namespace: namespace, objects: objects, kinds: kinds, mapper: mapper}, nil
}

type warnings func(string)

// HandleWarningHeader implements rest.WarningHandler.
func (w warnings) HandleWarningHeader(code int, _, text string) {
	if code == 299 && text != "" { // the only code that Kubernetes uses
		w(text)
	}
}

// ref names an object, or, without a name, all of a kind.
type ref struct {
	*meta.RESTMapping
	name string
}

// String is how kubectl prints it: job.batch/x.
func (r ref) String() string { return r.kind() + "/" + r.name }

func (r ref) kind() string { return kindName(r.GroupVersionKind) }

// kindName is how kubectl prints a kind: job.batch, pod.
func kindName(gvk schema.GroupVersionKind) string {
	kind := strings.ToLower(gvk.Kind)
	if gvk.Group != "" {
		kind += "." + gvk.Group
	}
	return kind
}

// resource is where the objects of a kind are read and written.
func (a *API) resource(m *meta.RESTMapping, namespace string) dynamic.ResourceInterface {
	if m.Scope.Name() != meta.RESTScopeNameNamespace {
		return a.objects.Resource(m.Resource)
	}
	return a.objects.Resource(m.Resource).Namespace(namespace)
}

// refs reads arguments as kubectl does: KIND[,KIND...] [NAME...], or KIND/NAME...
func (a *API) refs(args []string) ([]ref, error) {
	slashes := 0
	for _, arg := range args {
		if strings.Contains(arg, "/") {
			slashes++
		}
	}
	switch {
	case len(args) == 0:
		return nil, ArgumentError("of what kind? Give KIND, KIND NAME or KIND/NAME")
	case slashes == len(args):
		return a.each(args)
	case slashes > 0:
		return nil, argumentErrorf("give KIND/NAME each time, or the kind once and then names: %s", strings.Join(args, " "))
	}
	kinds := strings.Split(args[0], ",")
	names := args[1:]
	if slices.Contains(names, "") {
		return nil, ArgumentError("resource name may not be empty")
	}
	if len(names) == 0 {
		names = []string{""}
	}
	var all []ref
	for _, kind := range kinds {
		mapping, err := a.mapping(kind)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			all = append(all, ref{mapping, name})
		}
	}
	return all, nil
}

// each reads KIND/NAME...
func (a *API) each(args []string) ([]ref, error) {
	var all []ref
	for _, arg := range args {
		kind, name, _ := strings.Cut(arg, "/")
		if kind == "" || name == "" || strings.Contains(name, "/") {
			return nil, argumentErrorf("%q names no object; give KIND/NAME", arg)
		}
		mapping, err := a.mapping(kind)
		if err != nil {
			return nil, err
		}
		all = append(all, ref{mapping, name})
	}
	return all, nil
}

// mapping finds a kind by any of its names: job, jobs, jobs.batch, jobs.v1.batch, Job.
func (a *API) mapping(name string) (*meta.RESTMapping, error) {
	full, partial := schema.ParseResourceArg(name)
	var gvk schema.GroupVersionKind
	var err error
	if full != nil {
		gvk, err = a.mapper.KindFor(*full)
	}
	if full == nil || err != nil {
		gvk, err = a.mapper.KindFor(partial.WithVersion(""))
	}
	if meta.IsNoMatchError(err) {
		return nil, fmt.Errorf("the server does not have the kind %q%s", name, a.suggestion(name))
	}
	if err != nil {
		return nil, err
	}
	return a.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
}

// suggestion is a kind whose name begins alike or differs by little, as a question.
func (a *API) suggestion(name string) string {
	lists, err := a.kinds.ServerPreferredResources()
	if err != nil {
		return ""
	}
	var names []string
	for _, list := range lists {
		for _, r := range list.APIResources {
			names = append(names, r.Name, r.SingularName)
		}
	}
	slices.Sort(names)
	for _, known := range names {
		if known != "" && near(strings.ToLower(name), known) {
			return fmt.Sprintf("; did you mean %q?", known)
		}
	}
	return ""
}

// near: one can be made of the other by a letter too many, too few, another or two
// that have changed places.
func near(a, b string) bool {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return len(a)+len(b) <= 1 || len(a) == 1 && len(b) == 1 || len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0]
}

// forEach calls do with each, and joins the errors: none stops the others.
func forEach[T any](ctx context.Context, all []T, do func(T) error) error {
	var errs []error
	for _, one := range all {
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		err := do(one)
		if err != nil && outOfTime(ctx, err) {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// outOfTime reports whether an error is that the time is over. A client whose turn would come
// too late is told so before that: it waits for the end then, which is the answer.
func outOfTime(ctx context.Context, err error) bool {
	if strings.Contains(err.Error(), "would exceed context deadline") { // golang.org/x/time/rate has no other name for it
		<-ctx.Done()
	}
	return ctx.Err() != nil
}
