package control

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// TestTokenSecrets: a Secret that asks for the token of an account is given it, and goes with the account;
// the account forgets one that is gone.
func TestTokenSecrets(t *testing.T) {
	bubble(t, func(b *bundle) {
		t := b.t
		b.namespace("default")
		account := func(name string) change.Object {
			return b.create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}})
		}
		token := func(name, of string) {
			b.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Annotations: map[string]string{corev1.ServiceAccountNameKey: of}},
				Type: corev1.SecretTypeServiceAccountToken})
		}
		get := func(name string) *corev1.Secret {
			obj, _ := b.store.View().Get(kind.Secrets.Key("default", name))
			secret, _ := obj.(*corev1.Secret)
			return secret
		}
		remove := func(key change.Key) {
			obj, ok := b.store.View().Get(key)
			if !ok {
				t.Fatalf("no %s", key)
			}
			var set change.Set
			set.Delete(key, change.RevOf(obj))
			b.apply(set)
		}
		bot := account("bot")
		account("other")
		token("a", "bot")
		token("b", "bot")
		token("c", "other")
		token("nobody's", "ghost")
		b.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "plain", Annotations: map[string]string{corev1.ServiceAccountNameKey: "ghost"}}, Type: "Opaque"})
		b.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "fixed", Annotations: map[string]string{corev1.ServiceAccountNameKey: "other"}},
			Type: corev1.SecretTypeServiceAccountToken, Immutable: ptr.To(true)})
		b.settle()
		if s := get("fixed"); s == nil || len(s.Data) > 0 {
			t.Errorf("what is to be left alone is %+v", s)
		}
		if s := get("a"); s == nil || string(s.Data["token"]) != "a of bot" || string(s.Data["namespace"]) != "default" || string(s.Data["ca.crt"]) != "CA" ||
			s.Annotations[corev1.ServiceAccountUIDKey] != string(bot.GetUID()) {
			t.Errorf("%+v", s)
		}
		if get("nobody's") != nil || get("plain") == nil {
			t.Errorf("of an account that there is not: %v, %v", get("nobody's"), get("plain"))
		}

		// What somebody takes out of it is put back; but not what he says is to stay.
		b.update(kind.Secrets.Key("default", "a"), func(obj change.Object) { delete(obj.(*corev1.Secret).Data, "token") })
		b.update(kind.Secrets.Key("default", "b"), func(obj change.Object) {
			obj.(*corev1.Secret).Data["ca.crt"] = []byte("another")
		})
		b.settle()
		if string(get("a").Data["token"]) != "a of bot" || string(get("b").Data["ca.crt"]) != "CA" {
			t.Errorf("%s, %s", get("a").Data, get("b").Data)
		}

		b.update(kind.ServiceAccounts.Key("default", "bot"), func(obj change.Object) {
			obj.(*corev1.ServiceAccount).Secrets = []corev1.ObjectReference{{Name: "a"}, {Name: "b"}, {Name: "plain"}}
		})
		remove(kind.Secrets.Key("default", "b"))
		remove(kind.Secrets.Key("default", "plain"))
		b.settle()
		obj, _ := b.store.View().Get(kind.ServiceAccounts.Key("default", "bot"))
		if refs := obj.(*corev1.ServiceAccount).Secrets; len(refs) != 2 || refs[0].Name != "a" || refs[1].Name != "plain" {
			t.Errorf("the account lists %v", refs)
		}

		remove(kind.ServiceAccounts.Key("default", "bot"))
		b.settle()
		if get("a") != nil || get("c") == nil {
			t.Errorf("after their account: %v, %v", get("a"), get("c"))
		}
		// Another account of that name is another.
		remove(kind.ServiceAccounts.Key("default", "other"))
		again := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "other"}}
		again.SetUID("new")
		var set change.Set
		set.Create(kind.ServiceAccounts.Key("default", "other"), again)
		b.apply(set)
		b.settle()
		if get("c") != nil {
			t.Errorf("%+v", get("c"))
		}
	})
}
