package sweep

import (
	"bytes"
	"iter"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// Token is a Secret that is to have the token of a ServiceAccount, and the account; nil: it is not there.
type Token struct {
	Secret  Item
	Account *corev1.ServiceAccount
	Plan    Plan
	// Sign makes the token.
	Sign func(account *corev1.ServiceAccount, secret *corev1.Secret) (string, error)
}

// TokenOf is the name of the account whose token a Secret is to have, "" if that is none.
func TokenOf(secret *corev1.Secret) string {
	if secret.Type != corev1.SecretTypeServiceAccountToken {
		return ""
	}
	return secret.Annotations[corev1.ServiceAccountNameKey]
}

// TokenSecret gives such a Secret what it lacks, and removes it when its account is gone. One that names
// an account with its uid is of that account, and not of another of the same name.
func TokenSecret(now time.Time, t Token) change.Set {
	var set change.Set
	secret := t.Secret.Object.(*corev1.Secret)
	if secret.DeletionTimestamp != nil || TokenOf(secret) == "" {
		return set
	}
	uid := secret.Annotations[corev1.ServiceAccountUIDKey]
	if t.Account == nil || uid != "" && uid != string(t.Account.UID) {
		remove(&set, t.Secret, now, false)
		return set
	}
	if ptr.Deref(secret.Immutable, false) {
		return set // what is to be left alone is, by everybody
	}
	next := secret.DeepCopy()
	if next.Data == nil {
		next.Data = map[string][]byte{}
	}
	changed := false
	give := func(key string, value []byte) { next.Data[key], changed = value, true }
	if t.Plan.RootCA != nil && !bytes.Equal(secret.Data[corev1.ServiceAccountRootCAKey], t.Plan.RootCA) {
		give(corev1.ServiceAccountRootCAKey, t.Plan.RootCA)
	}
	if len(secret.Data[corev1.ServiceAccountNamespaceKey]) == 0 {
		give(corev1.ServiceAccountNamespaceKey, []byte(secret.Namespace))
	}
	if len(secret.Data[corev1.ServiceAccountTokenKey]) == 0 {
		token, err := t.Sign(t.Account, secret)
		if err != nil {
			return set // the key is broken: an engine with such a one does not start
		}
		give(corev1.ServiceAccountTokenKey, []byte(token))
	}
	if changed {
		next.Annotations[corev1.ServiceAccountUIDKey] = string(t.Account.UID)
		set.Update(t.Secret.key(), t.Secret.rev(), next)
	}
	return set
}

// ForgottenToken takes a Secret that is gone off the accounts that list it among theirs.
func ForgottenToken(k *kind.Kind, accounts iter.Seq[change.Object], name string) change.Set {
	var set change.Set
	for obj := range accounts {
		account := obj.(*corev1.ServiceAccount)
		is := func(ref corev1.ObjectReference) bool { return ref.Name == name }
		if !slices.ContainsFunc(account.Secrets, is) {
			continue
		}
		next := account.DeepCopy()
		next.Secrets = slices.DeleteFunc(next.Secrets, is)
		set.Update(k.KeyOf(account), change.RevOf(account), next)
	}
	return set
}
