package server

import (
	"context"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/sampan-batch/sampan/internal/access"
	"github.com/sampan-batch/sampan/internal/store"
)

// gate puts what is asked of the API to the policy: one for the requests, for
// impersonation and for the reviews, which say what the others would be answered.
type gate struct {
	authorizer.AuthorizerFunc // for the library
	policy                    access.Policy
	// roles are what of the policy is said by roles, and can be given on.
	roles access.Policy
}

// newGate returns the gate of a server: administrators may do everything, others what
// the roles in the store say, and anybody may get the public paths.
func newGate(s *store.Store) *gate {
	g := &gate{roles: storedRoles{s}}
	g.policy = access.Union{access.Administrators(), g.roles, access.Everybody(publicPaths())}
	g.AuthorizerFunc = g.authorize
	return g
}

func (g *gate) authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	request := access.Request{User: userOf(a.GetUser()), Verb: a.GetVerb(), Path: a.GetPath()}
	if a.IsResourceRequest() {
		request.Resource = &access.Resource{
			Group: a.GetAPIGroup(), Resource: a.GetResource(), Subresource: a.GetSubresource(), Namespace: a.GetNamespace(), Name: a.GetName(),
		}
	}
	verdict := access.Decide(g.policy, &request)
	if verdict.Allowed {
		return authorizer.DecisionAllow, verdict.Reason, nil
	}
	return authorizer.DecisionNoOpinion, verdict.Reason, nil
}

// userOf is how the policy knows a user; nobody has neither name nor groups.
func userOf(u user.Info) access.User {
	if u == nil {
		return access.User{}
	}
	return access.User{Name: u.GetName(), Groups: u.GetGroups()}
}
