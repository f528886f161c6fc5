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
	// Automount lets the default account say nothing of its token, as in Kubernetes, which then is
	// mounted into pods.
	Automount bool
}

// Account returns the default account of a namespace. It may do nothing, so that its pods have no use
// for its token, and a token is a third of what a short pod costs: it is mounted into those that
// say that they want it, unless the plan is another. The account is its owner's to change.
func (p *Plan) Account(namespace string) *corev1.ServiceAccount {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: kind.DefaultAccount}}
	if !p.Automount {
		account.AutomountServiceAccountToken = ptr.To(false)
	}
	return account
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

// Furnish adds to a namespace the account that it has to have; has is nil if it has none. What clients
// make of the account is theirs.
func (p *Plan) Furnish(ns *corev1.Namespace, has *corev1.ServiceAccount) change.Set {
	var set change.Set
	if ns.DeletionTimestamp == nil && has == nil {
		set.Create(kind.ServiceAccounts.Key(ns.Name, kind.DefaultAccount), p.Account(ns.Name))
	}
	return set
}

// Publish tells a namespace the authority of the API, and puts right what clients have made of that. It is
// a decision of its own, as in Kubernetes: who refuses the one, by a webhook, does not refuse the other.
func (p *Plan) Publish(ns *corev1.Namespace, has *corev1.ConfigMap) change.Set {
	var set change.Set
	if ns.DeletionTimestamp != nil || p.RootCA == nil {
		return set
	}
	want, key := p.CA(ns.Name), kind.ConfigMaps.Key(ns.Name, kind.RootCAName)
	switch {
	case has == nil:
		set.Create(key, want)
	case has.DeletionTimestamp == nil && !maps.Equal(has.Data, want.Data):
		next := has.DeepCopy()
		next.Data, next.BinaryData = want.Data, nil
		set.Update(key, change.RevOf(has), next)
	}
	return set
}
