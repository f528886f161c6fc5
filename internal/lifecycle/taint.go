package lifecycle

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// conditionTaints are the taints that go with conditions of nodes, in the order in which they
// are added.
var conditionTaints = []struct {
	of     corev1.NodeConditionType
	status corev1.ConditionStatus
	key    string
}{
	{corev1.NodeReady, corev1.ConditionFalse, corev1.TaintNodeNotReady},
	{corev1.NodeReady, corev1.ConditionUnknown, corev1.TaintNodeUnreachable},
	{corev1.NodeMemoryPressure, corev1.ConditionTrue, corev1.TaintNodeMemoryPressure},
	{corev1.NodeDiskPressure, corev1.ConditionTrue, corev1.TaintNodeDiskPressure},
	{corev1.NodePIDPressure, corev1.ConditionTrue, corev1.TaintNodePIDPressure},
	{corev1.NodeNetworkUnavailable, corev1.ConditionTrue, corev1.TaintNodeNetworkUnavailable},
}

const (
	// evictionPeriod is how long after a node of a zone the next one gets a NoExecute taint:
	// --node-eviction-rate 0.1.
	evictionPeriod = 10 * time.Second
	// A zone of which so much is not ready is more likely to be cut off than to be broken:
	// --unhealthy-zone-threshold. In a small one, nothing is evicted then:
	// --large-cluster-size-threshold.
	unhealthyPart, unhealthyLeast, largeZone = 0.55, 3, 50
)

// excludeLabel keeps a node out of what is reckoned about its zone.
const excludeLabel = "node.kubernetes.io/exclude-disruption"

// Taints returns the taints that node should have, given its conditions and how all nodes are,
// and whether they are others than it has; wake, if not zero, is when to ask again. Taints of
// others stay. Those that began at a time that nobody has written down begin now.
func Taints(now time.Time, node *corev1.Node, all []*corev1.Node) (taints []corev1.Taint, changed bool, wake time.Time) {
	l := taintList{taints: slices.Clone(node.Spec.Taints)}
	for _, ct := range conditionTaints {
		if status, is := condition(node, ct.of); is != nil {
			l.set(corev1.Taint{Key: ct.key, Effect: corev1.TaintEffectNoSchedule}, status == ct.status)
		}
	}
	l.set(corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}, node.Spec.Unschedulable)
	wake = l.execute(now, node, all)
	for i := range l.taints {
		if t := &l.taints[i]; t.Effect == corev1.TaintEffectNoExecute && t.TimeAdded == nil {
			t.TimeAdded, l.changed = timeAdded(now), true
		}
	}
	return l.taints, l.changed, wake
}

// taintList is a node's taints while they are brought up to date.
type taintList struct {
	taints  []corev1.Taint
	changed bool
}

func (l *taintList) has(taint corev1.Taint) bool {
	return slices.ContainsFunc(l.taints, func(t corev1.Taint) bool { return t.MatchTaint(&taint) })
}

// set adds the taint, or takes it off.
func (l *taintList) set(taint corev1.Taint, should bool) {
	switch has := l.has(taint); {
	case has && !should:
		l.taints = slices.DeleteFunc(l.taints, func(t corev1.Taint) bool { return t.MatchTaint(&taint) })
		l.changed = true
	case !has && should:
		l.taints, l.changed = append(l.taints, taint), true
	}
}

var (
	notReady    = corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute}
	unreachable = corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}
)

// execute sets the taints by which pods have to go. One of the two is exchanged for the other
// at once; a node that has none waits for its turn.
func (l *taintList) execute(now time.Time, node *corev1.Node, all []*corev1.Node) (wake time.Time) {
	status, is := condition(node, corev1.NodeReady)
	want, other := unreachable, notReady
	switch {
	case is == nil:
		return wake
	case status == corev1.ConditionTrue || lostAll(all):
		l.set(notReady, false)
		l.set(unreachable, false)
		return wake
	case status == corev1.ConditionFalse:
		want, other = notReady, unreachable
	}
	want.TimeAdded = timeAdded(now)
	if !l.has(other) && !l.has(want) {
		at, may := turn(now, node, all)
		if !may || at.After(now) {
			return at
		}
	}
	l.set(other, false)
	l.set(want, true)
	return wake
}

// lostAll reports whether no node at all is ready: then it is not the nodes that are broken.
func lostAll(all []*corev1.Node) bool {
	counted := 0
	for _, n := range all {
		if _, excluded := n.Labels[excludeLabel]; excluded {
			continue
		}
		counted++
		if status, _ := condition(n, corev1.NodeReady); status == corev1.ConditionTrue {
			return false
		}
	}
	return counted > 0
}

// turn is when a node may get a NoExecute taint, if at all while its zone is as it is.
func turn(now time.Time, node *corev1.Node, all []*corev1.Node) (at time.Time, may bool) {
	zone, size, lost, well := zoneOf(node), 0, 0, 0
	at = now
	for _, n := range all {
		if zoneOf(n) != zone {
			continue
		}
		if _, excluded := n.Labels[excludeLabel]; !excluded {
			size++
			if status, _ := condition(n, corev1.NodeReady); status == corev1.ConditionTrue {
				well++
			} else {
				lost++
			}
		}
		for _, t := range n.Spec.Taints {
			if t.MatchTaint(&notReady) || t.MatchTaint(&unreachable) {
				if t.TimeAdded != nil && t.TimeAdded.Add(evictionPeriod).After(at) {
					at = t.TimeAdded.Add(evictionPeriod)
				}
			}
		}
	}
	partly := well > 0 && lost >= unhealthyLeast && float64(lost) >= unhealthyPart*float64(size)
	if partly && size <= largeZone {
		return time.Time{}, false
	}
	return at, true
}

// zoneOf is what Kubernetes takes for a node's zone: region and zone together.
func zoneOf(node *corev1.Node) string {
	return node.Labels[corev1.LabelTopologyRegion] + ":\x00:" + node.Labels[corev1.LabelTopologyZone]
}

func timeAdded(now time.Time) *metav1.Time {
	t := metav1.NewTime(now.Truncate(time.Second))
	return &t
}
