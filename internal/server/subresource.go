package server

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/sampan-batch/sampan/internal/kind"
)

// subresources returns what serves the subresources that rows name.
func subresources() map[kind.Subresource]func(of *resource) rest.Storage {
	return map[kind.Subresource]func(*resource) rest.Storage{
		kind.Log:         func(pods *resource) rest.Storage { return &podLog{pods} },
		kind.Exec:        func(pods *resource) rest.Storage { return &podExec{podConnect{pods}} },
		kind.Attach:      func(pods *resource) rest.Storage { return &podAttach{podConnect{pods}} },
		kind.PortForward: func(pods *resource) rest.Storage { return &podPortForward{podConnect{pods}} },
		kind.Binding:     func(pods *resource) rest.Storage { return &binding{pods} },
		kind.Eviction:    func(pods *resource) rest.Storage { return &eviction{pods} },
		kind.Proxy:       newProxy,
		kind.Token:       func(accounts *resource) rest.Storage { return &token{accounts} },
	}
}

// standsAlone is a subresource that is served as a resource of its own, too.
type standsAlone interface {
	alone() (resource string, storage rest.Storage)
}

// status is the /status of a resource, or another part of it that is written by itself: the same object
// under the row's rules for such writes.
type status struct {
	of    *resource
	rules *kind.Update
}

var _ interface {
	rest.Patcher
	rest.TableConvertor
	rest.ResetFieldsStrategy
	rest.Storage
} = &status{}

// New implements rest.Storage.
func (s *status) New() runtime.Object { return s.of.New() }

// Destroy implements rest.Storage.
func (s *status) Destroy() {}

// Get returns the whole object.
func (s *status) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	return s.of.Get(ctx, name, options)
}

// Update changes this part only.
func (s *status) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, _ rest.ValidateObjectFunc,
	validateUpdate rest.ValidateObjectUpdateFunc, _ bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	return s.of.updateThrough(ctx, s.rules, name, info, validateUpdate, options)
}

// GetResetFields tells server-side apply what a status write does not change.
func (s *status) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	if reset := s.rules.ResetFields; reset != nil {
		return reset()
	}
	return map[fieldpath.APIVersion]*fieldpath.Set{
		fieldpath.APIVersion(s.of.gv.String()): fieldpath.NewSet(fieldpath.MakePathOrDie("spec")),
	}
}

// ConvertToTable prints the object as its resource does.
func (s *status) ConvertToTable(ctx context.Context, obj, options runtime.Object) (*metav1.Table, error) {
	return s.of.ConvertToTable(ctx, obj, options)
}

// part is a subresource that writes a part of an object.
type part struct {
	of    *resource
	rules *kind.Update
}

var _ interface {
	rest.Patcher
	rest.TableConvertor
	rest.ResetFieldsFilterStrategy
	rest.Storage
} = &part{}

// New implements rest.Storage.
func (p *part) New() runtime.Object { return p.of.New() }

// Destroy implements rest.Storage.
func (p *part) Destroy() {}

// Get returns the whole object.
func (p *part) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	return p.of.Get(ctx, name, options)
}

// Update changes the part only.
func (p *part) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, _ rest.ValidateObjectFunc,
	validateUpdate rest.ValidateObjectUpdateFunc, _ bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	return p.of.updateThrough(ctx, p.rules, name, info, validateUpdate, options)
}

// GetResetFieldsFilter tells server-side apply what the write changes.
func (p *part) GetResetFieldsFilter() map[fieldpath.APIVersion]fieldpath.Filter {
	if filter := p.rules.ResetFilter; filter != nil {
		return filter()
	}
	return nil
}

// ConvertToTable prints the object as its resource does.
func (p *part) ConvertToTable(ctx context.Context, obj, options runtime.Object) (*metav1.Table, error) {
	return p.of.ConvertToTable(ctx, obj, options)
}

// finalize is the /finalize of namespaces: it releases the finalizers of their
// spec.
type finalize struct{ of *resource }

var _ interface {
	rest.Updater
	rest.Storage
} = &finalize{}

// New implements rest.Storage.
func (f *finalize) New() runtime.Object { return f.of.New() }

// Destroy implements rest.Storage.
func (f *finalize) Destroy() {}

// Update changes the finalizers only.
func (f *finalize) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, _ rest.ValidateObjectFunc,
	validateUpdate rest.ValidateObjectUpdateFunc, _ bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	return f.of.updateThrough(ctx, f.of.kind.Finalize, name, info, validateUpdate, options)
}

// updateThrough changes an object under the rules of a subresource.
func (r *resource) updateThrough(ctx context.Context, rules *kind.Update, name string, info rest.UpdatedObjectInfo,
	validateUpdate rest.ValidateObjectUpdateFunc, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	u := &update{
		resource: r, rules: r.strategy.Through(*rules), limit: rules.Limit, subresource: true, name: name, info: info, validateUpdate: validateUpdate,
		dryRun: options != nil && dryrun.IsDryRun(options.DryRun),
	}
	return u.do(ctx)
}

// oneByOne is a resource without the verb deletecollection: namespaces, as in
// Kubernetes.
type oneByOne struct {
	rest.Scoper
	rest.Lister
	rest.CreaterUpdater
	rest.Getter
	rest.GracefulDeleter
	rest.Watcher
	rest.ShortNamesProvider
	rest.SingularNameProvider
	rest.ResetFieldsStrategy
}

func newOneByOne(r *resource) *oneByOne {
	return &oneByOne{r, r, r, r, r, r, r, r, r}
}

// Destroy implements rest.Storage.
func (o *oneByOne) Destroy() {}
