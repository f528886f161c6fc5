package agent

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/eviction"
	"github.com/sampan-batch/sampan/internal/agent/machine"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/runner"
)

// Machine is what a node knows of the machine that it is; package machine has
// the real one.
type Machine interface {
	// Observe returns how much is left of what can run out. What could not be
	// observed is missing, and the error says why.
	Observe() (eviction.Observations, error)
	// Use returns what containers use of memory and processes, by their first
	// processes.
	Use(first []int) map[int]eviction.Use
	// Keep keeps files from growing until ctx ends, and tells which it has cut.
	Keep(ctx context.Context, caps []machine.Cap, cut func(path string)) error
}

const (
	// wardenPeriod is how often the warden looks when all is well, and
	// closePeriod when something is close to its threshold: a disk can be filled
	// fast.
	wardenPeriod = 10 * time.Second
	closePeriod  = time.Second
	// reclaimPeriod is how often it makes the node give up what nobody uses.
	reclaimPeriod = time.Minute
	// partingTime is how long it waits for a pod that it has evicted to be gone,
	// files and all, before it looks whether that was enough.
	partingTime = 30 * time.Second
)

// warden watches what the machine has left, and acts when that is too little: the
// node gets a condition, what nobody uses is given up, and then pods are evicted,
// one at a time. It is a kubelet's eviction manager.
type warden struct {
	agent *Agent
	log   *slog.Logger

	state     eviction.State
	short     bool      // it was when last looked at
	reclaimed time.Time // when unused images were last removed
	failed    string    // the last failure to observe that was logged
}

// run watches until ctx ends.
func (w *warden) run(ctx context.Context) {
	for ctx.Err() == nil {
		timer := time.NewTimer(w.look(ctx))
		select {
		case <-timer.C:
		case <-w.agent.alarm:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// look observes and acts once, and returns when to look again.
func (w *warden) look(ctx context.Context) time.Duration {
	a := w.assess()
	switch {
	case a.Shortage != nil:
		if !w.short {
			w.note(warning, "EvictionThresholdMet", fmt.Sprintf("Attempting to reclaim %s", a.Shortage.Resource))
		}
		w.short = true
		w.relieve(ctx, a.Shortage)
		return closePeriod
	case a.Close:
		w.short = false
		return closePeriod
	}
	w.short = false
	return wardenPeriod
}

// assess observes the machine, and has the node's conditions follow.
func (w *warden) assess() eviction.Assessment {
	seen, err := w.agent.opts.Machine.Observe()
	failed := ""
	if err != nil {
		failed = err.Error()
	}
	if failed != "" && failed != w.failed {
		w.log.Warn("not everything that can run out can be observed", "err", err)
	}
	w.failed = failed
	var a eviction.Assessment
	w.state, a = eviction.Assess(&w.agent.opts.Eviction, w.state, time.Now(), seen)
	w.agent.press(a.Conditions)
	return a
}

// relieve makes room: what nobody uses goes first, then a pod.
func (w *warden) relieve(ctx context.Context, s *eviction.Shortage) {
	onDisk := s.Resource != corev1.ResourceMemory && s.Signal != eviction.PIDAvailable
	if now := time.Now(); onDisk && now.Sub(w.reclaimed) >= reclaimPeriod {
		w.reclaimed = now
		if err := w.agent.opts.Images.Reclaim(ctx); err != nil {
			w.log.Warn("cannot remove unused images", "err", err)
		}
		a := w.assess()
		if s = a.Shortage; s == nil {
			return
		}
	}
	keepers := w.agent.keepers(func(*corev1.Pod) bool { return true })
	pods, owners := w.measure(ctx, s, keepers)
	i, message := eviction.Victim(s, pods)
	if i < 0 || ctx.Err() != nil {
		return
	}
	k := owners[pods[i].Object]
	k.post(func() { k.evict(message, true) })
	timer := time.NewTimer(partingTime)
	defer timer.Stop()
	select {
	case <-k.done: // its files are gone, too
	case <-timer.C:
	case <-ctx.Done():
	}
}

// measure finds out what the pods of keepers use of what is short.
func (w *warden) measure(ctx context.Context, s *eviction.Shortage, keepers []*keeper) ([]eviction.Pod, map[*corev1.Pod]*keeper) {
	owners := make(map[*corev1.Pod]*keeper, len(keepers))
	pods := make([]eviction.Pod, len(keepers))
	for i, k := range keepers {
		pods[i].Object = k.latest.Load()
		owners[pods[i].Object] = k
	}
	if s.Resource == corev1.ResourceMemory || s.Signal == eviction.PIDAvailable {
		w.measureProcesses(ctx, pods)
		return pods, owners
	}
	inPool(len(pods), func(i int) {
		if u, err := w.agent.usage(ctx, owners[pods[i].Object].ref, pods[i].Object); err == nil {
			pods[i].Usage = u
		}
	})
	return pods, owners
}

// measureProcesses finds out what the containers' processes use.
func (w *warden) measureProcesses(ctx context.Context, pods []eviction.Pod) {
	byPod := map[string][]runner.Status{}
	var first []int
	for class, r := range w.agent.opts.Runners {
		list, err := r.List(ctx)
		if err != nil {
			w.log.Warn("cannot list containers", "class", class, "err", err)
		}
		for _, st := range list {
			if st.PID > 0 && (st.Class == class || st.Class == "") {
				byPod[st.Pod.UID] = append(byPod[st.Pod.UID], st)
				first = append(first, st.PID)
			}
		}
	}
	use := w.agent.opts.Machine.Use(first)
	for i := range pods {
		u := &eviction.Usage{Containers: map[string]eviction.Use{}}
		for _, st := range byPod[string(pods[i].Object.UID)] {
			u.Containers[st.Container] = use[st.PID]
		}
		pods[i].Usage = u
	}
}

func (w *warden) note(kind, reason, message string) {
	w.agent.opts.Client.Record(change.Note{
		Regarding: corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: w.agent.opts.Node},
		Component: component, Type: kind, Reason: reason, Message: message,
	})
}
