package admission

import (
	"cmp"
	"maps"
	"slices"
	"sync/atomic"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	policygeneric "k8s.io/apiserver/pkg/admission/plugin/policy/generic"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/store"
)

// policies are those of one sort, with their bindings: Kubernetes' policySource, but of one state.
type policies[P, B change.Object, E policygeneric.Evaluator] struct {
	params    *params
	compile   func(P) E
	policyOf  func(P) policygeneric.PolicyAccessor
	bindingOf func(B) policygeneric.BindingAccessor
	compiled  map[string]compiled[E] // by the policy's name
	list      atomic.Pointer[[]policygeneric.PolicyHook[P, B, E]]
}

// compiled is what a policy has become.
type compiled[E policygeneric.Evaluator] struct {
	revision  uint64
	evaluator E
}

func newPolicies[P, B change.Object, E policygeneric.Evaluator](params *params, compile func(P) E,
	policyOf func(P) policygeneric.PolicyAccessor, bindingOf func(B) policygeneric.BindingAccessor) *policies[P, B, E] {
	return &policies[P, B, E]{params: params, compile: compile, policyOf: policyOf, bindingOf: bindingOf, compiled: map[string]compiled[E]{}}
}

// hooks are the policies that are bound, by name.
func (p *policies[P, B, E]) hooks() []policygeneric.PolicyHook[P, B, E] {
	if list := p.list.Load(); list != nil {
		return *list
	}
	return nil
}

// read makes the policies be those of a state. One goroutine calls it at a time.
func (p *policies[P, B, E]) read(view *store.View, resource, bindings change.Resource) {
	bound := map[string][]B{}
	for obj := range view.List(bindings, "") {
		binding := obj.(B)
		name := p.bindingOf(binding).GetPolicyName().Name
		bound[name] = append(bound[name], binding)
	}
	list := make([]policygeneric.PolicyHook[P, B, E], 0, len(bound))
	maps.DeleteFunc(p.compiled, func(name string, _ compiled[E]) bool { return bound[name] == nil })
	for _, name := range slices.Sorted(maps.Keys(bound)) {
		obj, found := view.Get(resource.Key("", name))
		if !found {
			delete(p.compiled, name)
			continue // whoever writes it finds its bindings
		}
		policy := obj.(P)
		hook := policygeneric.PolicyHook[P, B, E]{Policy: policy, Bindings: bound[name], Evaluator: p.evaluator(name, policy)}
		hook.ParamInformer, hook.ParamScope, hook.ConfigurationError = p.params.of(kindOf(p.policyOf(policy).GetParamKind()))
		list = append(list, hook)
	}
	slices.SortStableFunc(list, func(a, b policygeneric.PolicyHook[P, B, E]) int {
		return cmp.Compare(a.Policy.GetName(), b.Policy.GetName())
	})
	p.list.Store(&list)
}

// evaluator compiles a policy, unless that was done.
func (p *policies[P, B, E]) evaluator(name string, policy P) E {
	c, known := p.compiled[name]
	if revision := change.RevOf(policy); !known || c.revision != revision {
		c = compiled[E]{revision: revision, evaluator: p.compile(policy)}
		p.compiled[name] = c
	}
	return c.evaluator
}

// kindOf reads what the parameters of a policy are; nil, if it has none.
func kindOf(k *admissionregistrationv1.ParamKind) *schema.GroupVersionKind {
	if k == nil {
		return nil
	}
	gvk := schema.FromAPIVersionAndKind(k.APIVersion, k.Kind)
	return &gvk
}
