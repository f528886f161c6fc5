// Package openapi holds the OpenAPI definitions of every API type that Sampan
// serves, or that one of those refers to: which these are follows from kind.Table.
// They are generated from the Go types of k8s.io/api, comments and markers included,
// by Kubernetes' own generator; what `kubectl explain`, client-side validation and
// server-side apply know of a type comes from here.
//
// The definitions are code, not data: nothing is built before Definitions is
// called, and then in two milliseconds.
package openapi

import "k8s.io/kube-openapi/pkg/common"

// Update the generator's version together with k8s.io/kube-openapi in go.mod.
//go:generate sh -c "go run k8s.io/kube-openapi/cmd/openapi-gen@v0.0.0-20260721132016-d427ff9ee9ad --output-dir . --output-pkg github.com/sampan-batch/sampan/internal/kind/openapi --output-file zz_generated.openapi.go --report-filename /dev/null `go run ./packages`"

// Definitions returns the definitions by the names of their models, such as
// "io.k8s.api.batch.v1.Job". ref makes a reference to a model of the name that
// it is given. Each call builds them anew; keep the result if you need it
// again.
func Definitions(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	return GetOpenAPIDefinitions(ref)
}
