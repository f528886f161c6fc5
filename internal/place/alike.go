package place

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// verdict is why a pod found no place. It goes for every pod like it until something is booked.
type verdict struct {
	pod *corev1.Pod
	why string
}

// verdicts are those of pods that differ. Where thousands wait for a place on a full node, every
// pod that ends there asks for all of them again; so that this costs little, one of a sort is
// tried, and the others are compared with it.
type verdicts []verdict

// sorts bounds how many a pod is compared with.
const sorts = 8

func (v *verdicts) add(more verdict) {
	if len(*v) == sorts {
		*v = (*v)[1:]
	}
	*v = append(*v, more)
}

// of returns the verdict on pod, if one of its sort was tried.
func (v verdicts) of(pod *corev1.Pod) (why string, known bool) {
	if len(v) == 0 || !undemanding(pod) {
		return "", false
	}
	for i := range v {
		if alike(v[i].pod, pod) {
			return v[i].why, true
		}
	}
	return "", false
}

// plain reports whether the verdict on the pod depends on nothing of it but what alike
// compares. Where others want to be far from some pods, it depends on its labels, too.
func (t *trial) plain() bool {
	return undemanding(t.pod) && !slices.ContainsFunc(t.rooms, func(r *room) bool { return len(r.affine) > 0 })
}

// undemanding reports whether any node would do for pod that it tolerates and that has what its
// containers request, and pod waits for none that was cleared for it.
func undemanding(pod *corev1.Pod) bool {
	s := &pod.Spec
	return s.NodeSelector == nil && s.Affinity == nil && len(s.TopologySpreadConstraints) == 0 &&
		pod.Status.NominatedNodeName == "" && !asksBesides(pod) &&
		!slices.ContainsFunc(s.Containers, wantsPort) && !slices.ContainsFunc(s.InitContainers, wantsPort)
}

// alike reports whether two undemanding pods get the same verdict.
func alike(a, b *corev1.Pod) bool {
	s, t := &a.Spec, &b.Spec
	return priorityOf(a) == priorityOf(b) && ptr.Equal(s.PreemptionPolicy, t.PreemptionPolicy) &&
		slices.EqualFunc(s.Tolerations, t.Tolerations, sameToleration) &&
		slices.EqualFunc(s.Containers, t.Containers, sameRequests) &&
		slices.EqualFunc(s.InitContainers, t.InitContainers, sameRequests)
}

func sameToleration(a, b corev1.Toleration) bool {
	seconds := ptr.Equal(a.TolerationSeconds, b.TolerationSeconds)
	a.TolerationSeconds, b.TolerationSeconds = nil, nil
	return seconds && a == b
}

func sameRequests(a, b corev1.Container) bool {
	if len(a.Resources.Requests) != len(b.Resources.Requests) || !ptr.Equal(a.RestartPolicy, b.RestartPolicy) {
		return false
	}
	for name, q := range a.Resources.Requests {
		other, has := b.Resources.Requests[name]
		if !has || q.Cmp(other) != 0 {
			return false
		}
	}
	return true
}
