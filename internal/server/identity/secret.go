package identity

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/kubernetes/pkg/serviceaccount"
)

// SignSecret returns the token that a Secret of type kubernetes.io/service-account-token keeps. It has no
// end of its own: it is good as long as the Secret has it, and the account is there.
func (i *Issuer) SignSecret(account *corev1.ServiceAccount, secret *corev1.Secret) (string, error) {
	public, private := serviceaccount.LegacyClaims(*account, *secret)
	token, err := i.signSecret.GenerateToken(context.Background(), public, private)
	if err != nil {
		return "", fmt.Errorf("token of the Secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	return token, nil
}

// Use writes down that the token in a Secret was used: it sets a label to a day.
type Use func(ctx context.Context, namespace, name string, uid types.UID, labels map[string]string) error

// uses hands what Kubernetes' check of such tokens writes to who writes it here. It is a client of Secrets
// that can do one thing.
type uses struct {
	typedcorev1.SecretInterface
	namespace string
	write     Use
}

var _ typedcorev1.SecretsGetter = uses{}

// Secrets implements typedcorev1.SecretsGetter.
func (u uses) Secrets(namespace string) typedcorev1.SecretInterface {
	u.namespace = namespace
	return u
}

// Patch implements typedcorev1.SecretInterface.
func (u uses) Patch(ctx context.Context, name string, _ types.PatchType, data []byte, _ metav1.PatchOptions, _ ...string) (*corev1.Secret, error) {
	var patch corev1.Secret
	if err := json.Unmarshal(data, &patch); err != nil {
		return nil, fmt.Errorf("use of the token in the Secret %s/%s: %w", u.namespace, name, err)
	}
	return nil, u.write(ctx, u.namespace, name, patch.UID, patch.Labels)
}
