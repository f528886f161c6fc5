package agent

import (
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// grants are what pods were granted that ask for something else by now, or did. Other pods
// have what they ask for.
type grants struct {
	// each calls visit with the pods of the node that are not over; set before any begins.
	each func(visit func(uid string, pod *corev1.Pod))

	mu sync.Mutex
	of map[string]corev1.ResourceList // requests, by the pod's uid
}

// forget lets go of a pod that is over.
func (g *grants) forget(uid string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.of, uid)
}

// grant grants a pod what it asks for instead of what it has been granted, or says why there is
// no room, in a kubelet's words.
func (g *grants) grant(uid string, asking, granted *corev1.Pod, allocatable corev1.ResourceList) (refusal string) {
	asked, now := requestsOf(asking), requestsOf(granted)
	used := corev1.ResourceList{}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.each(func(other string, pod *corev1.Pod) {
		if other == uid {
			return
		}
		requests, kept := g.of[other]
		if !kept {
			requests = requestsOf(pod)
		}
		for name, q := range requests {
			sum := used[name]
			sum.Add(q)
			used[name] = sum
		}
	})
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		want, had, has := asked[name], now[name], allocatable[name]
		sum := used[name]
		sum.Add(want)
		if want.Cmp(had) <= 0 || sum.Cmp(has) <= 0 {
			continue
		}
		u := used[name]
		amount := map[corev1.ResourceName][3]int64{
			corev1.ResourceCPU:    {want.MilliValue(), u.MilliValue(), has.MilliValue()},
			corev1.ResourceMemory: {want.Value(), u.Value(), has.Value()},
		}[name]
		if g.of == nil {
			g.of = make(map[string]corev1.ResourceList)
		}
		g.of[uid] = now
		return fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, amount[0], amount[1], amount[2])
	}
	delete(g.of, uid)
	return ""
}

func requestsOf(pod *corev1.Pod) corev1.ResourceList {
	return resource.PodRequests(pod, resource.PodResourcesOptions{})
}
