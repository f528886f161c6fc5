package server

import (
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sampan-batch/sampan/internal/server/identity"
	"github.com/sampan-batch/sampan/internal/server/review"
)

// addReviewTypes registers the types that are asked about, and never stored: for the documents that
// describe the API. What answers has a scheme of its own; see package review.
func (s *Server) addReviewTypes() error {
	for _, add := range []func(*runtime.Scheme) error{authorizationv1.AddToScheme, authenticationv1.AddToScheme} {
		if err := add(s.scheme); err != nil {
			return fmt.Errorf("server: review types: %w", err)
		}
	}
	// The library converts every request to its group's internal version; this is one of accounts.
	s.scheme.AddKnownTypes(schema.GroupVersion{Group: authenticationv1.GroupName, Version: runtime.APIVersionInternal},
		&authenticationv1.TokenRequest{})
	return nil
}

// installReviews installs the groups that answer who somebody is, and what he may do.
func (s *Server) installReviews(docs *openAPI) error {
	groups, err := review.Groups(review.Options{
		Tokens: s.ids.bearer, Audiences: identity.Audiences(), Gate: s.gate, Rules: s.gate.RulesFor,
	})
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return s.installGroups(groups, docs)
}
