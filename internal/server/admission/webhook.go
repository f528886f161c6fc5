package admission

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	webhookutil "k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/rest"
)

// Services is how webhooks of Services are reached.
type Services interface {
	webhookutil.ServiceResolver
	Wrap(webhookutil.AuthenticationInfoResolver) webhookutil.AuthenticationInfoResolver
}

// smallAnswer has no patch that is much work.
const smallAnswer = 8 << 10

// callers says how webhooks are called: without credentials, as kube-apiserver does when it is
// told nothing, in turn, and with bounds to what their patches have.
func (o *Options) callers(delegate webhookutil.AuthenticationInfoResolver) webhookutil.AuthenticationInfoResolver {
	bounded := func(config *rest.Config, err error) (*rest.Config, error) {
		if err == nil {
			config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &answers{next, o.Bounds} })
		}
		return config, err
	}
	inner := o.Services.Wrap(delegate)
	return &webhookutil.AuthenticationInfoResolverDelegator{
		ClientConfigForFunc: func(hostPort string) (*rest.Config, error) {
			return bounded(inner.ClientConfigFor(hostPort))
		},
		ClientConfigForServiceFunc: func(name, namespace string, port int) (*rest.Config, error) {
			return bounded(inner.ClientConfigForService(name, namespace, port))
		},
	}
}

// answers looks at what webhooks answer, of which Services bounds the size, before others do.
type answers struct {
	http.RoundTripper
	bounds func([]byte) error
}

// waitKey is under which a context has what is called before a webhook is.
type waitKey struct{}

func waits(ctx context.Context, wait func() error) context.Context {
	return context.WithValue(ctx, waitKey{}, wait)
}

// RoundTrip implements http.RoundTripper.
func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	if wait, ok := r.Context().Value(waitKey{}).(func() error); ok {
		if err := wait(); err != nil {
			return nil, err
		}
	}
	resp, err := a.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if err := a.check(text); err != nil {
		return nil, err
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	return resp, nil
}

func (a *answers) check(text []byte) error {
	if len(text) <= smallAnswer {
		return nil
	}
	var review struct {
		Response struct{ Patch []byte }
	}
	if json.Unmarshal(text, &review) != nil {
		return nil // who reads it next says what is wrong
	}
	if err := a.bounds(review.Response.Patch); err != nil {
		return fmt.Errorf("the patch has too much in it: %w", err)
	}
	return nil
}

// WrappedRoundTripper implements net.RoundTripperWrapper of k8s.io/apimachinery.
func (a *answers) WrappedRoundTripper() http.RoundTripper { return a.RoundTripper }
