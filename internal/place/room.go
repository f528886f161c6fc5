package place

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/resource"

	"github.com/sampan-batch/sampan/internal/kind/podspec"
)

// room is a node during one decision: what is in it changes as pods are bound, and as it is
// tried who might go.
type room struct {
	*Node
	delta int           // of the number of pods since the decision began
	taken []*corev1.Pod // since the decision began, and before the others were looked at

	// What follows is known when it was needed once.
	loaded bool
	pods   []*corev1.Pod
	affine []*corev1.Pod
	used   corev1.ResourceList
	ports  map[podspec.HostPort]int
	// guessed is what of cpu (in thousandths) and memory is reckoned with for scores: of a
	// container that asks for nothing as much as one of its kind needs.
	guessed struct {
		known       bool
		cpu, memory int64
	}
}

func newRoom(n *Node) *room { return &room{Node: n, affine: n.Affine} }

func (r *room) name() string { return r.Node.Node.Name }

func (r *room) allocatable() corev1.ResourceList { return r.Node.Node.Status.Allocatable }

// label returns the value of a label of the node, and whether it has it.
func (r *room) label(key string) (value string, ok bool) {
	value, ok = r.Node.Node.Labels[key]
	return value, ok
}

// load looks at the node's pods, once.
func (r *room) load() {
	if r.loaded {
		return
	}
	r.loaded, r.used, r.ports = true, corev1.ResourceList{}, map[podspec.HostPort]int{}
	for pod := range r.Active {
		r.add(pod)
	}
	for _, pod := range r.taken {
		r.add(pod)
	}
}

func (r *room) add(pod *corev1.Pod) {
	r.pods = append(r.pods, pod)
	r.count(pod, 1)
}

// count adds what a pod takes, or, with -1, subtracts it.
func (r *room) count(pod *corev1.Pod, sign int) {
	// One whose resources are being changed counts with the most of what it has, was granted and asks for.
	for name, q := range resource.PodRequests(pod, resource.PodResourcesOptions{UseStatusResources: true}) {
		sum := r.used[name].DeepCopy()
		if sign > 0 {
			sum.Add(q)
		} else {
			sum.Sub(q)
		}
		r.used[name] = sum
	}
	for _, p := range podspec.HostPorts(pod) {
		if r.ports[p] += sign; r.ports[p] == 0 {
			delete(r.ports, p)
		}
	}
	if r.guessed.known {
		cpu, memory := guess(pod)
		r.guessed.cpu += int64(sign) * cpu
		r.guessed.memory += int64(sign) * memory
	}
}

// take books pod on the node for the rest of the decision.
func (r *room) take(pod *corev1.Pod) {
	r.delta++
	if hasPodAffinity(pod) {
		r.affine = append(slices.Clip(r.affine), pod)
	}
	if r.loaded {
		r.add(pod)
	} else {
		r.taken = append(r.taken, pod)
	}
}

// drop takes a pod off the node that load has found, or take has brought.
func (r *room) drop(pod *corev1.Pod) {
	r.delta--
	same := func(p *corev1.Pod) bool { return p == pod }
	r.pods = slices.DeleteFunc(slices.Clone(r.pods), same)
	r.affine = slices.DeleteFunc(slices.Clone(r.affine), same)
	r.count(pod, -1)
}

// lacks returns what the node has too little of for pod, in kube-scheduler's words, and whether
// it would have too little if it were empty.
func (r *room) lacks(pod *corev1.Pod) (why []string, ever bool) {
	allocatable := r.allocatable()
	asking := asks(pod)
	if asking {
		r.load()
		if slices.ContainsFunc(podspec.HostPorts(pod), r.conflicts) {
			return []string{"node(s) didn't have free ports for the requested pod ports"}, false
		}
	}
	if int64(r.Count+r.delta) >= allocatable.Pods().Value() {
		why = append(why, "Too many pods")
	}
	if !asking {
		return why, false
	}
	for name, want := range resource.PodRequests(pod, resource.PodResourcesOptions{}) {
		if want.IsZero() {
			continue
		}
		all := allocatable[name]
		left := all.DeepCopy()
		left.Sub(r.used[name])
		if want.Cmp(left) > 0 {
			why = append(why, "Insufficient "+string(name))
			ever = ever || want.Cmp(all) > 0
		}
	}
	return why, ever
}

func (r *room) conflicts(p podspec.HostPort) bool {
	for q := range r.ports {
		if p.Conflicts(q) {
			return true
		}
	}
	return false
}

// What a container is taken to need that does not say: kube-scheduler's guess.
var guessOf = corev1.ResourceList{
	corev1.ResourceCPU:    *resourceapi.NewMilliQuantity(100, resourceapi.DecimalSI),
	corev1.ResourceMemory: *resourceapi.NewQuantity(200*1024*1024, resourceapi.BinarySI),
}

// guess returns what is reckoned with for a pod in scores.
func guess(pod *corev1.Pod) (cpu, memory int64) {
	list := resource.PodRequests(pod, resource.PodResourcesOptions{NonMissingContainerRequests: guessOf})
	return list.Cpu().MilliValue(), list.Memory().Value()
}

// guesses returns what is reckoned with for all pods of the node.
func (r *room) guesses() (cpu, memory int64) {
	r.load()
	if !r.guessed.known {
		r.guessed.known = true
		for _, pod := range r.pods {
			c, m := guess(pod)
			r.guessed.cpu += c
			r.guessed.memory += m
		}
	}
	return r.guessed.cpu, r.guessed.memory
}

// requests is what a pod asks for of processors and memory.
func requests(pod *corev1.Pod) [2]float64 {
	return pair(resource.PodRequests(pod, resource.PodResourcesOptions{}))
}
