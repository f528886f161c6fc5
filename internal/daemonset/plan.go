package daemonset

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/podset"
	"github.com/sampan-batch/sampan/internal/reason"
)

// plan is which nodes get a pod, which pods go, and what waits.
type plan struct {
	start   []string // names of nodes
	remove  []*corev1.Pod
	backoff backoff // with the pods that failed and go now
	notes   []note
	wakeAt  time.Time
	more    bool // more is to be done than fits one set
}

// note is what an event about the set says.
type note struct{ eventType, reason, message string }

func (p *plan) wake(at time.Time) {
	if !at.IsZero() && (p.wakeAt.IsZero() || at.Before(p.wakeAt)) {
		p.wakeAt = at
	}
}

// planOf first sees that the right nodes have one pod each. Only when that is so, and all
// that was begun for it can be seen, are pods of another template replaced.
func planOf(now time.Time, s State, c census, r record) plan {
	p := plan{backoff: readBackoff(s.Set, now)}
	for _, h := range c.hosts {
		p.manage(now, c, r, h)
	}
	p.remove = append(p.remove, homeless(c)...)
	if len(p.start)+len(p.remove) == 0 {
		p.roll(now, c, r)
	}
	for _, w := range p.backoff.nodes {
		p.wake(w.forgotten())
	}
	if s.Refused != nil && len(p.start) > 0 {
		p.start = nil
		p.notes = append(p.notes, note{corev1.EventTypeWarning, reason.FailedCreate, "Error creating: " + s.Refused.Error()})
		p.wake(now.Add(refusedRetry))
	}
	if len(p.start) > batch {
		p.start, p.more = p.start[:batch], true
	}
	if len(p.remove) > batch {
		p.remove, p.more = p.remove[:batch], true
	}
	return p
}

// homeless are the pods of nodes that are not there, which nobody will ever bind.
func homeless(c census) []*corev1.Pod {
	var pods []*corev1.Pod
	for _, pod := range c.pods {
		if pod.Spec.NodeName != "" || pod.DeletionTimestamp != nil {
			continue
		}
		if name := nodeOf(pod); name != "" && c.host(name).node == nil {
			pods = append(pods, pod)
		}
	}
	return pods
}

// manage sees to the pods of one node, whatever template they are of.
func (p *plan) manage(now time.Time, c census, r record, h host) {
	pods := c.on[h.node.Name]
	switch {
	case h.wanted && len(pods) == 0:
		p.start = append(p.start, h.node.Name)
	case h.kept:
		running := p.clear(now, h, pods)
		if surges(c.set) {
			p.keepTwo(now, c, r, h, running)
		} else if len(running) > 1 {
			p.remove = append(p.remove, running[1:]...)
		}
	default:
		for _, pod := range pods {
			if pod.DeletionTimestamp == nil {
				p.remove = append(p.remove, pod)
			}
		}
	}
}

// clear removes the pods of a node that have ended, and returns those that have not. One
// that failed stays for a while if another one there has failed shortly before.
func (p *plan) clear(now time.Time, h host, pods []*corev1.Pod) (running []*corev1.Pod) {
	for _, pod := range pods {
		switch {
		case pod.DeletionTimestamp != nil:
		case !kind.PodEnded(pod):
			running = append(running, pod)
		case pod.Status.Phase == corev1.PodSucceeded:
			p.notes = append(p.notes, note{corev1.EventTypeNormal, reason.SucceededDaemonPod,
				fmt.Sprintf("Found succeeded daemon pod %s/%s on node %s, will try to delete it", pod.Namespace, pod.Name, h.node.Name)})
			p.remove = append(p.remove, pod)
		default:
			if until := p.backoff.until(h.node.Name, now); until.After(now) {
				p.wake(until)
				continue
			}
			p.backoff.next(h.node.Name, now)
			p.notes = append(p.notes, note{corev1.EventTypeWarning, reason.FailedDaemonPod,
				fmt.Sprintf("Found failed daemon pod %s/%s on node %s, will try to kill it", pod.Namespace, pod.Name, h.node.Name)})
			p.remove = append(p.remove, pod)
		}
	}
	return running
}

// keepTwo leaves a node with one pod, or with an old one that serves and a new one that
// does not yet.
func (p *plan) keepTwo(now time.Time, c census, r record, h host, running []*corev1.Pod) {
	if len(running) <= 1 {
		if len(running) == 0 && h.wanted {
			p.start = append(p.start, h.node.Name)
		}
		return
	}
	var present, former *corev1.Pod
	for _, pod := range running {
		switch fresh := pod.Labels[hashLabel] == r.hash; {
		case fresh && present == nil:
			present = pod
		case !fresh && former == nil:
			former = pod
		default:
			p.remove = append(p.remove, pod)
		}
	}
	if present == nil || former == nil {
		return
	}
	available, at := podset.Available(present, c.set.Spec.MinReadySeconds, now)
	p.wake(at)
	if available || !podset.Ready(former) {
		p.remove = append(p.remove, former)
	}
}
