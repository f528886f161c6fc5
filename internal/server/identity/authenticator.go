package identity

import (
	"context"
	"crypto/ecdsa"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/token/union"
	"k8s.io/kubernetes/pkg/serviceaccount"

	"github.com/sampan-batch/sampan/internal/kind"
)

// longestToken is the longest that is looked at, in bytes. A token has some 1,000; only one that was
// asked for with thousands of bytes of audiences has more.
const longestToken = 64 << 10

// NewAuthenticator returns what tells whose a token is: of one that key has signed, in the state that
// objects returns. Any other is not known to it, or an error. used is told of tokens that Secrets keep,
// once a day each.
func NewAuthenticator(key *ecdsa.PublicKey, objects func() kind.Getter, used Use) (authenticator.Token, error) {
	keys, err := serviceaccount.StaticPublicKeysGetter([]any{key})
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	kept, err := serviceaccount.NewLegacyValidator(true, getter{objects}, uses{write: used})
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	tokens := union.New(
		serviceaccount.JWTTokenAuthenticator([]string{serviceaccount.LegacyIssuer}, keys, Audiences(), kept),
		serviceaccount.JWTTokenAuthenticator([]string{IssuerURL}, keys, Audiences(), serviceaccount.NewValidator(getter{objects})),
	)
	return authenticator.TokenFunc(func(ctx context.Context, token string) (*authenticator.Response, bool, error) {
		if len(token) > longestToken {
			return nil, false, nil
		}
		return tokens.AuthenticateToken(ctx, token)
	}), nil
}

// getter finds what tokens are of.
type getter struct{ objects func() kind.Getter }

var _ serviceaccount.ServiceAccountTokenGetter = getter{}

// GetServiceAccount implements serviceaccount.ServiceAccountTokenGetter, as the others do.
func (g getter) GetServiceAccount(_ context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	return find[*corev1.ServiceAccount](g.objects(), kind.ServiceAccounts, namespace, name)
}

func (g getter) GetPod(_ context.Context, namespace, name string) (*corev1.Pod, error) {
	return find[*corev1.Pod](g.objects(), kind.Pods, namespace, name)
}

func (g getter) GetSecret(_ context.Context, namespace, name string) (*corev1.Secret, error) {
	return find[*corev1.Secret](g.objects(), kind.Secrets, namespace, name)
}

func (g getter) GetNode(_ context.Context, name string) (*corev1.Node, error) {
	return find[*corev1.Node](g.objects(), kind.Nodes, "", name)
}

// Nothing issues tokens that are bound to webhooks: the feature is alpha, and off.

func (g getter) GetValidatingWebhookConfiguration(_ context.Context, name string) (*admissionregistrationv1.ValidatingWebhookConfiguration, error) {
	return nil, apierrors.NewNotFound(schema.ParseGroupResource(string(kind.ValidatingWebhookConfigurations)), name)
}

func (g getter) GetMutatingWebhookConfiguration(_ context.Context, name string) (*admissionregistrationv1.MutatingWebhookConfiguration, error) {
	return nil, apierrors.NewNotFound(schema.ParseGroupResource(string(kind.MutatingWebhookConfigurations)), name)
}
