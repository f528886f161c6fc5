package cli

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/sampan-batch/sampan/internal/board"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// since selects the Jobs, from the one on that was read, or created, first.
func (f *follower) since() (metav1.ListOptions, error) {
	var o metav1.ListOptions
	for _, j := range f.jobs {
		rev := j.ResourceVersion
		if o.ResourceVersion == "" {
			o.ResourceVersion = rev
		}
		order, err := resourceversion.CompareResourceVersion(rev, o.ResourceVersion)
		if err != nil {
			return o, fmt.Errorf("job/%s: %w", j.Name, err)
		}
		if order < 0 {
			o.ResourceVersion = rev
		}
		if len(f.jobs) == 1 {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, j.Name).String()
		}
	}
	return o, nil
}

// watchJobs delivers everything that happened to Jobs since a resourceVersion,
// so that none ends unseen: not even one that is deleted as soon as it has.
// Where the API's history is too short for that, it goes on from a list of what
// is there now.
func (f *follower) watchJobs(ctx context.Context, since metav1.ListOptions, deliver deliverFunc) error {
	jobs := f.client.BatchV1().Jobs(f.namespace)
	return watchSince(ctx, since, f.opener(kind.Jobs, jobs.Watch), deliver, func() (string, error) {
		list, err := jobs.List(ctx, metav1.ListOptions{FieldSelector: since.FieldSelector})
		if err != nil {
			return "", err
		}
		deliver(list, false)
		return list.ResourceVersion, nil
	})
}

// watchAll delivers what happens from a resourceVersion on. Nothing of it is kept: a run
// may have a hundred thousand pods, and has seen each begin.
func (f *follower) watchAll(ctx context.Context, since string, deliver deliverFunc, failed chan<- error) {
	pods, events := f.client.CoreV1().Pods(f.namespace), f.client.CoreV1().Events(f.namespace)
	from := metav1.ListOptions{ResourceVersion: since}
	go func() { failed <- f.watchJobs(ctx, from, deliver) }()
	go func() {
		failed <- watchSince(ctx, from, f.opener(kind.Pods, pods.Watch), deliver, func() (string, error) {
			list, err := pods.List(ctx, metav1.ListOptions{})
			if err != nil {
				return "", err
			}
			deliver(list, false)
			return list.ResourceVersion, nil
		})
	}()
	telling := metav1.ListOptions{ResourceVersion: since, FieldSelector: board.TellingEvents}
	go func() {
		failed <- watchSince(ctx, telling, f.opener(kind.Events, events.Watch), deliver, func() (string, error) {
			list, err := events.List(ctx, metav1.ListOptions{Limit: 1}) // what is past is past
			if err != nil {
				return "", err
			}
			return list.ResourceVersion, nil
		})
	}()
}

// deliverFunc takes what a watch has seen.
type deliverFunc func(obj any, gone bool)

// openFunc begins a watch.
type openFunc func(context.Context, metav1.ListOptions) (watch.Interface, error)

// opener returns what begins watches of a resource: through the API, or without it where that
// is in this process. A tenth of what a run takes was to encode what the display then decoded.
func (f *follower) opener(of change.Resource, throughAPI openFunc) openFunc {
	if f.local == nil || f.namespace != "" {
		return throughAPI
	}
	return func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return f.local(ctx, of, o) }
}

// watchSince delivers everything that happened to the objects of a watch since a
// resourceVersion. relist is called when the API's history is too short for that, and
// returns from where to go on.
func watchSince(ctx context.Context, since metav1.ListOptions, open openFunc,
	deliver deliverFunc, relist func() (string, error)) error {
	source := &cache.ListWatch{WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
		o.FieldSelector = since.FieldSelector
		w, err := open(ctx, o)
		if err != nil && ctx.Err() == nil {
			deliver(err, false) // and is tried again
		}
		return w, err
	}}
	for {
		w, err := watchtools.NewRetryWatcherWithContext(ctx, since.ResourceVersion, source)
		if err != nil {
			return err
		}
		for ev := range w.ResultChan() {
			if ev.Type == watch.Error {
				err = apierrors.FromObject(ev.Object)
				break
			}
			if ev.Type != watch.Bookmark {
				deliver(ev.Object, ev.Type == watch.Deleted)
			}
		}
		w.Stop()
		if err == nil || !isExpired(err) {
			return err
		}
		if since.ResourceVersion, err = relist(); err != nil {
			return err
		}
	}
}

// takeList takes the Jobs as they are now, when it is not known what happened
// before. Those that are not there went in the meantime.
func (f *follower) takeList(list *batchv1.JobList) {
	there := map[types.UID]bool{}
	for i := range list.Items {
		there[list.Items[i].UID] = true
		f.takeJob(&list.Items[i], false)
	}
	for uid, j := range f.jobs {
		if !there[uid] && kind.JobEnd(j) == nil && !f.gone[uid] {
			f.console.Note("job/%s is gone, and the API does not remember any more how it ended", j.Name)
			f.takeJob(j, true)
		}
	}
}

// isExpired: the API does not remember the resourceVersion that was asked for.
func isExpired(err error) bool { return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) }

// takePods takes the pods as they are now, when it is not known what happened before.
func (f *follower) takePods(list *corev1.PodList) {
	there := map[types.UID]bool{}
	for i := range list.Items {
		p := &list.Items[i]
		there[p.UID] = true
		if !kind.PodEnded(p) || !p.CreationTimestamp.Time.Before(f.began.Truncate(time.Second)) { // not of an earlier run
			f.takePod(p, false)
		}
	}
	for _, p := range f.board.Pods() {
		if !there[p.UID] {
			f.takePod(p, true)
		}
	}
}
