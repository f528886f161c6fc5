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
		inContainers("H2CContainerProbe", takeProtocols),
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

// takeProtocols takes the protocols of probes and hooks.
func takeProtocols(c *corev1.Container, drop bool) (used bool) {
	get := func(a *corev1.HTTPGetAction) { used = a != nil && take(&a.Protocol, drop) || used }
	for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		if p != nil {
			get(p.HTTPGet)
		}
	}
	if c.Lifecycle != nil {
		for _, h := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if h != nil {
				get(h.HTTPGet)
			}
		}
	}
	return used
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

// takeUsers takes the owners of the files in a volume. Of the sources of a volume, and
// of each that is projected, Kubernetes looks at one only, in the order that is here:
// more than one is refused, but the refusal shows them.
func takeUsers(v *corev1.Volume, drop bool) bool {
	switch {
	case v.Secret != nil:
		return takeUser(&v.Secret.DefaultUser, v.Secret.Items, drop)
	case v.ConfigMap != nil:
		return takeUser(&v.ConfigMap.DefaultUser, v.ConfigMap.Items, drop)
	case v.DownwardAPI != nil:
		return takeFileUser(&v.DownwardAPI.DefaultUser, v.DownwardAPI.Items, drop)
	case v.Projected == nil:
		return false
	}
	used := take(&v.Projected.DefaultUser, drop)
	for i := range v.Projected.Sources {
		used = takeProjectedUsers(&v.Projected.Sources[i], drop) || used
	}
	return used
}

func takeProjectedUsers(s *corev1.VolumeProjection, drop bool) bool {
	var none *int64 // these sources have no default of their own
	switch {
	case s.Secret != nil:
		return takeUser(&none, s.Secret.Items, drop)
	case s.DownwardAPI != nil:
		return takeFileUser(&none, s.DownwardAPI.Items, drop)
	case s.ConfigMap != nil:
		return takeUser(&none, s.ConfigMap.Items, drop)
	case s.ServiceAccountToken != nil:
		return take(&s.ServiceAccountToken.User, drop)
	case s.ClusterTrustBundle != nil:
		return take(&s.ClusterTrustBundle.User, drop)
	case s.PodCertificate != nil:
		return take(&s.PodCertificate.User, drop)
	}
	return false
}

func takeUser(byDefault **int64, items []corev1.KeyToPath, drop bool) bool {
	used := take(byDefault, drop)
	for i := range items {
		used = take(&items[i].User, drop) || used
	}
	return used
}

func takeFileUser(byDefault **int64, items []corev1.DownwardAPIVolumeFile, drop bool) bool {
	used := take(byDefault, drop)
	for i := range items {
		used = take(&items[i].User, drop) || used
	}
	return used
}
