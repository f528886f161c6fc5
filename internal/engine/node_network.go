package engine

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/sampan-batch/sampan/internal/agent/policy"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// servicesPause is how long changes of Services are gathered: those of a thousand pods come
// one after the other.
const servicesPause = 5 * time.Millisecond

// WatchServices implements agent.Client.
func (c *nodeClient) WatchServices(ctx context.Context, deliver func([]*corev1.Service, []*discoveryv1.EndpointSlice, []string)) error {
	all := []change.Resource{kind.Services, kind.EndpointSlices, kind.Namespaces}
	return c.follow(ctx, func(view *store.View) []change.Resource {
		deliver(listOf[*corev1.Service](view, kind.Services), listOf[*discoveryv1.EndpointSlice](view, kind.EndpointSlices), namespaces(view))
		return all
	})
}

// follow calls f with each state of the store that is another one as far as the resources go that
// f has returned last, until ctx ends or a watch breaks; not for each commit, but soon after some.
func (c *nodeClient) follow(ctx context.Context, f func(*store.View) []change.Resource) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	changed := make(chan struct{}, 1)
	watched := make(map[change.Resource]context.CancelFunc)
	for {
		view := c.store.View()
		resources := f(view)
		for resource, end := range watched {
			if !slices.Contains(resources, resource) {
				end()
				delete(watched, resource)
			}
		}
		for _, resource := range resources {
			if watched[resource] != nil {
				continue
			}
			w, err := c.store.Watch(resource, view.Rev())
			if err != nil {
				return err
			}
			one, end := context.WithCancel(ctx)
			defer end()
			watched[resource] = end
			go func() {
				if err := signal(one, w, changed); one.Err() == nil {
					stop(err)
				}
			}()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		select {
		case <-time.After(servicesPause):
		case <-ctx.Done():
		}
	}
}

func namespaces(view *store.View) (names []string) {
	for obj := range view.List(kind.Namespaces, "") {
		names = append(names, obj.GetName())
	}
	return names
}

// signal says that there was something new, until the watch breaks or ctx ends.
func signal(ctx context.Context, w *store.Watch, changed chan<- struct{}) error {
	for {
		if _, _, err := w.Next(ctx); err != nil {
			return err
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}

// Policies implements agent.Client. A node knows here what a network plugin knows on each node of
// Kubernetes, by rights of its own.
func (c *nodeClient) Policies() policy.World {
	return policies(c.store.View())
}

func policies(view *store.View) policy.World {
	w := policy.World{Policies: listOf[*networkingv1.NetworkPolicy](view, kind.NetworkPolicies)}
	if len(w.Policies) > 0 {
		w.Pods, w.Namespaces = listOf[*corev1.Pod](view, kind.Pods), listOf[*corev1.Namespace](view, kind.Namespaces)
	}
	return w
}

// WatchPolicies implements agent.Client. As long as there is no policy, nobody looks at pods.
func (c *nodeClient) WatchPolicies(ctx context.Context, changed func()) error {
	return c.follow(ctx, func(view *store.View) []change.Resource {
		changed()
		for range view.List(kind.NetworkPolicies, "") {
			return []change.Resource{kind.NetworkPolicies, kind.Pods, kind.Namespaces}
		}
		return []change.Resource{kind.NetworkPolicies}
	})
}
