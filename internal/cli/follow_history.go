package cli

import (
	"context"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

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
func (f *follower) watchJobs(ctx context.Context, since metav1.ListOptions, deliver func(obj any, gone bool)) error {
	jobs := f.client.BatchV1().Jobs(f.namespace)
	source := &cache.ListWatch{WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
		o.FieldSelector = since.FieldSelector
		w, err := jobs.Watch(ctx, o)
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
			deliver(ev.Object, ev.Type == watch.Deleted)
		}
		w.Stop()
		if err == nil || !isExpired(err) {
			return err
		}
		list, err := jobs.List(ctx, metav1.ListOptions{FieldSelector: since.FieldSelector})
		if err != nil {
			return err
		}
		deliver(list, false)
		since.ResourceVersion = list.ResourceVersion
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
