package server

import (
	"context"
	"errors"
	"fmt"
	"maps"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/server/identity"
	"github.com/sampan-batch/sampan/internal/store"
)

// token is serviceaccounts/token: it gives a token for the account. Nothing is stored.
type token struct{ accounts *resource }

var _ interface {
	rest.Storage
	rest.NamedCreater
	rest.GroupVersionKindProvider
	rest.SubresourceObjectMetaPreserver
} = &token{}

// New implements rest.Storage.
func (t *token) New() runtime.Object { return &authenticationv1.TokenRequest{} }

// Destroy implements rest.Storage.
func (t *token) Destroy() {}

// GroupVersionKind implements rest.GroupVersionKindProvider: it is of another group than accounts.
func (t *token) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return identity.TokenRequestKind
}

// PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate keeps the uid of the request: it says
// which account is meant.
func (t *token) PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate() bool { return true }

// Create answers the request.
func (t *token) Create(ctx context.Context, name string, obj runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	namespace, ok := genericapirequest.NamespaceFrom(ctx)
	if !ok {
		return nil, apierrors.NewBadRequest("namespace is required")
	}
	var admit func(*authenticationv1.TokenRequest) error
	if validate != nil {
		admit = func(req *authenticationv1.TokenRequest) error { return validate(ctx, req.DeepCopy()) }
	}
	return t.accounts.tokens.Issue(ctx, t.accounts.store.View(), namespace, name, obj.(*authenticationv1.TokenRequest), admit)
}

// IssueToken answers a TokenRequest of this process itself: of the node, for a pod's volume.
func (s *Server) IssueToken(ctx context.Context, namespace, account string, req *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	out, err := s.ids.tokens.Issue(ctx, s.o.Store.View(), namespace, account, req, nil)
	if err != nil {
		return nil, fmt.Errorf("token of the account %s/%s: %w", namespace, account, err)
	}
	return out, nil
}

// SignSecretToken returns the token that a Secret of an account is to keep.
func (s *Server) SignSecretToken(account *corev1.ServiceAccount, secret *corev1.Secret) (string, error) {
	return s.ids.tokens.SignSecret(account, secret)
}

// labelSecret returns what sets labels of a Secret: when its token was last used.
func labelSecret(s *store.Store) identity.Use {
	return func(ctx context.Context, namespace, name string, uid types.UID, labels map[string]string) error {
		key := kind.Secrets.Key(namespace, name)
		for {
			obj, ok := s.View().Get(key)
			if !ok || obj.GetUID() != uid {
				return apierrors.NewNotFound(corev1.Resource(string(kind.Secrets)), name)
			}
			next := obj.(*corev1.Secret).DeepCopy()
			if next.Labels == nil {
				next.Labels = map[string]string{}
			}
			maps.Copy(next.Labels, labels)
			var set change.Set
			set.Update(key, change.RevOf(obj), next)
			if _, err := s.Apply(ctx, set); !errors.As(err, new(*store.ConflictError)) {
				return err
			}
		}
	}
}
