package runspec

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/runner"
)

const (
	minShares = 2
	maxShares = 262144
	// quotaPeriod is the period of the cpu quota, and minQuota the least quota,
	// in microseconds.
	quotaPeriod = 100000
	minQuota    = 1000
)

// Resources returns the limits of a container's cgroup: cpu shares from the
// request (or the limit, if only that is set), a quota from the limit. A
// container that says nothing about resources has none.
func Resources(r *corev1.ResourceRequirements) runner.Resources {
	var out runner.Resources
	if len(r.Limits) == 0 && len(r.Requests) == 0 {
		return out
	}
	limit := r.Limits[corev1.ResourceCPU]
	request, ok := r.Requests[corev1.ResourceCPU]
	if !ok {
		request = limit
	}
	out.CPUShares = min(max(request.MilliValue()*1024/1000, minShares), maxShares)
	if m := limit.MilliValue(); m > 0 {
		out.CPUQuota = max(m*quotaPeriod/1000, minQuota)
		out.CPUPeriod = quotaPeriod
	}
	memory := r.Limits[corev1.ResourceMemory]
	out.MemoryLimit = memory.Value()
	return out
}
