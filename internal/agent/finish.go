package agent

import (
	"context"
	"os"
	"path/filepath"
	"time"
)

// release gives back what the pod of a keeper held: its ended containers, what
// they shared.
func (a *Agent) release(ctx context.Context, k *keeper) {
	k.forget(ctx, k.report.ended)
	a.releasePod(ctx, k.ref)
}

func (a *Agent) releasePod(ctx context.Context, ref PodRef) {
	for _, r := range a.opts.Runners {
		if err := r.RemovePod(ctx, string(ref.UID)); err != nil && ctx.Err() == nil {
			a.log.Warn("cannot release a pod", "ns", ref.Namespace, "name", ref.Name, "uid", ref.UID, "err", err)
		}
	}
	a.opts.Images.Release(string(ref.UID))
}

// podDir is where the pod's volumes and other files are.
func (a *Agent) podDir(ref PodRef) string { return filepath.Join(a.opts.Dir, "pods", string(ref.UID)) }

// erase removes the files of a pod that the API has no more.
func (a *Agent) erase(_ context.Context, ref PodRef) {
	for _, dir := range []string{a.podDir(ref), a.logDir(ref)} {
		if err := os.RemoveAll(dir); err != nil {
			a.log.Warn("cannot remove a pod's files", "dir", dir, "err", err)
		}
	}
}

// delete tells the API that a pod that is being deleted is over.
func (a *Agent) delete(ctx context.Context, ref PodRef) {
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
