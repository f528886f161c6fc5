package cli

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	informers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/sampan-batch/sampan/internal/board"
)

// streams are what a follower sees.
type streams struct {
	updates chan update
	failed  chan error // why one has ended that should not have
	// listed is true of each when what there was at the beginning has been delivered.
	listed []cache.InformerSynced
	close  context.CancelFunc
}

// open begins to watch, unless that has begun.
func (f *follower) open(ctx context.Context) error {
	if f.streams != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &streams{updates: make(chan update, 1024), failed: make(chan error, 3), close: cancel}
	deliver := func(obj any, gone bool) {
		select {
		case s.updates <- update{obj, gone}:
		case <-ctx.Done():
		}
	}
	f.logs.tell(func(l life) { deliver(l, false) })
	if err := f.watch(ctx, s, deliver); err != nil {
		cancel()
		return err
	}
	f.streams = s
	return nil
}

// watch delivers what happens from now on.
func (f *follower) watch(ctx context.Context, s *streams, deliver deliverFunc) (err error) {
	if f.revision != "" {
		f.watchAll(ctx, f.revision, deliver, s.failed)
		return nil
	}
	if s.listed, err = f.watchPods(ctx, deliver); err != nil || len(f.jobs) == 0 {
		return err
	}
	since, err := f.since()
	if err == nil {
		go func() { s.failed <- f.watchJobs(ctx, since, deliver) }()
	}
	return err
}

// watchPods delivers pods and events, those that there are first: when that is
// done, all of listed are true.
func (f *follower) watchPods(ctx context.Context, deliver deliverFunc) (listed []cache.InformerSynced, err error) {
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { deliver(obj, false) },
		UpdateFunc: func(_, obj any) { deliver(obj, false) },
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			if _, ok := obj.(*corev1.Event); !ok {
				deliver(obj, true)
			}
		},
	}
	telling := func(o *metav1.ListOptions) { o.FieldSelector = board.TellingEvents }
	for _, informer := range []cache.SharedIndexInformer{
		informers.NewPodInformer(f.client, f.namespace, 0, cache.Indexers{}),
		informers.NewFilteredEventInformer(f.client, f.namespace, 0, cache.Indexers{}, telling),
	} {
		registration, err := informer.AddEventHandler(handler)
		if err != nil {
			return nil, err
		}
		listed = append(listed, registration.HasSynced)
		tell := func(_ context.Context, _ *cache.Reflector, err error) { deliver(err, false) }
		if err := informer.SetWatchErrorHandlerWithContext(tell); err != nil {
			return nil, err
		}
		go informer.RunWithContext(ctx)
	}
	return listed, nil
}
