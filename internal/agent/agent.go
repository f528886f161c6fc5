package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/eviction"
	"github.com/sampan-batch/sampan/internal/agent/machine"
	"github.com/sampan-batch/sampan/internal/agent/network"
	"github.com/sampan-batch/sampan/internal/agent/node"
	"github.com/sampan-batch/sampan/internal/agent/podfiles"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/hostpath"
	"github.com/sampan-batch/sampan/internal/runner/reap"
)

// Options are what a node needs to know.
type Options struct {
	// Node is the node as the API knows it: its name, what pods may use of it, its
	// conditions. The agent runs it.
	Node *node.Node
	// Dir is the directory of the node's files: pods' logs.
	Dir string
	// RunDir is a directory for the few small files that every sandboxed pod
	// needs and that nobody misses after a reboot. In memory they cost a
	// hundredth of what they cost on a disk. "" is Dir.
	RunDir string
	// Network is what the pods of this node are reached by.
	Network *network.Network

	Client Client
	Images Images
	// Runners start the containers of each class that this node offers.
	Runners map[runner.Class]runner.Runner
	// Class is the class of a pod without a runtimeClassName.
	Class runner.Class
	// HostEnv is the environment that a process of the host class starts from.
	HostEnv []string

	// PodPids is how many processes and threads a pod may have; 0: no limit.
	PodPids int64
	// UserNamespace says that the sandbox runs every pod in a user namespace: a
	// pod that asks for one (hostUsers: false) has it.
	UserNamespace bool

	// Machine is what the node observes; nil: nothing, and nothing runs out.
	Machine Machine
	// Eviction says when what is left is too little.
	Eviction eviction.Config

	// StatusDelay is how long a status that is not final may wait for a newer
	// one, so that a short pod needs one write; 0: DefaultStatusDelay.
	StatusDelay time.Duration

	// HandLog, if set, is handed the log of every container that is started.
	HandLog LogHandler

	Log *slog.Logger
}

// DefaultStatusDelay is long enough for a short process to end in, and too
// short to be noticed.
const DefaultStatusDelay = 50 * time.Millisecond

// Agent is the node. New makes one, Run runs it.
type Agent struct {
	opts Options
	log  *slog.Logger
	// files are those that the node keeps for its pods.
	files *podfiles.Files
	// paths is who looks at the machine's paths that manifests name.
	paths *hostpath.Scout

	// alarm has the eviction manager look at once.
	alarm chan struct{}

	tasks sync.WaitGroup // everything that Run has to wait for

	mu   sync.Mutex
	pods map[string]*entry
	// found are the containers that were there when Run began, until the
	// first delivery of pods tells whose they are.
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
	logs   map[*openLog]struct{}
}

// New returns the node; it starts nothing.
func New(o Options) (*Agent, error) {
	switch {
	case o.Node == nil || o.Dir == "" || o.Network == nil || o.Client == nil || o.Images == nil || o.Log == nil:
		return nil, errors.New("agent: Node, Dir, Network, Client, Images and Log must be set")
	case o.Runners[o.Class] == nil:
		return nil, fmt.Errorf("agent: no runner for the default class %q", o.Class)
	}
	if o.StatusDelay <= 0 {
		o.StatusDelay = DefaultStatusDelay
	}
	if o.RunDir == "" {
		o.RunDir = o.Dir
	}
	return &Agent{
		opts:  o,
		log:   o.Log,
		files: podfiles.New(o.Dir, o.RunDir, o.Log),
		paths: hostpath.New(reap.New()),
		alarm: make(chan struct{}, 1),
		pods:  make(map[string]*entry),
	}, nil
}

// Run runs the node until ctx ends, and returns when all its goroutines have.
// Containers keep running; the next Run finds them.
func (a *Agent) Run(ctx context.Context) error {
	defer a.tasks.Wait()
	if err := a.files.Prepare(); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	if err := a.find(ctx); err != nil {
		return err
	}
	a.guard(ctx)
	a.learnLosses(ctx)
	a.tasks.Go(func() { a.opts.Node.Run(ctx) })
	for {
		err := a.opts.Client.WatchPods(ctx, a.opts.Node.Name(), func(ch PodChanges) { a.deliver(ctx, ch) })
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		a.log.Warn("the watch of pods broke", "err", err)
		if !sleep(ctx, time.Second) {
			return context.Cause(ctx)
		}
	}
}

// guard begins to watch the machine and the pods on it.
func (a *Agent) guard(ctx context.Context) {
	a.tasks.Go(func() { (&limitEnforcer{agent: a, log: a.log}).run(ctx) })
	a.opts.Node.CheckHealth() // before the node says how it is, and before the first pod
	if a.opts.Machine == nil {
		return
	}
	m := &evictionManager{agent: a, log: a.log}
	m.assess() // likewise
	a.tasks.Go(func() { m.run(ctx) })
	a.tasks.Go(func() {
		caps := []machine.Cap{
			{Dir: a.files.TerminationDir(), Size: podfiles.MaxTerminationLog},
			{Dir: a.files.EtcDir(), Size: podfiles.MaxEtcFile},
		}
		if err := a.opts.Machine.Keep(ctx, caps, a.cut); ctx.Err() == nil {
			a.log.Warn("termination messages and files in /etc can grow", "err", err)
		}
	})
}

// cut records that a file which containers write to has been cut off. A termination
// message that is too long loses nothing that anybody would see.
func (a *Agent) cut(path string) {
	uid, file, ok := a.files.EtcOwner(path)
	if !ok {
		return
	}
	var pod *corev1.Pod
	a.mu.Lock()
	if e := a.pods[uid]; e != nil {
		pod = e.pod
	}
	a.mu.Unlock()
	if pod != nil {
		a.opts.Client.Record(note(pod, nil, warning, reason.FileTruncated, fmt.Sprintf("%s is longer than %d bytes: the rest was cut off", file, podfiles.MaxEtcFile)))
	}
}

// lookSoon has the eviction manager look at the machine now, not when it is time.
func (a *Agent) lookSoon() {
	select {
	case a.alarm <- struct{}{}:
	default:
	}
}

// find lists the containers that a former run of the node has left. One runner
// may keep those of several classes.
func (a *Agent) find(ctx context.Context) error {
	found := make(map[string][]runner.Status)
	foundPods := make(map[runner.Class][]string)
	seen := make(map[string]bool)
	for class, r := range a.opts.Runners {
		pods, err := r.Pods(ctx)
		if err != nil { // what is left of former pods has time
			a.log.Warn("cannot list the pods of a runner", "class", class, "err", err)
		}
		foundPods[class] = pods
		list, err := r.List(ctx)
		if err != nil {
			return fmt.Errorf("agent: list the containers of class %s: %w", class, err)
		}
		for _, st := range list {
			if seen[st.ID] {
				continue
			}
			seen[st.ID] = true
			if st.Class == "" {
				st.Class = class
			}
			found[st.Pod.UID] = append(found[st.Pod.UID], st)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.found, a.foundPods = found, foundPods
	return nil
}

// deliver takes one delivery of the watch. It blocks for no pod.
func (a *Agent) deliver(ctx context.Context, ch PodChanges) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ch.All {
		listed := make(map[string]bool, len(ch.Pods))
		for _, pod := range ch.Pods {
			listed[string(pod.UID)] = true
		}
		for uid, e := range a.pods {
			if !listed[uid] {
				a.goneLocked(ctx, e)
			}
		}
	}
	for _, pod := range ch.Pods {
		a.seeLocked(ctx, pod)
	}
	for _, ref := range ch.Gone {
		if e := a.pods[ref.UID]; e != nil {
			a.goneLocked(ctx, e)
		}
	}
	if ch.All && a.found != nil {
		a.sweepLocked(ctx)
		a.orphansLocked(ctx)
		a.found, a.foundPods = nil, nil
	}
}

// seeLocked takes the latest state of a pod.
func (a *Agent) seeLocked(ctx context.Context, pod *corev1.Pod) {
	ref := RefOf(pod)
	e := a.pods[ref.UID]
	if e == nil {
		e = &entry{ref: ref}
		a.pods[ref.UID] = e
		found := a.found[ref.UID]
		delete(a.found, ref.UID)
		if !kind.PodEnded(pod) {
			e.pod = pod
			e.worker = newPodWorker(a, e.ref, pod, found)
			a.tasks.Go(func() { e.worker.run(ctx) })
			return
		}
		if len(found) > 0 {
			a.tasks.Go(func() { a.discard(ctx, e.ref, found) })
		}
	}
	asked := e.pod != nil && e.pod.DeletionTimestamp != nil
	e.pod = pod
	switch {
	case e.worker != nil:
		e.worker.update(pod)
	case deleting(pod) && !asked:
		a.tasks.Go(func() { a.delete(ctx, e.ref) })
	}
}

// goneLocked takes that the API has the pod no more.
func (a *Agent) goneLocked(ctx context.Context, e *entry) {
	e.gone = true
	if e.worker != nil {
		e.worker.abandon()
		return // it calls over when its containers have stopped
	}
	delete(a.pods, e.ref.UID)
	a.tasks.Go(func() { a.erase(ctx, e) })
}

// over is called by a pod worker when nothing of its pod runs any more, its last
// status is written, and what its containers held is released.
func (a *Agent) over(ctx context.Context, w *podWorker) {
	a.mu.Lock()
	e := a.pods[w.ref.UID]
	e.worker = nil
	gone, pod := e.gone, e.pod
	if gone {
		delete(a.pods, w.ref.UID)
	}
	a.mu.Unlock()
	switch {
	case gone:
		a.tasks.Go(func() { a.erase(ctx, e) })
	case deleting(pod):
		a.delete(ctx, w.ref)
	}
}

// deleting reports whether the pod waits for its node to let it go.
func deleting(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil && (pod.DeletionGracePeriodSeconds == nil || *pod.DeletionGracePeriodSeconds > 0)
}

// sleep waits for d, and reports whether ctx still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
