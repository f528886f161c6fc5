package conformance

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// moves are when anything moved in a namespace: whatever a session can look at was
// written. They come by watches of the metadata: to list all of it again and again took
// most of the time of all sessions.
type moves struct {
	mu  sync.Mutex
	at  time.Time
	err error // the watch is gone, or was not to be had
}

// watchMoves watches a namespace, in which there is nothing yet, until the test ends.
func watchMoves(t *testing.T, config *rest.Config, namespace string, kinds []string) (*moves, error) {
	config = rest.CopyConfig(config)
	config.WarningHandler = rest.NoWarnings{} // they are not of the session's requests
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	m := &moves{}
	ctx, stop := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	t.Cleanup(func() { stop(); watching.Wait() })
	for _, kind := range kinds {
		at := places[kind]
		r := metadata.ResourceInterface(client.Resource(at.GroupVersionResource))
		if at.namespaced {
			r = client.Resource(at.GroupVersionResource).Namespace(namespace)
		}
		watching.Go(func() { m.follow(ctx, r, namespace) })
	}
	return m, nil
}

// follow takes note of what a watch tells of a session: of what is in no namespace, it has
// its name. A server ends each watch after a while.
func (m *moves) follow(ctx context.Context, r metadata.ResourceInterface, namespace string) {
	for ctx.Err() == nil {
		w, err := r.Watch(ctx, metav1.ListOptions{})
		if err != nil {
			m.fail(ctx, err)
			return
		}
		for ev := range w.ResultChan() {
			if obj, ok := ev.Object.(metav1.Object); !ok || obj.GetNamespace() == namespace || strings.Contains(obj.GetName(), namespace) {
				m.moved()
			}
		}
		w.Stop()
	}
}

func (m *moves) moved() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at = time.Now()
}

func (m *moves) fail(ctx context.Context, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() == nil {
		m.err = errors.Join(m.err, err)
	}
}

// last is when something moved last.
func (m *moves) last() (time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at, m.err
}
