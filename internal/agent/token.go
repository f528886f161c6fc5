package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// podTokens are the tokens that the volumes of a pod show, as long as they need not be renewed:
// volumes are looked at every minute, and a token lives for an hour or more.
type podTokens struct {
	mu   sync.Mutex
	held map[tokenKey]*heldToken
}

// tokenKey is what a volume asks for.
type tokenKey struct {
	audience string
	seconds  int64
}

type heldToken struct {
	token          string
	renew, expires time.Time
}

const (
	// A token is renewed when it has this much of its life left, or has been in use for so long,
	// as a kubelet does it, and a little earlier, so that not all are renewed at once.
	renewShare  = 5
	renewAfter  = 24 * time.Hour
	renewJitter = 10 * time.Second
)

// get returns the token for src, which may be one that was given out before. One that cannot be
// renewed serves to its end.
func (t *podTokens) get(ctx context.Context, client Client, pod *corev1.Pod, src *corev1.ServiceAccountTokenProjection, now time.Time) (string, error) {
	key := tokenKey{src.Audience, ptr.Deref(src.ExpirationSeconds, 3600)}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.held[key]
	if old != nil && now.Before(old.renew) {
		return old.token, nil
	}
	fresh, err := requestToken(ctx, client, pod, key)
	switch {
	case err == nil:
		if t.held == nil {
			t.held = map[tokenKey]*heldToken{}
		}
		t.held[key] = fresh
		return fresh.token, nil
	case old != nil && now.Before(old.expires):
		return old.token, nil
	}
	return "", fmt.Errorf("failed to fetch token: %w", err)
}

func requestToken(ctx context.Context, client Client, pod *corev1.Pod, key tokenKey) (*heldToken, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &key.seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if key.audience != "" {
		request.Spec.Audiences = []string{key.audience}
	}
	answer, err := client.Token(ctx, pod.Namespace, pod.Spec.ServiceAccountName, request)
	if err != nil {
		return nil, err
	}
	expires := answer.Status.ExpirationTimestamp.Time
	life := time.Duration(*answer.Spec.ExpirationSeconds) * time.Second
	renew := expires.Add(-life / renewShare)
	if latest := expires.Add(-life + renewAfter); latest.Before(renew) {
		renew = latest
	}
	return &heldToken{token: answer.Status.Token, renew: renew.Add(-rand.N(renewJitter)), expires: expires}, nil
}
