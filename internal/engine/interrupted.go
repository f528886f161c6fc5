package engine

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// interrupted makes of what a private engine left unfinished, also when it was killed, what it
// leaves when it is asked to end: Jobs are suspended, and what ran is no pod any more. Pods
// of a private engine end with it, which is nobody's failure: as long as they are there, a
// Job would count them as that, against its backoffLimit. Whoever goes on resumes the Jobs,
// as many at a time as he likes.
//
// It is called before anything else looks at the store.
func interrupted(ctx context.Context, s *store.Store, kinds *kind.Kinds) error {
	const batch = 500
	view := s.View()
	var set change.Set
	flush := func(at int) error {
		if len(set.Writes) < at {
			return nil
		}
		_, err := s.Apply(ctx, set)
		set = change.Set{}
		return err
	}
	row := kinds.ByResource(kind.Jobs)
	for obj := range view.List(kind.Jobs, "") {
		job := obj.(*batchv1.Job)
		if kind.JobEnd(job) != nil || ptr.Deref(job.Spec.Suspend, false) {
			continue
		}
		next := job.DeepCopy()
		next.Spec.Suspend = ptr.To(true)
		row.Update.Prepare(next, job)
		set.Update(row.KeyOf(job), change.RevOf(job), next)
		if err := flush(batch); err != nil {
			return err
		}
	}
	pods := kinds.ByResource(kind.Pods)
	for obj := range view.List(kind.Pods, "") {
		if pod := obj.(*corev1.Pod); !kind.PodEnded(pod) {
			set.Delete(pods.KeyOf(pod), change.RevOf(pod))
		}
		if err := flush(batch); err != nil {
			return err
		}
	}
	return flush(1)
}

// awaitFormer waits until nothing runs any more of a former private engine that was killed:
// its supervisors see that, and end. What they have is run again.
func awaitFormer(dir string) error {
	const patience = 10 * time.Second
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		running := supervised(dir)
		switch {
		case len(running) == 0:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("the supervisor of class %s in %s still runs, though its engine has gone; end it with `sampan stop --data-dir %s`", running[0], dir, dir)
		}
	}
}
