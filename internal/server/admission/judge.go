package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/rest"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// Options are what the judge needs of the API. All are required.
type Options struct {
	Store *store.Store
	Kinds *kind.Kinds
	// Authorizer answers what expressions ask about the rights of users.
	Authorizer authorizer.UnconditionalAuthorizer
	// Scheme has the types of the kinds, Interfaces what k8s.io/apiserver's handlers have of them.
	Scheme     *runtime.Scheme
	Interfaces admission.ObjectInterfaces
	// Begin is called before the first judgement: all that the API serves has to be known.
	Begin func() error
	// First is what Kubernetes' own admission does before others are asked.
	First func(view *store.View, a admission.Attributes) error
	// Services say where Services lead, and how to get there.
	Services Services
	// Types describe our kinds, Custom those that definitions make in a version; nil, if there are none.
	Types  managedfields.TypeConverter
	Custom func(schema.GroupVersion) (managedfields.TypeConverter, error)
	// Schemas describe the types of our kinds, and of those that definitions make, each with all
	// that it refers to; the error is resolver.ErrSchemaNotFound if there is no such type.
	Schemas func(schema.GroupVersionKind) (*spec.Schema, error)
	// Loopback is how a client in this process reaches the API.
	Loopback *rest.Config
	// Bounds refuses JSON that takes too much to work on.
	Bounds func([]byte) error
}

// Judge is the admission of an API. It is k8s.io/apiserver's admission.MutationInterface and
// admission.ValidationInterface, for its handlers and for those of custom resources.
type Judge struct {
	o Options

	begin   sync.Once
	begun   error
	court   *court // what judges; made at the first judgement
	mu      sync.Mutex
	current *store.View // that the court has seen
}

// New returns the judge; nothing is made before there is something to judge by.
func New(o Options) *Judge { return &Judge{o: o} }

// configurations are the resources that make up what is judged by.
var configurations = kind.AdmissionConfigurations()

// Sits reports whether there is anything to judge by.
func (j *Judge) Sits() bool { return Configured(j.o.Store.View()) }

// Configured reports whether there is anything to judge by in a state.
func Configured(view *store.View) bool {
	for _, resource := range configurations {
		if view.Len(resource) > 0 {
			return true
		}
	}
	return false
}

// Handles implements admission.Interface.
func (j *Judge) Handles(admission.Operation) bool { return j.Sits() }

// nobodyJudges are what Kubernetes keeps from all policies and webhooks: judging these could lock
// everybody out.
var nobodyJudges = func() sets.Set[schema.GroupResource] {
	all := sets.New[schema.GroupResource]()
	for _, r := range configurations {
		all.Insert(schema.ParseGroupResource(string(r)))
	}
	for _, name := range []string{"selfsubjectreviews", "tokenreviews"} {
		all.Insert(schema.GroupResource{Group: "authentication.k8s.io", Resource: name})
	}
	for _, name := range []string{"localsubjectaccessreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews", "subjectaccessreviews"} {
		all.Insert(schema.GroupResource{Group: "authorization.k8s.io", Resource: name})
	}
	return all
}()

// Admit implements admission.MutationInterface.
func (j *Judge) Admit(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	if nobodyJudges.Has(a.GetResource().GroupResource()) {
		return nil
	}
	if err := j.round(ctx, a, o); err != nil {
		return err
	}
	again := a.GetReinvocationContext()
	if !again.ShouldReinvoke() {
		return nil
	}
	// What one has changed, those see once more that want it.
	again.SetIsReinvoke()
	if err := j.round(ctx, a, o); err != nil {
		return err
	}
	return j.bound(a, a.GetObject())
}

// bound refuses an object that others have made too much of.
func (j *Judge) bound(a admission.Attributes, obj runtime.Object) error {
	text, err := json.Marshal(obj)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	if err := j.o.Bounds(text); err != nil {
		return apierrors.NewInternalError(fmt.Errorf("admission made %s %q too large: %w", a.GetResource().GroupResource(), a.GetName(), err))
	}
	return nil
}

// Validate implements admission.ValidationInterface.
func (j *Judge) Validate(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	if nobodyJudges.Has(a.GetResource().GroupResource()) {
		return nil
	}
	c, _, err := j.assemble()
	if err != nil {
		return err
	}
	return c.validate(ctx, a, o)
}

// round asks all once that may change an object.
func (j *Judge) round(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	c, view, err := j.assemble()
	if err != nil {
		return err
	}
	if err := j.o.First(view, a); err != nil {
		return err
	}
	return c.mutate(ctx, a, o)
}

// assemble returns the court, which knows the state view, the newest.
func (j *Judge) assemble() (*court, *store.View, error) {
	j.begin.Do(func() {
		if j.begun = j.o.Begin(); j.begun == nil {
			j.court, j.begun = newCourt(&j.o)
		}
	})
	if j.begun != nil {
		return nil, nil, apierrors.NewInternalError(fmt.Errorf("admission: %w", j.begun))
	}
	view := j.o.Store.View()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.current == nil || j.current.Rev() < view.Rev() && !j.settled(view) {
		j.court.read(view)
	}
	if j.current == nil || j.current.Rev() < view.Rev() {
		j.current = view
	}
	return j.court, view, nil
}

// settled reports whether nothing that is judged by has changed since the current state.
func (j *Judge) settled(view *store.View) bool {
	for _, resource := range configurations {
		if !view.Same(j.current, resource) {
			return false
		}
	}
	return view.Same(j.current, kind.CustomResourceDefinitions) // parameters may be of such a kind
}

// patience is how long a judgement of what a controller makes may take: as long as a request.
const patience = time.Minute

// Mutate lets all that may change a new object of a controller change it. wait is called before
// each call of a webhook.
func (j *Judge) Mutate(ctx context.Context, controller string, k *kind.Kind, obj change.Object, wait func() error) error {
	ctx, cancel := context.WithTimeout(waits(ctx, wait), patience)
	defer cancel()
	return j.Admit(ctx, attributes(controller, k, obj), j.o.Interfaces)
}

// Refuse returns why a new object of a controller may not be. wait is as Mutate's.
func (j *Judge) Refuse(ctx context.Context, controller string, k *kind.Kind, obj change.Object, wait func() error) error {
	ctx, cancel := context.WithTimeout(waits(ctx, wait), patience)
	defer cancel()
	return j.Validate(ctx, attributes(controller, k, obj), j.o.Interfaces)
}

// attributes are those of the request by which a controller creates obj in Kubernetes.
func attributes(controller string, k *kind.Kind, obj change.Object) admission.Attributes {
	by := serviceaccount.UserInfo(metav1.NamespaceSystem, controller, "")
	return admission.NewAttributesRecord(obj, nil, k.GVK, obj.GetNamespace(), obj.GetName(),
		k.GVK.GroupVersion().WithResource(k.Plural()), "", admission.Create, &metav1.CreateOptions{}, false, by)
}
