package server

import (
	"fmt"
	"slices"

	"k8s.io/kube-openapi/pkg/aggregator"
	builder2 "k8s.io/kube-openapi/pkg/builder"
	"k8s.io/kube-openapi/pkg/cached"
	"k8s.io/kube-openapi/pkg/common/restfuladapter"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// swagger is /openapi/v2: what this program has, which is described once, and what definitions and other servers
// add, which is merged with it when somebody asks for the first time after it has changed.
func (o *openAPI) swagger() cached.Value[*spec.Swagger] {
	own := cached.Once(cached.Func(func() (*spec.Swagger, string, error) {
		doc, err := builder2.BuildOpenAPISpecFromRoutes(restfuladapter.AdaptWebServices(o.services("")), o.v2Config())
		if err != nil {
			return nil, "", err
		}
		doc.Definitions = handler.PruneDefaults(doc.Definitions)
		return doc, o.hash(), nil
	}))
	all := []cached.Value[*spec.Swagger]{own}
	for _, added := range o.added {
		all = append(all, cached.Func(added))
	}
	return cached.MergeList(mergeSwagger, all)
}

// mergeSwagger makes one document of several, of which all but the first may not be there. Where two
// have a path, it is the first one's; models of one name that differ get names of their own.
func mergeSwagger(docs []cached.Result[*spec.Swagger]) (*spec.Swagger, string, error) {
	own := docs[0]
	if own.Err != nil {
		return nil, "", own.Err
	}
	if !slices.ContainsFunc(docs[1:], func(doc cached.Result[*spec.Swagger]) bool { return doc.Value != nil || doc.Err != nil }) {
		return own.Value, own.Etag, nil
	}
	merged, tag := *own.Value, ""
	merged.Paths, merged.Definitions, merged.Parameters = nil, nil, nil
	for _, doc := range docs {
		switch {
		case doc.Err != nil:
			return nil, "", doc.Err
		case doc.Value == nil:
			continue
		}
		if err := aggregator.MergeSpecsIgnorePathConflictRenamingDefinitionsAndParameters(&merged, doc.Value); err != nil {
			return nil, "", fmt.Errorf("merge the OpenAPI documents: %w", err)
		}
		tag += doc.Etag + ","
	}
	return &merged, tag, nil
}
