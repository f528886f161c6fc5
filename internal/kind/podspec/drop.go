package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// gated is a field that exists behind a feature gate which is off by default
// in Kubernetes 1.37: the API accepts it and forgets it, unless the object has
// it already.
type gated struct {
	gate string
	used func(*corev1.PodSpec) bool
	drop func(*corev1.PodSpec)
}

// gatedFields lists the fields of a pod that default gates switch off.
func gatedFields() []gated {
	return []gated{
		{"GenericWorkload",
			func(s *corev1.PodSpec) bool { return s.SchedulingGroup != nil },
			func(s *corev1.PodSpec) { s.SchedulingGroup = nil }},
		{"EvictionRequestAPI",
			func(s *corev1.PodSpec) bool { return len(s.EvictionResponders) > 0 },
			func(s *corev1.PodSpec) { s.EvictionResponders = nil }},
		inContainers("VolumeBindMountOptions", func(c *corev1.Container, drop bool) (used bool) {
			for i := range c.VolumeMounts {
				m := &c.VolumeMounts[i]
				used = used || len(m.BindMountOptions) > 0
				if drop {
					m.BindMountOptions = nil
				}
			}
			return used
		}),
		inContainers("ContainerStopSignals", func(c *corev1.Container, drop bool) bool {
			if c.Lifecycle == nil || c.Lifecycle.StopSignal == nil {
				return false
			}
			if drop {
				c.Lifecycle.StopSignal = nil
				if *c.Lifecycle == (corev1.Lifecycle{}) {
					c.Lifecycle = nil
				}
			}
			return true
		}),
		inProbes("H2CContainerProbe", func(h *corev1.ProbeHandler, drop bool) bool {
			return h.HTTPGet != nil && take(&h.HTTPGet.Protocol, drop)
		}),
		inProbes("GRPCContainerProbeTLS", func(h *corev1.ProbeHandler, drop bool) bool {
			return h.GRPC != nil && take(&h.GRPC.Mode, drop)
		}),
		inVolumes("EmptyDirVolumeMode", func(v *corev1.Volume, drop bool) bool {
			return v.EmptyDir != nil && take(&v.EmptyDir.Mode, drop)
		}),
		inVolumes("AtomicWriteVolumeUserFields", takeUsers),
	}
}

// DropDisabled removes the fields that Kubernetes' default feature gates switch
// off, if old (nil on create) does not have them.
func DropDisabled(spec, old *corev1.PodSpec) {
	for _, f := range gatedFields() {
		if old == nil || !f.used(old) {
			f.drop(spec)
		}
	}
}

// DropDisabledTemplate does the same for a pod template.
func DropDisabledTemplate(tpl, old *corev1.PodTemplateSpec) {
	if old == nil {
		DropDisabled(&tpl.Spec, nil)
		return
	}
	DropDisabled(&tpl.Spec, &old.Spec)
}

// dropDisabledStatus does the same for a status.
func dropDisabledStatus(s, old *corev1.PodStatus) {
	if len(old.NodeAllocatableResourceClaimStatuses) == 0 { // DRANodeAllocatableResources
		s.NodeAllocatableResourceClaimStatuses = nil
	}
	if len(old.VolumeHealth) == 0 { // CSIVolumeHealth
		s.VolumeHealth = nil
	}
	if !eachMountStatus(old, false) { // ImageVolumeWithDigest
		eachMountStatus(s, true)
	}
}

func eachMountStatus(s *corev1.PodStatus, drop bool) (used bool) {
	for _, list := range [][]corev1.ContainerStatus{s.ContainerStatuses, s.InitContainerStatuses, s.EphemeralContainerStatuses} {
		for i := range list {
			for j := range list[i].VolumeMounts {
				used = take(&list[i].VolumeMounts[j].VolumeStatus, drop) || used
			}
		}
	}
	return used
}

// take reports whether a field is set, and clears it if drop is true.
func take[T any](field **T, drop bool) bool {
	set := *field != nil
	if drop {
		*field = nil
	}
	return set
}

// inContainers makes a gated field of what visit finds, and removes if its
// second argument is true, in each container.
func inContainers(gate string, visit func(*corev1.Container, bool) bool) gated {
	walk := func(s *corev1.PodSpec, drop bool) (used bool) {
		visitContainers(s, nil, func(c *corev1.Container, _ *field.Path) { used = visit(c, drop) || used })
		return used
	}
	return gated{gate,
		func(s *corev1.PodSpec) bool { return walk(s, false) },
		func(s *corev1.PodSpec) { walk(s, true) }}
}

func inProbes(gate string, visit func(*corev1.ProbeHandler, bool) bool) gated {
	return inContainers(gate, func(c *corev1.Container, drop bool) (used bool) {
		for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
			if p != nil {
				used = visit(&p.ProbeHandler, drop) || used
			}
		}
		return used
	})
}

func inVolumes(gate string, visit func(*corev1.Volume, bool) bool) gated {
	walk := func(s *corev1.PodSpec, drop bool) (used bool) {
		for i := range s.Volumes {
			used = visit(&s.Volumes[i], drop) || used
		}
		return used
	}
	return gated{gate,
		func(s *corev1.PodSpec) bool { return walk(s, false) },
		func(s *corev1.PodSpec) { walk(s, true) }}
}

// takeUsers takes the owners of the files in a volume.
func takeUsers(v *corev1.Volume, drop bool) (used bool) {
	keys := func(items []corev1.KeyToPath) {
		for i := range items {
			used = take(&items[i].User, drop) || used
		}
	}
	files := func(items []corev1.DownwardAPIVolumeFile) {
		for i := range items {
			used = take(&items[i].User, drop) || used
		}
	}
	if s := v.Secret; s != nil {
		used = take(&s.DefaultUser, drop) || used
		keys(s.Items)
	}
	if s := v.ConfigMap; s != nil {
		used = take(&s.DefaultUser, drop) || used
		keys(s.Items)
	}
	if s := v.DownwardAPI; s != nil {
		used = take(&s.DefaultUser, drop) || used
		files(s.Items)
	}
	if v.Projected == nil {
		return used
	}
	used = take(&v.Projected.DefaultUser, drop) || used
	for i := range v.Projected.Sources {
		s := &v.Projected.Sources[i]
		if s.Secret != nil {
			keys(s.Secret.Items)
		}
		if s.ConfigMap != nil {
			keys(s.ConfigMap.Items)
		}
		if s.DownwardAPI != nil {
			files(s.DownwardAPI.Items)
		}
		if s.ServiceAccountToken != nil {
			used = take(&s.ServiceAccountToken.User, drop) || used
		}
		if s.ClusterTrustBundle != nil {
			used = take(&s.ClusterTrustBundle.User, drop) || used
		}
		if s.PodCertificate != nil {
			used = take(&s.PodCertificate.User, drop) || used
		}
	}
	return used
}
