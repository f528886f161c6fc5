package agent

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/runner"
)

// release gives back what the pod of a pod worker held: its ended containers, what
// they shared.
func (a *Agent) release(ctx context.Context, w *podWorker) {
	w.forget(ctx, w.report.ended)
	for i := range w.state.Containers {
		w.endLife(i)
	}
	if w.uncertain {
		a.discard(ctx, w.ref, a.leftovers(ctx, w.ref))
	}
	a.releasePod(ctx, w.ref, w.state.Object)
}

// leftovers returns the containers that the runners still have of a pod.
func (a *Agent) leftovers(ctx context.Context, ref runner.PodRef) []runner.Status {
	var left []runner.Status
	for class, r := range a.opts.Runners {
		list, err := r.List(ctx)
		if err != nil && ctx.Err() == nil {
			a.log.Warn("cannot list containers", "class", class, "err", err)
		}
		for _, st := range list {
			if st.Pod.UID == ref.UID && (st.Class == class || st.Class == "") {
				st.Class = class
				left = append(left, st)
			}
		}
	}
	return left
}

// releasePod releases a pod none of whose containers is left; pod is nil when
// the API has it no more.
func (a *Agent) releasePod(ctx context.Context, ref runner.PodRef, pod *corev1.Pod) {
	for class, r := range a.opts.Runners {
		if pod != nil && class != a.class(pod) {
			continue
		}
		if err := r.RemovePod(ctx, ref.UID); err != nil && ctx.Err() == nil {
			a.log.Warn("cannot release a pod", "ns", ref.Namespace, "name", ref.Name, "uid", ref.UID, "err", err)
		}
	}
	a.opts.Images.Release(ref.UID)
	if pod == nil || a.class(pod) != runner.Host {
		a.files.RemoveEtc(ref.UID, pod)
	}
	a.files.RemoveVolumes(ref.UID)
}

// sweepLocked removes the files of pods that have ended, or gone, while the
// node was not there to see it.
func (a *Agent) sweepLocked(ctx context.Context) {
	alive, known := map[string]bool{}, map[string]bool{}
	for uid, e := range a.pods {
		known[string(uid)] = true
		alive[string(uid)] = e.worker != nil
	}
	for uid := range a.found {
		known[string(uid)], alive[string(uid)] = true, true // discard removes them
	}
	a.sweepPodsLocked(ctx, alive)
	a.files.Sweep(alive, known)
}

// sweepPodsLocked releases the pods that runners still have something of, and
// nobody else.
func (a *Agent) sweepPodsLocked(ctx context.Context, alive map[string]bool) {
	for class, uids := range a.foundPods {
		for _, uid := range uids {
			if alive[uid] {
				continue
			}
			a.tasks.Go(func() {
				if err := a.opts.Runners[class].RemovePod(ctx, uid); err != nil && ctx.Err() == nil {
					a.log.Warn("cannot release a former pod", "uid", uid, "err", err)
				}
			})
		}
	}
}

// delete tells the API that a pod that is being deleted is over.
func (a *Agent) delete(ctx context.Context, ref runner.PodRef) {
	for delay := minRetry; ; delay = min(2*delay, maxRetry) {
		err := a.opts.Client.DeletePod(ctx, ref)
		if err == nil || ctx.Err() != nil {
			return
		}
		a.log.Warn("cannot delete a pod", "ns", ref.Namespace, "name", ref.Name, "uid", ref.UID, "err", err)
		if !sleep(ctx, time.Duration(delay)) {
			return
		}
	}
}
