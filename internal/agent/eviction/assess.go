package eviction

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Observation is how much there is of something, and how much of that is left.
type Observation struct {
	Available, Capacity int64
}

// Observations are what is known of the machine. What is missing cannot be
// observed here, or there is no end to it.
type Observations map[Signal]Observation

// Config says when something is too little.
type Config struct {
	Thresholds []Threshold
	// Transition is how long a condition stays after its last cause, so that
	// pods are not placed and evicted in turn.
	Transition time.Duration
}

// DefaultTransition is a kubelet's.
const DefaultTransition = 5 * time.Minute

// State is what one assessment leaves for the next; the zero State is that of a
// node that has just begun.
type State struct {
	observed map[corev1.NodeConditionType]time.Time // when each condition was last caused
	starved  []Signal                               // whose minimum has not been reclaimed yet
}

// Shortage is what there is too little of.
type Shortage struct {
	Signal   Signal
	Resource corev1.ResourceName
	// Threshold is how much there should be, Available how much there is.
	Threshold, Available resource.Quantity
}

// Assessment is what follows from what was observed.
type Assessment struct {
	// Conditions are those that the node has, in a fixed order.
	Conditions []corev1.NodeConditionType
	// Shortage, if any, is what has to be reclaimed first: memory before all else,
	// then in the order of the thresholds.
	Shortage *Shortage
	// Close says that something is not far from its threshold: it is worth looking
	// again soon.
	Close bool
}

// conditions are those that thresholds cause, in the order in which they are told.
var conditions = [...]corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure}

// near is how many times its threshold something is near to.
const near = 4

// Assess says what the node's state is at now, given the state before. It changes
// neither.
func Assess(c *Config, before State, now time.Time, seen Observations) (State, Assessment) {
	after := State{observed: map[corev1.NodeConditionType]time.Time{}}
	for condition, at := range before.observed {
		after.observed[condition] = at
	}
	var a Assessment
	for i := range c.Thresholds {
		t := &c.Thresholds[i]
		o, ok := seen[t.Signal]
		if !ok {
			continue
		}
		r, condition, _ := t.Signal.meaning()
		limit, left := t.Value.of(o.Capacity), amount(r, o.Available)
		wanted := limit.DeepCopy()
		if slices.Contains(before.starved, t.Signal) {
			wanted.Add(t.Reclaim.of(o.Capacity))
		}
		a.Close = a.Close || o.Available < near*limit.Value()
		if wanted.Cmp(left) <= 0 {
			continue
		}
		after.starved = append(after.starved, t.Signal)
		after.observed[condition] = now
		if a.Shortage == nil || t.Signal == MemoryAvailable {
			a.Shortage = &Shortage{Signal: t.Signal, Resource: r, Threshold: limit, Available: left}
		}
	}
	for _, condition := range conditions {
		if at, ok := after.observed[condition]; ok && (at.Equal(now) || now.Sub(at) < c.Transition) {
			a.Conditions = append(a.Conditions, condition)
		}
	}
	return after, a
}

// amount returns n of a resource, in the notation that fits it.
func amount(r corev1.ResourceName, n int64) resource.Quantity {
	format := resource.BinarySI
	if r == resourceInodes || r == resourcePIDs {
		format = resource.DecimalSI
	}
	return *resource.NewQuantity(n, format)
}
