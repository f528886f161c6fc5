package identity

import (
	"path/filepath"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

type state struct {
	kind.None
	objects map[change.Key]change.Object
}

func (s state) Get(key change.Key) (change.Object, bool) { obj, ok := s.objects[key]; return obj, ok }

// BenchmarkToken is what the token of a pod costs: to be made, and to be shown.
func BenchmarkToken(b *testing.B) {
	key, err := LoadKey(filepath.Join(b.TempDir(), "key"))
	if err != nil {
		b.Fatal(err)
	}
	issuer, err := NewIssuer(key, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	objects := state{objects: map[change.Key]change.Object{
		kind.ServiceAccounts.Key("ns", "a"): &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a", UID: "u"}},
		kind.Pods.Key("ns", "p"):            &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "v"}, Spec: corev1.PodSpec{ServiceAccountName: "a"}},
	}}
	tokens, err := NewAuthenticator(&key.PublicKey, func() kind.Getter { return objects }, nil)
	if err != nil {
		b.Fatal(err)
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "p"}}}
	issue := func(b *testing.B) string {
		out, err := issuer.Issue(b.Context(), objects, "ns", "a", request, nil)
		if err != nil {
			b.Fatal(err)
		}
		return out.Status.Token
	}
	b.Run("issue", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			issue(b)
		}
	})
	b.Run("show", func(b *testing.B) {
		b.ReportAllocs()
		token := issue(b)
		for b.Loop() {
			if _, ok, err := tokens.AuthenticateToken(b.Context(), token); !ok || err != nil {
				b.Fatal(err)
			}
		}
	})
}
