package admission

import (
	"context"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/initializer"
	policygeneric "k8s.io/apiserver/pkg/admission/plugin/policy/generic"
	"k8s.io/apiserver/pkg/admission/plugin/policy/matching"
	mutatingpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/mutating"
	validatingpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	webhookgeneric "k8s.io/apiserver/pkg/admission/plugin/webhook/generic"
	mutatingwebhook "k8s.io/apiserver/pkg/admission/plugin/webhook/mutating"
	validatingwebhook "k8s.io/apiserver/pkg/admission/plugin/webhook/validating"
	utilfeature "k8s.io/apiserver/pkg/util/feature"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// court is Kubernetes' four plugins, with what they judge by.
type court struct {
	mutating   *mutatingwebhook.Plugin
	validating *validatingwebhook.Plugin
	informers  *informerFactory

	mutations   *policies[*mutatingpolicy.Policy, *mutatingpolicy.PolicyBinding, mutatingpolicy.PolicyEvaluator]
	validations *policies[*validatingpolicy.Policy, *validatingpolicy.PolicyBinding, validatingpolicy.Validator]
	mutator     policygeneric.Dispatcher[mutatingpolicy.PolicyHook]
	validator   policygeneric.Dispatcher[validatingpolicy.PolicyHook]
}

func newCourt(o *Options) (*court, error) {
	namespaces := namespaceLister{o.Store}
	c := &court{informers: newInformerFactory(namespaces)}
	var err error
	if c.mutating, err = mutatingwebhook.NewMutatingWebhook(nil); err != nil {
		return nil, err
	}
	if c.validating, err = validatingwebhook.NewValidatingAdmissionWebhook(nil); err != nil {
		return nil, err
	}
	for _, w := range []*webhookgeneric.Webhook{c.mutating.Webhook, c.validating.Webhook} {
		w.SetAuthenticationInfoResolverWrapper(o.callers)
		w.SetServiceResolver(o.Services)
		w.SetExternalKubeClientSet(noClient{})
		w.SetExternalKubeInformerFactory(c.informers)
		w.SetUnconditionalAuthorizer(o.Authorizer)
		w.InspectFeatureGates(utilfeature.DefaultFeatureGate)
	}
	for _, p := range []admission.InitializationValidator{c.mutating, c.validating} {
		if err := p.ValidateInitialization(); err != nil {
			return nil, err
		}
	}
	matcher := matching.NewMatcher(namespaces, noClient{})
	c.mutator = mutatingpolicy.NewDispatcher(o.Authorizer, matcher, &types{o: o})
	c.validator = validatingpolicy.NewDispatcher(o.Authorizer, policygeneric.NewPolicyMatcher(matcher))
	params := &params{o}
	c.mutations = newPolicies(params, compileMutating, mutatingpolicy.NewMutatingAdmissionPolicyAccessor, mutatingpolicy.NewMutatingAdmissionPolicyBindingAccessor)
	c.validations = newPolicies(params, compileValidating, validatingpolicy.NewValidatingAdmissionPolicyAccessor, validatingpolicy.NewValidatingAdmissionPolicyBindingAccessor)
	return c, nil
}

// The plugins are made with what they ask for.
var (
	_ initializer.WantsUnconditionalAuthorizer = &mutatingwebhook.Plugin{}
	_ initializer.WantsFeatures                = &validatingwebhook.Plugin{}
)

// read makes the court know the state of view.
func (c *court) read(view *store.View) {
	c.informers.mutating.set(listOf[*admissionregistrationv1.MutatingWebhookConfiguration](view, kind.MutatingWebhookConfigurations))
	c.informers.validating.set(listOf[*admissionregistrationv1.ValidatingWebhookConfiguration](view, kind.ValidatingWebhookConfigurations))
	c.mutations.read(view, kind.MutatingAdmissionPolicies, kind.MutatingAdmissionPolicyBindings)
	c.validations.read(view, kind.ValidatingAdmissionPolicies, kind.ValidatingAdmissionPolicyBindings)
}

// mutate asks all that may change the object, in Kubernetes' order.
func (c *court) mutate(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	if a.GetOperation() != admission.Delete { // nothing to change
		if hooks := c.mutations.hooks(); len(hooks) > 0 {
			if err := c.mutator.Dispatch(ctx, a, o, hooks); err != nil {
				return err
			}
		}
	}
	return c.mutating.Admit(ctx, a, o)
}

// validate asks all that may refuse it.
func (c *court) validate(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	if hooks := c.validations.hooks(); len(hooks) > 0 {
		if err := c.validator.Dispatch(ctx, a, o, hooks); err != nil {
			return err
		}
	}
	return c.validating.Validate(ctx, a, o)
}
