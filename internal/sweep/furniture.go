package sweep

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// Plan is what every namespace is furnished with.
type Plan struct {
	// RootCA is the authority of the API's certificate, PEM. nil: nobody is told.
	RootCA []byte
}

// Account returns the default account of a namespace. It may do nothing, so that its pods have no use
// for its token, and a token is a third of what a short pod costs: it is mounted into those that
// say that they want it. The account is its owner's to change.
func (p *Plan) Account(namespace string) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{
		ObjectMeta:                   metav1.ObjectMeta{Namespace: namespace, Name: kind.DefaultAccount},
		AutomountServiceAccountToken: ptr.To(false),
	}
}

// CA returns the ConfigMap of a namespace with the authority of the API.
func (p *Plan) CA(namespace string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: kind.RootCAName, Annotations: map[string]string{caDescription: caText}},
		Data:       map[string]string{"ca.crt": string(p.RootCA)},
	}
}

// Kubernetes' words.
const (
	caDescription = "kubernetes.io/description"
	caText        = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP " +
		"or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."
)

// Furniture is what a namespace has of the plan; nil: it does not have it.
type Furniture struct {
	Plan    Plan
	Account *corev1.ServiceAccount
	CA      *corev1.ConfigMap
}

// complete adds what is missing. What clients have made of the authority is put right; the account
// is theirs.
func (f *Furniture) complete(namespace string) change.Set {
	var set change.Set
	if f.Account == nil {
		set.Create(kind.ServiceAccounts.Key(namespace, kind.DefaultAccount), f.Plan.Account(namespace))
	}
	if f.Plan.RootCA == nil {
		return set
	}
	want := f.Plan.CA(namespace)
	key := kind.ConfigMaps.Key(namespace, kind.RootCAName)
	switch {
	case f.CA == nil:
		set.Create(key, want)
	case f.CA.DeletionTimestamp == nil && !maps.Equal(f.CA.Data, want.Data):
		next := f.CA.DeepCopy()
		next.Data, next.BinaryData = want.Data, nil
		set.Update(key, change.RevOf(f.CA), next)
	}
	return set
}
