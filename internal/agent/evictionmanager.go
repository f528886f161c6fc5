package agent

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/eviction"
	"github.com/sampan-batch/sampan/internal/reason"
	"github.com/sampan-batch/sampan/internal/runner"
)

const (
	// evictionPeriod is how often the eviction manager looks when all is well, and
	// closePeriod when something is close to its threshold: a disk can be filled
	// fast.
	evictionPeriod = 10 * time.Second
	closePeriod    = time.Second
	// reclaimPeriod is how often it makes the node give up what nobody uses.
	reclaimPeriod = time.Minute
	// evictionWait is how long it waits for a pod that it has evicted to be gone,
	// files and all, before it looks whether that was enough.
	evictionWait = 30 * time.Second
)

// evictionManager is a kubelet's: it watches what the machine has left, and acts when
// that is too little. The node gets a condition, what nobody uses is removed, and then
// pods are evicted, one at a time.
type evictionManager struct {
	*services
	pods *podWorkers

	state     eviction.State
	short     bool      // there was a shortage at the last look
	reclaimed time.Time // when unused images were last removed
	failed    string    // the last failure to observe that was logged
}

// run watches until ctx ends.
func (m *evictionManager) run(ctx context.Context) {
	for ctx.Err() == nil {
		timer := time.NewTimer(m.look(ctx))
		select {
		case <-timer.C:
		case <-m.alarm:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// look observes and acts once, and returns when to look again.
func (m *evictionManager) look(ctx context.Context) time.Duration {
	a := m.assess()
	switch {
	case a.Shortage != nil:
		if !m.short {
			m.Node.Note(warning, reason.EvictionThresholdMet, fmt.Sprintf("Attempting to reclaim %s", a.Shortage.Resource))
		}
		m.short = true
		m.relieve(ctx, a.Shortage)
		return closePeriod
	case a.Close:
		m.short = false
		return closePeriod
	}
	m.short = false
	return evictionPeriod
}

// assess observes the machine, and has the node's conditions follow.
func (m *evictionManager) assess() eviction.Assessment {
	seen, err := m.Machine.Observe()
	failed := ""
	if err != nil {
		failed = err.Error()
	}
	if failed != "" && failed != m.failed {
		m.Log.Warn("not everything that can run out can be observed", "err", err)
	}
	m.failed = failed
	var a eviction.Assessment
	m.state, a = eviction.Assess(&m.Eviction, m.state, time.Now(), seen)
	m.Node.SetPressures(a.Conditions)
	return a
}

// relieve makes room: what nobody uses goes first, then a pod.
func (m *evictionManager) relieve(ctx context.Context, s *eviction.Shortage) {
	onDisk := s.Resource != corev1.ResourceMemory && s.Signal != eviction.PIDAvailable
	if now := time.Now(); onDisk && now.Sub(m.reclaimed) >= reclaimPeriod {
		m.reclaimed = now
		if err := m.Images.Reclaim(ctx); err != nil {
			m.Log.Warn("cannot remove unused images", "err", err)
		}
		a := m.assess()
		if s = a.Shortage; s == nil {
			return
		}
	}
	workers := m.pods.list(func(*corev1.Pod) bool { return true })
	pods, owners := m.measure(ctx, s, workers)
	i, message := eviction.Victim(s, pods)
	if i < 0 || ctx.Err() != nil {
		return
	}
	w := owners[pods[i].Object]
	w.post(func() { w.evict(message, true) })
	timer := time.NewTimer(evictionWait)
	defer timer.Stop()
	select {
	case <-w.done: // and its files are gone
	case <-timer.C:
	case <-ctx.Done():
	}
}

// measure finds out how much the pods use of what is short.
func (m *evictionManager) measure(ctx context.Context, s *eviction.Shortage, workers []*podWorker) ([]eviction.Pod, map[*corev1.Pod]*podWorker) {
	owners := make(map[*corev1.Pod]*podWorker, len(workers))
	pods := make([]eviction.Pod, len(workers))
	for i, w := range workers {
		pods[i].Object = w.latest.Load()
		owners[pods[i].Object] = w
	}
	if s.Resource == corev1.ResourceMemory || s.Signal == eviction.PIDAvailable {
		m.measureProcesses(ctx, pods)
		return pods, owners
	}
	inPool(len(pods), func(i int) {
		if u, err := m.usage(ctx, owners[pods[i].Object].ref, pods[i].Object); err == nil {
			pods[i].Usage = u
		}
	})
	return pods, owners
}

// measureProcesses finds out how much memory and how many processes the pods use.
func (m *evictionManager) measureProcesses(ctx context.Context, pods []eviction.Pod) {
	byPod := map[string][]runner.Status{}
	var first []int
	list, err := m.containers(ctx)
	if err != nil {
		m.Log.Warn("cannot list containers", "err", err)
	}
	for _, st := range list {
		if st.PID > 0 {
			byPod[st.Pod.UID] = append(byPod[st.Pod.UID], st)
			first = append(first, st.PID)
		}
	}
	use := m.Machine.Use(first)
	for i := range pods {
		u := &eviction.Usage{Containers: map[string]eviction.Use{}}
		for _, st := range byPod[string(pods[i].Object.UID)] {
			u.Containers[st.Container] = use[st.PID]
		}
		pods[i].Usage = u
	}
}
