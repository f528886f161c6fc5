package node

import (
	"context"
	"time"
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
	// healthPeriod is how often the node's health is checked when all is well,
	// unhealthyPeriod when it is not.
	healthPeriod    = 10 * time.Second
	unhealthyPeriod = time.Second
)

// watchHealth checks the node's health until ctx ends.
func (n *Node) watchHealth(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, n.CheckHealth(), nil)
	}
}

// CheckHealth asks once how the node fares, and has its conditions follow: Ready the
// runtimes, DiskPressure the disk. It returns when to ask again. Run calls it from
// time to time; before, it is for whoever must know before the node is registered.
func (n *Node) CheckHealth() (next time.Duration) {
	if n.config.Health == nil {
		return healthPeriod
	}
	var is health
	if err := n.config.Health.Runtimes(); err != nil {
		is.runtimes = err.Error()
	}
	disk := n.config.Health.Disk()
	is.unwritable = disk != nil
	was := n.now().health
	if is.unwritable && !was.unwritable {
		n.config.Log.Warn("nothing can be written", "err", disk)
	}
	if is.runtimes != "" && was.runtimes == "" {
		n.config.Log.Warn("no container can be started", "err", is.runtimes)
	}
	n.set(func(s *state) { s.health = is })
	if is == (health{}) {
		return healthPeriod
	}
	return unhealthyPeriod
}
