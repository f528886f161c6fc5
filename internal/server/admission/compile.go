package admission

import (
	"fmt"
	"sync"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	mutatingpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/mutating"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	validatingpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// What compiles policies is not exported by k8s.io/apiserver, which does it in goroutines of its
// own, up to a second after a policy was written. These are its functions (compilePolicy of the
// packages validating and mutating).

var expressions = sync.OnceValue(func() *environment.EnvSet {
	return environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
})

func compileValidating(policy *validatingpolicy.Policy) validatingpolicy.Validator {
	spec := &policy.Spec
	options := cel.OptionalVariableDeclarations{HasParams: spec.ParamKind != nil, HasAuthorizer: true}
	messageOptions := cel.OptionalVariableDeclarations{HasParams: spec.ParamKind != nil}
	compiler, err := cel.NewCompositedCompiler(expressions())
	if err != nil {
		return validatingpolicy.NewValidator(nil, nil, nil, nil, spec.FailurePolicy, err)
	}
	compiler.CompileAndStoreVariables(variables(spec.Variables), options, environment.StoredExpressions)
	conditions := func(list []cel.ExpressionAccessor, options cel.OptionalVariableDeclarations) cel.ConditionEvaluator {
		return compiler.CompileCondition(list, options, environment.StoredExpressions)
	}
	var matcher matchconditions.Matcher
	if list := matches(spec.MatchConditions); len(list) > 0 {
		matcher = matchconditions.NewMatcher(conditions(list, options), spec.FailurePolicy, "policy", "validate", policy.Name)
	}
	validations, messages := make([]cel.ExpressionAccessor, len(spec.Validations)), make([]cel.ExpressionAccessor, len(spec.Validations))
	for i, v := range spec.Validations {
		validations[i] = &validatingpolicy.ValidationCondition{Expression: v.Expression, Message: v.Message, Reason: v.Reason}
		if v.MessageExpression != "" {
			messages[i] = &validatingpolicy.MessageExpressionCondition{MessageExpression: v.MessageExpression}
		}
	}
	annotations := make([]cel.ExpressionAccessor, len(spec.AuditAnnotations))
	for i, a := range spec.AuditAnnotations {
		annotations[i] = &validatingpolicy.AuditAnnotationCondition{Key: a.Key, ValueExpression: a.ValueExpression}
	}
	return validatingpolicy.NewValidator(conditions(validations, options), matcher, conditions(annotations, options), conditions(messages, messageOptions), spec.FailurePolicy, nil)
}

func compileMutating(policy *mutatingpolicy.Policy) mutatingpolicy.PolicyEvaluator {
	spec := &policy.Spec
	options := cel.OptionalVariableDeclarations{HasParams: spec.ParamKind != nil, HasAuthorizer: true}
	compiler, err := cel.NewCompositedCompiler(expressions())
	if err != nil {
		return mutatingpolicy.PolicyEvaluator{Error: &apiservercel.Error{
			Type: apiservercel.ErrorTypeInternal, Detail: fmt.Sprintf("failed to initialize CEL compiler: %v", err),
		}}
	}
	compiler.CompileAndStoreVariables(variables(spec.Variables), options, environment.StoredExpressions)
	var matcher matchconditions.Matcher
	if list := matches(spec.MatchConditions); len(list) > 0 {
		matcher = matchconditions.NewMatcher(compiler.CompileCondition(list, options, environment.StoredExpressions), spec.FailurePolicy, "policy", "validate", policy.Name)
	}
	patching := options
	patching.HasPatchTypes = true
	var patchers []patch.Patcher
	for _, m := range spec.Mutations {
		switch {
		case m.PatchType == admissionregistrationv1.PatchTypeJSONPatch && m.JSONPatch != nil:
			e := compiler.CompileMutatingEvaluator(&patch.JSONPatchCondition{Expression: m.JSONPatch.Expression}, patching, environment.StoredExpressions)
			patchers = append(patchers, patch.NewJSONPatcher(e))
		case m.PatchType == admissionregistrationv1.PatchTypeApplyConfiguration && m.ApplyConfiguration != nil:
			e := compiler.CompileMutatingEvaluator(&patch.ApplyConfigurationCondition{Expression: m.ApplyConfiguration.Expression}, patching, environment.StoredExpressions)
			patchers = append(patchers, patch.NewApplyConfigurationPatcher(e))
		}
	}
	return mutatingpolicy.PolicyEvaluator{Matcher: matcher, Mutators: patchers, CompositedCompiler: compiler}
}

func variables(list []admissionregistrationv1.Variable) []cel.NamedExpressionAccessor {
	all := make([]cel.NamedExpressionAccessor, len(list))
	for i, v := range list {
		all[i] = &validatingpolicy.Variable{Name: v.Name, Expression: v.Expression}
	}
	return all
}

func matches(list []admissionregistrationv1.MatchCondition) []cel.ExpressionAccessor {
	all := make([]cel.ExpressionAccessor, len(list))
	for i := range list {
		all[i] = (*matchconditions.MatchCondition)(&list[i])
	}
	return all
}
