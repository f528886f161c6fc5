package eviction

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"

	"github.com/sampan-batch/sampan/internal/kind/podspec"
)

// Disk is what files take.
type Disk struct{ Bytes, Inodes int64 }

func (d Disk) plus(e Disk) Disk { return Disk{d.Bytes + e.Bytes, d.Inodes + e.Inodes} }

// Use is what a container uses.
type Use struct {
	Disk      // its writable layer and its logs
	Memory    int64
	Processes int64
}

// Usage is what a pod uses. What was not measured is zero.
type Usage struct {
	Containers map[string]Use  // by name
	Volumes    map[string]Disk // those on disk, by name
	// Other is what belongs to none of them: the files in /etc, termination
	// messages, what containers share.
	Other Disk
}

// disk is what the pod takes of the disk.
func (u *Usage) disk() Disk {
	sum := u.Other
	for _, c := range u.Containers {
		sum = sum.plus(c.Disk)
	}
	for _, v := range u.Volumes {
		sum = sum.plus(v)
	}
	return sum
}

// of returns how much the pod uses of what a shortage is of.
func (u *Usage) of(r corev1.ResourceName) (sum int64) {
	switch r {
	case corev1.ResourceEphemeralStorage:
		return u.disk().Bytes
	case resourceInodes:
		return u.disk().Inodes
	}
	for _, c := range u.Containers {
		if r == corev1.ResourceMemory {
			sum += c.Memory
		} else {
			sum += c.Processes
		}
	}
	return sum
}

// Pod is a pod that could be evicted.
type Pod struct {
	Object *corev1.Pod
	// Usage is nil when it could not be measured.
	Usage *Usage
}

// systemCritical is the least priority of pods that the system cannot do without.
const systemCritical = 2000000000

// Critical reports whether the pod is neither evicted nor refused for want of
// something.
func Critical(pod *corev1.Pod) bool {
	return pod.Spec.Priority != nil && *pod.Spec.Priority >= systemCritical
}

// Limited reports whether the pod may outgrow a limit of its own on the disk.
func Limited(pod *corev1.Pod) bool {
	if _, ok := storageLimit(pod); ok {
		return true
	}
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return sizeLimit(&v) != nil })
}

// storageLimit is what the pod's containers may take of the disk together. It is
// there as soon as one of them has a limit.
func storageLimit(pod *corev1.Pod) (resource.Quantity, bool) {
	if !slices.ContainsFunc(pod.Spec.Containers, limitsStorage) && !slices.ContainsFunc(pod.Spec.InitContainers, limitsStorage) {
		return resource.Quantity{}, false
	}
	q, ok := resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{})[corev1.ResourceEphemeralStorage]
	return q, ok
}

func limitsStorage(c corev1.Container) bool {
	_, ok := c.Resources.Limits[corev1.ResourceEphemeralStorage]
	return ok
}

// sizeLimit is what a volume on disk may hold, nil if anything. One in memory
// is bounded by the kernel.
func sizeLimit(v *corev1.Volume) *resource.Quantity {
	if e := v.EmptyDir; e != nil && e.Medium != corev1.StorageMediumMemory && e.SizeLimit != nil && e.SizeLimit.Sign() > 0 {
		return e.SizeLimit
	}
	return nil
}

// Overgrown says which of its limits the pod has outgrown on the disk, "" if none.
func Overgrown(pod *corev1.Pod, u *Usage) string {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if limit := sizeLimit(v); limit != nil && limit.CmpInt64(u.Volumes[v.Name].Bytes) < 0 {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, limit.String())
		}
	}
	if limit, ok := storageLimit(pod); ok && limit.CmpInt64(u.disk().Bytes) < 0 {
		return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", limit.String())
	}
	over := func(list []corev1.Container, counts func(*corev1.Container) bool) string {
		for i := range list {
			limit := list[i].Resources.Limits[corev1.ResourceEphemeralStorage]
			if counts(&list[i]) && limit.Sign() != 0 && limit.CmpInt64(u.Containers[list[i].Name].Bytes) < 0 {
				return fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", list[i].Name, limit.String())
			}
		}
		return ""
	}
	if message := over(pod.Spec.Containers, func(*corev1.Container) bool { return true }); message != "" {
		return message
	}
	return over(pod.Spec.InitContainers, podspec.IsSidecar)
}

// Victim returns the pod that has to go so that there is more of what is short,
// and why, in the words of its status; -1 if none may be taken. It reorders pods.
//
// The order is the kubelet's: pods that could not be measured, those that use
// more than they asked for, those of the least priority, then whoever is furthest
// above its request; processes cannot be asked for. For inodes a kubelet
// subtracts the bytes that were asked for, which we do not.
func Victim(s *Shortage, pods []Pod) (victim int, message string) {
	excess := make(map[*corev1.Pod]int64, len(pods))
	for _, p := range pods {
		if p.Usage != nil {
			asked := resourcehelper.PodRequests(p.Object, resourcehelper.PodResourcesOptions{})[s.Resource]
			excess[p.Object] = p.Usage.of(s.Resource) - asked.Value()
		}
	}
	first := func(yes bool) int {
		if yes {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(pods, func(a, b Pod) int {
		above := func(p Pod) bool { return s.Resource != resourcePIDs && excess[p.Object] > 0 }
		return cmp.Or(
			cmp.Compare(first(a.Usage == nil), first(b.Usage == nil)),
			cmp.Compare(first(above(a)), first(above(b))),
			cmp.Compare(priority(a.Object), priority(b.Object)),
			cmp.Compare(excess[b.Object], excess[a.Object]),
		)
	})
	i := slices.IndexFunc(pods, func(p Pod) bool { return !Critical(p.Object) })
	if i < 0 {
		return -1, ""
	}
	return i, s.message(pods[i])
}

func priority(pod *corev1.Pod) int32 {
	if p := pod.Spec.Priority; p != nil {
		return *p
	}
	return 0
}

// message says why p is evicted.
func (s *Shortage) message(p Pod) string {
	text := fmt.Sprintf("The node was low on resource: %s. Threshold quantity: %s, available: %s. ", s.Resource, s.Threshold.String(), s.Available.String())
	if p.Usage == nil || s.Resource != corev1.ResourceMemory && s.Resource != corev1.ResourceEphemeralStorage {
		return text
	}
	if r := p.Object.Spec.Resources; r != nil && s.Resource == corev1.ResourceMemory {
		if request, ok := r.Requests[s.Resource]; ok {
			used := amount(s.Resource, p.Usage.of(s.Resource))
			text += fmt.Sprintf("Pod %s was using %s, request is %s, has larger consumption of %s. ", p.Object.Name, used.String(), request.String(), s.Resource)
		}
	}
	for _, list := range [][]corev1.Container{p.Object.Spec.Containers, p.Object.Spec.InitContainers} {
		for i := range list {
			use, measured := p.Usage.Containers[list[i].Name]
			request := list[i].Resources.Requests[s.Resource]
			used := amount(s.Resource, use.Bytes)
			if s.Resource == corev1.ResourceMemory {
				used = amount(s.Resource, use.Memory)
			}
			if measured && used.Cmp(request) > 0 {
				text += fmt.Sprintf("Container %s was using %s, request is %s, has larger consumption of %s. ", list[i].Name, used.String(), request.String(), s.Resource)
			}
		}
	}
	return text
}
