// Package openapi holds the OpenAPI definitions of every API type that Sampan
// serves, or that one of those refers to. They are generated from the Go types
// of k8s.io/api, comments and markers included, by Kubernetes' own generator;
// what `kubectl explain`, client-side validation and server-side apply know of
// a type comes from here.
//
// The definitions are code, not data: nothing is built before Definitions is
// called, and then in two milliseconds.
package openapi

import "k8s.io/kube-openapi/pkg/common"

// Update the generator's version together with k8s.io/kube-openapi in go.mod.
//go:generate go run k8s.io/kube-openapi/cmd/openapi-gen@v0.0.0-20260721132016-d427ff9ee9ad --output-dir . --output-pkg github.com/sampan-batch/sampan/internal/kind/openapi --output-file zz_generated.openapi.go --report-filename /dev/null k8s.io/api/core/v1 k8s.io/api/batch/v1 k8s.io/api/batch/v1beta1 k8s.io/api/apps/v1 k8s.io/api/coordination/v1 k8s.io/api/events/v1 k8s.io/api/policy/v1 k8s.io/api/authentication/v1 k8s.io/api/authorization/v1 k8s.io/api/autoscaling/v1 k8s.io/api/scheduling/v1alpha3 k8s.io/apimachinery/pkg/apis/meta/v1 k8s.io/apimachinery/pkg/runtime k8s.io/apimachinery/pkg/version k8s.io/apimachinery/pkg/api/resource k8s.io/apimachinery/pkg/util/intstr

// Definitions returns the definitions by the names of their models, such as
// "io.k8s.api.batch.v1.Job". ref makes a reference to a model of the name that
// it is given. Each call builds them anew; keep the result if you need it
// again.
func Definitions(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	return GetOpenAPIDefinitions(ref)
}
