package server

import (
	"context"
	"io"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
)

// scripted generates the names that it is told, the last one for ever.
type scripted struct{ names []string }

func (s *scripted) GenerateName(base string) string {
	name := s.names[0]
	if len(s.names) > 1 {
		s.names = s.names[1:]
	}
	return base + name
}

func inNamespace(t *testing.T, namespace string) context.Context {
	return genericapirequest.WithNamespace(t.Context(), namespace)
}

// only is the node of that name, and no other.
func only(name string, node PodStreams) func(string) PodStreams {
	return func(asked string) PodStreams {
		if asked == name {
			return node
		}
		return nil
	}
}

// fakePods gives every container the same log, and remembers what was asked.
type fakePods struct {
	PodStreams
	err   error
	log   string
	asked chan corev1.PodLogOptions
}

func (p *fakePods) Logs(ctx context.Context, pod *corev1.Pod, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	if p.err != nil {
		return nil, p.err
	}
	p.asked <- *o
	if !o.Follow {
		return io.NopCloser(strings.NewReader(p.log)), nil
	}
	r, w := io.Pipe()
	go func() {
		io.WriteString(w, p.log)
		<-ctx.Done()
		w.CloseWithError(ctx.Err())
	}()
	return r, nil
}
