package agent

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/sampan-batch/sampan/internal/agent/machine"
	"github.com/sampan-batch/sampan/internal/runner"
)

const (
	// minWindow and maxWindow bound over what time the use of the processors is told. A
	// question that comes sooner after another gets the same answer, and for one that comes
	// later two measurements are made, minWindow apart.
	minWindow = time.Second
	maxWindow = time.Minute
)

// meter measures the node and its pods when somebody asks; between questions it costs
// nothing. The kernel counts what was used of the processors since a process has begun: a rate
// is the difference to what was counted at the question before.
type meter struct {
	*services
	turn chan struct{} // holds one token; whoever has it may use the rest
	last sample
	told *metrics // of last
}

// sample is one measurement.
type sample struct {
	at         time.Time
	whole      machine.Usage
	containers []runner.Status
	of         map[string]machine.Usage // by container ID
}

func newMeter(s *services) *meter { return &meter{services: s, turn: make(chan struct{}, 1)} }

// metrics are what was used over a window that ends at a time, of pods by their uids.
type metrics struct {
	at     time.Time
	window time.Duration
	node   corev1.ResourceList
	pods   map[string][]metricsv1beta1.ContainerMetrics
}

func (m *meter) measure(ctx context.Context) (*metrics, error) {
	if m.Machine == nil {
		return nil, apierrors.NewServiceUnavailable("this node measures nothing")
	}
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	age := time.Since(m.last.at)
	if m.told != nil && age < minWindow {
		return m.told, nil
	}
	if age > maxWindow {
		first, err := m.sample(ctx)
		if err != nil {
			return nil, err
		}
		if !sleep(ctx, minWindow) {
			return nil, context.Cause(ctx)
		}
		m.last = first
	}
	next, err := m.sample(ctx)
	if err != nil {
		return nil, err
	}
	m.last, m.told = next, next.since(&m.last)
	return m.told, nil
}

func (m *meter) sample(ctx context.Context) (sample, error) {
	var s sample
	all, err := m.containers(ctx)
	if err != nil {
		return s, apierrors.NewServiceUnavailable(err.Error())
	}
	var list []machine.Container
	for _, st := range all {
		if st.PID > 0 && st.Phase == runner.Running {
			s.containers = append(s.containers, st)
			list = append(list, machine.Container{ID: st.ID, PID: st.PID})
		}
	}
	s.at = time.Now()
	if s.whole, s.of, err = m.Machine.Account(list); err != nil {
		return s, apierrors.NewInternalError(err)
	}
	return s, nil
}

// since returns what was used since an earlier measurement. A container that was not there
// then has begun since, and has used what it has in all.
func (s *sample) since(was *sample) *metrics {
	out := &metrics{
		at: s.at, window: s.at.Sub(was.at), node: used(s.whole, was.whole, s.at.Sub(was.at)),
		pods: make(map[string][]metricsv1beta1.ContainerMetrics),
	}
	for i := range s.containers {
		st := &s.containers[i]
		now, ok := s.of[st.ID]
		if !ok {
			continue // it has ended meanwhile
		}
		before, known := was.of[st.ID]
		window := out.window
		if !known {
			window = max(s.at.Sub(st.StartedAt), minWindow/10)
		}
		of := out.pods[st.Pod.UID]
		out.pods[st.Pod.UID] = append(of, metricsv1beta1.ContainerMetrics{Name: st.Container, Usage: used(now, before, window)})
	}
	return out
}

// used is what was used between two measurements that are window apart. What a process has
// used whom nobody has waited for is lost, so that a sum may become smaller.
func used(now, before machine.Usage, window time.Duration) corev1.ResourceList {
	cores := max(float64(now.CPU-before.CPU)/float64(window), 0)
	return corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewScaledQuantity(int64(cores*1e9), resource.Nano),
		corev1.ResourceMemory: *resource.NewQuantity(max(now.Memory, 0), resource.BinarySI),
	}
}
