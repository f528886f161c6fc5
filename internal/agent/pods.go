package agent

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/runner"
)

// podWorkers are the pods of this node, and the workers of those that are not over.
type podWorkers struct {
	*services
	mu   sync.Mutex
	pods map[string]*entry // by uid
	// found are the containers that were there when Run began, by the uids of their
	// pods, until the first delivery of pods tells whose they are.
	found map[string][]runner.Status
	// foundPods are the pods that the runners had something of then.
	foundPods map[runner.Class][]string
}

// entry is a pod of which the API, or this node's disk, still has something.
type entry struct {
	ref    runner.PodRef
	pod    *corev1.Pod // the latest state
	worker *podWorker  // nil when the pod is over
	gone   bool        // the API has it no more
}

// find lists the containers that a former run of the node has left.
func (p *podWorkers) find(ctx context.Context) error {
	list, err := p.containers(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found = make(map[string][]runner.Status)
	for _, st := range list {
		p.found[st.Pod.UID] = append(p.found[st.Pod.UID], st)
	}
	p.foundPods = make(map[runner.Class][]string)
	for class, r := range p.Runners {
		if p.foundPods[class], err = r.Pods(ctx); err != nil { // what is left of former pods has time
			p.Log.Warn("cannot list the pods of a runner", "class", class, "err", err)
		}
	}
	return nil
}

// deliver handles one delivery of the watch, and waits for no pod.
func (p *podWorkers) deliver(ctx context.Context, ch PodChanges) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ch.All {
		listed := make(map[string]bool, len(ch.Pods))
		for _, pod := range ch.Pods {
			listed[string(pod.UID)] = true
		}
		for uid, e := range p.pods {
			if !listed[uid] {
				p.goneLocked(ctx, e)
			}
		}
	}
	for _, pod := range ch.Pods {
		p.seeLocked(ctx, pod)
	}
	for _, ref := range ch.Gone {
		if e := p.pods[ref.UID]; e != nil {
			p.goneLocked(ctx, e)
		}
	}
	if ch.All && p.found != nil {
		p.sweepLocked(ctx)
		p.orphansLocked(ctx)
		p.found, p.foundPods = nil, nil
	}
}

// seeLocked records the latest state of a pod, and begins to look after a new one.
func (p *podWorkers) seeLocked(ctx context.Context, pod *corev1.Pod) {
	ref := RefOf(pod)
	e := p.pods[ref.UID]
	if e == nil {
		e = &entry{ref: ref}
		p.pods[ref.UID] = e
		found := p.found[ref.UID]
		delete(p.found, ref.UID)
		if !kind.PodEnded(pod) {
			e.pod = pod
			e.worker = newPodWorker(p.services, ref, pod, found)
			p.tasks.Go(func() { e.worker.run(ctx, func() { p.over(ctx, e) }) })
			return
		}
		if len(found) > 0 {
			p.tasks.Go(func() { p.discard(ctx, ref, found) })
		}
	}
	asked := e.pod != nil && e.pod.DeletionTimestamp != nil
	e.pod = pod
	switch {
	case e.worker != nil:
		e.worker.update(pod)
	case deleting(pod) && !asked:
		p.tasks.Go(func() { p.delete(ctx, e.ref) })
	}
}

// goneLocked lets go of a pod that the API has no more.
func (p *podWorkers) goneLocked(ctx context.Context, e *entry) {
	e.gone = true
	if e.worker != nil {
		e.worker.abandon()
		return // over follows when its containers have stopped
	}
	delete(p.pods, e.ref.UID)
	p.tasks.Go(func() { p.erase(ctx, e.ref) })
}

// over follows when the worker of a pod has nothing left to do.
func (p *podWorkers) over(ctx context.Context, e *entry) {
	p.mu.Lock()
	e.worker = nil
	gone, pod := e.gone, e.pod
	if gone {
		delete(p.pods, e.ref.UID)
	}
	p.mu.Unlock()
	switch {
	case gone:
		p.tasks.Go(func() { p.erase(ctx, e.ref) })
	case deleting(pod):
		p.delete(ctx, e.ref)
	}
}

// deleting reports whether the pod waits for its node to let it go.
func deleting(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil && (pod.DeletionGracePeriodSeconds == nil || *pod.DeletionGracePeriodSeconds > 0)
}

// delete tells the API that a pod that is being deleted is over.
func (p *podWorkers) delete(ctx context.Context, ref runner.PodRef) {
	for delay := minRetry; ; delay = min(2*delay, maxRetry) {
		err := p.Client.DeletePod(ctx, ref)
		if err == nil || ctx.Err() != nil {
			return
		}
		p.Log.Warn("cannot delete a pod", "ns", ref.Namespace, "name", ref.Name, "uid", ref.UID, "err", err)
		if !sleep(ctx, delay) {
			return
		}
	}
}

// erase removes the logs of a pod that the API has no more, when they have been read.
// If the node ends before, the next one does it.
func (p *podWorkers) erase(ctx context.Context, ref runner.PodRef) {
	if p.logs.await(ctx, ref.UID, "") {
		p.files.RemoveLogs(ref)
	}
}

// sweepLocked removes what is left of pods that have ended, or gone, while the node
// was not there to see it.
func (p *podWorkers) sweepLocked(ctx context.Context) {
	alive, known := map[string]bool{}, map[string]bool{}
	for uid, e := range p.pods {
		known[uid] = true
		alive[uid] = e.worker != nil
	}
	for uid := range p.found {
		known[uid], alive[uid] = true, true // discard removes them
	}
	for class, uids := range p.foundPods {
		for _, uid := range uids {
			if alive[uid] {
				continue
			}
			p.tasks.Go(func() {
				if err := p.Runners[class].RemovePod(ctx, uid); err != nil && ctx.Err() == nil {
					p.Log.Warn("cannot release a former pod", "uid", uid, "err", err)
				}
			})
		}
	}
	p.files.Sweep(alive, known)
}

// orphansLocked ends the containers whose pods exist no more.
func (p *podWorkers) orphansLocked(ctx context.Context) {
	for _, list := range p.found {
		ref := list[0].Pod
		p.tasks.Go(func() {
			p.discard(ctx, ref, list)
			p.files.RemoveLogs(ref)
		})
	}
}

// object returns the latest state of a pod, nil if it is not on this node.
func (p *podWorkers) object(uid string) *corev1.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.pods[uid]; e != nil {
		return e.pod
	}
	return nil
}

// workerOf returns the worker of a pod, nil if it has none.
func (p *podWorkers) workerOf(uid string) *podWorker {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.pods[uid]; e != nil {
		return e.worker
	}
	return nil
}

// list returns the workers of the pods that are not over and for which want is true.
func (p *podWorkers) list(want func(*corev1.Pod) bool) []*podWorker {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*podWorker
	for _, e := range p.pods {
		if e.worker != nil && want(e.pod) {
			all = append(all, e.worker)
		}
	}
	return all
}

// each calls visit with the latest state of the pods that are not over.
func (p *podWorkers) each(visit func(uid string, pod *corev1.Pod)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for uid, e := range p.pods {
		if e.worker != nil {
			visit(uid, e.pod)
		}
	}
}

// learnLosses tells the workers of output that their containers lose, until ctx ends.
func (p *podWorkers) learnLosses(ctx context.Context) {
	for _, r := range p.Runners {
		p.tasks.Go(func() {
			r.Losses(ctx, func(st runner.Status) {
				w := p.workerOf(st.Pod.UID)
				if w == nil {
					return
				}
				w.post(func() {
					if c := w.named(st.Container); c != nil {
						c.outputLost(st, time.Now())
					}
				})
			})
		})
	}
}
