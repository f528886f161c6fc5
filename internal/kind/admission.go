package kind

import (
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/mutatingwebhookconfiguration"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/validatingwebhookconfiguration"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind/upstream"
)

// AdmissionConfigurations are the resources by which others say what may be written.
func AdmissionConfigurations() []change.Resource {
	return []change.Resource{
		MutatingWebhookConfigurations, ValidatingWebhookConfigurations,
		MutatingAdmissionPolicies, MutatingAdmissionPolicyBindings, ValidatingAdmissionPolicies, ValidatingAdmissionPolicyBindings,
	}
}

// MutatingWebhookConfiguration is the row of admissionregistration.k8s.io/v1 mutatingwebhookconfigurations.
func MutatingWebhookConfiguration() *Kind {
	k := kubernetes[admissionregistrationv1.MutatingWebhookConfiguration, admissionregistrationv1.MutatingWebhookConfigurationList](
		admissionNames(MutatingWebhookConfigurations, "MutatingWebhookConfiguration"), mutatingwebhookconfiguration.Strategy, nil)
	return tabled(k, webhookColumns(), func(c *admissionregistrationv1.MutatingWebhookConfiguration, now time.Time) []any {
		return []any{int64(len(c.Webhooks)), age(c.CreationTimestamp, now)}
	})
}

// ValidatingWebhookConfiguration is the row of admissionregistration.k8s.io/v1 validatingwebhookconfigurations.
func ValidatingWebhookConfiguration() *Kind {
	k := kubernetes[admissionregistrationv1.ValidatingWebhookConfiguration, admissionregistrationv1.ValidatingWebhookConfigurationList](
		admissionNames(ValidatingWebhookConfigurations, "ValidatingWebhookConfiguration"), validatingwebhookconfiguration.Strategy, nil)
	return tabled(k, webhookColumns(), func(c *admissionregistrationv1.ValidatingWebhookConfiguration, now time.Time) []any {
		return []any{int64(len(c.Webhooks)), age(c.CreationTimestamp, now)}
	})
}

// MutatingAdmissionPolicy is the row of admissionregistration.k8s.io/v1 mutatingadmissionpolicies.
func MutatingAdmissionPolicy() *Kind {
	k := kubernetes[admissionregistrationv1.MutatingAdmissionPolicy, admissionregistrationv1.MutatingAdmissionPolicyList](
		admissionNames(MutatingAdmissionPolicies, "MutatingAdmissionPolicy"), upstream.MutatingAdmissionPolicy(), nil)
	columns := policyColumns("Mutations", "Mutation indicates the number of mutations rules defined in this configuration")
	return tabled(k, columns, func(p *admissionregistrationv1.MutatingAdmissionPolicy, now time.Time) []any {
		return []any{int64(len(p.Spec.Mutations)), paramKindCell(p.Spec.ParamKind), age(p.CreationTimestamp, now)}
	})
}

// MutatingAdmissionPolicyBinding is the row of admissionregistration.k8s.io/v1 mutatingadmissionpolicybindings.
func MutatingAdmissionPolicyBinding() *Kind {
	k := kubernetes[admissionregistrationv1.MutatingAdmissionPolicyBinding, admissionregistrationv1.MutatingAdmissionPolicyBindingList](
		admissionNames(MutatingAdmissionPolicyBindings, "MutatingAdmissionPolicyBinding"), upstream.MutatingAdmissionPolicyBinding(), nil)
	return tabled(k, policyBindingColumns(), func(b *admissionregistrationv1.MutatingAdmissionPolicyBinding, now time.Time) []any {
		return []any{b.Spec.PolicyName, paramRefCell(b.Spec.ParamRef), age(b.CreationTimestamp, now)}
	})
}

// ValidatingAdmissionPolicy is the row of admissionregistration.k8s.io/v1 validatingadmissionpolicies.
func ValidatingAdmissionPolicy() *Kind {
	write, status := upstream.ValidatingAdmissionPolicy()
	k := kubernetes[admissionregistrationv1.ValidatingAdmissionPolicy, admissionregistrationv1.ValidatingAdmissionPolicyList](
		admissionNames(ValidatingAdmissionPolicies, "ValidatingAdmissionPolicy"), write, status)
	columns := policyColumns("Validations", "Validations indicates the number of validation rules defined in this configuration")
	return tabled(k, columns, func(p *admissionregistrationv1.ValidatingAdmissionPolicy, now time.Time) []any {
		return []any{int64(len(p.Spec.Validations)), paramKindCell(p.Spec.ParamKind), age(p.CreationTimestamp, now)}
	})
}

// ValidatingAdmissionPolicyBinding is the row of admissionregistration.k8s.io/v1 validatingadmissionpolicybindings.
func ValidatingAdmissionPolicyBinding() *Kind {
	k := kubernetes[admissionregistrationv1.ValidatingAdmissionPolicyBinding, admissionregistrationv1.ValidatingAdmissionPolicyBindingList](
		admissionNames(ValidatingAdmissionPolicyBindings, "ValidatingAdmissionPolicyBinding"), upstream.ValidatingAdmissionPolicyBinding(), nil)
	return tabled(k, policyBindingColumns(), func(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding, now time.Time) []any {
		return []any{b.Spec.PolicyName, paramRefCell(b.Spec.ParamRef), age(b.CreationTimestamp, now)}
	})
}

func admissionNames(resource change.Resource, kind string) Names {
	return Names{
		Resource: resource, Singular: strings.ToLower(kind), Categories: []string{"api-extensions"},
		GVK: admissionregistrationv1.SchemeGroupVersion.WithKind(kind),
	}
}

func webhookColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		column("Webhooks", "integer", "Webhooks indicates the number of webhooks registered in this configuration"), ageColumn(),
	}
}

func policyColumns(what, description string) []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		column(what, "integer", description),
		column("ParamKind", "string", "ParamKind specifies the kind of resources used to parameterize this policy"), ageColumn(),
	}
}

func policyBindingColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		column("PolicyName", "string", "PolicyName indicates the policy definition which the policy binding binded to"),
		column("ParamRef", "string", "ParamRef indicates the param resource which sets the configuration param"), ageColumn(),
	}
}

func paramKindCell(k *admissionregistrationv1.ParamKind) string {
	if k == nil {
		return "<unset>"
	}
	return k.APIVersion + "/" + k.Kind
}

func paramRefCell(r *admissionregistrationv1.ParamRef) string {
	switch {
	case r == nil:
		return "<unset>"
	case r.Name != "" && r.Namespace != "":
		return r.Namespace + "/" + r.Name
	case r.Name != "":
		return "*/" + r.Name // whether it is in a namespace, the kind knows
	case r.Selector != nil:
		return r.Selector.String()
	}
	return "<unset>"
}
