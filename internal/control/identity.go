package control

import (
	"crypto/x509"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/access"
	"github.com/sampan-batch/sampan/internal/certificate"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/sweep"
)

// Keys are what signs for those who give identities. The keys themselves are not here.
type Keys struct {
	Certificate func(now time.Time, request *x509.CertificateRequest, usages []certificatesv1.KeyUsage, life time.Duration) ([]byte, error)
	Token       func(account *corev1.ServiceAccount, secret *corev1.Secret) (string, error)
}

// Identities returns the controllers that give identities. plan is what namespaces are furnished with.
func Identities(kinds *kind.Kinds, plan sweep.Plan, keys Keys) []Controller {
	return []Controller{
		certificateController(kinds, keys),
		podCertificateController(kinds),
		tokenController(kinds, plan, keys),
	}
}

// certificateController answers CertificateSigningRequests.
func certificateController(kinds *kind.Kinds, keys Keys) Controller {
	k := kinds.ByResource(kind.CertificateSigningRequests)
	return alone("certificate", k.Resource, func(now time.Time, view change.View, obj change.Object) change.Set {
		request := obj.(*certificatesv1.CertificateSigningRequest)
		return certificate.Decide(now, certificate.State{Kind: k, Request: request, Sign: keys.Certificate, May: func(subresource string) bool {
			policy := access.Union{access.Administrators(), access.Roles(access.Stored(view))}
			return access.Decide(policy, &access.Request{
				User: access.User{Name: request.Spec.Username, Groups: request.Spec.Groups}, Verb: "create",
				Resource: &access.Resource{Group: k.GVK.Group, Resource: k.Plural(), Subresource: subresource},
			}).Allowed
		}})
	})
}

// podCertificateController removes PodCertificateRequests.
func podCertificateController(kinds *kind.Kinds) Controller {
	k := kinds.ByResource(kind.PodCertificateRequests)
	return alone("podcertificaterequest-cleaner", k.Resource, func(now time.Time, _ change.View, obj change.Object) change.Set {
		return certificate.Clean(now, k, obj.(*certificatesv1.PodCertificateRequest))
	})
}

// tokenController keeps Secrets that are tokens of ServiceAccounts.
func tokenController(kinds *kind.Kinds, plan sweep.Plan, keys Keys) Controller {
	k, accounts := kinds.ByResource(kind.Secrets), kinds.ByResource(kind.ServiceAccounts)
	return Controller{
		Name: "serviceaccount-token",
		Dirties: func(view change.View, ev change.Event, add func(change.Key)) {
			switch obj := ev.Object.(type) {
			case *corev1.Secret:
				if obj.Type == corev1.SecretTypeServiceAccountToken {
					add(ev.Key)
				}
			case *corev1.ServiceAccount:
				if ev.Op == change.Update {
					return
				}
				for secret := range view.List(kind.Secrets, ev.Key.Namespace) {
					if sweep.TokenOf(secret.(*corev1.Secret)) == ev.Key.Name {
						add(k.KeyOf(secret))
					}
				}
			}
		},
		Decide: func(now time.Time, view change.View, key change.Key, _ error) change.Set {
			obj, ok := view.Get(key)
			if !ok { // it was a token: accounts forget it
				return sweep.ForgottenToken(accounts, view.List(kind.ServiceAccounts, key.Namespace), key.Name)
			}
			token := sweep.Token{Secret: sweep.Item{Kind: k, Object: obj}, Plan: plan, Sign: keys.Token}
			if account, ok := view.Get(kind.ServiceAccounts.Key(key.Namespace, sweep.TokenOf(obj.(*corev1.Secret)))); ok {
				token.Account = account.(*corev1.ServiceAccount)
			}
			return sweep.TokenSecret(now, token)
		},
	}
}
