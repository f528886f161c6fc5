package agent

import (
	"context"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Health tells how what the node needs fares. What it says is what /readyz says.
// Both answer within seconds, whatever they ask.
type Health interface {
	// Runtimes returns why containers cannot be started, nil if they can.
	Runtimes() error
	// Disk returns why nothing can be written where the node has its files.
	Disk() error
}

const (
	// healthPeriod is how often the health monitor asks when all is well, unhealthyPeriod when
	// it is not.
	healthPeriod    = 10 * time.Second
	unhealthyPeriod = time.Second
)

// fitness is what the health monitor has found out.
type fitness struct {
	// runtimes is why containers cannot be started, "" if they can.
	runtimes string
	// unwritable: the disk takes nothing.
	unwritable bool
}

// healthMonitor asks how the node fares, and has its conditions follow: Ready the
// runtimes, DiskPressure the disk.
type healthMonitor struct {
	agent *Agent
	log   *slog.Logger
	said  fitness
}

// run asks until ctx ends.
func (m *healthMonitor) run(ctx context.Context) {
	for ctx.Err() == nil {
		sleep(ctx, m.look())
	}
}

// look asks once, and returns when to ask again.
func (m *healthMonitor) look() time.Duration {
	var f fitness
	if err := m.agent.opts.Health.Runtimes(); err != nil {
		f.runtimes = err.Error()
	}
	disk := m.agent.opts.Health.Disk()
	f.unwritable = disk != nil
	if f.unwritable && !m.said.unwritable {
		m.log.Warn("nothing can be written", "err", disk)
	}
	if f.runtimes != "" && m.said.runtimes == "" {
		m.log.Warn("no container can be started", "err", f.runtimes)
	}
	m.said = f
	m.agent.fit(f)
	if f == (fitness{}) {
		return healthPeriod
	}
	return unhealthyPeriod
}

// fit takes what the health monitor has found.
func (a *Agent) fit(f fitness) {
	if old := a.fitness.Swap(&f); old == nil && f != (fitness{}) || old != nil && *old != f {
		a.nudgeHeartbeat()
	}
}

// nodeState is what the node says of itself.
type nodeState struct {
	pressures []corev1.NodeConditionType
	// unready is why it takes no pods, "" if it does.
	unready string
}

func (s nodeState) equal(o nodeState) bool {
	return s.unready == o.unready && slices.Equal(s.pressures, o.pressures)
}

// state puts together what eviction manager and health monitor have found.
func (a *Agent) state() nodeState {
	s := nodeState{pressures: a.pressures()}
	if f := a.fitness.Load(); f != nil {
		s.unready = f.runtimes
	}
	return s
}
