package backend

import (
	"bytes"
	"fmt"
	"io"
	"net/http"

	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/rest"
)

const (
	// maxAnswer is how much a webhook may answer: twice what a request to the API may have. It is
	// asked about one object at a time. Kubernetes reads whatever comes.
	maxAnswer = 6 << 20
	// smallAnswer has nothing in it that is much work.
	smallAnswer = 8 << 10
)

// Wrap implements webhook.AuthenticationInfoResolverWrapper: clients of webhooks connect to
// Services as Dial does, take no answer that is too much, and go where they were sent by who has
// configured the webhook, not where the webhook would send them.
func (s *Services) Wrap(delegate webhook.AuthenticationInfoResolver) webhook.AuthenticationInfoResolver {
	return &webhook.AuthenticationInfoResolverDelegator{
		ClientConfigForFunc: func(hostPort string) (*rest.Config, error) {
			config, err := delegate.ClientConfigFor(hostPort)
			return s.wary(config), err
		},
		ClientConfigForServiceFunc: func(name, namespace string, port int) (*rest.Config, error) {
			if isAPI(namespace, name, int32(port)) { // for aggregated APIs that judge or convert
				return s.wary(s.o.API()), nil
			}
			config, err := delegate.ClientConfigForService(name, namespace, port)
			if err != nil {
				return nil, err
			}
			config.Dial = s.Dial
			return s.wary(config), nil
		},
	}
}

func (s *Services) wary(config *rest.Config) *rest.Config {
	if config != nil {
		config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &wary{next, s.o.Bounds} })
	}
	return config
}

// wary is how a webhook is talked to, who is a stranger.
type wary struct {
	http.RoundTripper
	bounds func([]byte) error
}

// RoundTrip implements http.RoundTripper. It reads the whole answer.
func (w *wary) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := w.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if redirects(answer.StatusCode) {
		// Who follows asks, from here and with what the request has, whomever the webhook names:
		// what this machine has for itself, or a cloud's metadata. (CVE-2020-8561)
		return nil, fmt.Errorf("it redirects to %.200q, and is not followed", answer.Header.Get("Location"))
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxAnswer:
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	case len(text) > smallAnswer:
		if err := w.bounds(text); err != nil {
			return nil, fmt.Errorf("the answer has too much in it: %w", err)
		}
	}
	answer.Body, answer.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	return answer, nil
}

// redirects reports whether http.Client would follow.
func redirects(code int) bool {
	switch code {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// WrappedRoundTripper implements net.RoundTripperWrapper of k8s.io/apimachinery.
func (w *wary) WrappedRoundTripper() http.RoundTripper { return w.RoundTripper }
