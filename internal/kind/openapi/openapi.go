// Package openapi holds the OpenAPI definitions of every API type that Sampan
// serves, or that one of those refers to: which these are follows from kind.Table.
// They are generated from the Go types of k8s.io/api, comments and markers included,
// by Kubernetes' own generator; what `kubectl explain`, client-side validation and
// server-side apply know of a type comes from here.
//
// The generator makes code (package models), which would be 3 MB of the binary; package
// pack makes it data, which is read when somebody first asks for it, and at no start.
package openapi

import (
	"maps"

	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// Update the generator's version together with k8s.io/kube-openapi in go.mod.
//go:generate sh -c "go run k8s.io/kube-openapi/cmd/openapi-gen@v0.0.0-20260721132016-d427ff9ee9ad --output-dir models --output-pkg github.com/sampan-batch/sampan/internal/kind/openapi/models --output-file zz_generated.openapi.go --report-filename /dev/null `go run ./packages`"
//go:generate sh -c "go run ./pack > definitions.json.gz"

// Definitions returns the definitions by the names of their models, such as
// "io.k8s.api.batch.v1.Job". ref makes a reference to a model of the name that
// it is given. Each call builds them anew; keep the result if you need it
// again.
func Definitions(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	all := unpacked()
	definitions := make(map[string]common.OpenAPIDefinition, len(all))
	for name, def := range all {
		definitions[name] = common.OpenAPIDefinition{Schema: referring(def.Schema, ref), Dependencies: def.Dependencies}
	}
	return definitions
}

// referring returns a schema with references for the names of models.
func referring(of *spec.Schema, ref common.ReferenceCallback) spec.Schema {
	s := *of
	if name := s.Ref.String(); name != "" {
		s.Ref = ref(name)
	}
	s.Extensions = maps.Clone(s.Extensions) // whoever builds a document adds to them
	s.Properties = maps.Clone(s.Properties)
	for name, property := range s.Properties {
		s.Properties[name] = referring(&property, ref)
	}
	if s.Items != nil && s.Items.Schema != nil {
		items := referring(s.Items.Schema, ref)
		s.Items = &spec.SchemaOrArray{Schema: &items}
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		values := referring(s.AdditionalProperties.Schema, ref)
		s.AdditionalProperties = &spec.SchemaOrBool{Allows: s.AdditionalProperties.Allows, Schema: &values}
	}
	return s
}
