package backend

import (
	"fmt"
	"io"
	"net/http"

	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/rest"
)

// maxAnswer is how much a webhook may answer: more than any list that it may be asked about.
// Kubernetes reads whatever comes.
const maxAnswer = 128 << 20

// Wrap implements webhook.AuthenticationInfoResolverWrapper: clients of webhooks connect to
// Services as Dial does, and read no more than maxAnswer of an answer.
func (s *Services) Wrap(delegate webhook.AuthenticationInfoResolver) webhook.AuthenticationInfoResolver {
	return &webhook.AuthenticationInfoResolverDelegator{
		ClientConfigForFunc: func(hostPort string) (*rest.Config, error) {
			config, err := delegate.ClientConfigFor(hostPort)
			return bounded(config), err
		},
		ClientConfigForServiceFunc: func(name, namespace string, port int) (*rest.Config, error) {
			if isAPI(namespace, name, int32(port)) {
				return s.o.API(), nil
			}
			config, err := delegate.ClientConfigForService(name, namespace, port)
			if err != nil {
				return nil, err
			}
			config.Dial = s.Dial
			return bounded(config), nil
		},
	}
}

func bounded(config *rest.Config) *rest.Config {
	if config != nil {
		config.Wrap(func(rt http.RoundTripper) http.RoundTripper { return bound{rt} })
	}
	return config
}

// bound is a transport whose answers have at most maxAnswer bytes.
type bound struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bound) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		answer.Body = &bounding{ReadCloser: answer.Body, left: maxAnswer}
	}
	return answer, err
}

type bounding struct {
	io.ReadCloser
	left int
}

// Read implements io.Reader.
func (b *bounding) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, fmt.Errorf("the answer is larger than %d MiB", maxAnswer>>20)
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)])
	b.left -= n
	return n, err
}
