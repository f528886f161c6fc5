package board

import (
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/explain"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
)

// companion is what runs beside the works and never ends: a Pod, or what makes such pods.
// How it fares is told; the run's result is that of its works.
type companion struct {
	name string // "deployment/redis"
	want int    // how many pods it is to have
	pods map[types.UID]*pod
	// moved is when something of it changed last, trouble that something of it failed or
	// cannot start.
	moved   time.Time
	trouble bool
}

// Beside adds a companion that is to have so many pods. It need not exist yet.
func (b *Board) Beside(now time.Time, kind, namespace, name string, pods int) {
	c := &companion{name: strings.ToLower(kind) + "/" + name, want: pods, pods: map[types.UID]*pod{}, moved: now}
	b.beside[namespace+"/"+c.name] = c
	b.awaited = append(b.awaited, c)
}

// companionOf returns the companion that a pod belongs to, or is; nil if it is of none. A
// Deployment's pods belong to a set that it makes, whose name is its own and a hash.
func (b *Board) companionOf(p *corev1.Pod) *companion {
	if len(b.beside) == 0 {
		return nil
	}
	owner := metav1.GetControllerOfNoCopy(p)
	if owner == nil {
		return b.beside[p.Namespace+"/pod/"+p.Name]
	}
	if hash := p.Labels[appsv1.DefaultDeploymentUniqueLabelKey]; owner.Kind == "ReplicaSet" && hash != "" {
		if c := b.beside[p.Namespace+"/deployment/"+strings.TrimSuffix(owner.Name, "-"+hash)]; c != nil {
			return c
		}
	}
	return b.beside[p.Namespace+"/"+strings.ToLower(owner.Kind)+"/"+owner.Name]
}

// IsBeside reports whether a pod is of a companion.
func (b *Board) IsBeside(p *corev1.Pod) bool { return b.companionOf(p) != nil }

// PodsBeside are the pods of all companions, as they were seen last.
func (b *Board) PodsBeside() []*corev1.Pod {
	var all []*corev1.Pod
	for _, c := range b.beside {
		for _, p := range c.pods {
			all = append(all, p.Pod)
		}
	}
	return all
}

// podBeside takes note of a pod of a companion.
func (b *Board) podBeside(now time.Time, p *corev1.Pod, gone bool) {
	c := b.companionOf(p)
	if c == nil {
		return
	}
	b.changed, c.moved = now, now
	known := c.pods[p.UID]
	switch {
	case gone:
		delete(c.pods, p.UID)
		delete(b.events, p.UID)
		return
	case known == nil:
		known = &pod{began: now}
		c.pods[p.UID] = known
	}
	known.Pod = p
	c.trouble = b.restarted(now, known) || c.trouble
	if end := "end " + string(p.UID); kind.PodEnded(p) && !b.told[end] {
		b.told[end], c.trouble = true, true
		b.add(piece{at: now, head: "✗ pod " + p.Name + ": ", how: b.resultOf(now, known)})
	}
}

// ready: all its pods are.
func (c *companion) ready() bool {
	n := 0
	for _, p := range c.pods {
		if p.DeletionTimestamp == nil && kind.PodReady(p.Pod) {
			n++
		}
	}
	return n >= c.want
}

// How long nothing of a companion has to change until nobody waits for it any more. One that
// runs may need what the works do before it is ready; one that does not run yet is slow.
const (
	standstill = 10 * time.Second
	slowStart  = time.Minute
)

// namesCome is how long after its pods are ready a Service leads to them at the latest, and
// their names are known.
const namesCome = 500 * time.Millisecond

// patience is how long the companion is waited for without a change.
func (c *companion) patience() time.Duration {
	for _, p := range c.pods {
		if p.Status.Phase != corev1.PodRunning {
			return slowStart
		}
	}
	if len(c.pods) == 0 {
		return slowStart
	}
	return standstill
}

// Awaited names the companions that the works should have before they begin, and which are on
// their way; "" when that is none. Each is waited for once.
func (b *Board) Awaited(now time.Time) string {
	if len(b.awaited) == 0 {
		return ""
	}
	b.awaited = slices.DeleteFunc(b.awaited, func(c *companion) bool {
		switch {
		case c.trouble, c.ready() && (c.want == 0 || now.Sub(c.moved) >= namesCome):
			return true
		case now.Sub(c.moved) <= c.patience():
			return false
		}
		b.tell("… %s is not ready%s; it is not waited for any longer", c.name, b.unreadiness(c))
		return true
	})
	var names []string
	for _, c := range b.awaited {
		names = append(names, c.name)
	}
	return strings.Join(names, ", ")
}

// unreadiness is what a probe says against the readiness of a companion, "" if none does.
func (b *Board) unreadiness(c *companion) string {
	for uid := range c.pods {
		for _, ev := range slices.Backward(b.events[uid]) {
			if ev.Reason == reason.Unhealthy {
				return ": " + explain.FirstLine(ev.Message)
			}
		}
	}
	return ""
}

// becoming: an event says that a pod of a companion is not ready yet, which is no news as long
// as it is waited for.
func (b *Board) becoming(ev *corev1.Event) bool {
	if len(b.beside) == 0 || ev.Reason != reason.Unhealthy || strings.HasPrefix(ev.Message, "Liveness") {
		return false
	}
	return b.pods[ev.InvolvedObject.UID] == nil // which has all but those of companions
}

// lookBeside finds out what keeps companions from starting, and tells each cause once.
func (b *Board) lookBeside(now time.Time) {
	for _, c := range b.beside {
		for _, p := range c.pods {
			if kind.PodEnded(p.Pod) || now.Sub(p.began) < patience {
				continue
			}
			o, hindered := explain.ObstacleOf(now, p.Pod, b.events[p.UID])
			switch {
			case !hindered:
			case o.Helpless && !o.Crowded && b.closed:
				c.trouble = true
				why := strings.Join(append([]string{o.Now}, o.Why...), ": ")
				b.tellOnce(c.name+o.Class, "✗ %s cannot start, and who needs it waits in vain: pod %s %s", c.name, p.Name, why)
			default:
				c.trouble = c.trouble || !o.Until.IsZero() || o.Helpless
				b.tellObstacle(c.name, p, o)
			}
		}
	}
}

// podless tells why a companion gets no pods.
func (b *Board) podless(ev *corev1.Event) {
	if ev.Reason != reason.FailedCreate || len(b.beside) == 0 {
		return
	}
	who := strings.ToLower(ev.InvolvedObject.Kind) + "/" + ev.InvolvedObject.Name
	for _, c := range b.beside {
		if c.name == who || strings.HasPrefix(who, "replicaset/"+strings.TrimPrefix(c.name, "deployment/")+"-") {
			c.trouble = true
			b.tellOnce(c.name+ev.Message, "… %s gets no pod: %s", c.name, explain.FirstLine(ev.Message))
		}
	}
}
